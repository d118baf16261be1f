"""Criteria of the gate: what each requires, what was observed, and what its rows could show."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import isfinite
from typing import TYPE_CHECKING

from modelbook.formatting import capitalize_first, join_bounds
from modelbook.gate.evidence import PARITY_TOLERANCE, Evidence
from modelbook.stage.project import NO_COMMIT
from modelbook.tasks.intervals import Interval
from modelbook.tasks.metric_format import format_metric
from modelbook.tasks.power import CRITICAL, NORMAL, POWER, compute_detectable_difference

if TYPE_CHECKING:
    from modelbook.config import Deploy

IMPROVE_MODEL = "add rows, features or families, or raise time_budget"  # a remedy


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


def make_criteria(evidence: Evidence, limits: Deploy, min_quality: float) -> list[Criterion]:
    """Compare the evidence with the limits: the criteria that apply to the candidate.

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
    return criteria


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
