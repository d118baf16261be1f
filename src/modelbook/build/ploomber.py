"""Adapter for Ploomber; no other module imports it or uses its private attributes.

``tests/test_ploomber.py`` tests each assumption about them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ploomber.constants import TaskStatus
from ploomber.executors import abc

# Ploomber prints only the message of such an error, and exits with 1.
from ploomber_core.exceptions import BaseException as ReportedError

from modelbook.build import papermill_engine

Executor = abc.Executor
COMPLETE_STATUSES = {TaskStatus.Executed, TaskStatus.Skipped}


class ReportedBuildError(ReportedError):
    """Ends ``ploomber build`` with a message and exit code 1, without a traceback."""


def is_up_to_date(task: Any) -> bool:
    """Whether a rendered task need not run."""
    return bool(task.exec_status == TaskStatus.Skipped)


def was_executed(task: Any) -> bool:
    """Whether a task ran in this build, without a failure."""
    return bool(task.exec_status == TaskStatus.Executed)


def was_aborted(task: Any) -> bool:
    """Whether a task will not run, because one that it depends on has failed."""
    return bool(task.exec_status == TaskStatus.Aborted)


def is_complete(task: Any) -> bool:
    """Whether a task succeeded or was up to date, so that downstream tasks can run."""
    return task.exec_status in COMPLETE_STATUSES


def mark_outdated(task: Any) -> None:
    """Mark a rendered task as outdated; ``ploomber status`` shows that its code has changed."""
    is_ready = all(is_up_to_date(upstream) for upstream in task.upstream.values())
    task.exec_status = TaskStatus.WaitingExecution if is_ready else TaskStatus.WaitingUpstream
    for product in task.product.products:
        product._outdated_code_dependency_status = True


def mark_failed(task: Any) -> None:
    """Mark a task as failed, so that tasks that depend on it do not run."""
    task.exec_status = TaskStatus.Errored


def run_task(task: Any, kernel_manager: Any) -> tuple[Any, Any]:
    """Run a task's notebook in a kernel that has been started; returns its report and metadata."""
    task.executor_params["km"] = kernel_manager
    task.executor_params["engine_name"] = papermill_engine.register()
    return task._build(catch_exceptions=True)


def update_metadata(task: Any, metadata: Any) -> None:
    """Reload the metadata that a task's run has written."""
    task.product.metadata.update_locally(metadata)


def replace_notebook(task: Any, path: Path) -> None:
    """Replace the notebook of a rendered task; ``render_again`` must follow."""
    task.source._path = path
    task.source._read_nb_str_unrendered(force=True)


def render_again(task: Any, *, force: bool) -> None:
    """Render a task whose notebook, or that of an upstream task, was replaced."""
    for product in task.product.products:
        product._reset_cached_outdated_status()
    task.render(force=force)


def read_parameters(task: Any) -> dict[str, Any]:
    """All parameters of a task, with ``upstream`` and ``product``."""
    return dict(task.params.to_dict())


def list_products(task: Any) -> list[Path]:
    """The files that a task writes."""
    return [Path(path) for path in task.product.to_json_serializable().values()]
