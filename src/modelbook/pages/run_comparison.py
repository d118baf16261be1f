"""The comparison page of two runs: changed inputs, metrics and figures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelbook.formatting import format_cell, format_difference
from modelbook.pages import templating
from modelbook.pages.archived_pages import ArchivedFigure
from modelbook.pages.run_pages import STATUS_LEVELS
from modelbook.tasks.metric_format import HEADLINE_METRICS, format_metric, metric_label

if TYPE_CHECKING:
    from modelbook.runs.diff import Change
    from modelbook.runs.record import BuildRun

COMPARED_METRICS = (*HEADLINE_METRICS, "pr_auc")

RunPair = tuple["BuildRun", "BuildRun"]


def write(
    path: Path,
    book: str,
    runs: RunPair,
    changes: tuple[Sequence[Change], Sequence[Change]],
    pages: Mapping[int, Mapping[str, str]],
    figures: Sequence[Sequence[ArchivedFigure]],
) -> None:
    """Write the comparison page of two runs.

    Parameters
    ----------
    path : path
        The page, in the folder of the book's runs.
    runs : pair of BuildRun
        The earlier and the later run.
    changes : pair of sequences of Change
        What differs, and what is equal.
    pages : mapping
        Run number to the file names of its archived reports, by stage.
    figures : pair of sequences of ArchivedFigure
        The figures of those reports.
    """
    changed, unchanged = changes
    unpaired = _unpaired_stages(runs, figures)
    charts, n_identical = _pair_figures(
        *(
            [figure for figure in run_figures if figure.stage not in unpaired]
            for run_figures in figures
        )
    )
    view = {
        "book": book,
        "a": runs[0],
        "b": runs[1],
        "ended": STATUS_LEVELS,
        "pages": pages,
        "sentences": _summary_sentences(runs, changed),
        "made": _run_details(runs),
        "stages": _stage_pairs(runs),
        "charts": charts,
        "alike": n_identical,
        "single": unpaired,
        "without": [
            run.number for run, run_figures in zip(runs, figures, strict=True) if not run_figures
        ],
        "tables": [
            (
                "Metrics",
                "metric",
                _change_rows(changed, "metric"),
                _change_rows(unchanged, "metric"),
            ),
            (
                "Parameters",
                "parameter",
                _change_rows(changed, "parameter"),
                _change_rows(unchanged, "parameter"),
            ),
            ("Code and libraries", "", _change_rows(changed, "code", "library", "processor"), []),
        ],
    }
    templating.write_page(path, templating.render_template("run_comparison.html.j2", **view))


def _summary_sentences(runs: RunPair, changes: Sequence[Change]) -> list[str]:
    """Summarize the comparison: results first, then causes."""
    sentences = [
        sentence for name in COMPARED_METRICS for sentence in _metric_change_sentences(name, *runs)
    ]
    sentences += [
        f"Run {run.number} failed: {step.message}."
        for run in runs
        for step in run.stages.values()
        if step.message
    ]
    sentences += [
        f"The verdict of {change.name} was {change.a}, then {change.b}."
        for change in changes
        if change.kind == "verdict"
    ]
    data_changes = [change for change in changes if change.kind == "data"]
    has_fingerprints = all(run.fingerprint for run in runs)
    sentences += (
        ["The data differ."]
        if data_changes and has_fingerprints
        else ["Both used the same data."]
        if has_fingerprints
        else []
    )
    sentences += [
        f"{change.note[0].upper()}{change.note[1:]}."
        for change in changes
        if change.kind == "folds"
    ]
    causes = ("parameter", "code", "library", "processor")
    counts = [(sum(change.kind == kind for change in changes), kind) for kind in causes]
    count_texts = [f"{count} {_pluralize(kind, count)}" for count, kind in counts if count]
    sentences.append(
        f"Changed: {', '.join(count_texts)}."
        if count_texts
        else "Parameters, code and libraries are the same."
    )
    return (
        sentences
        if any(change.a != change.b for change in changes)
        else ["Nothing differs.", *sentences]
    )


def _pluralize(kind: str, count: int) -> str:
    plurals = {
        "code": "in the code",
        "library": "library" if count == 1 else "libraries",
        "processor": "in the processor",
    }
    return plurals.get(kind, kind + "s" * (count != 1))


def _metric_change_sentences(name: str, a: BuildRun, b: BuildRun) -> Iterator[str]:
    """Describe the change of a metric, and whether it is within the confidence intervals."""
    before, after = (
        [step.metrics for step in run.stages.values() if step.has_result and name in step.metrics]
        for run in (a, b)
    )
    if not (before and after):
        return
    value_before, value_after, change = (
        before[-1][name],
        after[-1][name],
        after[-1][name] - before[-1][name],
    )
    if round(change, 6) == 0:
        yield f"{metric_label(name)} is {format_metric(value_after)} in both."
        return
    is_within_both = _is_within_interval(value_after, name, before[-1]) and _is_within_interval(
        value_before, name, after[-1]
    )
    assessment = (
        "each is within the other's 95% CI, so the change may be due to chance"
        if is_within_both
        else "the change exceeds the confidence intervals"
    )
    direction = "rose" if change > 0 else "fell"
    yield (
        f"{metric_label(name)} {direction} from {format_metric(value_before)} to "
        f"{format_metric(value_after)} ({format_difference(round(change, 4))}): {assessment}."
    )


def _is_within_interval(value: float, name: str, metrics: Mapping[str, float]) -> bool:
    low, high = metrics.get(f"{name}_low"), metrics.get(f"{name}_high")
    return low is not None and high is not None and low <= value <= high


def _run_details(runs: RunPair) -> list[tuple[str, list[str], bool]]:
    """Return how the two runs were made: name, both values, whether they differ."""
    details = [
        ("command", [run.command for run in runs]),
        ("env file", [run.env_file for run in runs]),
        ("commit", [run.commit for run in runs]),
        ("data fingerprint", [run.fingerprint[:12] for run in runs]),
        ("rows of the table", [format_cell(run.rows) for run in runs]),
        ("result", [", ".join(run.headline) for run in runs]),
    ]
    return [(name, [value or "–" for value in pair], pair[0] != pair[1]) for name, pair in details]


def _stage_pairs(runs: RunPair) -> list[tuple[str, list[Any]]]:
    names = dict.fromkeys([*runs[0].stages, *runs[1].stages])
    return [(name, [run.stages.get(name) for run in runs]) for name in names]


def _change_rows(changes: Sequence[Change], *kinds: str) -> list[dict[str, str]]:
    rows = []
    for change in changes:
        if change.kind in kinds:
            stage, _, name = (
                change.name.partition(".")
                if change.kind in ("metric", "parameter")
                else ("", "", change.name)
            )
            label = metric_label(name) if change.kind == "metric" else name
            difference_text = (
                ""
                if change.difference is None
                else format_difference(change.difference)
                if change.difference
                else "0"
            )
            rows.append(
                {
                    "stage": stage,
                    "name": label,
                    "a": format_cell(change.a),
                    "b": format_cell(change.b),
                    "difference": difference_text,
                    "note": change.note,
                }
            )
    return rows


def _unpaired_stages(runs: RunPair, figures: Sequence[Sequence[ArchivedFigure]]) -> dict[str, int]:
    """Return the stages with figures in one run only, and the number of the other run."""
    stages_a, stages_b = ({figure.stage for figure in run_figures} for run_figures in figures)
    return {
        stage: runs[stage in stages_a].number
        for stage in dict.fromkeys([*runs[0].stages, *runs[1].stages])
        if stage in stages_a ^ stages_b
    }


def _pair_figures(
    a: Sequence[ArchivedFigure], b: Sequence[ArchivedFigure]
) -> tuple[dict[str, list[dict[str, Any]]], int]:
    """Return pairs of figures that differ, by stage, and the number of identical figures."""
    figures_by_key = [{figure.key: figure for figure in run_figures} for run_figures in (a, b)]
    charts: dict[str, list[dict[str, Any]]] = {}
    n_identical = 0
    for key in {**figures_by_key[0], **figures_by_key[1]}:
        pair = [run_figures.get(key) for run_figures in figures_by_key]
        if pair[0] and pair[1] and pair[0].file_name == pair[1].file_name:
            n_identical += 1
        else:
            charts.setdefault(key[0], []).append({"section": key[1], "pair": pair})
    return charts, n_identical
