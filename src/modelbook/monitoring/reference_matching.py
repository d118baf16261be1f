"""Match the reference to a batch: reference rows with the batch's distribution of strata.

A batch may have other proportions of strata than the reference without a change within any stratum.
A stratum is a combination of values of the columns that the contract declares as ``strata``, and of
a missing-value pattern. From each stratum of the reference, as many rows are sampled as give the
batch's proportions.

A changed missing-value pattern counts as a change of the mix where it was to be expected: the
columns are missing in fewer rows than in the reference, or in as many as in its latest period, and
their other values have not drifted. More missing values may be an error of the table, and count as
drift.
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
from modelbook.scoring.drift_measure import EffectiveFractions


@dataclass(frozen=True)
class MixShift:
    """A proportion of rows that differs between reference and batch, and is not drift.

    ``columns`` are missing in those rows, or have the value ``value`` in them.
    """

    columns: list[str]
    reference_share: float
    batch_share: float
    value: str = ""
    period: str = ""


@dataclass(frozen=True)
class MatchedReference:
    """Matched holdout: reference rows with the batch's mix, and the shifts that this removes.

    All reference rows where there are no shifts.
    """

    rows: pd.DataFrame
    shifts: list[MixShift] = field(default_factory=list)


def match_reference(
    reference: pd.DataFrame, batch: pd.DataFrame, contract: Contract, params: Monitor
) -> MatchedReference:
    """Sample reference rows that match the batch's mix.

    All of the reference if the mix is the same, or if fewer than ``min_rows`` rows would be left.
    """
    strata = np.zeros(len(reference), dtype=int), np.zeros(len(batch), dtype=int)
    is_matched = np.ones(len(reference), dtype=bool)
    shifts = []
    for shift, values in _find_shifts(reference, batch, contract, params):
        finer_strata = _cross_strata(strata, values)
        is_sampled = _sample_rows(*finer_strata, params.seed)
        if is_sampled is not None and is_sampled.sum() >= params.min_rows:
            strata = finer_strata
            is_matched = is_sampled
            shifts.append(shift)
    return MatchedReference(reference[is_matched] if shifts else reference, shifts)


ColumnPair = tuple[pd.Series, pd.Series]  # of reference and batch


def _find_shifts(
    reference: pd.DataFrame, batch: pd.DataFrame, contract: Contract, params: Monitor
) -> Iterator[tuple[MixShift, ColumnPair]]:
    """Find shifts of the mix: missing-value patterns, then declared strata."""
    effective_fractions = drift.compute_effective_fractions(reference, batch, contract)
    features = contract.select_features(reference), contract.select_features(batch)
    n_tests = drift_measure.count_tests(features[0].shape[1])
    for pattern in find_missing_patterns(reference, contract):
        is_missing = _all_missing(features[0], pattern), _all_missing(features[1], pattern)
        before, now, by_chance = drift.measure_share_change(
            *is_missing, effective_fractions, n_tests
        )
        if drift_measure.is_expected_mix_change(
            (before, now), pattern.latest_missing_rate, by_chance, params.missing_rate_change
        ) and _has_same_distribution(
            pattern.columns, features, contract, params, effective_fractions
        ):
            yield MixShift(pattern.columns, before, now, period=pattern.period), is_missing
    for name in contract.strata:
        if name in reference.columns and name in batch.columns:
            values = _as_texts(reference[name]), _as_texts(batch[name])
            if shift := _compare_shares(name, values, params, effective_fractions, n_tests):
                yield shift, values


def _all_missing(rows: pd.DataFrame, pattern: MissingPattern) -> pd.Series:
    return rows[pattern.columns].isna().all(axis=1)


def _as_texts(values: pd.Series) -> pd.Series:
    return values.astype(object).fillna("").astype(str)


def _has_same_distribution(
    columns: list[str],
    features: tuple[pd.DataFrame, pd.DataFrame],
    contract: Contract,
    params: Monitor,
    effective_fractions: EffectiveFractions,
) -> bool:
    """Whether the values that are not missing have not drifted: imputed values may have changed."""
    n_tests = drift_measure.count_tests(features[0].shape[1])
    for name in columns:
        column_pair = features[0][name], features[1][name]
        is_numeric = name in contract.numeric_features
        distance = drift.measure_distance(*column_pair, is_numeric, effective_fractions, n_tests)
        n_values = column_pair[0].nunique(), column_pair[1].nunique()
        if not drift_measure.has_same_distribution(distance, n_values, params.drift_threshold):
            return False
    return True


def _compare_shares(
    name: str,
    values: ColumnPair,
    params: Monitor,
    effective_fractions: EffectiveFractions,
    n_tests: int,
) -> MixShift | None:
    """Return the value whose proportion changed most, if the column has drifted."""
    distance = drift.measure_distance(*values, False, effective_fractions, n_tests)
    if not distance.distance >= max(params.drift_threshold, distance.critical_distance):
        return None
    before, now = (
        values[0]
        .value_counts(normalize=True)
        .align(values[1].value_counts(normalize=True), fill_value=0)
    )
    value = (now - before).abs().idxmax()
    return MixShift([name], float(before[value]), float(now[value]), value=str(value))


def _cross_strata(
    strata: tuple[np.ndarray, np.ndarray], values: ColumnPair
) -> tuple[np.ndarray, np.ndarray]:
    """Divide each stratum by further values."""
    codes, distinct = pd.factorize(pd.concat(values, ignore_index=True))
    refined = pd.factorize(np.concatenate(strata) * len(distinct) + codes)[0]
    return refined[: len(strata[0])], refined[len(strata[0]) :]


def _sample_rows(reference: np.ndarray, batch: np.ndarray, seed: int) -> np.ndarray | None:
    """Sample reference rows so that strata have the batch's proportions; None if impossible.

    ``reference`` and ``batch`` are the stratum of each row; the result is a mask of the reference.
    """
    n_strata = max(reference.max(initial=0), batch.max(initial=0)) + 1
    available, required = (np.bincount(codes, minlength=n_strata) for codes in (reference, batch))
    row_counts = drift_measure.count_rows_to_match(available, required)
    if row_counts is None:
        return None
    random = np.random.default_rng(seed)
    is_sampled = np.zeros(len(reference), dtype=bool)
    for stratum in np.flatnonzero(row_counts):
        rows = np.flatnonzero(reference == stratum)
        is_sampled[random.choice(rows, row_counts[stratum], replace=False)] = True
    return is_sampled
