"""Pages of the API's documentation, Swagger UI and ReDoc, under a policy without inline scripts."""

from __future__ import annotations

import base64
import hashlib
from html import escape

# No script but the service's own files runs, whatever text a contract has. Both programs write
# style sheets while they run.
DOCS_POLICY = (
    "default-src 'self'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; worker-src 'self' blob:; object-src 'none'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)
SWAGGER_SCRIPT_PATH = "/docs/swagger.js"
SWAGGER_SCRIPT = """\
SwaggerUIBundle({
  url: "/openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  presets: [SwaggerUIBundle.presets.apis],
});
"""


def form_policy(stylesheet: str) -> str:
    """Return the policy of a page without scripts and with one inline style sheet."""
    digest = base64.b64encode(hashlib.sha256(stylesheet.encode()).digest()).decode()
    return (
        f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; base-uri 'none'; "
        "form-action 'self'; frame-ancestors 'none'"
    )


def swagger_page(title: str) -> str:
    """Return the page to try the API."""
    return _page(
        title,
        '<link rel="stylesheet" href="/static/swagger-ui.css">',
        f"""<div id="swagger-ui"></div>
<script src="/static/swagger-ui-bundle.js"></script>
<script src="{SWAGGER_SCRIPT_PATH}"></script>""",
    )


def redoc_page(title: str) -> str:
    """Return the API reference; ``sanitize`` removes markup from descriptions."""
    return _page(
        title,
        "",
        """<redoc spec-url="/openapi.json" sanitize="true"></redoc>
<script src="/static/redoc.standalone.js"></script>""",
    )


def _page(title: str, head: str, body: str) -> str:
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8">\
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title><link rel="icon" href="/static/favicon.png">{head}</head><body>
{body}
</body></html>"""
