"""The report of a failed stage: the error, where it stopped, what to do, what did not run."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from modelbook import config, disk, errors
from modelbook.pages import executed_notebook, notebook_errors, templating
from modelbook.pages.notebook_errors import ErrorMessage, StopPoint

FAILURE_MARKER = "<!-- the page of a failure -->"  # data cannot inject it: it is escaped
LAST_GOOD_SUFFIX = "-last-good"
MAX_LOG_LINES = 15
LAST_GOOD_NOTICE = (
    '<aside class="notice" aria-label="Older report">This is the report of the last good '
    "run. The stage has failed since: "
    '<a href="{0}">see why</a>.</aside>\n'
)
MEMORY_REMEDY = (
    "take fewer rows (sample) or families in the env file, set jobs: 1 in pipeline.yaml, or use "
    "a larger machine"
)
REBUILD_REMEDY = (
    "Build again: this stage and the stages that depend on it run; up-to-date stages are skipped."
)


@dataclass(frozen=True)
class StageFailure:
    """What a build knows about a failed stage.

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
    provenance: Mapping[str, Any] = field(default_factory=dict)


def write(failure: StageFailure) -> Path:
    """Write a failure report in place of the stage's report, and keep the last good report.

    The notebook and the log may be missing or incomplete.
    """
    _keep_last_good(failure.report)
    view = _context(failure)
    view["body"] = (
        f"{FAILURE_MARKER}\n{templating.render_template('failure_report.html.j2', **view)}"
    )
    view["contents"] = executed_notebook.table_of_contents(view["body"])
    templating.write_page(
        failure.report, templating.render_template("stage_report.html.j2", **view)
    )
    return failure.report


def is_failure_report(report: Path) -> bool:
    """Whether a report exists and is a failure report."""
    return report.is_file() and FAILURE_MARKER in report.read_text(
        encoding="utf-8", errors="replace"
    )


def last_good_path(report: Path) -> Path:
    """Return the path of the last good report while a failure report stands in its place."""
    return report.with_name(f"{report.stem}{LAST_GOOD_SUFFIX}{report.suffix}")


def remove_last_good(report: Path) -> None:
    """Remove the last good report, once the stage has succeeded again."""
    last_good_path(report).unlink(missing_ok=True)


def _keep_last_good(report: Path) -> None:
    if not report.is_file() or is_failure_report(report):
        return
    text, head = report.read_text(encoding="utf-8", errors="replace"), '<header class="head">'
    templating.write_page(
        last_good_path(report), text.replace(head, LAST_GOOD_NOTICE.format(report.name) + head, 1)
    )


def _context(failure: StageFailure) -> dict[str, Any]:
    notebook, log = notebook_errors.read_if_valid(failure.notebook), _read_log(failure.log)
    started_at = log[0]["at"] if log else 0.0
    # If the kernel never started, the executed notebook is that of an earlier run: ignore it.
    is_current = notebook is not None and failure.notebook.stat().st_mtime >= started_at
    stop_point = (
        notebook_errors.find_stop_point(notebook, _has_kernel_died(failure.message))
        if is_current and notebook is not None
        else None
    )
    title, question = (
        executed_notebook.read_title_and_question(notebook) if notebook is not None else ("", "")
    )
    error = _parse_error(failure.message, stop_point)
    seconds = round(log[-1]["at"] - started_at, 1) if log else None
    last_good = last_good_path(failure.report)
    view = {
        "title": title or failure.stage.capitalize(),
        "question": question,
        "stage": failure.stage,
        "book": failure.book,
        "word": "failed",
        "level": "bad",
        "home": "../index.html",
        "numbers": _key_numbers(failure, stop_point, seconds),
        "notebook": failure.notebook.name if is_current else "",
        "stop_point": stop_point,
        "error": error,
        "name": _error_name(failure.message, stop_point),
        "meaning": _describe_error(_error_name(failure.message, stop_point)),
        "next": _to_sentence(error.next_step or _choose_remedy(failure.message)[0]),
        "advice": _recovery_steps(failure, error),
        "log": _last_log_lines(log),
        "states": _stage_rows(failure),
        "last": failure.last_receipt,
        "last_good": last_good.name if last_good.is_file() else "",
        "command": failure.command,
        "stages": _navigation_stages(failure),
        "facts": {**_start_time(started_at), "seconds": seconds, **failure.provenance},
    }
    return view | {"sentences": _summary_sentences(failure, view)}


def _parse_error(message: str, stop_point: StopPoint | None) -> ErrorMessage:
    """Parse the error from the notebook, with the next step from the build if it has none."""
    if stop_point is not None and stop_point.error_name:
        error = notebook_errors.parse_error_message(stop_point.message)
        return (
            error
            if error.next_step
            else replace(error, next_step=notebook_errors.parse_error_message(message).next_step)
        )
    name = _error_name(message, None)
    return notebook_errors.parse_error_message(
        message.partition("\n  in cell ")[0].removeprefix(f"{name}: " if name else "")
    )


def _has_kernel_died(message: str) -> bool:
    return message.startswith("the kernel died") or " s and was stopped" in message


def _error_name(message: str, stop_point: StopPoint | None) -> str:
    if stop_point is not None and stop_point.error_name:
        return stop_point.error_name
    prefix = message.partition(":")[0]
    return prefix if prefix.isidentifier() else ""


def _describe_error(name: str) -> str:
    """Return the first docstring line of one of Modelbook's errors; "" for other errors."""
    error_class = getattr(errors, name, None) if name else None
    return (error_class.__doc__ or "").partition("\n")[0] if isinstance(error_class, type) else ""


def _summary_sentences(failure: StageFailure, context: Mapping[str, Any]) -> list[str]:
    first_line = (context["error"].problem.splitlines() or ["no message"])[0]
    name = context["name"]
    reason = first_line if not name or first_line.startswith(name) else f"{name}: {first_line}"
    duration_text = (
        f" after {templating.format_duration(context['facts']['seconds'])}"
        if context["facts"]["seconds"] is not None
        else ""
    )
    sentences = [f"{failure.stage.capitalize()} failed{duration_text}: {reason.rstrip('.')}."]
    if context["stop_point"] is not None:
        heading_text = (
            f", under “{context['stop_point'].heading}”" if context["stop_point"].heading else ""
        )
        sentences.append(
            f"It stopped in code cell {context['stop_point'].cell_number} of "
            f"{context['stop_point'].n_cells}{heading_text}."
        )
    waiting = [name for name in failure.downstream if failure.states.get(name) == "not run"]
    if waiting:
        names, is_single = _join_names(waiting), len(waiting) == 1
        sentences.append(
            f"{names} {'depends' if is_single else 'depend'} on it, and "
            f"{'was' if is_single else 'were'} not run."
        )
    if context["last_good"]:
        sentences.append("The report of its last good run is linked at the end of this page.")
    return sentences


def _key_numbers(
    failure: StageFailure, stop_point: StopPoint | None, seconds: float | None
) -> list[dict[str, str]]:
    cards = []
    if stop_point is not None:
        cards.append(
            {
                "name": "stopped in",
                "value": f"cell {stop_point.cell_number} of {stop_point.n_cells}",
                "beside": stop_point.heading,
            }
        )
    if seconds is not None:
        last_seconds = failure.last_receipt.get("facts", {}).get("seconds")
        context = (
            f"the last good run took {templating.format_duration(last_seconds)}"
            if last_seconds is not None
            else "no good run before"
        )
        cards.append(
            {
                "name": "failed after",
                "value": templating.format_duration(seconds),
                "beside": context,
            }
        )
    n_succeeded = sum(state in ("ran", "kept") for state in failure.states.values())
    cards.append(
        {
            "name": "stages completed",
            "value": f"{n_succeeded} of {len(failure.states)}",
            "beside": "in this build",
        }
    )
    return cards


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


def _recovery_steps(failure: StageFailure, error: ErrorMessage) -> list[tuple[str, str]]:
    """Return the steps to try, in order: a sentence, and its command."""
    remedy, section = _choose_remedy(failure.message)
    name = _error_name(failure.message, None)
    section = section or (name if _describe_error(name) else "")
    steps = [(_to_sentence(error.next_step or remedy), "")]
    if section:
        steps.append((f"Look it up: docs/errors.md, section “{section}”.", ""))
    by_hand = (
        f"Run it by hand: open notebooks/{config.stage_stem(failure.stage)}.ipynb in "
        "JupyterLab and run all cells. It reads"
        " what the build read, and writes to by-hand folders only. After an error, %debug in "
        "a new cell looks inside."
    )
    if "did not start" not in failure.message:
        steps.append((by_hand, "make lab"))
    return [*steps, (REBUILD_REMEDY, failure.command)]


def _stage_rows(failure: StageFailure) -> list[dict[str, str]]:
    """Return a row for each stage of the project, with its state in this build."""
    words = {"ran": "ran", "kept": "was up to date", "failed": "failed", "not run": "was not run"}
    levels = {"ran": "good", "kept": "good", "failed": "bad"}
    rows = []
    for name in failure.stages or config.STAGES:
        state = failure.states.get(name, "").partition(":")[0]
        link = f"{config.stage_stem(name)}.html"
        why = (
            "it depends on this stage" if name in failure.downstream and state == "not run" else ""
        )
        rows.append(
            {
                "name": name,
                "word": words.get(state, "was not part of this build"),
                "level": levels.get(state, "none"),
                "why": why,
                "link": link
                if name != failure.stage and (failure.report.parent / link).is_file()
                else "",
            }
        )
    return rows


def _navigation_stages(failure: StageFailure) -> list[tuple[str, str]]:
    """Return the stages that have a report; after a failed first build, later ones have none."""
    stems = [(name, config.stage_stem(name)) for name in failure.stages or config.STAGES]
    return [
        (name, stem)
        for name, stem in stems
        if failure.states.get(name, "").startswith("failed")
        or (failure.report.parent / f"{stem}.html").is_file()
    ]


def _start_time(timestamp: float) -> dict[str, str]:
    from datetime import UTC, datetime

    return (
        {"started": datetime.fromtimestamp(timestamp, UTC).isoformat(timespec="seconds")}
        if timestamp
        else {}
    )


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


def _last_log_lines(entries: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Return the last log lines: time since the start of the stage, and the text."""
    lines = []
    for entry in entries[-MAX_LOG_LINES:]:
        minutes, seconds = divmod(round(entry["at"] - entries[0]["at"]), 60)
        count = (
            f"{entry['done']} of {entry.get('total')} · " if entry.get("done") is not None else ""
        )
        passing = f" · {entry['passing']}" if entry.get("passing") else ""
        text = (str(entry.get("text", "")).splitlines() or [""])[0]  # first line
        lines.append((f"{minutes}:{seconds:02d}", f"{count}{text}{passing}"))
    return lines


def _to_sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:].rstrip('.')}."


def _join_names(names: Sequence[str]) -> str:
    text = " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
    return f"{text[:1].upper()}{text[1:]}"
