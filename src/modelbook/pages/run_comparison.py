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
    from modelbook.runs.record import BuildRun, StageRecord

# Metrics of the predicted class or value: binary, multiclass, regression.
THRESHOLD_METRICS = (("selection_rate", "recall", "precision"), ("accuracy",), ("mae",))
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
        Differences and key metrics; then parameters and metrics that are equal.
    pages : mapping
        Run number to the file names of its archived reports, by stage.
    figures : pair of sequences of ArchivedFigure
        The figures of those reports.
    """
    (a, b), (changed, unchanged) = runs, changes
    stages = [*dict.fromkeys([*a.stages, *b.stages])]
    stages_in_one_run = _find_stages_in_one_run(runs, stages, figures)
    charts, n_identical = _match_figures(
        *(
            [figure for figure in run_figures if figure.stage not in stages_in_one_run]
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
        changed=changed,
        unchanged=unchanged,
        change_counts=Counter(change.kind for change in changed if not change.is_equal),
        threshold_metrics=_compare_threshold_metrics(a, b),
        metric_changes=[*_compare_key_metrics(a, b)],
        stages=[(name, [run.stages.get(name) for run in runs]) for name in stages],
        charts=charts,
        n_identical=n_identical,
        stages_in_one_run=stages_in_one_run,
        without_figures=[
            run.number for run, run_figures in zip(runs, figures, strict=True) if not run_figures
        ],
    )


def _compare_key_metrics(a: BuildRun, b: BuildRun) -> Iterator[dict[str, Any]]:
    """Yield the key metrics of both runs, and whether their difference may be due to chance.

    If deploy compared both versions on the same rows, its interval of the paired difference
    decides; otherwise each value must be in the other's interval. None: an interval is missing.
    """
    for name in COMPARED_METRICS:
        before, after = (_find_stage_with_metric(run, name) for run in (a, b))
        if before and after:
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
                else _are_within_intervals(name, before.metrics, after.metrics),
            }


def _find_stage_with_metric(run: BuildRun, metric: str) -> StageRecord | None:
    """The last stage whose result has the metric."""
    stage_runs = [
        stage_run
        for stage_run in run.stages.values()
        if stage_run.has_result and metric in stage_run.metrics
    ]
    return stage_runs[-1] if stage_runs else None


def _find_paired_difference(
    runs: RunPair, versions: set[int | None], metric: str
) -> tuple[int, dict[str, Any] | None]:
    """Rows and difference of a run's comparison of two versions; 0 and None without an interval."""
    stage_runs = [stage_run for run in runs for stage_run in run.stages.values()]
    for stage_run in stage_runs:
        paired = stage_run.paired
        if paired and {paired["champion"], stage_run.version} == versions:
            for row in paired["differences"]:
                if row["metric"] == metric and row["low"] is not None:
                    return paired["rows"], row
    return 0, None


def _compare_threshold_metrics(a: BuildRun, b: BuildRun) -> dict[str, tuple[float, float]]:
    """Return both values of the threshold metrics; empty if the runs have none in common."""
    for names in THRESHOLD_METRICS:
        before, after = (_find_stage_with_metric(run, names[0]) for run in (a, b))
        if before and after:
            return {name: (before.metrics[name], after.metrics[name]) for name in names}
    return {}


def _are_within_intervals(
    name: str, before: Mapping[str, float], after: Mapping[str, float]
) -> bool | None:
    """Whether each value is in the other's interval; None if a missing interval leaves it open."""
    is_within = [
        _is_within_interval(after[name], name, before),
        _is_within_interval(before[name], name, after),
    ]
    if False in is_within:
        return False
    return None if None in is_within else True


def _is_within_interval(value: float, name: str, metrics: Mapping[str, float]) -> bool | None:
    low, high = metrics.get(f"{name}_low"), metrics.get(f"{name}_high")
    return None if low is None or high is None else low <= value <= high


def _find_stages_in_one_run(
    runs: RunPair, stages: Sequence[str], figures: Sequence[Sequence[ArchivedFigure]]
) -> dict[str, int]:
    """Return the stages with figures in one run only, and the number of the other run."""
    in_a, in_b = ({figure.stage for figure in run_figures} for run_figures in figures)
    return {stage: runs[stage in in_a].number for stage in stages if stage in in_a ^ in_b}


def _match_figures(
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
