"""Confidence sequence for the difference of bounded losses, valid at every sample size.

Each user yields an unbiased estimate of the difference: the loss minus the mean loss so far,
weighted by the inverse probability of the user's variant. A bet on the difference multiplies its
wealth by each estimate; by Ville's inequality the wealth against the true difference exceeds
``1/alpha`` with a probability of at most ``alpha``, for any number of evaluations (Waudby-Smith &
Ramdas 2024, "Estimating means of bounded random variables by betting", JRSS B 86; the bets are
bounded by the inequality of Fan, Grama & Liu 2015, so that sums suffice). No large sample is
assumed: with a small share of users the interval stays wide until enough of them would have
revealed rare, large losses.
"""

from __future__ import annotations

import numpy as np

BET_FRACTIONS = np.geomspace(0.003, 0.9, 24)  # of the largest allowed bet; equal weights
BISECTIONS = 40


def estimate_differences(
    losses: np.ndarray, is_challenger: np.ndarray, challenger_share: float
) -> np.ndarray:
    """Unbiased estimate of challenger minus champion by each user, in order of appearance."""
    counts = np.maximum(np.arange(len(losses)), 1)
    mean_so_far = (np.cumsum(losses) - losses) / counts
    weights = np.where(is_challenger, 1 / challenger_share, -1 / (1 - challenger_share))
    return (losses - mean_so_far) * weights


def bound_difference(
    estimates: np.ndarray,
    counts: np.ndarray,
    *,
    loss_bound: float,
    challenger_share: float,
    alpha: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper bounds of the difference after the first ``counts`` users.

    Parameters
    ----------
    estimates : ndarray
        From ``estimate_differences``, shape (users,).
    counts : ndarray of int
        Numbers of users at each evaluation, from 1.
    loss_bound : float
        Largest loss; the smallest is 0.
    alpha : float
        Probability that any of the intervals misses the difference.
    """
    sums, squares = (np.cumsum(values)[counts - 1] for values in (estimates, estimates**2))
    # Of an estimate from the difference.
    max_deviation = loss_bound / min(challenger_share, 1 - challenger_share) + loss_bound
    lower = _bound_from_below(sums, squares, counts, loss_bound, max_deviation, alpha / 2)
    upper = -_bound_from_below(-sums, squares, counts, loss_bound, max_deviation, alpha / 2)
    return lower, upper


def _bound_from_below(
    sums: np.ndarray,
    squares: np.ndarray,
    counts: np.ndarray,
    loss_bound: float,
    max_deviation: float,
    alpha: float,
) -> np.ndarray:
    """The largest value that the wealth of bets on a larger mean rejects, by bisection."""
    low = np.full(len(counts), -loss_bound)
    high = sums / counts
    bets = BET_FRACTIONS / max_deviation
    penalties = (np.log1p(-BET_FRACTIONS) + BET_FRACTIONS) / max_deviation**2

    def compute_log_wealth(mean: np.ndarray) -> np.ndarray:
        centred = sums - counts * mean
        centred_squares = squares - 2 * mean * sums + counts * mean**2
        logs = bets * centred[:, None] + penalties * centred_squares[:, None]
        largest = logs.max(axis=1)
        return largest + np.log(np.exp(logs - largest[:, None]).mean(axis=1))

    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        is_rejected = compute_log_wealth(middle) >= np.log(1 / alpha)
        low, high = np.where(is_rejected, middle, low), np.where(is_rejected, high, middle)
    return low
