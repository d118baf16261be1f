"""The order of the test files: the longest first, so that no worker is left with one at the end."""

from __future__ import annotations

import pytest

LONGEST = (
    "pipeline", "versioned", "demo", "books", "retrain", "docs", "lab", "parameters", "features", "kernels", "adding",
    "redaction", "mlproject", "failure", "disk", "server", "partitions", "engine", "docs_site", "image", "walkthrough",
    "monitoring", "monitor", "pages", "served_pages", "pdf", "model", "card", "site",
)  # fmt: skip
PLACES = {f"test_{name}.py": place for place, name in enumerate(LONGEST)}


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: PLACES.get(item.path.name, len(PLACES)))
