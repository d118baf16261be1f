"""A/B test analysis: compare the losses of champion and challenger on split traffic.

The unit of randomization and analysis is the user: all rows of a user count as one observation.
Losses are compared by a confidence sequence (``confidence_sequence``), so results may be inspected
at any time and the test may stop as soon as it is decided. Bounded losses have a second,
non-asymptotic confidence sequence (``bounded_losses``); the interval that covers both decides.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from modelbook.ab.bounded_losses import bound_difference, estimate_differences
from modelbook.ab.confidence_sequence import confidence_sequence_halfwidth
from modelbook.errors import ServingError
from modelbook.registry.promotion import AB_APPROVAL

PROMOTE_CHALLENGER = AB_APPROVAL
KEEP_CHAMPION = "keep the champion"
CONTINUE = "continue"
INVALID = "invalid"
ALPHA = 0.05  # false positive rate, over all evaluations
SAMPLE_RATIO_ALPHA = 0.005  # false positive rate of each sample-ratio test, over all evaluations
SAMPLE_RATIO_PRIOR = 200  # weight of the alternative of the sample-ratio test, in users
MAX_EXTRAPOLATION = 50  # times the users so far; larger sample sizes are not estimated
MIN_EXPECTED_USERS = 5  # expected users per variant that the sample-ratio test needs
MIN_EVENTS = 10  # users of each variant with the rarest outcome, before a test is decided


@dataclass(frozen=True)
class ABPlan:
    """Test plan: the challenger's share of users, and the minimum data for a decision.

    ``loss_bound`` is the largest loss of a row, None if losses have no bound; ``min_events`` the
    fewest users of each variant with the rarest outcome, where outcomes are classes.
    """

    challenger_share: float
    min_users: int
    min_hours: float
    loss_bound: float | None = None
    min_events: int = MIN_EVENTS

    def __post_init__(self) -> None:
        if not 0 < self.challenger_share < 1:
            raise ServingError(
                f"traffic.challenger_share is {self.challenger_share:g}, so there is nothing "
                "to compare",
                expected="above 0 and below 1",
                next="correct it in serving.yaml",
            )

    @property
    def optimal_users(self) -> float:
        """Number of users at the first evaluation that may decide the test."""
        return self.min_users / min(self.challenger_share, 1 - self.challenger_share)


@dataclass(frozen=True)
class Variant:
    """Summary of one variant.

    Attributes
    ----------
    users, rows : int
        Users assigned to the variant, and their rows.
    users_with_outcomes, rows_with_outcomes : int
        Those with outcomes.
    mean_loss, low, high : float
        Mean loss per row (NaN without outcomes), with its confidence sequence (infinite or NaN
        while it is undefined).
    events : int or None
        Users with the rarest outcome; None if outcomes are not classes.
    """

    users: int
    rows: int
    users_with_outcomes: int
    rows_with_outcomes: int
    mean_loss: float
    low: float
    high: float
    events: int | None = None


@dataclass(frozen=True)
class ABResult:
    """Current result of an A/B test.

    Attributes
    ----------
    difference, low, high : float
        Loss of the challenger minus loss of the champion, with its confidence sequence; below 0
        the challenger is better.
    sample_ratio_p, outcome_sample_ratio_p : float or None
        Anytime-valid p-values (sequential sample-ratio test) of the challenger's share among all
        users, and among users with outcomes; None if there are too few.
    hours : float
        Time from the first row to the last.
    """

    decision: str
    champion: Variant
    challenger: Variant
    difference: float
    low: float
    high: float
    sample_ratio_p: float | None
    outcome_sample_ratio_p: float | None
    hours: float
    plan: ABPlan

    @property
    def sample_ratio_mismatch_p_value(self) -> float | None:
        """The p-value of a sample-ratio mismatch, which makes the test invalid; else None."""
        p_values = [
            p
            for p in (self.sample_ratio_p, self.outcome_sample_ratio_p)
            if p is not None and p < SAMPLE_RATIO_ALPHA
        ]
        return min(p_values, default=None)

    @property
    def estimated_users_needed(self) -> int | None:
        """Users with outcomes needed to decide, at the current difference; None if too many."""
        users = self.champion.users_with_outcomes + self.challenger.users_with_outcomes
        counts = np.unique(
            np.geomspace(max(users, 1), max(users, 1) * MAX_EXTRAPOLATION, 400).astype(int)
        )
        now, later = (
            confidence_sequence_halfwidth(
                observations, 1, alpha=ALPHA, optimal_observations=self.plan.optimal_users
            )
            for observations in (users, counts)
        )
        deciding_counts = counts[(self.high - self.difference) * later < abs(self.difference) * now]
        return int(deciding_counts[0]) if len(deciding_counts) else None

    @property
    def has_enough_data(self) -> bool:
        """Whether the minimum data of the plan has been reached."""
        users = min(self.champion.users_with_outcomes, self.challenger.users_with_outcomes)
        return (
            users >= self.plan.min_users
            and self.hours >= self.plan.min_hours
            and not self.has_few_events
        )

    @property
    def has_few_events(self) -> bool:
        """Whether a variant has fewer users with the rarest outcome than the plan requires."""
        events = [
            variant.events
            for variant in (self.champion, self.challenger)
            if variant.events is not None
        ]
        return min(events, default=self.plan.min_events) < self.plan.min_events


def analyze_ab(rows: pd.DataFrame, plan: ABPlan) -> ABResult:
    """Analyze the rows so far.

    Parameters
    ----------
    rows : DataFrame
        Columns ``at`` (seconds), ``challenger`` (whether it made the prediction), ``bucket`` (the
        user's bucket), ``loss`` (NaN without an outcome), ``outcome`` (code of the class; NaN
        without an outcome, and of a number).
    """
    users = sum_by_user(rows)
    champion_sums, challenger_sums = (
        sums[-1] if len(sums) else np.zeros(6) for sums in _compute_cumulative_sums(users)
    )
    champion = _summarize_variant(users[~users["challenger"]], champion_sums, plan)
    challenger = _summarize_variant(users[users["challenger"]], challenger_sums, plan)
    has_outcome = users["rows_with_outcomes"] > 0
    difference, low, high = map(
        float,
        _widen_for_bounded_losses(
            users[has_outcome],
            np.array([has_outcome.sum()]),
            _compute_difference_interval(champion_sums, challenger_sums, plan),
            plan,
        ),
    )
    hours = float(rows["at"].max() - rows["at"].min()) / 3600 if len(rows) else 0.0
    result = ABResult(
        CONTINUE,
        champion,
        challenger,
        difference,
        low,
        high,
        sample_ratio_p_value((champion.users, challenger.users), plan.challenger_share),
        sample_ratio_p_value(
            (champion.users_with_outcomes, challenger.users_with_outcomes), plan.challenger_share
        ),
        hours,
        plan,
    )
    return replace(result, decision=_decide(result))


def sum_by_user(rows: pd.DataFrame) -> pd.DataFrame:
    """Sum the rows of each user, in order of first appearance.

    Columns ``bucket, challenger, rows, rows_with_outcomes, loss`` (the sum), and ``has_event``:
    whether the user has the rarest outcome; NaN if outcomes are not classes.
    """
    grouped = rows.assign(is_event=_is_event(rows["outcome"])).groupby(
        ["bucket", "challenger"], sort=False
    )
    return grouped.agg(
        rows=("loss", "size"),
        rows_with_outcomes=("loss", "count"),
        loss=("loss", "sum"),
        has_event=("is_event", "max"),
    ).reset_index()


def _is_event(outcome: pd.Series) -> pd.Series:
    """Whether each row has the rarest outcome; no row where all are the same; NaN for numbers."""
    counts = outcome.value_counts()
    if counts.empty:
        return pd.Series(np.nan, index=outcome.index)
    rarest = counts.idxmin() if len(counts) > 1 else None
    return (outcome == rarest).astype(float)


def sample_ratio_p_value(users: Sequence[int], challenger_share: float) -> float | None:
    """Return the p-value of the sample-ratio test, or None for too few users.

    The test may be repeated after every user: its p-value is the inverse of a Bayes factor, of a
    beta prior around the planned share against that share, which is a martingale without a mismatch
    (Lindon & Malek 2022, "Anytime-valid inference for multinomial count data", NeurIPS).
    """
    from scipy.special import betaln

    shares = np.array([1 - challenger_share, challenger_share])
    if (shares * sum(users)).min() < MIN_EXPECTED_USERS:
        return None
    prior = SAMPLE_RATIO_PRIOR * shares
    log_factor = (
        betaln(*(prior + np.array(users))) - betaln(*prior) - (np.array(users) @ np.log(shares))
    )
    return float(min(1.0, np.exp(-log_factor)))


def compute_difference_history(rows: pd.DataFrame, plan: ABPlan, points: int = 60) -> pd.DataFrame:
    """Return the difference after evenly spaced numbers of users.

    Columns ``users, difference, low, high``.
    """
    users = sum_by_user(rows)
    users = users[users["rows_with_outcomes"] > 0]
    counts = np.unique(np.linspace(0, len(users), points + 1).astype(int)[1:])
    counts = counts[counts > 0]
    champion, challenger = (sums[counts - 1] for sums in _compute_cumulative_sums(users))
    intervals = _widen_for_bounded_losses(
        users, counts, _compute_difference_interval(champion, challenger, plan), plan
    )
    table = pd.DataFrame(
        dict(zip(("users", "difference", "low", "high"), (counts, *intervals), strict=True))
    )
    return table[np.isfinite(table["low"])].reset_index(drop=True)


def _decide(result: ABResult) -> str:
    if result.sample_ratio_mismatch_p_value is not None:
        return INVALID
    if not result.has_enough_data or result.low <= 0 <= result.high:
        return CONTINUE
    return PROMOTE_CHALLENGER if result.high < 0 else KEEP_CHAMPION


def _compute_cumulative_sums(users: pd.DataFrame) -> list[np.ndarray]:
    """Return cumulative sums over users for champion and challenger, each of shape (users, 6).

    The columns are the user count and the sums that mean and standard deviation need.
    """
    loss = users["loss"].to_numpy(dtype=float)
    outcome_counts = users["rows_with_outcomes"].to_numpy(dtype=float)
    products = [loss**2, loss * outcome_counts, outcome_counts**2]
    summands = np.column_stack([outcome_counts > 0, loss, outcome_counts, *products])
    challenger = users["challenger"].to_numpy(dtype=bool)[:, None]
    return [
        np.cumsum(np.where(challenger == is_challenger, summands, 0), axis=0)
        for is_challenger in (False, True)
    ]


def _compute_ratio_mean(sums: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return user count, mean loss per row, and the standard deviation of its influence function.

    The mean is a ratio of two sums; its influence function is a user's loss minus the mean loss of
    the user's rows, divided by the mean number of rows.
    """
    count, loss, outcomes, loss_squared, loss_times_outcomes, outcomes_squared = sums.T
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = loss / outcomes
        squared_residuals = np.maximum(
            loss_squared - 2 * mean * loss_times_outcomes + mean**2 * outcomes_squared, 0
        )
        influence_sd = np.sqrt(squared_residuals / np.maximum(count - 1, 0)) / (outcomes / count)
    return count, mean, influence_sd


def _compute_difference_interval(
    champion: np.ndarray, challenger: np.ndarray, plan: ABPlan
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the difference of challenger and champion, and the bounds of its interval.

    The difference of means is the doubly robust estimate in a randomized experiment without
    covariates, which Waudby-Smith et al. (2024) cover, see ``confidence_sequence``; the standard
    deviation is that of its influence function.
    """
    champion_users, champion_mean, champion_sd = _compute_ratio_mean(champion)
    challenger_users, challenger_mean, challenger_sd = _compute_ratio_mean(challenger)
    with np.errstate(divide="ignore", invalid="ignore"):
        influence_sd = np.sqrt(
            (champion_users + challenger_users)
            * (champion_sd**2 / champion_users + challenger_sd**2 / challenger_users)
        )
    halfwidth = confidence_sequence_halfwidth(
        champion_users + challenger_users,
        influence_sd,
        alpha=ALPHA,
        optimal_observations=plan.optimal_users,
    )
    difference = challenger_mean - champion_mean
    return difference, difference - halfwidth, difference + halfwidth


def _widen_for_bounded_losses(
    users: pd.DataFrame, counts: np.ndarray, interval: Any, plan: ABPlan
) -> tuple[Any, Any, Any]:
    """Widen the interval of the difference, for bounded losses, to cover the betting interval.

    ``users`` are those with outcomes, and ``counts`` their numbers at each evaluation. The betting
    interval needs at least one.
    """
    difference, low, high = interval
    if plan.loss_bound is None or not counts.all():
        return difference, low, high
    losses = (users["loss"] / users["rows_with_outcomes"]).to_numpy(dtype=float)
    estimates = estimate_differences(
        losses, users["challenger"].to_numpy(dtype=bool), plan.challenger_share
    )
    lower, upper = bound_difference(
        estimates,
        counts,
        loss_bound=plan.loss_bound,
        challenger_share=plan.challenger_share,
        alpha=ALPHA,
    )
    if np.ndim(low) == 0:
        lower, upper = lower[0], upper[0]
    return difference, np.minimum(low, lower), np.maximum(high, upper)


def _summarize_variant(users: pd.DataFrame, sums: np.ndarray, plan: ABPlan) -> Variant:
    users_with_outcomes, mean, influence_sd = _compute_ratio_mean(sums)
    halfwidth = confidence_sequence_halfwidth(
        users_with_outcomes, influence_sd, alpha=ALPHA, optimal_observations=plan.min_users
    )
    interval = (float(mean - halfwidth), float(mean + halfwidth))
    outcome_rows = int(users["rows_with_outcomes"].sum())
    events = users["has_event"].sum(min_count=1)
    return Variant(
        len(users),
        int(users["rows"].sum()),
        int(users_with_outcomes),
        outcome_rows,
        float(mean),
        *interval,
        None if pd.isna(events) else int(events),
    )
