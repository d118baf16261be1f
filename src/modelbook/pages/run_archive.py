"""The archive of report pages: archived with each run, removed for the oldest, compared in pairs.

Everything is below ``reports/<book>/runs/``: ``<number>/`` holds a run's pages and their
``index.html``, ``<a>-<b>.html`` compares two runs, ``figures/`` holds each figure once, named by
the hash of its content.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from modelbook.atomic import atomic_write
from modelbook.pages import archived_pages, failure_report, run_comparison, run_pages
from modelbook.pages.archived_pages import ArchivedFigure
from modelbook.runs import diff, history, record
from modelbook.runs.history import find_next_run_number, get_runs_folder, list_run_numbers
from modelbook.runs.record import BuildRun, StageRecord
from modelbook.stage import files, project

EVIDENTLY_INFIX = "-evidently-"  # part of the names of Evidently's reports
FIGURES_FILE = "figures.json"  # lists the figures of a run's pages


def archive_pages(root: Path, book: str, states: Mapping[str, str], target_folder: Path) -> None:
    """Copy the reports of a run, and the files they link to, into the run's folder.

    A file that is unchanged since an earlier run becomes a hard link to it.

    Raises
    ------
    OSError
        When a file cannot be read or written.
    """
    source = root / "reports" / book
    runs = get_runs_folder(root, book)
    reports = {
        name: task["product"]["report"].name
        for name, task in project.read_tasks(root, book).items()
        if "report" in task["product"]
    }
    pages = {
        reports[name]: name
        for name, state in states.items()
        if name in reports and _belongs_to_run(source, reports[name], state)
    }
    run_by_page = _find_runs_of_pages(root, book, pages, states)
    html_by_page = {
        page: (source / page).read_text(encoding="utf-8", errors="replace") for page in run_by_page
    }
    replacements = dict.fromkeys(reports.values(), "index.html")
    links = [_find_side_files(source, page, html) for page, html in html_by_page.items()]
    side_files = set().union(*links) - html_by_page.keys() - replacements.keys()
    figures: list[ArchivedFigure] = []
    for page, html in html_by_page.items():
        figures += _archive_figures(pages[page], html, runs) if page in pages else []
        _write_or_link(
            archived_pages.archive(
                html, side_files | html_by_page.keys(), replacements, run_by_page[page]
            ).encode(),
            target_folder / page,
            runs,
        )
    for link in side_files:
        archive = _keep_once if EVIDENTLY_INFIX in link else _copy_or_link
        archive(source / link, target_folder / link, runs)
    if pages:
        files.write(target_folder / FIGURES_FILE, [figure.to_dict() for figure in figures])


def update_run_pages(root: Path, book: str, keep_runs: int) -> None:
    """Remove the pages of the oldest runs, and write the run pages, comparisons and run list.

    Raises
    ------
    OSError
        When a file cannot be removed or written.
    """
    runs = get_runs_folder(root, book)
    all_runs = [
        record.read_run(runs / str(number) / "run.json", number)
        for number in list_run_numbers(runs)
    ]
    newest = [run for run in all_runs[:keep_runs] if not run.read_error]
    _remove_old_pages(runs, {run.number for run in all_runs[:keep_runs]})
    for position, b in enumerate(newest):
        for a in newest[position + 1 :]:
            if not (runs / _make_comparison_name(a, b)).exists():
                _write_comparison_page(runs, book, a, b)
    for run in all_runs:
        if not run.read_error and (
            run in newest or not (runs / str(run.number) / "index.html").exists()
        ):
            _write_run_page(runs, book, run, all_runs, keep_runs)
    run_pages.write_run_list(runs / "index.html", book, all_runs)


def write_comparison(root: Path, book: str, a: BuildRun, b: BuildRun) -> Path:
    """Write the comparison page of two runs and return its path.

    Raises
    ------
    OSError
        When it cannot be written.
    """
    return _write_comparison_page(get_runs_folder(root, book), book, a, b)


def _belongs_to_run(source: Path, report: str, state: str) -> bool:
    """Whether a stage's page belongs to this run: its report, or its failure report."""
    path = source / report
    if state == "failed":
        return failure_report.is_failure_report(path)
    is_good = path.is_file() and not failure_report.is_failure_report(path)
    return StageRecord(state).has_result and is_good


def _find_runs_of_pages(
    root: Path, book: str, pages: Mapping[str, str], states: Mapping[str, str]
) -> dict[str, int | None]:
    """Return the run that made each page: of the reports, and of the last good ones."""
    source = root / "reports" / book
    earlier_runs = history.find_result_runs(root, book)
    this_run = find_next_run_number(get_runs_folder(root, book))
    run_by_page: dict[str, int | None] = {}
    for page, stage in pages.items():
        run_by_page[page] = earlier_runs.get(stage) if states[stage] == "kept" else this_run
        last_good = failure_report.get_last_good_path(source / page)
        if failure_report.is_failure_report(source / page) and last_good.is_file():
            run_by_page[last_good.name] = earlier_runs.get(stage)
    return run_by_page


def _find_side_files(source: Path, page: str, html: str) -> set[str]:
    """Return the files that a report links to in its folder, such as its executed notebook."""
    pattern = re.compile(
        re.escape(Path(page).stem.removesuffix(failure_report.LAST_GOOD_SUFFIX)) + r"[\w.-]*"
    )
    return {
        link
        for link in archived_pages.find_links(html)
        if pattern.fullmatch(link) and (source / link).is_file()
    }


def _archive_figures(stage: str, html: str, runs: Path) -> Iterator[ArchivedFigure]:
    """Store each figure of a page as a file, once for all runs."""
    for attributes, extension, content in archived_pages.extract_figures(html):
        name = f"{hashlib.sha256(content).hexdigest()[:20]}.{extension}"
        path = runs / "figures" / name
        if not path.exists():
            with atomic_write(path) as part:
                part.write_bytes(content)
        yield ArchivedFigure(stage=stage, file_name=name, **attributes)


def _copy_or_link(source: Path, path: Path, runs: Path) -> None:
    _write_or_link(source.read_bytes(), path, runs)


def _write_or_link(content: bytes, path: Path, runs: Path) -> None:
    """Write a file of a run, or hard-link it to an identical file of an earlier run."""
    earlier_copy = _find_earlier_copy(content, path.name, runs)
    if not (earlier_copy and _link(earlier_copy, path)):
        path.write_bytes(content)


def _keep_once(report: Path, path: Path, runs: Path) -> None:
    """Let the report of a run, that of an earlier one if it is identical, and the copy be one file.

    For files of several megabytes that are never changed in place.
    """
    earlier_copy = _find_earlier_copy(report.read_bytes(), path.name, runs)
    if earlier_copy and not earlier_copy.samefile(report):
        part = report.with_name(f".{report.name}.part")
        part.unlink(missing_ok=True)
        if _link(earlier_copy, part):
            os.replace(part, report)
    if not _link(report, path):
        shutil.copyfile(report, path)


def _find_earlier_copy(content: bytes, name: str, runs: Path) -> Path | None:
    """The newest run's file of this name, if it is identical."""
    for number in list_run_numbers(runs):
        path = runs / str(number) / name
        if path.is_file():
            is_identical = path.stat().st_size == len(content) and path.read_bytes() == content
            return path if is_identical else None
    return None


def _link(existing: Path, path: Path) -> bool:
    """Make a hard link; False on a file system without them."""
    try:
        os.link(existing, path)
    except OSError:
        return False
    return True


def _remove_old_pages(runs: Path, retained: set[int]) -> None:
    """Remove pages and comparisons of runs that are not retained, and unused figures."""
    existing = set(list_run_numbers(runs))
    cleared = set()
    for number in existing - retained:
        run_folder = runs / str(number)
        old_files = [
            *run_folder.glob("[0-9]*.html"),
            *run_folder.glob("[0-9]*.ipynb"),
            *run_folder.glob(FIGURES_FILE),
        ]
        if old_files:
            cleared.add(number)
            # Index.html is written again later.
            for path in [*old_files, run_folder / "index.html"]:
                path.unlink(missing_ok=True)
    for path in runs.glob("*-*.html"):
        pair = re.fullmatch(r"(\d+)-(\d+)\.html", path.name)
        if pair and not {int(pair[1]), int(pair[2])} <= existing - cleared:
            path.unlink()
    referenced = {figure.file_name for number in retained for figure in _read_figures(runs, number)}
    for path in (runs / "figures").glob("[0-9a-f]*"):
        if path.name not in referenced:
            path.unlink()


def _read_figures(runs: Path, number: int) -> list[ArchivedFigure]:
    try:
        return [
            ArchivedFigure(**fields) for fields in files.read(runs / str(number) / FIGURES_FILE)
        ]
    except (OSError, ValueError, TypeError):
        return []  # its pages were removed, or never archived


def _write_comparison_page(runs: Path, book: str, a: BuildRun, b: BuildRun) -> Path:
    pages = {run.number: _list_pages(runs, run) for run in (a, b)}
    figures = [_read_figures(runs, run.number) for run in (a, b)]
    target = runs / _make_comparison_name(a, b)
    run_comparison.write(
        target, book, (a, b), (diff.find_changes(a, b), diff.find_unchanged(a, b)), pages, figures
    )
    return target


def _write_run_page(
    runs: Path, book: str, run: BuildRun, all_runs: Sequence[BuildRun], keep_runs: int
) -> None:
    pairs = {
        other_run.number: _make_comparison_name(
            *sorted((run, other_run), key=lambda item: item.number)
        )
        for other_run in all_runs
        if other_run != run
    }
    comparison_pages = {number: name for number, name in pairs.items() if (runs / name).exists()}
    run_pages.write_run(
        runs / str(run.number) / "index.html",
        book,
        run,
        all_runs,
        _list_pages(runs, run),
        comparison_pages,
        keep_runs,
    )


def _list_pages(runs: Path, run: BuildRun) -> dict[str, str]:
    """Return the archived reports of a run, by stage."""
    names = sorted(path.name for path in (runs / str(run.number)).glob("[0-9]*.html"))
    return {
        stage: name
        for stage in run.stages
        for name in names
        if re.fullmatch(rf"\d+_{re.escape(stage)}\.html", name)
    }


def _make_comparison_name(a: BuildRun, b: BuildRun) -> str:
    return f"{a.number}-{b.number}.html"
