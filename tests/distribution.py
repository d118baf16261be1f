"""Order of tests on several workers: longest first, shared fixtures on one worker."""

from __future__ import annotations

from pathlib import PurePath
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

# First one that does not wait for the project that the second begins to build, and others share.
LONGEST = (
    "data_versions", "build", "demo", "jupyterlab", "remote_stores", "field_pipelines", "task_books", "docs", "retrain", "parameter_effects",
    "custom_code_build", "project_template", "pages_browser", "kernels", "suspicious_tables", "mlproject", "added_stages", "drift_rates", "server",
    "release_rehearsal", "failure_page", "take", "redaction", "full_disk", "field_columns", "registry", "promotion", "partition_scoring", "engine",
    "docs_site", "container_images", "serving_docs", "monitoring", "monitor_command", "served_pages", "pdf", "model_behaviour", "model_card", "static_site",
)  # fmt: skip
PLACES = {f"test_{name}.py": place for place, name in enumerate(LONGEST)}
BY_CLASS = ("test_build.py", "test_failure_page.py")  # their classes share nothing that is costly


class FileScopedScheduling(LoadScopeScheduling):
    """One worker runs all tests of a file, as they share what they build, or all tests of a class."""

    def _split_scope(self, nodeid: str) -> str:
        path, *names = nodeid.split("::")
        return f"{path}::{names[0]}" if PurePath(path).name in BY_CLASS else path


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> FileScopedScheduling:
    return FileScopedScheduling(config, log)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: PLACES.get(item.path.name, len(PLACES)))
