"""The report of a failed stage: the error, where it stopped, what to do, what did not run."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from modelbook import config, disk, errors
from modelbook.pages import executed_notebook, notebook_errors, page_notices, templating
from modelbook.pages.notebook_errors import ErrorMessage, StopPoint
from modelbook.stage import project
from modelbook.stage.progress import format_progress

WAITING_MARKER = "<!-- the page of a stage that waits -->"
FAILURE_MARKER = "<!-- the page of a failure -->"  # data cannot inject it: it is escaped
LAST_GOOD_SUFFIX = "-last-good"
MAX_LOG_LINES = 15
MEMORY_REMEDY = (
    "take fewer rows (sample) or families in the env file, set jobs: 1 in pipeline.yaml, or use "
    "a larger machine"
)


@dataclass(frozen=True)
class StageFailure:
    """A failed stage, as the build records it.

    Parameters
    ----------
    message : str
        The error message that the build reported.
    report, notebook, log : pathlib.Path
        The stage's report, its executed notebook and its log.
    command : str
        The command that runs the build again.
    states : Mapping
        State of each stage in the build: ``ran``, ``kept`` (up to date), ``failed``, ``not run``.
    downstream : Sequence
        The stages that depend on this one, directly or indirectly.
    stages : Sequence
        All stages of the project.
    last_receipt : Mapping
        The receipt of the last good run; empty if there was none.
    last_run : int or None
        The number of that run, if it is known.
    provenance : Mapping
        ``commit``, ``fingerprint``, ``parameters`` (name, value, origin, meaning) and ``versions``.
    """

    stage: str
    book: str
    message: str
    report: Path
    notebook: Path
    log: Path
    command: str
    states: Mapping[str, str]
    downstream: Sequence[str] = ()
    stages: Sequence[str] = ()
    last_receipt: Mapping[str, Any] = field(default_factory=dict)
    last_run: int | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)


def write(failure: StageFailure) -> Path:
    """Write a failure report in place of the stage's report, and keep the last good report.

    The notebook and the log may be missing or incomplete.
    """
    _keep_last_good(failure)
    templating.write_template(failure.report, "failure_report.html.j2", **_build_context(failure))
    return failure.report


def write_waiting_page(
    report: Path,
    stage: str,
    book: str,
    failed_reports: Sequence[tuple[str, str]],
    stages: Sequence[str],
) -> None:
    """Write the page of a stage that has never run, because it depends on failed ones.

    Parameters
    ----------
    failed_reports : sequence
        Name and report of each failed stage.
    stages : sequence of str
        All stages of the project.
    """
    templating.write_template(
        report,
        "waiting_page.html.j2",
        marker=FAILURE_MARKER + WAITING_MARKER,
        title=stage.capitalize(),
        stage=stage,
        book=book,
        status="not built yet",
        level="none",
        failed_reports=failed_reports,
        home="../index.html",
        stages=_find_stages_with_report(report.parent, stages, [stage]),
        facts={},
    )


def is_waiting_page(report: Path) -> bool:
    """Whether a report exists and says only what its stage waits for."""
    return report.is_file() and WAITING_MARKER in report.read_text(
        encoding="utf-8", errors="replace"
    )


def is_failure_report(report: Path) -> bool:
    """Whether a report exists and is a failure report."""
    return report.is_file() and FAILURE_MARKER in report.read_text(
        encoding="utf-8", errors="replace"
    )


def get_last_good_path(report: Path) -> Path:
    """Return the path of the last good report while a failure report replaces it."""
    return report.with_name(f"{report.stem}{LAST_GOOD_SUFFIX}{report.suffix}")


def _keep_last_good(failure: StageFailure) -> None:
    report = failure.report
    if not report.is_file() or is_failure_report(report):
        return
    html = page_notices.add_notice(
        report.read_text(encoding="utf-8", errors="replace"),
        "last_good_notice.html.j2",
        report=report.name,
        run=failure.last_run,
        started=failure.last_receipt.get("facts", {}).get("started"),
    )
    templating.write_page(get_last_good_path(report), html)


def _find_source(failure: StageFailure) -> str:
    """Return the notebook that has failed: the shared one, or the book's own."""
    root = failure.report.parents[2]
    path = project.get_notebook_path(root, failure.book, failure.stage)
    return path.relative_to(root).as_posix()


def _build_context(failure: StageFailure) -> dict[str, Any]:
    notebook = notebook_errors.read_if_valid(failure.notebook)
    log = _read_log(failure.log)
    started_at = log[0]["at"] if log else 0.0
    # If the kernel never started, the executed notebook is that of an earlier run: ignore it.
    is_current = notebook is not None and failure.notebook.stat().st_mtime >= started_at
    stop_point = None
    title, question = "", ""
    if notebook is not None:
        title, question = executed_notebook.read_title_and_question(notebook)
        if is_current:
            message = failure.message
            has_kernel_died = (
                message.startswith("the kernel died") or " s and was stopped" in message
            )
            stop_point = notebook_errors.find_stop_point(notebook, has_kernel_died)
    error, error_name = _parse_error(failure.message, stop_point)
    remedy, section = _choose_remedy(failure.message)
    seconds = round(log[-1]["at"] - started_at, 1) if log else None
    last_good = get_last_good_path(failure.report)
    return {
        "title": title or failure.stage.capitalize(),
        "question": question,
        "stage": failure.stage,
        "book": failure.book,
        "status": "failed",
        "level": "bad",
        "home": "../index.html",
        "failure": failure,
        "marker": FAILURE_MARKER,
        "notebook": failure.notebook.name if is_current else "",
        "stop_point": stop_point,
        "error": error,
        "error_name": error_name,
        "meaning": _describe_error(error_name),
        "remedy": error.next_step or remedy,
        "errors_section": section or _find_documented_error(failure.message),
        "notebook_source": _find_source(failure),
        "log": _read_last_log_lines(log),
        "states": _list_stages(failure),
        "waiting": [n for n in failure.downstream if failure.states.get(n) == "not run"],
        "n_succeeded": sum(state in ("ran", "kept") for state in failure.states.values()),
        "last_good": last_good.name if last_good.is_file() else "",
        "stages": _list_navigation_stages(failure),
        "facts": {**_start_time(started_at), "seconds": seconds, **failure.provenance},
    }


def _parse_error(message: str, stop_point: StopPoint | None) -> tuple[ErrorMessage, str]:
    """Parse the error from the notebook, else from the build; return it and its class's name."""
    if stop_point is None or not stop_point.error_name:
        name = _parse_error_name(message)
        text = message.partition("\n  in cell ")[0].removeprefix(f"{name}: " if name else "")
        return notebook_errors.parse_error_message(text), name
    error = notebook_errors.parse_error_message(stop_point.message)
    next_step = error.next_step or notebook_errors.parse_error_message(message).next_step
    return replace(error, next_step=next_step), stop_point.error_name


def _parse_error_name(message: str) -> str:
    prefix = message.partition(":")[0]
    return prefix if prefix.isidentifier() else ""


def _find_documented_error(message: str) -> str:
    """Return the section of docs/errors.md on the message's error, if there is one."""
    name = _parse_error_name(message)
    return name if _describe_error(name) else ""


def _describe_error(name: str) -> str:
    """Return the first docstring line of one of Modelbook's errors; "" for other errors."""
    error_class = getattr(errors, name, None) if name else None
    return (error_class.__doc__ or "").partition("\n")[0] if isinstance(error_class, type) else ""


def _choose_remedy(message: str) -> tuple[str, str]:
    """Return a remedy for this kind of failure, and its section of docs/errors.md."""
    if message.startswith("out of memory"):
        return MEMORY_REMEDY, "A dead kernel"
    if message.startswith("the kernel died"):
        remedy = (
            MEMORY_REMEDY
            if "memory" in message
            else "build again; if it dies again, run the notebook by hand"
        )
        return remedy, "A dead kernel"
    if disk.DISK_FULL_PATTERN.search(message):
        return disk.DISK_FULL_HINT, "DiskError"
    return "read the error, fix its cause, and build again", ""


def _list_stages(failure: StageFailure) -> list[dict[str, str]]:
    """Return a row for each stage of the project, with its state in this build."""
    rows = []
    for name in failure.stages or config.STAGES:
        link = f"{config.stage_stem(name)}.html"
        has_page = name != failure.stage and (failure.report.parent / link).is_file()
        state = failure.states.get(name, "")
        rows.append({"name": name, "state": state, "link": link if has_page else ""})
    return rows


def _list_navigation_stages(failure: StageFailure) -> list[tuple[str, str]]:
    """Return the stages that have a report; after a failed first build, later ones have none."""
    failed = {name for name, state in failure.states.items() if state == "failed"}
    return _find_stages_with_report(failure.report.parent, failure.stages or config.STAGES, failed)


def _find_stages_with_report(
    folder: Path, stages: Iterable[str], reports: Collection[str]
) -> list[tuple[str, str]]:
    """Name and page of the stages that have a report, or whose report is being written."""
    pages = [(name, f"{config.stage_stem(name)}.html") for name in stages]
    return [(name, page) for name, page in pages if name in reports or (folder / page).is_file()]


def _start_time(timestamp: float) -> dict[str, str]:
    from datetime import UTC, datetime

    if timestamp:
        return {"started": datetime.fromtimestamp(timestamp, UTC).isoformat(timespec="seconds")}
    return {}


def _read_log(path: Path) -> list[dict[str, Any]]:
    """Return the valid entries of a log."""
    entries = []
    for text in (
        path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else []
    ):
        try:
            entry = json.loads(text)
            entries.append({"at": float(entry["at"]), **entry})
        except (ValueError, TypeError, KeyError):
            continue
    return entries


def _read_last_log_lines(entries: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Return the last log lines: time since the start of the stage, and the text."""
    lines = []
    for entry in entries[-MAX_LOG_LINES:]:
        minutes, seconds = divmod(round(entry["at"] - entries[0]["at"]), 60)
        first_line = str(entry.get("text", "")).partition("\n")[0]
        progress = format_progress(
            first_line, entry.get("done"), entry.get("total"), entry.get("detail", "")
        )
        lines.append((f"{minutes}:{seconds:02d}", progress))
    return lines
