"""A/B: what two variants answered to shared traffic, and whether the challenger may take the champion's place.

The unit is the user, who was drawn once and whose rows are one piece of evidence, however many there are. The losses
of a row are compared by a confidence sequence (``sequence``), so that one may look as often as one likes and stop when
it is decided. Pure functions of a table of rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from modelbook.errors import ServingError
from modelbook.monitoring.sequence import reach
from modelbook.registry.promotion import WON

PROMOTE, KEEP, ON, VOID = WON, "keep the champion", "go on", "void"
ALPHA = 0.05  # chance that a difference is told where there is none, over all looks
MISMATCH = 0.001  # chance that a split as it was set is called void, at one look
FAR = 50  # times the users so far; what takes more is not foretold
EXPECTED = 5  # users of a variant below which chi-square says nothing
COLUMNS = ("at", "challenger", "lot", "loss")


@dataclass(frozen=True)
class Plan:
    """What was agreed on before: the challenger's share of the users, and what there must be before it is decided."""

    share: float
    least_users: int
    least_hours: float

    def __post_init__(self) -> None:
        if not 0 < self.share < 1:
            raise ServingError(
                f"traffic.share is {self.share:g}, so there is nothing to compare", expected="above 0 and below 1",
                next="correct it in serving.yaml",
            )  # fmt: skip

    @property
    def tightest(self) -> float:
        """Users at the first look that may decide."""
        return self.least_users / min(self.share, 1 - self.share)


@dataclass(frozen=True)
class Arm:
    """What one variant did.

    Attributes
    ----------
    users, rows : int
        Whom it answered, and how often.
    judged, known : int
        The same, of those whose outcomes are in.
    loss, low, high : float
        Mean loss of a row (NaN without outcomes), with its confidence sequence (infinite or NaN before there is one).
    """

    users: int
    rows: int
    judged: int
    known: int
    loss: float
    low: float
    high: float


@dataclass(frozen=True)
class Judged:
    """The A/B as it stands.

    Attributes
    ----------
    difference, low, high : float
        Loss of the challenger minus that of the champion, with its confidence sequence: below 0 it is better.
    answered_p, judged_p : float or None
        Chi-square p-values of the share, among the users who were answered and those whose outcomes are in; None for
        too few.
    hours : float
        From the first row to the last.
    """

    word: str
    champion: Arm
    challenger: Arm
    difference: float
    low: float
    high: float
    answered_p: float | None
    judged_p: float | None
    hours: float
    plan: Plan

    def to_dict(self) -> dict[str, Any]:
        """As plain data."""
        return asdict(self)

    @property
    def mismatch(self) -> float | None:
        """The p-value that makes it void."""
        found = [p for p in (self.answered_p, self.judged_p) if p is not None and p < MISMATCH]
        return min(found, default=None)

    @property
    def needed(self) -> int | None:
        """Users with outcomes that would decide it, if what is seen so far is so; None where that is far off."""
        seen, plan = self.champion.judged + self.challenger.judged, self.plan
        counts = np.unique(np.geomspace(max(seen, 1), max(seen, 1) * FAR, 400).astype(int))
        half = (self.high - self.difference) * reach(counts, 1, alpha=ALPHA, tightest=plan.tightest)
        decided = counts[half < abs(self.difference) * reach(seen, 1, alpha=ALPHA, tightest=plan.tightest)]
        return int(decided[0]) if len(decided) else None

    @property
    def enough(self) -> bool:
        """Whether there is what was agreed on."""
        users = min(self.champion.judged, self.challenger.judged)
        return users >= self.plan.least_users and self.hours >= self.plan.least_hours


def judge(rows: pd.DataFrame, plan: Plan) -> Judged:
    """Judge what was answered so far.

    Parameters
    ----------
    rows : DataFrame
        ``at`` (seconds), ``challenger`` (whether it answered), ``lot`` (whose row it is), ``loss`` (NaN where the
        outcome is not in).
    """
    users = by_user(rows)
    one, other = (side[-1] if len(side) else np.zeros(6) for side in _sums(users))
    champion, challenger = _arm(users[~users["challenger"]], one, plan), _arm(users[users["challenger"]], other, plan)
    difference, low, high = map(float, _difference(one, other, plan))
    hours = float(rows["at"].max() - rows["at"].min()) / 3600 if len(rows) else 0.0
    found = Judged(
        ON, champion, challenger, difference, low, high,
        matched((champion.users, challenger.users), plan.share),
        matched((champion.judged, challenger.judged), plan.share), hours, plan,
    )  # fmt: skip
    return replace(found, word=_word(found))


def by_user(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of each user together, in the order of first rows: ``challenger, rows, known, loss`` (the sum)."""
    grouped = rows.groupby(["lot", "challenger"], sort=False)["loss"]
    return grouped.agg(rows="size", known="count", loss="sum").reset_index()


def matched(users: Sequence[int], share: float) -> float | None:
    """How likely a split is by chance where the challenger's share was set: the chi-square test of one proportion."""
    from scipy.stats import chisquare

    expected = np.array([1 - share, share]) * sum(users)
    if expected.min() < EXPECTED:
        return None
    return float(chisquare(users, expected).pvalue)


def course(rows: pd.DataFrame, plan: Plan, looks: int = 60) -> pd.DataFrame:
    """What one would have seen at earlier looks: columns ``users, difference, low, high``, evenly spaced."""
    users = by_user(rows)
    users = users[users["known"] > 0]
    counts = np.unique(np.linspace(0, len(users), looks + 1).astype(int)[1:])
    counts = counts[counts > 0]
    champion, challenger = (side[counts - 1] for side in _sums(users))
    seen = _difference(champion, challenger, plan)
    table = pd.DataFrame(dict(zip(("users", "difference", "low", "high"), (counts, *seen), strict=True)))
    return table[np.isfinite(table["low"])].reset_index(drop=True)


def _word(found: Judged) -> str:
    if found.mismatch is not None:
        return VOID
    if not found.enough or found.low <= 0 <= found.high:
        return ON
    return PROMOTE if found.high < 0 else KEEP


def _sums(users: pd.DataFrame) -> list[np.ndarray]:
    """Of either side, user after user: how many were judged, and the sums that mean and spread are made of.

    Champion and challenger; each of shape (users, 6).
    """
    loss, known = users["loss"].to_numpy(dtype=float), users["known"].to_numpy(dtype=float)
    each = np.column_stack([known > 0, loss, known, loss**2, loss * known, known**2])
    challenger = users["challenger"].to_numpy(dtype=bool)[:, None]
    return [np.cumsum(np.where(challenger == who, each, 0), axis=0) for who in (False, True)]


def _mean(sums: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Judged users, mean loss of a row, and the standard deviation of what one user adds to it.

    A ratio of two sums has that for its influence function: a user's loss beyond the mean, over the usual rows.
    """
    count, loss, known, loss2, both, known2 = sums.T
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = loss / known
        beyond = np.maximum(loss2 - 2 * mean * both + mean**2 * known2, 0)
        spread = np.sqrt(beyond / np.maximum(count - 1, 0)) / (known / count)
    return count, mean, spread


def _difference(champion: np.ndarray, challenger: np.ndarray, plan: Plan) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Challenger minus champion, and the ends of its interval.

    The difference of means is the doubly robust estimate of a randomised experiment without covariates, to which the
    paper extends the sequence; the spread is that of its influence function.
    """
    (n, one, first), (m, other, second) = _mean(champion), _mean(challenger)
    with np.errstate(divide="ignore", invalid="ignore"):
        spread = np.sqrt((n + m) * (first**2 / n + second**2 / m))
    half = reach(n + m, spread, alpha=ALPHA, tightest=plan.tightest)
    return other - one, other - one - half, other - one + half


def _arm(users: pd.DataFrame, sums: np.ndarray, plan: Plan) -> Arm:
    judged, mean, spread = _mean(sums)
    half = reach(judged, spread, alpha=ALPHA, tightest=plan.least_users)
    ends = (float(mean - half), float(mean + half))
    return Arm(len(users), int(users["rows"].sum()), int(judged), int(users["known"].sum()), float(mean), *ends)
