"""Pages of past runs: kept whole with each run, given up by the oldest, and held against each other.

All of them stand below ``reports/<book>/runs/``: ``<number>/`` has a run's pages and ``index.html``, which leads to
them; ``<a>-<b>.html`` compares two runs; ``figures/`` has each figure once, under a name that its content gives it.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from modelbook.report import comparison, failure, kept, past
from modelbook.report.kept import Picture
from modelbook.stage import difference, files, project, record
from modelbook.stage.record import Run, Step
from modelbook.whole import complete

FIGURES = "figures.json"  # which figures a run's pages hold


def folder(root: Path, book: str) -> Path:
    """Where the runs of a book are kept."""
    return root / "reports" / book / "runs"


def numbers(runs: Path) -> list[int]:
    """Numbers of the runs that are there, newest first."""
    return sorted((int(path.name) for path in runs.glob("*") if re.fullmatch(r"[1-9][0-9]*", path.name)), reverse=True)


def take(root: Path, book: str, states: Mapping[str, str], part: Path) -> None:
    """Keep the pages of a run that is being recorded, and what they link to, in its folder.

    A file that is the same as in an earlier run takes no room again: it is that file, under one more name.

    Raises
    ------
    OSError
        When a file cannot be read or written.
    """
    source, runs = root / "reports" / book, folder(root, book)
    tasks = project.tasks(root, book)
    reports = {name: task["product"]["report"].name for name, task in tasks.items() if "report" in task["product"]}
    pages = {
        reports[name]: name
        for name, state in states.items()
        if name in reports and _tells(source, reports[name], state)
    }
    read = {page: _text(source / page) for page in pages}
    for page in pages:
        good = failure.last_good(source / page)
        if failure.is_failure(source / page) and good.is_file():
            read[good.name] = _text(good)
    instead = dict.fromkeys(reports.values(), "index.html")
    more = {link for page, html in read.items() for link in _own(source, page, html)} - read.keys() - instead.keys()
    found: list[Picture] = []
    for page, html in read.items():
        found += _pictures(pages[page], html, runs) if page in pages else []
        _put(kept.placed(html, more | read.keys(), instead).encode(), part / page, runs)
    for link in more:
        _put((source / link).read_bytes(), part / link, runs)
    if pages:
        files.write(part / FIGURES, [picture.to_dict() for picture in found])


def arrange(root: Path, book: str, keep_runs: int) -> None:
    """Let the oldest runs give up their pages, and write the pages that lead to all the others.

    Raises
    ------
    OSError
        When a file cannot be removed or written.
    """
    runs = folder(root, book)
    there = [record.read(runs / str(number) / "run.json", number) for number in numbers(runs)]
    newest = [run for run in there[:keep_runs] if not run.problem]
    _drop(runs, {run.number for run in there[:keep_runs]})
    for place, b in enumerate(newest):
        for a in newest[place + 1 :]:
            if not (runs / _pair(a, b)).exists():
                _compare(runs, book, a, b)
    for run in there:
        if not run.problem and (run in newest or not (runs / str(run.number) / "index.html").exists()):
            _lead(runs, book, run, there, keep_runs)
    past.write_list(runs / "index.html", book, there)


def compare(root: Path, book: str, a: Run, b: Run) -> Path:
    """Write the page that holds two runs against each other; returns its path.

    Raises
    ------
    OSError
        When it cannot be written.
    """
    return _compare(folder(root, book), book, a, b)


def _tells(source: Path, report: str, state: str) -> bool:
    """Whether a stage's page is of this run: a report of one that stands, or the page of one that failed."""
    if state.startswith("failed"):
        return failure.is_failure(source / report)
    return Step(state).stands and _is_good(source / report)


def _text(page: Path) -> str:
    return page.read_text(encoding="utf-8", errors="replace")


def _is_good(report: Path) -> bool:
    return report.is_file() and not failure.is_failure(report)


def _own(source: Path, page: str, html: str) -> set[str]:
    """What a stage has left beside its page, and links to: its executed notebook, above all."""
    mine = re.compile(re.escape(Path(page).stem.removesuffix(failure.LAST_GOOD)) + r"[\w.-]*")
    return {link for link in kept.links(html) if mine.fullmatch(link) and (source / link).is_file()}


def _pictures(stage: str, html: str, runs: Path) -> Iterator[Picture]:
    """Keep each figure of a page in a file of its own, once for all runs."""
    for told, ending, text in kept.pictures(html):
        try:
            content = base64.b64decode(text)
        except binascii.Error:
            continue
        name = f"{hashlib.sha256(content).hexdigest()[:20]}.{ending}"
        path = runs / "figures" / name
        if not path.exists():
            with complete(path) as part:
                part.write_bytes(content)
        yield Picture(stage=stage, file=name, **told)


def _put(content: bytes, path: Path, runs: Path) -> None:
    """Write a file of a run, or give the same file of the run before it one more name."""
    earlier = next((old for number in numbers(runs) if (old := runs / str(number) / path.name).is_file()), None)
    if earlier and earlier.stat().st_size == len(content) and earlier.read_bytes() == content:
        try:
            os.link(earlier, path)
            return
        except OSError:  # a file system that has no such names
            pass
    path.write_bytes(content)


def _drop(runs: Path, stay: set[int]) -> None:
    """Remove the pages and comparisons of the runs that do not keep theirs, and figures that none shows any more."""
    there, given_up = set(numbers(runs)), set()
    for number in there - stay:
        mine = runs / str(number)
        gone = [*mine.glob("[0-9]*.html"), *mine.glob("[0-9]*.ipynb"), *mine.glob(FIGURES)]
        if gone:
            given_up.add(number)
            for path in [*gone, mine / "index.html"]:  # the last is then written anew
                path.unlink(missing_ok=True)
    for path in runs.glob("*-*.html"):
        pair = re.fullmatch(r"(\d+)-(\d+)\.html", path.name)
        if pair and not {int(pair[1]), int(pair[2])} <= there - given_up:
            path.unlink()
    shown = {picture.file for number in stay for picture in _shown(runs, number)}
    for path in (runs / "figures").glob("[0-9a-f]*"):
        if path.name not in shown:
            path.unlink()


def _shown(runs: Path, number: int) -> list[Picture]:
    try:
        return [Picture(**told) for told in files.read(runs / str(number) / FIGURES)]
    except (OSError, ValueError, TypeError):
        return []  # its pages are gone, or it is older than they are


def _compare(runs: Path, book: str, a: Run, b: Run) -> Path:
    pages = {run.number: _pages(runs, run) for run in (a, b)}
    figures = [_shown(runs, run.number) for run in (a, b)]
    target = runs / _pair(a, b)
    comparison.write(target, book, (a, b), (difference.between(a, b), difference.alike(a, b)), pages, figures)
    return target


def _lead(runs: Path, book: str, run: Run, there: Sequence[Run], keep_runs: int) -> None:
    pairs = {other.number: _pair(*sorted((run, other), key=lambda one: one.number)) for other in there if other != run}
    compared = {number: name for number, name in pairs.items() if (runs / name).exists()}
    past.write(runs / str(run.number) / "index.html", book, run, there, _pages(runs, run), compared, keep_runs)


def _pages(runs: Path, run: Run) -> dict[str, str]:
    """The pages that are kept with a run, by stage."""
    names = sorted(path.name for path in (runs / str(run.number)).glob("[0-9]*.html"))
    return {
        stage: name for stage in run.stages for name in names if re.fullmatch(rf"\d+_{re.escape(stage)}\.html", name)
    }


def _pair(a: Run, b: Run) -> str:
    return f"{a.number}-{b.number}.html"
