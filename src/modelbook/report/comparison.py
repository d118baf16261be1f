"""The page that holds two runs against each other: what changed, and what it did to metrics and charts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelbook.report import template
from modelbook.report.kept import Picture
from modelbook.report.past import ENDED
from modelbook.report.terminal import as_text, signed
from modelbook.tasks.names import HEADLINES, label, told

if TYPE_CHECKING:
    from modelbook.stage.difference import Change
    from modelbook.stage.record import Run

HEADLINE = (*HEADLINES, "pr_auc")

Pair = tuple["Run", "Run"]


def write(
    path: Path, book: str, runs: Pair, changes: tuple[Sequence[Change], Sequence[Change]],
    pages: Mapping[int, Mapping[str, str]], figures: Sequence[Sequence[Picture]],
) -> None:  # fmt: skip
    """Write the page of two runs.

    Parameters
    ----------
    path : path
        The page, in the folder of the book's runs.
    runs : pair of Run
        From which, and to which, things changed.
    changes : pair of sequences of Change
        What differs, and what is the same.
    pages : mapping
        Of each run's number: the file names of the stages' pages that are kept with it.
    figures : pair of sequences of Picture
        What those pages show.
    """
    differ, same = changes
    single = _single(runs, figures)
    charts, alike = _charts(*([one for one in found if one.stage not in single] for found in figures))
    view = {
        "book": book, "a": runs[0], "b": runs[1], "ended": ENDED, "pages": pages, "sentences": _sentences(runs, differ),
        "made": _made(runs), "stages": _stages(runs), "charts": charts, "alike": alike,
        "single": single,
        "without": [run.number for run, found in zip(runs, figures, strict=True) if not found],
        "tables": [
            ("Metrics", "metric", _rows(differ, "metric"), _rows(same, "metric")),
            ("Parameters", "parameter", _rows(differ, "parameter"), _rows(same, "parameter")),
            ("Code and libraries", "", _rows(differ, "code", "library", "processor"), []),
        ],
    }  # fmt: skip
    template.write(path, template.fill("comparison.html.j2", **view))


def _sentences(runs: Pair, changes: Sequence[Change]) -> list[str]:
    """What a reader must know first: what came of it, then what was changed."""
    told = [sentence for name in HEADLINE for sentence in _moved(name, *runs)]
    told += [
        f"Run {run.number} failed: {step.message}." for run in runs for step in run.stages.values() if step.message
    ]
    told += [
        f"The verdict of {change.name} was {change.a}, then {change.b}."
        for change in changes
        if change.about == "verdict"
    ]
    data = [change for change in changes if change.about == "data"]
    known = all(run.fingerprint for run in runs)
    told += ["The data differ."] if data and known else ["Both saw the same table."] if known else []
    told += [f"{change.note[0].upper()}{change.note[1:]}." for change in changes if change.about == "folds"]
    causes = ("parameter", "code", "library", "processor")
    counts = [(sum(change.about == about for change in changes), about) for about in causes]
    parts = [f"{count} {_plural(about, count)}" for count, about in counts if count]
    told.append(
        f"Set or made otherwise: {', '.join(parts)}." if parts else "Parameters, code and libraries are the same."
    )
    return told if any(change.a != change.b for change in changes) else ["Nothing differs.", *told]


def _plural(about: str, count: int) -> str:
    plurals = {
        "code": "of code",
        "library": "library" if count == 1 else "libraries",
        "processor": "of the processor",
    }
    return plurals.get(about, about + "s" * (count != 1))


def _moved(name: str, a: Run, b: Run) -> Iterator[str]:
    """How a metric with an interval went, and whether chance alone could have done it."""
    before, after = (
        [step.metrics for step in run.stages.values() if step.stands and name in step.metrics] for run in (a, b)
    )
    if not (before and after):
        return
    x, y, change = before[-1][name], after[-1][name], after[-1][name] - before[-1][name]
    if round(change, 6) == 0:
        yield f"{label(name)} is {told(y)} in both."
        return
    inside = _within(y, name, before[-1]) and _within(x, name, after[-1])
    how = (
        "each lies within the other's interval, so chance could have done it"
        if inside
        else "more than the intervals span"
    )
    went = "rose" if change > 0 else "fell"
    yield f"{label(name)} {went} from {told(x)} to {told(y)} ({signed(round(change, 4))}): {how}."


def _within(value: float, name: str, metrics: Mapping[str, float]) -> bool:
    low, high = metrics.get(f"{name}_low"), metrics.get(f"{name}_high")
    return low is not None and high is not None and low <= value <= high


def _made(runs: Pair) -> list[tuple[str, list[str], bool]]:
    """How the two were made: name, value in each, whether it differs."""
    told = [
        ("command", [run.command for run in runs]), ("env file", [run.environment for run in runs]),
        ("commit", [run.commit for run in runs]), ("data fingerprint", [run.fingerprint[:12] for run in runs]),
        ("rows of the table", [as_text(run.rows) for run in runs]),
        ("came out", [", ".join(run.headline) for run in runs]),
    ]  # fmt: skip
    return [(name, [value or "–" for value in pair], pair[0] != pair[1]) for name, pair in told]


def _stages(runs: Pair) -> list[tuple[str, list[Any]]]:
    names = dict.fromkeys([*runs[0].stages, *runs[1].stages])
    return [(name, [run.stages.get(name) for run in runs]) for name in names]


def _rows(changes: Sequence[Change], *abouts: str) -> list[dict[str, str]]:
    rows = []
    for change in changes:
        if change.about in abouts:
            stage, _, name = (
                change.name.partition(".") if change.about in ("metric", "parameter") else ("", "", change.name)
            )
            shown = label(name) if change.about == "metric" else name
            apart = "" if change.difference is None else signed(change.difference) if change.difference else "0"
            rows.append({
                "stage": stage, "name": shown, "a": as_text(change.a), "b": as_text(change.b),
                "difference": apart, "note": change.note,
            })  # fmt: skip
    return rows


def _single(runs: Pair, figures: Sequence[Sequence[Picture]]) -> dict[str, int]:
    """Stages whose figures only one of the runs has, and the number of the run that has none."""
    a, b = ({picture.stage for picture in found} for found in figures)
    return {
        stage: runs[stage in a].number for stage in dict.fromkeys([*runs[0].stages, *runs[1].stages]) if stage in a ^ b
    }


def _charts(a: Sequence[Picture], b: Sequence[Picture]) -> tuple[dict[str, list[dict[str, Any]]], int]:
    """Figures that differ, by stage, each beside its counterpart; and how many are the same in both."""
    found = [{picture.spot: picture for picture in pictures} for pictures in (a, b)]
    charts: dict[str, list[dict[str, Any]]] = {}
    alike = 0
    for spot in {**found[0], **found[1]}:
        pair = [pictures.get(spot) for pictures in found]
        if pair[0] and pair[1] and pair[0].file == pair[1].file:
            alike += 1
        else:
            charts.setdefault(spot[0], []).append({"section": spot[1], "pair": pair})
    return charts, alike
