"""The comparison page of two runs: changed inputs, metrics and figures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelbook.pages import templating
from modelbook.pages.archived_pages import ArchivedFigure
from modelbook.pages.run_pages import STATUS_LEVELS
from modelbook.runs.diff import COMPARED_METRICS

if TYPE_CHECKING:
    from modelbook.runs.diff import Change
    from modelbook.runs.record import BuildRun

# What is decided about rows: of two classes, of several, of a number.
DECISION_METRICS = (("selection_rate", "recall", "precision"), ("accuracy",), ("mae",))
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
    (a, b), (changes_found, unchanged) = runs, changes
    stages = [*dict.fromkeys([*a.stages, *b.stages])]
    unpaired = _find_unpaired_stages(runs, stages, figures)
    charts, n_identical = _pair_figures(
        *(
            [figure for figure in run_figures if figure.stage not in unpaired]
            for run_figures in figures
        )
    )
    templating.write_template(
        path,
        "run_comparison.html.j2",
        book=book,
        a=a,
        b=b,
        status_levels=STATUS_LEVELS,
        pages=pages,
        changed=changes_found,
        unchanged=unchanged,
        change_counts=Counter(change.kind for change in changes_found if not change.is_equal),
        consequence=_compare_decisions(a, b),
        metric_changes=[*_compare_headline_metrics(a, b)],
        stages=[(name, [run.stages.get(name) for run in runs]) for name in stages],
        charts=charts,
        n_identical=n_identical,
        unpaired=unpaired,
        without_figures=[
            run.number for run, run_figures in zip(runs, figures, strict=True) if not run_figures
        ],
    )


def _compare_headline_metrics(a: BuildRun, b: BuildRun) -> Iterator[dict[str, Any]]:
    """Yield the headline metrics of both runs, and whether chance may explain their difference.

    If deploy compared both versions on the same rows, its paired interval decides; otherwise each
    value must be in the other's interval.
    """
    for name in COMPARED_METRICS:
        steps = [
            [step for step in run.stages.values() if step.has_result and name in step.metrics]
            for run in (a, b)
        ]
        if all(steps):
            before, after = (run_steps[-1] for run_steps in steps)
            old, new = before.metrics[name], after.metrics[name]
            n_rows, paired = _find_paired_difference((a, b), {before.version, after.version}, name)
            yield {
                "metric": name,
                "before": old,
                "after": new,
                "difference": round(new - old, 4) if round(new - old, 6) else 0,
                "paired_rows": n_rows,
                "may_be_chance": paired["low"] <= 0 <= paired["high"]
                if paired
                else _is_within_interval(new, name, before.metrics)
                and _is_within_interval(old, name, after.metrics),
            }


def _find_paired_difference(
    runs: RunPair, versions: set[int | None], metric: str
) -> tuple[int, dict[str, Any] | None]:
    """Rows and difference of a run's comparison of two versions; 0 and None without an interval."""
    for step in (step for run in runs for step in run.stages.values() if step.paired):
        if {step.paired["champion"], step.version} == versions:
            for row in step.paired["differences"]:
                if row["metric"] == metric and row["low"] is not None:
                    return step.paired["rows"], row
    return 0, None


def _compare_decisions(a: BuildRun, b: BuildRun) -> dict[str, tuple[float, float]]:
    """What both models decide, by metric; empty if the runs have no such metrics in common."""
    for names in DECISION_METRICS:
        metrics_of_runs = [
            next((step.metrics for step in run.stages.values() if names[0] in step.metrics), {})
            for run in (a, b)
        ]
        if all(name in metrics for name in names for metrics in metrics_of_runs):
            return {name: (metrics_of_runs[0][name], metrics_of_runs[1][name]) for name in names}
    return {}


def _is_within_interval(value: float, name: str, metrics: Mapping[str, float]) -> bool:
    low, high = metrics.get(f"{name}_low"), metrics.get(f"{name}_high")
    return low is not None and high is not None and low <= value <= high


def _find_unpaired_stages(
    runs: RunPair, stages: Sequence[str], figures: Sequence[Sequence[ArchivedFigure]]
) -> dict[str, int]:
    """Return the stages with figures in one run only, and the number of the other run."""
    in_a, in_b = ({figure.stage for figure in run_figures} for run_figures in figures)
    return {stage: runs[stage in in_a].number for stage in stages if stage in in_a ^ in_b}


def _pair_figures(
    a: Sequence[ArchivedFigure], b: Sequence[ArchivedFigure]
) -> tuple[dict[str, list[dict[str, Any]]], int]:
    """Return pairs of figures that differ, by stage, and the number of identical figures."""
    in_a, in_b = ({figure.key: figure for figure in run_figures} for run_figures in (a, b))
    charts: dict[str, list[dict[str, Any]]] = {}
    n_identical = 0
    for key in {**in_a, **in_b}:
        first, second = in_a.get(key), in_b.get(key)
        if first and second and first.file_name == second.file_name:
            n_identical += 1
        else:
            charts.setdefault(key[0], []).append({"section": key[1], "pair": (first, second)})
    return charts, n_identical
