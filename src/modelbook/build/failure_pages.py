"""Pages for failed stages, written in place of their reports."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, Sequence
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

from modelbook import config
from modelbook.build import staleness
from modelbook.build.book_notebooks import FORCE_OPTIONS
from modelbook.pages import failure_report, page_notices
from modelbook.redaction import redact
from modelbook.runs import history
from modelbook.stage import pipeline_spec, project
from modelbook.stage.reproducibility import get_library_versions


def write_failure_pages(
    root: Path,
    book: str,
    messages: Mapping[str, str],
    states: Mapping[str, str],
    parameters: Mapping[str, Sequence[Mapping[str, Any]]],
) -> None:
    """Write the page of each stage that failed.

    Parameters
    ----------
    states : Mapping
        Final state of each stage, in order; see ``history.record_run``.
    parameters : Mapping
        Effective parameters by stage: name, value, origin, meaning.
    """
    for stage, message in messages.items():
        try:
            failure_report.write(
                _collect_failure(root, book, stage, message, states, parameters.get(stage, ()))
            )
        except Exception as error:  # must not hide the original failure
            sys.stderr.write(
                f"the page about the failure of {stage} could not be written: "
                f"{redact(str(error))}\n"
            )


def mark_blocked_pages(root: Path, book: str) -> None:
    """Add a notice to the pages of stages that depend on a failed one, and remove other notices."""
    tasks = project.read_tasks(root, book)
    failed = [name for name in staleness.list_failures(root).get(book, {}) if name in tasks]
    runs = history.find_result_runs(root, book) if failed else {}
    for stage, task in tasks.items():
        report = task["product"]["report"]
        reports = [
            (name, tasks[name]["product"]["report"].name)
            for name in failed
            if stage in find_downstream(name, tasks)
        ]
        try:
            if failure_report.is_waiting_page(report) or not report.is_file():
                report.unlink(missing_ok=True)
                if reports:
                    failure_report.write_waiting_page(report, stage, book, reports, [*tasks])
                continue
            is_of_failure = failure_report.is_failure_report(report)
            page_notices.mark_blocked(report, reports, None if is_of_failure else runs.get(stage))
        except OSError as error:  # the build itself is complete
            sys.stderr.write(f"the page of {stage} does not show what it waits for: {error}\n")


def make_retry_command(root: Path, book: str, build_arguments: Sequence[str]) -> str:
    """Return the command that continues a failed build: without force, finished stages stay valid.

    ``build_arguments`` are the arguments of the failed build, without the program.
    """
    options = (
        [word for word in build_arguments if word not in FORCE_OPTIONS]
        if Path(sys.argv[0]).stem == "ploomber"
        else []
    )
    return " ".join([project.build_command(root, book), *map(shlex.quote, options)])


def find_downstream(stage: str, tasks: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return the stages that depend on a stage, directly or indirectly."""
    reached = {stage}
    for name in TopologicalSorter(
        {name: task["upstream"] for name, task in tasks.items()}
    ).static_order():
        reached |= {name} if reached & set(tasks[name]["upstream"]) else set()
    return [name for name in config.STAGES if name in reached - {stage}]


def _collect_failure(
    root: Path,
    book: str,
    stage: str,
    message: str,
    states: Mapping[str, str],
    parameters: Sequence[Mapping[str, Any]],
) -> failure_report.StageFailure:
    tasks = project.read_tasks(root, book)
    product = tasks[stage]["product"]
    return failure_report.StageFailure(
        stage,
        book,
        message,
        report=product["report"],
        notebook=product["nb"],
        log=project.get_progress_log_path(root, book, stage),
        command=make_retry_command(root, book, sys.argv[1:]),
        states=states,
        downstream=find_downstream(stage, tasks),
        stages=pipeline_spec.list_stages(root),
        last_receipt=history.read_receipt(product["receipt"]),
        last_run=history.find_result_runs(root, book).get(stage),
        provenance=_collect_provenance(root, tasks, states, parameters),
    )


def _collect_provenance(
    root: Path,
    tasks: Mapping[str, Any],
    states: Mapping[str, str],
    parameters: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    # The table that the stage read is known only if ingest succeeded.
    ingest_receipt = (
        history.read_receipt(tasks["ingest"]["product"]["receipt"])
        if states.get("ingest") in ("ran", "kept")
        else {}
    )
    return {
        "commit": project.get_commit(root),
        "fingerprint": ingest_receipt.get("facts", {}).get("fingerprint", ""),
        "parameters": [
            {**parameter, "value": config.format_value(parameter["value"])}
            for parameter in parameters
        ],
        "versions": get_library_versions(),
    }
