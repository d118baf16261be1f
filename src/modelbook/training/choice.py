"""The choice of the final model among tuned families and their combinations, and its optimism."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from modelbook.training import fold_tests


@dataclass(frozen=True)
class Alternative:
    """An alternative of the choice: its family, and a metric in each fold, larger is better.

    ``family`` is empty for a blend or stack. The mean optimism of its members is subtracted from
    its values, because it inherits their selection bias.
    """

    family: str
    fold_values: np.ndarray


def compute_standard_error(gains: np.ndarray) -> float:
    """Standard error of the mean of fold-wise gains; with a single fold, the absolute gain."""
    if len(gains) < 2:
        return float(abs(gains.mean()))
    return float(gains.std(ddof=1) / np.sqrt(len(gains)))


def prefers_combination(gains: np.ndarray, is_leader_simple: bool) -> bool:
    """Whether a blend or stack is chosen, by its fold-wise gains over the leader.

    If families are within noise of one another, a combination usually has a smaller error than each
    of them (Breiman 1996, "Stacked regressions"). So it is chosen unless it is worse than the
    leader by more than one standard error of the paired difference. If a simple family leads, it is
    kept unless the combination is better by more than one standard error, which prefers the simpler
    model within noise (Breiman et al. 1984, "Classification and regression trees").
    """
    error = compute_standard_error(gains)
    return bool(gains.mean() > (error if is_leader_simple else -error))


def estimate_choice_optimism(
    alternatives: Sequence[Alternative], simple_families: Sequence[str] = ()
) -> float:
    """Optimism of the mean of the chosen alternative; NaN if unknown."""
    is_combination = np.array([not alternative.family for alternative in alternatives])
    is_simple = np.array([alternative.family in simple_families for alternative in alternatives])

    def choose(values: np.ndarray) -> int:
        means = values.mean(axis=1)
        leader = int(np.where(is_combination, -np.inf, means).argmax())
        if not is_combination.any():
            return leader
        combination = int(np.where(is_combination, means, -np.inf).argmax())
        gains = values[combination] - values[leader]
        return combination if prefers_combination(gains, is_simple[leader]) else leader

    values = np.array([alternative.fold_values for alternative in alternatives])
    return fold_tests.estimate_optimism(values, choose)
