"""95% intervals, and how they widen where many are compared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import exp, hypot, inf, isfinite, log, tanh
from typing import TYPE_CHECKING, Any

from modelbook.formatting import format_ci
from modelbook.tasks.metric_format import LOWER_IS_BETTER, format_metric, metric_range
from modelbook.tasks.power import CRITICAL, critical_value, standard_error

if TYPE_CHECKING:  # the service, which imports this module, does not import pandas
    import pandas as pd


@dataclass(frozen=True)
class Interval:
    """A value with its 95% confidence interval.

    Attributes
    ----------
    bounds : pair of float
        The smallest and the largest possible value.
    operands : pair of Interval, optional
        Of a difference of two independent values, both.
    """

    value: float
    low: float
    high: float
    bounds: tuple[float, float] = (-inf, inf)
    operands: tuple[Interval, Interval] | None = None

    def __str__(self) -> str:
        return f"{format_metric(self.value)} ({format_ci(self.low, self.high)})"

    def multiply(self, factor: float) -> Interval:
        """The interval in another unit; ``bounds`` stay, since finite ones are those of shares."""
        value, low, high = (factor * end for end in (self.value, self.low, self.high))
        operands = self.operands and (
            self.operands[0].multiply(factor),
            self.operands[1].multiply(factor),
        )
        return replace(self, value=value, low=low, high=high, operands=operands)

    def widen(self, n_intervals: int) -> Interval:
        """The interval at the level at which ``n_intervals`` together miss in 5 % of cases.

        A difference of two values joins their intervals at that level, by square-and-add (Newcombe
        1998). Any other interval widens on the scale of its range: logit, logarithm or linear.
        """
        if self.operands:
            return subtract(*(operand.widen(n_intervals) for operand in self.operands))
        low, high = (
            _move_end(self.value, end, n_intervals, self.bounds) for end in (self.low, self.high)
        )
        return replace(self, low=low, high=high)

    @property
    def standard_error(self) -> float:
        return standard_error(self.low, self.high)

    @property
    def end_nearest_zero(self) -> float:
        """The bound nearer to 0; 0 if the interval contains 0."""
        return self.low if self.low > 0 else self.high if self.high < 0 else 0.0


def subtract(first: Interval, second: Interval) -> Interval:
    """The difference of two independent values, by square-and-add (Newcombe 1998)."""
    value = first.value - second.value
    return Interval(
        value,
        value - hypot(first.value - first.low, second.high - second.value),
        value + hypot(first.high - first.value, second.value - second.low),
        operands=(first, second),
    )


def read_gap(row: Mapping[str, Any]) -> Interval:
    """The gap of a row of ``fairness.measure_fairness_gaps``, before it is widened.

    Rows of earlier versions lack the groups' intervals. Their gap widens on its own scale: between
    -1 and 1 if it is of shares, which is an approximation.
    """
    smallest, largest = metric_range(row["metric"])
    if "group_low" not in row:
        gap_range = (smallest - largest, largest - smallest)
        return Interval(row["gap"], row["low"], row["high"], gap_range)
    group, reference = (
        Interval(
            row[f"{name}_metric"], row[f"{name}_low"], row[f"{name}_high"], (smallest, largest)
        )
        for name in ("group", "reference")
    )
    return subtract(group, reference)


def find_weaker_slices(slices: pd.DataFrame, metric: str, overall: float) -> pd.DataFrame:
    """Widen the intervals of slices for their number, and find those that are worse than all rows.

    Parameters
    ----------
    slices : DataFrame
        Columns ``low, high`` and the metric's, from ``metrics_ci.evaluate_slices``.
    overall : float
        The metric on all rows.

    Returns
    -------
    DataFrame
        The slices with ``low, high`` widened by ``Interval.widen``; ``n_intervals``, how many have
        an interval; and ``is_weaker``, whether theirs lies wholly on the worse side of ``overall``.
    """
    ends = slices[["low", "high"]].astype(float)
    n_intervals = int(ends.notna().all(axis=1).sum())
    widened = [
        Interval(value, low, high, metric_range(metric)).widen(max(n_intervals, 1))
        for value, low, high in zip(slices[metric], ends["low"], ends["high"], strict=True)
    ]
    is_lower_better = metric in LOWER_IS_BETTER
    return slices.assign(
        low=[interval.low for interval in widened],
        high=[interval.high for interval in widened],
        n_intervals=n_intervals,
        is_weaker=[
            interval.low > overall if is_lower_better else interval.high < overall
            for interval in widened
        ],
    )


def _move_end(value: float, end: float, n_intervals: int, bounds: tuple[float, float]) -> float:
    """Move one end of an interval away from its value, for ``n_intervals``, within ``bounds``."""
    factor = critical_value(n_intervals) / CRITICAL
    if end == value or not isfinite(end) or factor == 1:
        return end
    centre, moved = _transform(value, bounds), _transform(end, bounds)
    # The odds of Wilson's interval of a share of 0 or 1 grow with the square of the factor.
    moved = (
        centre + factor * (moved - centre)
        if isfinite(centre)
        else moved + (2 * log(factor) if end > value else -2 * log(factor))
    )
    return _invert(moved, bounds)


def _transform(value: float, bounds: tuple[float, float]) -> float:
    smallest, largest = bounds
    if isfinite(smallest) and isfinite(largest):
        return _compute_log(value - smallest) - _compute_log(largest - value)
    return _compute_log(value - smallest) if isfinite(smallest) else value


def _invert(value: float, bounds: tuple[float, float]) -> float:
    smallest, largest = bounds
    if isfinite(smallest) and isfinite(largest):
        return smallest + (largest - smallest) * (1 + tanh(value / 2)) / 2
    return smallest + exp(value) if isfinite(smallest) else value


def _compute_log(value: float) -> float:
    return log(value) if value > 0 else -inf
