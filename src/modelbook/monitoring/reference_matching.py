"""Compare like for like: the rows of the reference that match the batch's mix.

A batch may hold other shares of the kinds of rows than the reference without any kind having
changed. Rows are of a kind by the values of the columns that the contract declares as ``strata``,
and by which columns are missing in them. The reference is matched to the batch: of each kind, as
many rows are drawn as give the batch's shares.

A change of the missing columns is a change of the mix where it was to be expected: fewer rows miss
them than in the reference, or as many as in its newest period, and the values that are there have
not drifted. More missing values may be a fault of the table, and stay drift.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from modelbook.config import Monitor
from modelbook.contract import Contract
from modelbook.dataset.missing_patterns import MissingPattern, find_missing_patterns
from modelbook.monitoring import drift
from modelbook.scoring import drift_measure
from modelbook.scoring.drift_measure import EffectiveRowShares


@dataclass(frozen=True)
class MixShift:
    """A share of rows that differs between reference and batch, and is not drift.

    ``columns`` are missing in those rows, or have the value ``value`` in them.
    """

    columns: list[str]
    reference_share: float
    batch_share: float
    value: str = ""
    period: str = ""


@dataclass(frozen=True)
class MatchedReference:
    """The reference's rows with the batch's mix, and the shifts of the mix that this evens out."""

    rows: pd.DataFrame
    shifts: list[MixShift] = field(default_factory=list)


def match_reference(
    reference: pd.DataFrame, batch: pd.DataFrame, contract: Contract, params: Monitor
) -> MatchedReference:
    """Sample reference rows that match the batch's mix.

    All of the reference if the mix is the same, or if fewer than ``min_rows`` rows would be left.
    """
    kinds = np.zeros(len(reference), dtype=int), np.zeros(len(batch), dtype=int)
    matched, shifts = np.ones(len(reference), dtype=bool), []
    for shift, values in _find_shifts(reference, batch, contract, params):
        finer_kinds = _refine(kinds, values)
        positions = _draw_rows(*finer_kinds, params.seed)
        if positions is not None and positions.sum() >= params.min_rows:
            kinds, matched = finer_kinds, positions
            shifts.append(shift)
    return MatchedReference(reference[matched] if shifts else reference, shifts)


Sides = tuple[pd.Series, pd.Series]  # kinds of rows of reference and batch


def _find_shifts(
    reference: pd.DataFrame, batch: pd.DataFrame, contract: Contract, params: Monitor
) -> Iterator[tuple[MixShift, Sides]]:
    """Find what differs between the mixes: missing columns, then declared strata."""
    row_shares = drift.effective_row_shares(reference, batch, contract)
    features = contract.select_features(reference), contract.select_features(batch)
    test_count = drift_measure.count_tests(features[0].shape[1])
    for pattern in find_missing_patterns(reference, contract):
        is_missing = _all_missing(features[0], pattern), _all_missing(features[1], pattern)
        before, now, by_chance = drift.measure_share_change(*is_missing, row_shares, test_count)
        if drift_measure.is_expected_mix_change(
            (before, now), pattern.newest_share, by_chance, params.missing_rate_change
        ) and _values_agree(pattern.columns, features, contract, params, row_shares):
            yield MixShift(pattern.columns, before, now, period=pattern.period), is_missing
    for name in contract.strata:
        if name in reference.columns and name in batch.columns:
            values = _as_texts(reference[name]), _as_texts(batch[name])
            if shift := _compare_shares(name, values, params, row_shares, test_count):
                yield shift, values


def _all_missing(rows: pd.DataFrame, pattern: MissingPattern) -> pd.Series:
    return rows[pattern.columns].isna().all(axis=1)


def _as_texts(values: pd.Series) -> pd.Series:
    return values.astype(object).fillna("").astype(str)


def _values_agree(
    columns: list[str],
    features: tuple[pd.DataFrame, pd.DataFrame],
    contract: Contract,
    params: Monitor,
    row_shares: EffectiveRowShares,
) -> bool:
    """Whether the values that are not missing have not drifted: imputed values may have changed."""
    test_count = drift_measure.count_tests(features[0].shape[1])
    for name in columns:
        sides = features[0][name], features[1][name]
        is_numeric = name in contract.numeric_features
        distance = drift.measure_distance(*sides, is_numeric, row_shares, test_count)
        limit = np.fmax(params.drift, distance.critical_distance)
        became_constant = sides[1].nunique() < min(2, sides[0].nunique())
        if not distance.distance < limit or became_constant:
            return False
    return True


def _compare_shares(
    name: str, values: Sides, params: Monitor, row_shares: EffectiveRowShares, test_count: int
) -> MixShift | None:
    """Name the value whose share changed most, if the column's distribution has drifted."""
    distance = drift.measure_distance(*values, False, row_shares, test_count)
    if not distance.distance >= max(params.drift, distance.critical_distance):
        return None
    before, now = (
        values[0]
        .value_counts(normalize=True)
        .align(values[1].value_counts(normalize=True), fill_value=0)
    )
    value = (now - before).abs().idxmax()
    return MixShift([name], float(before[value]), float(now[value]), value=str(value))


def _refine(kinds: tuple[np.ndarray, np.ndarray], values: Sides) -> tuple[np.ndarray, np.ndarray]:
    """Divide each kind of rows by further values."""
    codes, distinct = pd.factorize(pd.concat(values, ignore_index=True))
    refined = pd.factorize(np.concatenate(kinds) * len(distinct) + codes)[0]
    return refined[: len(kinds[0])], refined[len(kinds[0]) :]


def _draw_rows(reference: np.ndarray, batch: np.ndarray, seed: int) -> np.ndarray | None:
    """Mark reference rows so that each kind has the batch's share; None if that is impossible."""
    n_kinds = max(reference.max(initial=0), batch.max(initial=0)) + 1
    available, required = (np.bincount(side, minlength=n_kinds) for side in (reference, batch))
    row_counts = drift_measure.count_rows_to_match(available, required)
    if row_counts is None:
        return None
    random, matched = np.random.default_rng(seed), np.zeros(len(reference), dtype=bool)
    for kind in np.flatnonzero(row_counts):
        rows = np.flatnonzero(reference == kind)
        matched[random.choice(rows, row_counts[kind], replace=False)] = True
    return matched
