"""Jupyter server extension: the panel's page, its state, builds, and the files of reports."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from jupyter_server.base.handlers import JupyterHandler
from jupyter_server.utils import url_path_join
from tornado import web

from modelbook.errors import BuildError, ModelbookError
from modelbook.pages import templating
from modelbook.stage import project
from modelbook.workbench import panel_state

# A report may not run scripts here: they would act as the user of this server. Evidently's pages
# need scripts; without allow-same-origin these run in another origin.
REPORT_POLICY = "sandbox allow-same-origin allow-popups allow-downloads"
EVIDENTLY_POLICY = "sandbox allow-scripts allow-popups allow-downloads"


class BuildProcess:
    """The build that the panel has started, one at a time."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.book = ""
        self.log = ""
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, book: str) -> None:
        """Start a build of a book.

        Raises
        ------
        BuildError
            If one is running.
        """
        if self.is_running:
            raise BuildError(
                f"a build of {self.book} is running", next="wait for it to end, or cancel it"
            )
        log = self.root / "reports" / book / "logs" / "panel.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        environ = {
            **os.environ,
            "PLOOMBER_ENV_FILENAME": project.find_env_file(self.root, book).name,
        }
        with log.open("wb") as file:
            self._process = subprocess.Popen(
                [str(Path(sys.executable).with_name("ploomber")), "build"],
                cwd=self.root,
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.book = book
        self.log = str(log)

    def cancel(self) -> None:
        """Stop the build as Ctrl-C does: the next one continues from there."""
        if self._process and self.is_running:
            self._process.send_signal(signal.SIGINT)

    @property
    def is_running(self) -> bool:
        """Whether the build has not ended yet."""
        return self._process is not None and self._process.poll() is None

    def describe(self) -> dict[str, Any]:
        """Return the build as plain data; ``exit_code`` is None until it has ended."""
        code = self._process.poll() if self._process else None
        return {
            "book": self.book,
            "is_running": self.is_running,
            "exit_code": code,
            "log": self.log,
        }


class _Handler(JupyterHandler):
    @property
    def build(self) -> BuildProcess:
        build: BuildProcess = self.settings["modelbook_build"]
        return build

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        self.finish({"error": self._reason})

    def respond_error(self, error: ModelbookError) -> None:
        """Send an error of Modelbook."""
        self.set_status(409)
        self.finish({"error": str(error)})


class PanelHandler(_Handler):
    """The panel's page."""

    @web.authenticated
    def get(self) -> None:
        page = templating.render_template(
            "panel.html.j2", base_url=self.base_url, project=self.build.root.name
        )
        self.finish(page)


class StateHandler(_Handler):
    """The state of a book or a sandbox, as JSON."""

    @web.authenticated
    async def get(self) -> None:
        try:
            book = panel_state.resolve_book(self.build.root, self.get_query_argument("book", ""))
            state = await asyncio.to_thread(
                panel_state.collect_state,
                self.build.root,
                book,
                self.get_query_argument("sandbox", ""),
                self.build.describe(),
            )
        except ModelbookError as error:
            self.respond_error(error)
            return
        self.finish(state)


class BuildHandler(_Handler):
    """Starts a build, and cancels it."""

    @web.authenticated
    def post(self) -> None:
        try:
            book = panel_state.resolve_book(self.build.root, self.get_query_argument("book", ""))
            self.build.start(book)
        except ModelbookError as error:
            self.respond_error(error)
            return
        self.finish(self.build.describe())

    @web.authenticated
    def delete(self) -> None:
        self.build.cancel()
        self.finish(self.build.describe())


class ReportHandler(web.StaticFileHandler, JupyterHandler):
    """Files below ``reports/``, at URLs that keep their relative links valid."""

    @web.authenticated
    async def get(  # type: ignore[override]
        self, path: str, include_body: bool = True
    ) -> None:
        name = path.rpartition("/")[2]
        policy = EVIDENTLY_POLICY if "evidently" in name else REPORT_POLICY
        self.set_header("Content-Security-Policy", policy)
        await super().get(path, include_body)

    def get_content_type(self) -> str:
        kind = super().get_content_type()
        return f"{kind}; charset=utf-8" if kind.startswith("text/") else kind


def _jupyter_server_extension_points() -> list[dict[str, str]]:
    return [{"module": __name__}]


def _load_jupyter_server_extension(app: Any) -> None:
    try:
        root = project.find_root(Path(app.root_dir))
    except ModelbookError as error:
        app.log.warning("Modelbook's panel is off: %s", error)
        return
    app.web_app.settings["modelbook_build"] = BuildProcess(root)
    base = url_path_join(app.web_app.settings["base_url"], "modelbook")
    app.web_app.add_handlers(
        ".*$",
        [
            (url_path_join(base, "panel"), PanelHandler),
            (url_path_join(base, "state"), StateHandler),
            (url_path_join(base, "build"), BuildHandler),
            (
                url_path_join(base, "files", "reports/(.*)"),
                ReportHandler,
                {"path": root / "reports"},
            ),
        ],
    )
