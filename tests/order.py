"""The order of the tests for several workers: the longest first, so that no worker is left with one at the end."""

from __future__ import annotations

from pathlib import PurePath
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

# First one that does not wait for the project that the second begins to build, and others share.
LONGEST = (
    "versioned", "pipeline", "demo", "lab", "stores", "field_walks", "books", "docs", "retrain", "parameters",
    "features", "template", "pages", "kernels", "suspicious_tables", "mlproject", "adding", "drift_rates", "server",
    "rehearsal", "failure", "take", "redaction", "disk", "field_recipes", "registry", "promotion", "partitions", "engine",
    "docs_site", "image", "walkthrough", "monitoring", "monitor", "served_pages", "pdf", "model", "card", "site",
)  # fmt: skip
PLACES = {f"test_{name}.py": place for place, name in enumerate(LONGEST)}
BY_CLASS = ("test_pipeline.py", "test_failure.py")  # their classes share nothing that is costly


class SharedWork(LoadScopeScheduling):
    """One worker runs all tests of a file, as they share what they build, or all tests of a class."""

    def _split_scope(self, nodeid: str) -> str:
        path, *names = nodeid.split("::")
        return f"{path}::{names[0]}" if PurePath(path).name in BY_CLASS else path


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> SharedWork:
    return SharedWork(config, log)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: PLACES.get(item.path.name, len(PLACES)))
