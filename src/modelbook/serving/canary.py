"""Canary: send a share of the traffic to the challenger, and stop it when it performs worse.

Each worker compares the rows that it predicted itself. Errors, slower predictions and predictions
with another distribution stop a canary. Outcomes are compared by the A/B test (``modelbook.ab``).
"""

from __future__ import annotations

import logging
from collections import Counter, deque
from collections.abc import Sequence
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np

from modelbook.registry.aliases import CHALLENGER, CHAMPION

if TYPE_CHECKING:
    from modelbook.scoring import RowPrediction
    from modelbook.serving.settings import TrafficSettings

LOG = logging.getLogger("modelbook.serving")
WINDOW_ROWS = 2000  # last rows of each variant that are compared, and last requests' times
CHECK_ROWS = 50  # rows of the challenger between two comparisons
MIN_ERRORS = 5  # errors that stop a canary before it has predicted enough rows
MIN_LATENCY_SECONDS = 0.0005  # faster predictions are not compared: their differences are noise
Score = float | str | int


class CanaryMonitor:
    """Compares the rows of both variants since a challenger came into service.

    Attributes
    ----------
    stop_reason : str
        Why the challenger no longer gets traffic; empty while it does.
    """

    def __init__(self, challenger_number: int) -> None:
        self.challenger_number = challenger_number
        self.stop_reason = ""
        self._seconds = {name: deque[float](maxlen=WINDOW_ROWS) for name in (CHAMPION, CHALLENGER)}
        self._scores = {name: deque[Score](maxlen=WINDOW_ROWS) for name in (CHAMPION, CHALLENGER)}
        self._predicted_counts: Counter[str] = Counter()
        self._error_count = self._checked_count = 0

    def record_predictions(
        self, variant: str, seconds: float, predictions: Sequence[RowPrediction]
    ) -> None:
        """Record rows that a variant predicted together in so many seconds."""
        self._seconds[variant].append(seconds / len(predictions))
        self._scores[variant].extend(_get_score(prediction) for prediction in predictions)
        self._predicted_counts[variant] += len(predictions)

    def record_errors(self, row_count: int) -> None:
        """Record rows that the challenger failed to predict."""
        self._error_count += row_count

    def check(self, traffic: TrafficSettings) -> None:
        """Stop the canary if the challenger performs worse than the settings allow."""
        row_count = self._predicted_counts[CHALLENGER] + self._error_count
        is_due = row_count - self._checked_count >= CHECK_ROWS
        if self.stop_reason or not (is_due or self._error_count >= MIN_ERRORS):
            return
        self._checked_count = row_count
        if reason := self._find_reason(traffic, row_count):
            self.stop_reason = reason
            log_fields = {"version": self.challenger_number, "reason": reason}
            LOG.error("the canary was rolled back", extra=log_fields)

    def _find_reason(self, traffic: TrafficSettings, row_count: int) -> str:
        error_share = self._error_count / row_count
        if self._error_count >= MIN_ERRORS and error_share > traffic.canary_max_error_share:
            return f"{self._error_count:,} of {row_count:,} rows failed"
        if min(self._predicted_counts[name] for name in self._scores) < traffic.canary_min_rows:
            return ""
        champion, challenger = (median(self._seconds[name]) for name in (CHAMPION, CHALLENGER))
        allowed = max(champion, MIN_LATENCY_SECONDS) * traffic.canary_max_latency_ratio
        if challenger > allowed:
            return (
                f"a row takes {challenger * 1000:.3g} ms, the champion needs "
                f"{champion * 1000:.3g} ms"
            )
        distance = _measure_distribution_distance(self._scores[CHAMPION], self._scores[CHALLENGER])
        if distance > traffic.canary_max_drift:
            return f"its predictions are {distance:.2f} away from the champion's"
        return ""


def _get_score(prediction: RowPrediction) -> Score:
    """Return the compared value: the probability of the last of two classes, or the prediction."""
    probabilities = prediction.probabilities
    is_binary = probabilities is not None and len(probabilities) == 2
    return probabilities[1] if is_binary else prediction.prediction  # type: ignore[index]


def _measure_distribution_distance(first: Sequence[Score], second: Sequence[Score]) -> float:
    """Return a distance from 0 to 1: Kolmogorov-Smirnov of numbers, total variation of classes."""
    if isinstance(first[0], float):
        samples = [np.sort(np.asarray(scores, dtype=float)) for scores in (first, second)]
        points = np.concatenate(samples)
        shares = [np.searchsorted(sample, points, side="right") / len(sample) for sample in samples]
        return float(np.abs(shares[0] - shares[1]).max())
    counts: list[Counter[Any]] = [Counter(first), Counter(second)]
    return (
        sum(
            abs(counts[0][label] / len(first) - counts[1][label] / len(second))
            for label in counts[0] | counts[1]
        )
        / 2
    )
