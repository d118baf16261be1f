"""Drift: how far a batch's columns have moved from the reference, as effect sizes beyond what chance explains.

The effect is the Jensen-Shannon distance (Lin 1991; Endres & Schindelin 2003, natural logarithm: 0 is the same, 0.83
nothing in common) of the values that are present: of a category over its values, of a number over the tenths of the
reference. With equal distributions and n and m independent rows, 8 / (1/n + 1/m) times its square follows chi-square
with one degree less than there are cells (second-order expansion of the divergence). So its mean under chance can be
taken off, which makes the score fit for any number of rows, and the largest distance that chance explains is known.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from modelbook.contract import Contract

FEWEST = 100  # present values that a column needs on each side
BINS = 10  # of a number, by the reference's quantiles
EXPECTED = 5  # rows of a cell on the smaller side; rarer ones are one cell (Cochran 1954)
CHANCE = 0.01  # of one alarm or more in a batch without drift, over all its columns (Bonferroni)
MOST_RANKED = 20_000  # rows of each side behind the Kolmogorov-Smirnov p-value
NAMES = [
    "column", "method", "score", "threshold", "chance", "ks_p", "new", "missing_reference", "missing_batch", "drifted",
]  # fmt: skip


class Distance(NamedTuple):
    """A distance less what chance adds on average, and the largest one that chance explains; NaN where not judged."""

    score: float
    chance: float


UNKNOWN = Distance(float("nan"), float("nan"))


class Sizes(NamedTuple):
    """Independent rows per row on either side: below 1 where an entity has several, for these tell alike."""

    reference: float = 1.0
    batch: float = 1.0


def columns(
    reference: pd.DataFrame, batch: pd.DataFrame, contract: Contract, *, threshold: float, gaps: float
) -> pd.DataFrame:
    """Each feature's drift, worst first; ``table`` tells of parameters and columns."""
    before, now = contract.features(reference), contract.features(batch)
    return table(
        before, now, contract.numeric, threshold=threshold, gaps=gaps, sizes=sizes(reference, batch, contract)
    ).sort_values(["drifted", "score"], ascending=False, ignore_index=True)


def sizes(reference: pd.DataFrame, batch: pd.DataFrame, contract: Contract) -> Sizes:
    """How many independent rows a row of either side stands for."""
    return Sizes(*(_independent(side, contract) for side in (reference, batch)))


def _independent(rows: pd.DataFrame, contract: Contract) -> float:
    if rows.empty or contract.entity not in rows.columns:
        return 1.0
    whose = rows[contract.entity]
    return (whose.nunique() + int(whose.isna().sum())) / len(rows)


def table(
    before: pd.DataFrame, now: pd.DataFrame, numeric: list[str], *, threshold: float, gaps: float, sizes: Sizes
) -> pd.DataFrame:
    """The drift of each column of two tables.

    Parameters
    ----------
    before, now : DataFrame
        The same columns.
    numeric : list of str
        Those that hold numbers; the others hold categories.
    threshold : float
        Distance from which a column has drifted, where chance does not explain it.
    gaps : float
        Change of the share of missing values from which it has, where chance does not explain it.

    Returns
    -------
    DataFrame
        Columns ``column, method, score, threshold, chance, ks_p, new, missing_reference, missing_batch, drifted``:
        ``chance`` is the largest score that chance explains, ``ks_p`` the p-value of the Kolmogorov-Smirnov test,
        which decides nothing, ``new`` the share of values that the reference does not know. ``score`` is missing
        where either side has fewer than ``FEWEST`` values.
    """
    rows, tests = [], 2 * max(1, before.shape[1])
    for name in before.columns:
        one, other, number = before[name], now[name], name in numeric
        moved = distance(one, other, number, sizes, tests)
        then, at_present, allowed = _missing(one, other, sizes, tests)
        drifted = moved.score >= max(threshold, moved.chance) or abs(at_present - then) >= max(gaps, allowed)
        rows.append((
            name, "tenths" if number else "categories", *moved[:1], threshold, *moved[1:],
            _ks(one, other) if number else np.nan, 0.0 if number else _new(one, other), then, at_present, drifted,
        ))  # fmt: skip
    return pd.DataFrame(rows, columns=NAMES).astype({"drifted": bool})


def distance(before: pd.Series, now: pd.Series, number: bool, sizes: Sizes, tests: int) -> Distance:
    """Jensen-Shannon distance of the values that are present, beside what chance explains among so many tests."""
    from scipy.stats import chi2

    before, now = (_present(side, number) for side in (before, now))
    if min(len(before), len(now)) < FEWEST:
        return UNKNOWN
    one, other = _by_tenths(before, now) if number else _by_category(before, now)
    one, other = _joined(one, other)
    squared = _divergence(one / one.sum(), other / other.sum())
    unit = (1 / (len(before) * sizes.reference) + 1 / (len(now) * sizes.batch)) / 8
    usual, most = unit * (len(one) - 1), unit * chi2.isf(CHANCE / tests, max(len(one) - 1, 1))
    return Distance(float(np.sqrt(max(0.0, squared - usual))), float(np.sqrt(max(0.0, most - usual))))


def _present(values: pd.Series, number: bool) -> pd.Series:
    return values.astype("float64").dropna() if number else values.dropna()


def _by_tenths(before: pd.Series, now: pd.Series) -> tuple[np.ndarray, np.ndarray]:
    """Counts between the reference's quantiles; a value that several of them share has a cell of its own."""
    edges, often = np.unique(np.quantile(before, np.linspace(0, 1, BINS + 1), method="lower"), return_counts=True)
    shared = edges[often > 1]
    ends = np.union1d(edges[1:-1] if len(edges) > 2 else edges, np.concatenate([shared, np.nextafter(shared, -np.inf)]))
    one, other = (np.bincount(np.searchsorted(ends, side), minlength=len(ends) + 1) for side in (before, now))
    return one, other


def _by_category(before: pd.Series, now: pd.Series) -> tuple[np.ndarray, np.ndarray]:
    one, other = before.value_counts().align(now.value_counts(), fill_value=0)
    return one.to_numpy(), other.to_numpy()


def _joined(one: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Counts with rare cells as one."""
    total = one + other
    rare = total * min(one.sum(), other.sum()) < EXPECTED * total.sum()
    if not rare.any():
        return one, other
    first, second = (np.append(side[~rare], side[rare].sum()) for side in (one, other))
    there = (first + second) > 0
    return first[there], second[there]


def _divergence(p: np.ndarray, q: np.ndarray) -> float:
    from scipy.special import rel_entr

    middle = (p + q) / 2
    return float((rel_entr(p, middle).sum() + rel_entr(q, middle).sum()) / 2)


def _missing(before: pd.Series, now: pd.Series, sizes: Sizes, tests: int) -> tuple[float, float, float]:
    """Shares of gaps then and now, and the largest change that chance explains."""
    from scipy.stats import norm

    if before.empty or now.empty:
        return float(before.isna().mean()), float(now.isna().mean()), float("inf")
    n, m = len(before) * sizes.reference, len(now) * sizes.batch
    then, at_present = float(before.isna().mean()), float(now.isna().mean())
    share = (then * n + at_present * m) / (n + m)
    return then, at_present, float(norm.isf(CHANCE / tests / 2) * np.sqrt(share * (1 - share) * (1 / n + 1 / m)))


def _new(before: pd.Series, now: pd.Series) -> float:
    """Share of the present values that the reference does not have."""
    values = now.dropna()
    return float((~values.isin(before.dropna().unique())).mean()) if len(values) else 0.0


def _ks(before: pd.Series, now: pd.Series) -> float:
    from scipy.stats import ks_2samp

    sides = [_present(side, True).to_numpy() for side in (before, now)]
    if not all(len(side) for side in sides):
        return float("nan")
    one, other = (side[:: -(-len(side) // MOST_RANKED)] for side in sides)
    return float(ks_2samp(one, other, method="asymp").pvalue)


def weighted_share(table: pd.DataFrame, importance: dict[str, float]) -> float:
    """Share of drifted columns, each weighted by its importance to the model (those below zero count as zero)."""
    weight = table["column"].map(importance).fillna(0).clip(lower=0)
    return float(weight[table["drifted"]].sum() / weight.sum()) if weight.sum() else float(table["drifted"].mean())
