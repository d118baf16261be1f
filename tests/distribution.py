"""Order of tests on several workers: longest first, shared fixtures on one worker."""

from __future__ import annotations

from pathlib import PurePath
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

# The first file does not need the shared project, which the second one starts to build.
SLOWEST_FIRST = (
    "data_versions", "build", "demo", "jupyterlab", "remote_stores", "field_pipelines", "task_books", "docs", "retrain", "parameter_effects",
    "custom_code_build", "project_template", "pages_browser", "kernels", "suspicious_tables", "mlproject", "added_stages", "drift_rates", "server",
    "release_rehearsal", "failure_page", "take", "redaction", "full_disk", "field_columns", "registry", "promotion", "partition_scoring", "engine",
    "docs_site", "container_images", "serving_docs", "monitoring", "monitor_command", "served_pages", "pdf", "model_behaviour", "model_card", "static_site",
)  # fmt: skip
ORDER = {f"test_{name}.py": index for index, name in enumerate(SLOWEST_FIRST)}
SPLIT_BY_CLASS = (
    "test_build.py",
    "test_failure_page.py",
)  # their classes share no expensive fixture


class FileScopedScheduling(LoadScopeScheduling):
    """Run all tests of a file, which share fixtures, or of a class on one worker."""

    def _split_scope(self, nodeid: str) -> str:
        path, *names = nodeid.split("::")
        return f"{path}::{names[0]}" if PurePath(path).name in SPLIT_BY_CLASS else path


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> FileScopedScheduling:
    return FileScopedScheduling(config, log)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: ORDER.get(item.path.name, len(ORDER)))
