"""Run history of a book: a numbered folder for each build.

``reports/<book>/runs/<number>/`` has ``run.json`` with the fields that runs are compared by, each
stage's receipt at the end of the run, and the report pages. Folders are written atomically and do
not change afterwards, except for their index page.
"""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from modelbook import redaction
from modelbook.errors import ReportError, RunHistoryError
from modelbook.processes import is_running
from modelbook.runs import diff, record
from modelbook.runs.record import BuildRun
from modelbook.stage import files, project
from modelbook.stage.verdict import Verdict

LAST_NUMBER_FILE = ".last"  # file with the highest number used so far
RUN_NAME = re.compile(r"[1-9][0-9]*|last(-[0-9]+)?")  # names of runs on the command line


def get_runs_folder(root: Path, book: str) -> Path:
    """Return the folder of a book's runs."""
    return root / "reports" / book / "runs"


def list_run_numbers(runs: Path) -> list[int]:
    """Return the numbers of the existing runs, newest first."""
    return sorted(
        (int(path.name) for path in runs.glob("*") if re.fullmatch(r"[1-9][0-9]*", path.name)),
        reverse=True,
    )


def record_run(
    root: Path,
    book: str,
    started_at: float,
    states: Mapping[str, str],
    *,
    command: Sequence[str],
    env_file: str,
    status: str,
    messages: Mapping[str, str] | None = None,
    parameters: Mapping[str, Sequence[Mapping[str, Any]]] | None = None,
    module_digests: Mapping[str, str] | None = None,
    archive_pages: Callable[[Path], None] | None = None,
) -> int:
    """Record a finished run under the next number; returns the number.

    Parameters
    ----------
    states : mapping
        Stage to ``ran``, ``kept`` (was up to date), ``failed`` or ``not run``.
    status : str
        ``ok``, ``failed`` or ``stopped``.
    messages : mapping, optional
        Failed stage to the reason.
    parameters : mapping, optional
        Stage to its effective parameters (``name``, ``value``, ``origin``), for stages without a
        receipt in this run.
    module_digests : mapping, optional
        Stage to the digest of the modules that its notebook imports.
    archive_pages : callable, optional
        Called with the run's folder before it is renamed to its number, to add the report pages.

    Raises
    ------
    OSError
        If the folder cannot be written; no partial folder is left.
    """
    folder = get_runs_folder(root, book)
    run_record: dict[str, Any] = {
        "started": datetime.fromtimestamp(started_at, UTC).isoformat(timespec="seconds"),
        "seconds": round(time.time() - started_at, 1),
        "status": status,
        "command": record.format_command(command),
        "env_file": env_file,
        "commit": project.get_commit(root),
    }
    products = {name: task["product"] for name, task in project.read_tasks(root, book).items()}
    with _make_temporary_folder(folder) as temporary_folder:
        receipts = _copy_receipts(products, temporary_folder)
        stage_records = {
            name: record.describe_stage(
                state,
                receipts.get(name, {}),
                message=(messages or {}).get(name, ""),
                parameters=(parameters or {}).get(name, ()),
                code_digests=_digest_code(products.get(name, {}), (module_digests or {}).get(name)),
            )
            for name, state in states.items()
        }
        run_record |= {**record.describe_table(stage_records, receipts), "stages": stage_records}
        files.write(temporary_folder / "run.json", redaction.redact_all(run_record))
        if archive_pages:
            archive_pages(temporary_folder)
        number = _claim_number(temporary_folder, folder)
    # So that the number of a removed folder is not used again.
    (folder / LAST_NUMBER_FILE).write_text(f"{number}\n", encoding="utf-8")
    return number


@contextmanager
def _make_temporary_folder(runs: Path) -> Iterator[Path]:
    """Yield a new folder next to those of the runs; if it still exists, it is removed on exit."""
    runs.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(runs)
    folder = runs / f".{os.getpid()}.part"
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def list_runs(root: Path, book: str) -> list[BuildRun]:
    """Return the runs of a book, newest first; ``read_error`` is set for unreadable ones.

    Raises
    ------
    RunHistoryError
        If there are no runs.
    """
    return [_read_run(root, book, number) for number in _require_run_numbers(root, book)]


def find_run(root: Path, book: str, name: str) -> BuildRun:
    """Return a run by its number, or by ``last``, ``last-1`` and so on.

    Raises
    ------
    RunHistoryError
        If there is no such run, or it cannot be read.
    """
    numbers = _require_run_numbers(root, book)
    names = {str(number): number for number in numbers} | {
        f"last-{offset}": number for offset, number in enumerate(numbers)
    }
    number = names.get("last-0" if name == "last" else name)
    if number is None:
        raise RunHistoryError(
            f"book {book!r} has no run {name!r}",
            expected=f"one of {_format_ranges(numbers)}; or last, last-1 and so on back to the "
            "first",
            next="list them (modelbook runs), or build again: " + project.build_command(root, book),
        )
    run = _read_run(root, book, number)
    if run.read_error:
        folder = (get_runs_folder(root, book) / str(number)).relative_to(root)
        raise RunHistoryError(
            f"run {number} cannot be read: {run.read_error}",
            next=f"compare others, or remove {folder}",
        )
    return run


def compare_runs(
    root: Path, book: str, a: str, b: str
) -> tuple[BuildRun, BuildRun, list[diff.Change]]:
    """Return two runs, named as in ``find_run``, and the changes from the first to the second.

    Raises
    ------
    RunHistoryError
        If one of them does not exist or cannot be read.
    """
    first, second = find_run(root, book, a), find_run(root, book, b)
    return first, second, diff.find_changes(first, second)


def find_result_runs(root: Path, book: str) -> dict[str, int]:
    """Return the number of the run that made each stage's current result, where it is known."""
    numbers = {
        (stage, stage_run.run_id): number
        for number in reversed(list_run_numbers(get_runs_folder(root, book)))
        for stage, stage_run in _read_run(root, book, number).stages.items()
        if stage_run.state == "ran" and stage_run.run_id
    }
    results = {
        stage: (stage, read_receipt(task["product"]["receipt"]).get("facts", {}).get("run_id"))
        for stage, task in project.read_tasks(root, book).items()
    }
    return {stage: numbers[result] for stage, result in results.items() if result in numbers}


def read_receipt(path: Path) -> dict[str, Any]:
    """Return a stage's receipt; empty if there is none, or it is damaged."""
    try:
        return Verdict.from_dict(files.read(path)).to_dict()
    except (OSError, ValueError, TypeError, ReportError):
        return {}


def find_next_run_number(folder: Path) -> int:
    """Return the number that the next run of a folder takes."""
    return max([*list_run_numbers(folder), _read_last_number(folder)], default=0) + 1


def _require_run_numbers(root: Path, book: str) -> list[int]:
    numbers = list_run_numbers(get_runs_folder(root, book))
    if not numbers:
        raise RunHistoryError(
            f"book {book!r} has no runs yet", next=f"build it: {project.build_command(root, book)}"
        )
    return numbers


def _read_run(root: Path, book: str, number: int) -> BuildRun:
    return record.read_run(get_runs_folder(root, book) / str(number) / "run.json", number)


def _claim_number(temporary_folder: Path, folder: Path) -> int:
    """Rename the finished folder to the next free number; safe against concurrent builds."""
    while True:
        number = find_next_run_number(folder)
        try:
            temporary_folder.rename(folder / str(number))
            return number
        except OSError:
            if not (folder / str(number)).exists():
                raise


def _read_last_number(folder: Path) -> int:
    try:
        return int((folder / LAST_NUMBER_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return 0


def _remove_leftovers(folder: Path) -> None:
    """Remove temporary folders of killed builds."""
    for leftover in folder.glob(".*.part"):
        process_id = leftover.name.split(".")[1]
        is_of_other_build = process_id.isdecimal() and int(process_id) != os.getpid()
        if not (is_of_other_build and is_running(int(process_id))):
            shutil.rmtree(leftover, ignore_errors=True)


def _copy_receipts(
    products: Mapping[str, Mapping[str, Path]], folder: Path
) -> dict[str, dict[str, Any]]:
    """Copy the receipts, and return the content of those that are not damaged."""
    receipts = {}
    for name, paths in products.items():
        if "receipt" in paths:
            copied_path = folder / f"{name}.json"
            with suppress(FileNotFoundError):
                copied_path.write_bytes(paths["receipt"].read_bytes())
            if receipt := read_receipt(copied_path):
                receipts[name] = receipt
    return receipts


def _digest_code(product: Mapping[str, Path], module_digest: str | None) -> dict[str, str]:
    """Return the digests of the executed notebook and of its modules, where known."""
    digests = {
        "notebook": record.hash_notebook_code(product.get("nb")),
        "modules": module_digest or "",
    }
    return {kind: digest for kind, digest in digests.items() if digest}


def _format_ranges(numbers: list[int]) -> str:
    """Format run numbers as ranges: ``1 to 4, 6`` for 6, 4, 3, 2, 1."""
    spans: list[list[int]] = []
    for number in sorted(numbers):
        if spans and number == spans[-1][-1] + 1:
            spans[-1] = [spans[-1][0], number]
        else:
            spans.append([number])
    return ", ".join(" to ".join(map(str, span)) for span in spans)
