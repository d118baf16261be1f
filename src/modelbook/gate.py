"""The gate: promote or hold, a pure function of evidence.

There are two kinds of criteria. A candidate must demonstrate its quality: the unfavourable end of
the confidence interval has to meet the bound. And it must not be shown to do harm (to a slice, a
group, or its calibration): these criteria fail only where the whole interval lies beyond the bound,
because a small slice could never demonstrate the absence of harm. There are many such intervals, so
each is widened by Bonferroni's correction: a harmless model is held by any of them in at most 5 %
of cases. A criterion that cannot be evaluated is inconclusive.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from math import isfinite
from typing import TYPE_CHECKING, Any

from modelbook.formatting import capitalize_first, format_count, join_bounds, join_names
from modelbook.stage.project import NO_COMMIT
from modelbook.tasks.intervals import Interval, read_gap
from modelbook.tasks.metric_format import format_metric, metric_label
from modelbook.tasks.power import CRITICAL, NORMAL, POWER, compute_detectable_difference

if TYPE_CHECKING:
    import pandas as pd

    from modelbook.config import Deploy
    from modelbook.tasks.base import Task

PROMOTE, HOLD = "promote", "hold"
MAX_REASONS = 3  # criteria that a decision is explained by, where there is no table of all
IMPROVE_MODEL = "add rows, features or families, or raise time_budget"  # a remedy
PARITY_TOLERANCE = 1e-6  # largest difference between predictions that count as equal


@dataclass(frozen=True)
class Evidence:
    """Evidence on a candidate. None or empty: could not be measured.

    Attributes
    ----------
    candidate, champion : int or None
        Version numbers; the champion is None for a book's first model, and where the candidate is
        the champion itself.
    quality : Interval
        The quality metric (the one with a minimum) on the candidate's holdout.
    baseline_gain : Interval
        Improvement over the baseline on the same rows; above zero is better.
    paired_rows : int
        Number of rows that neither version was fitted on before its refit on all rows; 0 without
        a champion.
    champion_difference : Interval or None
        Improvement over the champion on those rows, in the headline metric.
    first_champion, first_champion_difference : int or None, Interval or None
        The first champion, and the improvement over it on rows that neither was trained on; None if
        it is the champion.
    slice_differences : tuple
        The same by slice, as pairs of label and interval: finite for the worst slice and for each
        slice whose drop exceeds the limit.
    fairness_gaps : tuple
        Difference between each group of a sensitive column and the largest group, in the task's
        first fairness metric, as pairs of description, without an interval, and interval.
    gap_unit : str
        Unit of hundredths of such a difference.
    calibration : Interval or None
        Calibration-in-the-large; for a regression, in standard deviations of the outcome.
    scorer : str or None
        Description of the compiled scorer and its parity check.
    is_scorer_exact : bool
        Whether the scorer reproduces the model's predictions.
    latency_ms, size_mb : float or None
        Median latency of a prediction, and artifact size.
    suspicions : tuple of str or None
        Suspicions of a leak; None if the version was registered without the check.
    cost_saving : Interval or None
        Fall of the expected cost below the champion's on the same rows, as a share of it.
    selection_changes : tuple
        Change of the predictions from the champion's on the same rows (the share of
        flagged rows, or of each predicted class), as pairs of label and interval.
    decision_rule : str
        How both versions decide for the cost and the changes; empty if it needs no words.
    commit : str
        Commit of the code that made the candidate, with ``+`` for uncommitted changes.
    metric_labels : tuple of str
        Display names of the metrics of quality, baseline gain and champion difference.
    """

    candidate: int
    champion: int | None
    quality: Interval
    baseline_gain: Interval
    paired_rows: int = 0
    champion_difference: Interval | None = None
    first_champion: int | None = None
    first_champion_difference: Interval | None = None
    slice_differences: tuple[tuple[str, Interval], ...] = ()
    fairness_gaps: tuple[tuple[str, Interval], ...] = ()
    gap_unit: str = "percentage points"
    calibration: Interval | None = None
    scorer: str | None = None
    is_scorer_exact: bool = False
    latency_ms: float | None = None
    size_mb: float | None = None
    suspicions: tuple[str, ...] | None = None
    cost_saving: Interval | None = None
    selection_changes: tuple[tuple[str, Interval], ...] = ()
    decision_rule: str = ""
    commit: str = NO_COMMIT
    metric_labels: tuple[str, str, str] = ("ROC AUC", "log loss", "ROC AUC")


def gather_evidence(
    task: Task,
    metrics: dict[str, Any],
    candidate: int,
    champion: int | None,
    paired_rows: int,
    differences: pd.DataFrame,
    slice_differences: pd.DataFrame | None = None,
    latency_and_size: tuple[float, float] | None = None,
    first_champion: tuple[int, pd.DataFrame] | None = None,
    consequences: pd.DataFrame | None = None,
    commit: str = NO_COMMIT,
) -> Evidence:
    """Collect the evidence from a version's metrics, the paired comparison, and latency and size.

    Parameters
    ----------
    differences, slice_differences : DataFrame
        From ``compare_with_champion`` and ``compare_slices_with_champion``; may be empty.
    latency_and_size : tuple of float, optional
        Latency in milliseconds, artifact size in megabytes.
    first_champion : tuple of int and DataFrame, optional
        Number of the first champion, and the comparison with it, from ``compare_with_champion``.
    consequences : DataFrame, optional
        From ``compare_consequences``; may be empty.
    """
    quality = next(row for row in metrics["evaluation"] if row["metric"] == task.quality_metric)
    first_number, first_differences = first_champion or (None, differences.head(0))
    latency_ms, size_mb = latency_and_size or (None, None)
    slices = [] if slice_differences is None else slice_differences.to_dict("records")
    return Evidence(
        candidate,
        champion,
        quality=_to_interval(quality, "value"),
        baseline_gain=Interval(*metrics["gain"]),
        paired_rows=paired_rows,
        champion_difference=_measure_headline_difference(task, differences),
        first_champion=first_number,
        first_champion_difference=_measure_headline_difference(task, first_differences),
        slice_differences=tuple(
            (task.contract.label_group(row["slice"], row["value"]), _to_interval(row, "difference"))
            for row in slices
        ),
        fairness_gaps=tuple(
            (task.describe_gap(row), _to_gap_interval(task, row))
            for row in metrics.get("gaps", [])
            if row["metric"] == task.fairness_metrics[0]
        ),
        gap_unit=task.gap_unit,
        calibration=_find_calibration(task, metrics["evaluation"]),
        latency_ms=latency_ms,
        size_mb=size_mb,
        suspicions=tuple(metrics["suspicions"]) if "suspicions" in metrics else None,
        commit=commit,
        metric_labels=(
            metric_label(task.quality_metric),
            metric_label(task.baseline_metric),
            metric_label(task.headline_metric),
        ),
        **_collect_scorer_evidence(metrics.get("scorer")),
        **_collect_consequence_evidence(task, consequences),
        decision_rule=_describe_decision_rule(metrics),
    )


@dataclass(frozen=True)
class Criterion:
    """One criterion of the gate: required and observed; ``passed`` is None if not evaluable.

    ``power`` describes the effect that the rows could detect; empty without an interval.
    ``remedy`` says what may let it pass in the next build.
    ``harm`` describes what lies beyond the limit; empty for a criterion that is not about harm.
    ``is_certain`` is False if it did not fail although the interval contains values that would: it
    is inconclusive, as one that could not be evaluated is.
    """

    name: str
    required: str
    observed: str
    passed: bool | None
    power: str = ""
    is_certain: bool = True
    remedy: str = ""
    harm: str = ""

    @property
    def description(self) -> str:
        end = "; inconclusive" if self.passed is None else f", required {self.required}"
        return f"{capitalize_first(self.name)}: {self.observed}{end}."


@dataclass(frozen=True)
class Decision:
    """Promote or hold, with every criterion that led to it."""

    action: str
    criteria: list[Criterion]

    def to_records(self) -> list[dict[str, Any]]:
        """The criteria as dicts of their fields, and the ``sentence`` that describes each."""
        return [
            asdict(criterion) | {"sentence": criterion.description} for criterion in self.criteria
        ]

    @property
    def failed(self) -> list[Criterion]:
        """The failed criteria."""
        return [criterion for criterion in self.criteria if criterion.passed is False]

    @property
    def _uncertain(self) -> list[Criterion]:
        """The criteria that did not fail although harm is not excluded."""
        return [row for row in self.criteria if row.passed and not row.is_certain]

    @property
    def summary(self) -> str:
        """How many criteria passed, which failed, and where harm is not excluded."""
        n_criteria = len(self.criteria)
        n_passed = sum(bool(row.passed) for row in self.criteria) - len(self._uncertain)
        if self.failed:
            names = [criterion.name for criterion in self.failed]
            text = f"{len(names)} of {n_criteria} criteria failed: {join_names(names)}"
        elif n_passed < n_criteria:
            n_inconclusive = n_criteria - n_passed
            text = f"{n_passed} of {n_criteria} criteria passed, {n_inconclusive} inconclusive"
        else:
            text = f"all {n_criteria} criteria passed"
        return "; ".join(filter(None, (text, self.reservation)))

    @property
    def reservation(self) -> str:
        """The harm that is not excluded although no criterion failed by it; empty without one."""
        if not self._uncertain:
            return ""
        return f"{join_names([row.harm for row in self._uncertain])} cannot be ruled out"

    @property
    def reasons(self) -> list[str]:
        """The criteria that explain the decision: the failed ones (hold) or the met (promote)."""
        criteria = (
            [criterion for criterion in self.criteria if criterion.passed and criterion.is_certain]
            if self.action == PROMOTE
            else self.failed
        )
        return [criterion.description for criterion in criteria]

    @property
    def main_reasons(self) -> list[str]:
        """The criteria to state: of a promotion, those that do not exclude harm first.

        Of the reasons as many as ``MAX_REASONS`` leaves room for, and how many more criteria failed
        or passed.
        """
        is_promotion = self.action == PROMOTE
        uncertain = [
            f"{row.description.removesuffix('.')}; inconclusive."
            for row in (self._uncertain if is_promotion else [])
        ]
        n_shown = max(MAX_REASONS - len(uncertain), 0)
        first = [*uncertain[:MAX_REASONS], *self.reasons[:n_shown]]
        n_more = len(self.reasons) - n_shown
        if n_more < 1:
            return first
        status = "passed" if is_promotion else "failed"
        return [*first, f"{format_count(n_more, 'more criterion', 'more criteria')} {status}."]

    def explain(self, user_reason: str = "") -> str:
        """The summary of a promotion, the user's reason and the main reasons.

        The summary is first, because tables cut a long text off at its end.
        """
        summary = self.summary if self.action == PROMOTE else ""
        sentences = [f"{text}." for text in (capitalize_first(summary), user_reason) if text]
        return " ".join([*sentences, *self.main_reasons])


def decide(evidence: Evidence, limits: Deploy, min_quality: float) -> Decision:
    """Promote if no criterion fails, otherwise hold.

    Parameters
    ----------
    min_quality : float
        Minimum for the lower bound of the candidate's quality.
    """
    n_harms = _count_harm_intervals(evidence)
    criteria = _make_quality_criteria(evidence, min_quality)
    if evidence.champion is not None:
        criteria += _make_champion_criteria(evidence, limits, n_harms)
    criteria += _make_harm_criteria(evidence, limits, n_harms)
    criteria += [
        Criterion(
            "parity of the compiled scorer",
            f"same labels, scores within {PARITY_TOLERANCE:g}",
            evidence.scorer or "not recorded for this version",
            evidence.is_scorer_exact if evidence.scorer else None,
            remedy="report the difference to the maintainers, or leave out the model's family",
        ),
        _make_resource_criterion(
            "median latency",
            evidence.latency_ms,
            limits.max_latency_ms,
            "ms",
            " for one row by the scorer alone, corrected for the load of the machine",
            remedy="compare faster families, or raise max_latency_ms",
        ),
        _make_resource_criterion(
            "artifact size",
            evidence.size_mb,
            limits.max_size_mb,
            "MB",
            remedy="compare smaller families, or raise max_size_mb",
        ),
        _make_suspicion_criterion(evidence.suspicions),
    ]
    if limits.code_version == "committed":
        criteria.append(_make_code_criterion(evidence.commit))
    has_failed = any(criterion.passed is False for criterion in criteria)
    return Decision(HOLD if has_failed else PROMOTE, criteria)


def _count_harm_intervals(evidence: Evidence) -> int:
    """Number of intervals that share the 5 % of false alarms of the criteria of harm."""
    n_harms = (
        len(evidence.fairness_gaps)
        + len(evidence.slice_differences)
        + len(evidence.selection_changes)
        + (evidence.cost_saving is not None)
        + (evidence.calibration is not None)
    )
    return max(1, n_harms)


def _make_quality_criteria(evidence: Evidence, min_quality: float) -> list[Criterion]:
    quality, gain = evidence.quality, evidence.baseline_gain
    return [
        Criterion(
            f"minimum {evidence.metric_labels[0]}",
            f"lower 95% bound at least {min_quality:g}",
            str(quality),
            quality.low >= min_quality,
            describe_demonstration(quality, min_quality),
            remedy=IMPROVE_MODEL,
        ),
        Criterion(
            f"{evidence.metric_labels[1]} against the baseline",
            "lower 95% bound of the gain above 0",
            f"gain {gain}",
            gain.low > 0,
            describe_demonstration(gain, 0),
            remedy=IMPROVE_MODEL,
        ),
    ]


def _make_harm_criteria(evidence: Evidence, limits: Deploy, n_harms: int) -> list[Criterion]:
    return [
        _make_harm_criterion(
            "fairness gaps",
            evidence.fairness_gaps,
            limits.max_fairness_gap,
            "no groups to compare",
            n_harms,
            two_sided=True,
            harm="a fairness gap",
            unit=evidence.gap_unit,
            remedy="add rows of the group with the worse predictions, or features that describe it",
        ),
        _make_harm_criterion(
            "calibration-in-the-large",
            _label_with_values([("", evidence.calibration)] if evidence.calibration else []),
            limits.max_calibration_error,
            "not recorded for this version",
            n_harms,
            two_sided=True,
            harm="a calibration error",
            remedy="check calibrate, and whether the target has changed since the training rows",
        ),
    ]


def _make_champion_criteria(evidence: Evidence, limits: Deploy, n_harms: int) -> list[Criterion]:
    champion_name = f"version {evidence.champion}"
    margin = limits.non_inferiority_margin
    criteria = [_make_paired_rows_criterion(evidence, limits)]
    # Too few rows have already failed the criterion above.
    if evidence.champion_difference is not None or evidence.paired_rows >= limits.paired_rows:
        criteria.append(_make_champion_criterion(evidence, margin, criteria[-1].passed is False))
    if evidence.first_champion is not None:
        criteria.append(_make_first_champion_criterion(evidence, margin))
    return [
        *criteria,
        _make_harm_criterion(
            f"slices against {champion_name}",
            [
                (f"{label}: gain {format_metric(interval.value)}", interval)
                for label, interval in evidence.slice_differences
            ],
            limits.max_slice_drop,
            "no slice has enough rows to compare",
            n_harms,
            two_sided=False,
            harm="a drop in a slice",
            remedy="look for errors in the data of these rows, or add features that describe them",
        ),
        *_make_consequence_criteria(evidence, limits, champion_name, n_harms),
    ]


def _make_paired_rows_criterion(evidence: Evidence, limits: Deploy) -> Criterion:
    """Enough rows to compare on: the minimum and, for an inconclusive result, those of the margin.

    An interval that shows the candidate to be not worse, or worse, needs no more rows.
    """
    difference = evidence.champion_difference
    margin = limits.non_inferiority_margin
    rows = evidence.paired_rows
    required = limits.paired_rows
    reason = ""
    if difference is not None and difference.low < -margin <= difference.high:
        rows_for_margin = _compute_rows_for_margin(difference, margin, rows)
        if rows_for_margin > max(required, rows):
            required = rows_for_margin
            reason = f", for {POWER:.0%} power to pass if equally good"
    return Criterion(
        "paired rows",
        f"at least {required:,}{reason}",
        f"{rows:,} rows that neither version was fitted on before its refit on all rows",
        rows >= required,
        remedy="add labelled rows of later periods, or enlarge the holdout",
    )


def _make_champion_criterion(evidence: Evidence, margin: float, has_few_rows: bool) -> Criterion:
    """Not worse than the champion; inconclusive where too few rows decide nothing."""
    difference = evidence.champion_difference
    name = f"{evidence.metric_labels[2]} against version {evidence.champion}"
    required = f"lower 95% bound of the gain at least {0 - margin:g}"
    if difference is None:
        return Criterion(name, required, "all outcomes are equal", False, remedy="add rows")
    is_undecided = has_few_rows and difference.low < -margin <= difference.high
    return Criterion(
        name,
        required,
        f"gain {difference}",
        None if is_undecided else difference.low >= -margin,
        describe_power(difference, margin, evidence.paired_rows),
        remedy=IMPROVE_MODEL,
    )


def _make_consequence_criteria(
    evidence: Evidence, limits: Deploy, champion_name: str, n_harms: int
) -> list[Criterion]:
    """How decisions change: the expected cost, and how many rows are flagged."""
    criteria = []
    rule = f", {evidence.decision_rule}" if evidence.decision_rule else ""
    if evidence.cost_saving is not None:
        criteria.append(
            _make_harm_criterion(
                f"expected cost against {champion_name}",
                _label_with_values(
                    [(f"saving as a share of {champion_name}'s cost{rule}", evidence.cost_saving)]
                ),
                limits.max_cost_increase,
                "no rows to compare",
                n_harms,
                two_sided=False,
                harm="an increase in the expected cost",
                remedy="check the costs and the threshold in finalize's report",
            )
        )
    if evidence.selection_changes:
        criteria.append(
            _make_harm_criterion(
                f"selection rate against {champion_name}",
                _label_with_values(
                    (f"change of the {label}{rule}", interval)
                    for label, interval in evidence.selection_changes
                ),
                limits.max_selection_change,
                "no rows to compare",
                n_harms,
                two_sided=True,
                harm="a change in the selection rate",
                remedy="check whether the change is intended; if it is, raise max_selection_change",
            )
        )
    return criteria


def _make_first_champion_criterion(evidence: Evidence, margin: float) -> Criterion:
    """Small losses of promotions add up, so the first champion is compared with, too."""
    difference = evidence.first_champion_difference
    return Criterion(
        f"{evidence.metric_labels[2]} against the first champion, "
        f"version {evidence.first_champion}",
        f"95% CI of the gain not wholly below {0 - margin:g}",
        "no rows that neither was trained on" if difference is None else f"gain {difference}",
        None if difference is None else difference.high >= -margin,
        "" if difference is None else describe_detection(difference, margin, 1, "a loss"),
        remedy=IMPROVE_MODEL,
    )


def describe_power(difference: Interval, margin: float, rows: int) -> str:
    """How often an equal model passes the margin on these rows, and how many rows are needed."""
    error = difference.standard_error
    if not isfinite(error):
        return ""
    if margin <= 0 or error == 0:
        return "an equally good model fails" if margin <= 0 else "the models predict alike"
    share = NORMAL.cdf(margin / error - CRITICAL)
    return (
        f"{share:.0%} power to pass if equally good; "
        f"{POWER:.0%} from about {_compute_rows_for_margin(difference, margin, rows):,} rows"
    )


def _compute_rows_for_margin(difference: Interval, margin: float, rows: int) -> int:
    """Rows on which an equal model passes with ``POWER``; 0 where no number of rows is enough."""
    if margin <= 0 or not isfinite(difference.standard_error):
        return 0
    ratio = compute_detectable_difference(difference.standard_error) / margin
    return round(rows * ratio**2)


def describe_demonstration(interval: Interval, bound: float) -> str:
    """The true value at which a model shows with ``POWER`` on these rows to exceed a bound."""
    error = interval.standard_error
    if not isfinite(error):
        return ""
    smallest = bound + compute_detectable_difference(error)
    return f"{POWER:.0%} power to pass with a true value of {format_metric(smallest)}"


def describe_detection(
    interval: Interval, bound: float, n_harms: int, harm: str, unit: str = ""
) -> str:
    """The true harm that these rows show with ``POWER`` to lie beyond the limit ``bound``.

    ``harm`` names it, and ``unit`` its hundredths; without a unit it is shown as a number.
    """
    error = interval.standard_error
    if not isfinite(error):
        return ""
    smallest = bound + compute_detectable_difference(error, n_harms)
    text = f"{100 * smallest:.0f} {unit}" if unit else format_metric(smallest)
    return f"{POWER:.0%} power to show that {harm} of {text} exceeds the limit"


def _label_with_values(intervals: Iterable[tuple[str, Interval]]) -> list[tuple[str, Interval]]:
    """Labelled intervals with their values in the description."""
    return [
        (": ".join(filter(None, (label, format_metric(interval.value)))), interval)
        for label, interval in intervals
    ]


def _make_harm_criterion(
    name: str,
    intervals: Iterable[tuple[str, Interval]],
    bound: float,
    absent_text: str,
    n_harms: int,
    *,
    two_sided: bool,
    harm: str,
    unit: str = "",
    remedy: str = "",
) -> Criterion:
    """A criterion that fails if an interval lies wholly below ``-bound`` (or above, two-sided).

    ``intervals`` are pairs of description and interval, ``harm`` names what lies beyond the limit,
    ``unit`` hundredths of the values.
    They are widened for the number of all that could hold the model, ``n_harms``; what was observed
    has the widened interval, by which the criterion passes or fails.
    """
    intervals = list(intervals)
    finite_intervals = [
        (label, interval)
        for label, interval in intervals
        if isfinite(interval.low) and isfinite(interval.high)
    ]
    level = "95% CI" if n_harms == 1 else f"95% CI, widened for {n_harms} comparisons,"
    bound_text = f"{100 * bound:g} {unit}" if unit else f"{bound:g}"
    side = f"outside ±{bound_text}" if two_sided else f"below {0 - bound:g}"
    required = f"95% CI not wholly {side}"
    if not finite_intervals:
        return Criterion(name, required, absent_text, None)

    def severity(interval: Interval) -> tuple[float, float]:
        interval = interval.widen(n_harms)
        return (
            (abs(interval.end_nearest_zero), abs(interval.value))
            if two_sided
            else (-interval.end_nearest_zero, -interval.value)
        )

    worst_text, worst = max(finite_intervals, key=lambda pair: severity(pair[1]))
    observed = f"{worst_text} ({level} {_format_bounds(worst.widen(n_harms), unit)})"
    if len(intervals) > 1:
        observed += f", the worst of {len(intervals)}"
    least_certain = max(finite_intervals, key=lambda pair: pair[1].standard_error)[1]
    return Criterion(
        name,
        required,
        observed,
        severity(worst)[0] <= bound,
        describe_detection(least_certain, bound, n_harms, harm, unit),
        is_certain=all(
            _is_within(interval.widen(n_harms), bound, two_sided)
            for _, interval in finite_intervals
        ),
        remedy=remedy,
        harm=f"{harm} of more than {bound_text}",
    )


def _is_within(interval: Interval, bound: float, two_sided: bool) -> bool:
    return interval.low >= -bound and (interval.high <= bound or not two_sided)


def _format_bounds(interval: Interval, unit: str) -> str:
    if unit:
        return f"{join_bounds(f'{100 * interval.low:z.1f}', f'{100 * interval.high:z.1f}')} {unit}"
    return join_bounds(format_metric(interval.low), format_metric(interval.high))


def _make_resource_criterion(
    name: str, observed: float | None, bound: float, unit: str, note: str = "", *, remedy: str
) -> Criterion:
    required = f"at most {bound:g} {unit}"
    if observed is None:
        return Criterion(name, required, "not measured", None)
    return Criterion(
        name,
        required,
        (f"{observed:.2g} {unit}" if observed < 10 else f"{observed:,.0f} {unit}") + note,
        observed <= bound,
        remedy=remedy,
    )


def _make_suspicion_criterion(suspicions: tuple[str, ...] | None) -> Criterion:
    name, required = "unconfirmed signs of leakage", "none"
    if suspicions is None:
        return Criterion(name, required, "not recorded for this version", None)
    remedy = "set role: dropped for columns that leak, or no_leak_reason for those that do not"
    return Criterion(name, required, "; ".join(suspicions) or "none", not suspicions, remedy=remedy)


def _make_code_criterion(commit: str) -> Criterion:
    is_committed = commit != NO_COMMIT and not commit.endswith("+")
    observed = (
        "outside version control"
        if commit == NO_COMMIT
        else f"{commit.removesuffix('+')}{'' if is_committed else ' with uncommitted changes'}"
    )
    return Criterion(
        "code version",
        "a commit without changes",
        observed,
        is_committed,
        remedy="commit the changes",
    )


def _measure_headline_difference(task: Task, differences: pd.DataFrame) -> Interval | None:
    rows = differences[differences["metric"] == task.headline_metric].to_dict("records")
    return _to_interval(rows[0], "difference") if rows else None


def _to_interval(row: dict[str, Any], value_key: str) -> Interval:
    return Interval(row[value_key], row["low"], row["high"])


def _to_gap_interval(task: Task, row: dict[str, Any]) -> Interval:
    """The gap between groups; for a regression, as a share of the reference's error."""
    return read_gap(row).multiply(task.normalization_factor(row["reference_metric"]))


def _find_calibration(task: Task, evaluation: list[dict[str, Any]]) -> Interval | None:
    rows = {row["metric"]: row for row in evaluation}
    if task.calibration_metric not in rows:
        return None
    calibration = _to_interval(rows[task.calibration_metric], "value")
    return calibration.multiply(task.normalization_factor(task.compute_outcome_sd(rows)))


def _collect_consequence_evidence(task: Task, consequences: pd.DataFrame | None) -> dict[str, Any]:
    """The fall of the cost as a share of the champion's, and the changes of the selection rate."""
    if consequences is None or consequences.empty:
        return {}
    rows = {row["consequence"]: row for row in consequences.to_dict("records")}
    cost = rows["cost"]
    scale = abs(cost["champion"]) or 1.0
    return {
        "cost_saving": Interval(*(0 - cost[name] / scale for name in ("change", "high", "low"))),
        "selection_changes": tuple(
            (f"share {name}", _to_interval(rows[name], "change"))
            for name in task.selection_consequences()
        ),
    }


def _describe_decision_rule(metrics: dict[str, Any]) -> str:
    """By which rule both versions flag rows; empty for tasks without a threshold."""
    if metrics.get("threshold") is None:
        return ""
    has_capacity = metrics.get("business_value", {}).get("capacity_is_set", False)
    return f"at the thresholds{', ignoring the capacity' if has_capacity else ''}"


def _collect_scorer_evidence(scorer: dict[str, Any] | None) -> dict[str, Any]:
    if scorer is None:
        return {}
    parity = scorer["parity" if "parity" in scorer else "proof"]  # the key in 1.0.0
    if parity is None:
        return {
            "scorer": "no compiled scorer; the fitted pipeline predicts",
            "is_scorer_exact": True,
        }
    description = (
        f"{scorer['name']}: {parity['label_mismatches']} different labels in {parity['rows']:,} "
        "rows (holdout, golden and constructed ones), largest difference of scores "
        f"{parity['max_difference']:.0e}"
    )
    return {
        "scorer": description,
        "is_scorer_exact": parity["label_mismatches"] == 0
        and parity["max_difference"] <= PARITY_TOLERANCE,
    }
