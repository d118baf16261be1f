"""A version's reference for the drift of recent requests: counts of the holdout, without its rows.

Counts are kept per stratum: combination of a missing-value pattern and of values of the columns
that the contract declares as ``strata``. So the service can reweight the reference to the strata of
recent requests (post-stratification), as monitor draws rows of the holdout.
"""

from __future__ import annotations

import json
import numbers
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from modelbook.scoring import drift_measure
from modelbook.scoring.drift_measure import Counts, DriftDistance, EffectiveFractions

if TYPE_CHECKING:
    import pandas as pd

    from modelbook.config import Monitor
    from modelbook.contract import Contract
    from modelbook.dataset.missing_patterns import MissingPattern

DRIFT_REFERENCE_FILE = "drift_reference.json"
MAX_PATTERNS = 4  # groups of missing columns, the most frequent: 2 ** 4 strata at most
MAX_STRATA = 256  # a column that would make more is not matched
Row = dict[str, Any]


@dataclass(frozen=True)
class FeatureCounts:
    """Counts of a feature's values by stratum and bin, shape (strata, bins).

    Bins of a number lie between ``boundaries``; other features have a bin for each category.
    """

    counts: NDArray[np.int64]
    boundaries: NDArray[np.float64] | None
    categories: dict[str, int]

    def count_values(self, values: Sequence[Any]) -> NDArray[np.int64]:
        """Count values by bin; each category that the reference does not have gets a new one."""
        if self.boundaries is not None:
            numbers = np.array(values, dtype=float)  # None becomes NaN
            return drift_measure.count_by_bin(self.boundaries, numbers[~np.isnan(numbers)])
        counts = Counter(str(value) for value in values if value is not None)
        known_counts = [counts.pop(category, 0) for category in self.categories]
        return np.array([*known_counts, *counts.values()], dtype=np.int64)


@dataclass(frozen=True)
class RecentCounts:
    """Counts of recent rows.

    Attributes
    ----------
    by_feature : dict
        By feature, the counts from ``FeatureCounts.count_values``.
    strata : ndarray of shape (rows, criteria)
        Stratum codes of each row, from ``DriftReference.find_strata``.
    effective_fraction : float
        Effective sample size per row.
    """

    by_feature: dict[str, NDArray[np.int64]]
    strata: NDArray[np.int64]
    effective_fraction: float

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(self.strata)


@dataclass(frozen=True)
class DriftReference:
    """Counts of the holdout by stratum; the keys of its file are those of 1.0.0.

    Attributes
    ----------
    pattern_columns : list of list of str
        Columns that are missing in the same rows.
    latest_missing_rates : list of float
        By pattern, the share of such rows in the latest period.
    stratum_columns : dict
        Column that the contract declares in ``strata`` to its values as strings.
    strata : ndarray of shape (strata, criteria)
        1 where the columns of a pattern are missing, or the position of the value of a stratum
        column. The patterns are the first criteria, the stratum columns the others.
    stratum_rows : ndarray
        Rows of each stratum.
    entity : str or None
        Column of the entity, of which recent rows may have several.
    """

    features: dict[str, FeatureCounts]
    pattern_columns: list[list[str]]
    latest_missing_rates: list[float]
    stratum_columns: dict[str, list[str]]
    strata: NDArray[np.int64]
    stratum_rows: NDArray[np.int64]
    entity: str | None
    effective_fraction: float

    @classmethod
    def load(cls, folder: Path) -> DriftReference | None:
        """Load the reference of a version; None if the version was registered without one."""
        path = folder / DRIFT_REFERENCE_FILE
        if not path.is_file():
            return None
        import scipy.special  # noqa: F401  # here, not at the first measurement in the event loop

        data = json.loads(path.read_text(encoding="utf-8"))
        features = {
            name: FeatureCounts(
                np.array(feature["counts"], dtype=np.int64),
                None if feature["boundaries"] is None else np.array(feature["boundaries"], float),
                {category: i for i, category in enumerate(feature["categories"])},
            )
            for name, feature in data["features"].items()
        }
        strata = np.array(data["kinds"], dtype=np.int64).reshape(len(data["kind_rows"]), -1)
        return cls(
            features,
            data["pattern_columns"],
            data["newest_shares"],
            data.get("strata", {}),  # 1.0.0 did not match strata
            strata,
            np.array(data["kind_rows"], dtype=np.int64),
            data["entity"],
            data["row_share"],
        )

    @cached_property
    def n_tests(self) -> int:
        """Number of tests of all features."""
        return drift_measure.count_tests(len(self.features))

    def find_strata(self, rows: Sequence[Row]) -> NDArray[np.int64]:
        """Return the stratum codes of rows, shape (rows, criteria); -1 where the column is absent.

        A value of a stratum column that the reference does not have gets a new code.
        """
        criteria: list[list[int]] = []
        for columns in self.pattern_columns:
            criteria.append([all(row.get(name) is None for name in columns) for row in rows])
        for name, values in self.stratum_columns.items():
            if not any(name in row for row in rows):
                criteria.append([-1] * len(rows))
                continue
            codes = {value: code for code, value in enumerate(values)}
            texts = [_format_stratum_value(row.get(name)) for row in rows]
            criteria.append([codes.setdefault(text, len(codes)) for text in texts])
        return np.array(criteria, dtype=np.int64).reshape(-1, len(rows)).T

    def compute_effective_fraction(self, rows: Sequence[Row]) -> float:
        """Return the effective sample size per row; rows without an entity count as one each."""
        if self.entity is None:
            return 1.0
        sizes = Counter(row.get(self.entity) for row in rows)
        n_without_entity = sizes.pop(None, 0)
        return drift_measure.compute_effective_fraction(
            np.array([*sizes.values(), *[1] * n_without_entity])
        )

    def measure_drift(self, recent: RecentCounts, params: Monitor) -> Iterator[tuple[str, float]]:
        """Yield each feature's drift relative to its threshold: values of at least 1 mean drift."""
        weights = self._compute_stratum_weights(recent, params)
        for name in self.features:
            yield name, self._measure_feature(name, recent, weights, params)

    def _measure_feature(
        self, name: str, recent: RecentCounts, weights: NDArray[np.float64], params: Monitor
    ) -> float:
        counts, recent_counts = self._align_counts(name, recent, weights)
        n_rows = float(weights @ self.stratum_rows), recent.rows
        missing_rates = (
            max(0.0, (n_rows[0] - float(counts.sum())) / n_rows[0]),
            (n_rows[1] - int(recent_counts.sum())) / n_rows[1],
        )
        effective_rows = (
            n_rows[0] * self.effective_fraction,
            n_rows[1] * recent.effective_fraction,
        )
        return drift_measure.compute_relative_drift(
            self._measure_distance(counts, recent_counts, recent),
            missing_rates,
            drift_measure.compute_critical_rate_change(missing_rates, effective_rows, self.n_tests),
            threshold=params.drift_threshold,
            missing_rate_change=params.missing_rate_change,
        )

    def _measure_distance(
        self, counts: Counts, recent_counts: Counts, recent: RecentCounts
    ) -> DriftDistance:
        fractions = EffectiveFractions(self.effective_fraction, recent.effective_fraction)
        return drift_measure.measure_count_distance(counts, recent_counts, fractions, self.n_tests)

    def _align_counts(
        self, name: str, recent: RecentCounts, weights: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], Counts]:
        """Return the weighted counts of the reference and those of recent rows, bin by bin."""
        recent_counts = recent.by_feature[name]
        counts = weights @ self.features[name].counts
        return np.pad(counts, (0, len(recent_counts) - len(counts))), recent_counts

    def _compute_stratum_weights(
        self, recent: RecentCounts, params: Monitor
    ) -> NDArray[np.float64]:
        """Weight the strata so that the reference has the mix of the recent rows."""
        weights = np.ones(len(self.stratum_rows))
        codes = np.zeros(len(self.stratum_rows), np.int64), np.zeros(recent.rows, np.int64)
        for criterion in range(self.strata.shape[1]):
            if not self._has_criterion_shifted(criterion, recent, params):
                continue
            finer_codes = _cross_strata(
                codes, (self.strata[:, criterion], recent.strata[:, criterion])
            )
            n_codes = max(int(codes.max(initial=0)) for codes in finer_codes) + 1
            available = np.bincount(finer_codes[0], self.stratum_rows, n_codes).astype(np.int64)
            matched_counts = drift_measure.count_rows_to_match(
                available, np.bincount(finer_codes[1], minlength=n_codes)
            )
            if matched_counts is not None and matched_counts.sum() >= params.min_rows:
                codes = finer_codes
                weights = (matched_counts / np.maximum(available, 1))[codes[0]]
        return weights

    def _has_criterion_shifted(self, criterion: int, recent: RecentCounts, params: Monitor) -> bool:
        if criterion < len(self.pattern_columns):
            return self._has_pattern_shifted(criterion, recent, params)
        return self._has_column_shifted(criterion, recent, params)

    def _has_column_shifted(self, criterion: int, recent: RecentCounts, params: Monitor) -> bool:
        values, recent_values = self.strata[:, criterion], recent.strata[:, criterion]
        if recent_values.min(initial=0) < 0:  # requests do not have this column
            return False
        n_values = max(int(column.max(initial=0)) for column in (values, recent_values)) + 1
        distance = self._measure_distance(
            np.bincount(values, self.stratum_rows, n_values),
            np.bincount(recent_values, minlength=n_values),
            recent,
        )
        return bool(distance.distance >= max(params.drift_threshold, distance.critical_distance))

    def _has_pattern_shifted(self, pattern: int, recent: RecentCounts, params: Monitor) -> bool:
        shares = (
            float(self.strata[:, pattern] @ self.stratum_rows / self.stratum_rows.sum()),
            float(recent.strata[:, pattern].mean()),
        )
        effective_rows = (
            float(self.stratum_rows.sum()) * self.effective_fraction,
            recent.rows * recent.effective_fraction,
        )
        critical_change = drift_measure.compute_critical_rate_change(
            shares, effective_rows, self.n_tests
        )
        return drift_measure.is_expected_mix_change(
            shares, self.latest_missing_rates[pattern], critical_change, params.missing_rate_change
        ) and all(
            self._has_same_distribution(name, recent, params)
            for name in self.pattern_columns[pattern]
        )

    def _has_same_distribution(self, name: str, recent: RecentCounts, params: Monitor) -> bool:
        counts, recent_counts = self._align_counts(name, recent, np.ones(len(self.stratum_rows)))
        return drift_measure.has_same_distribution(
            self._measure_distance(counts, recent_counts, recent),
            (int(np.count_nonzero(counts)), int(np.count_nonzero(recent_counts))),
            params.drift_threshold,
        )


def _format_stratum_value(value: Any) -> str:
    """The text of a value, the same for a number of a table and that of a request."""
    if isinstance(value, numbers.Real | np.bool_):
        return repr(float(value))
    return "" if value is None else str(value)


Codes = tuple[NDArray[np.int64], NDArray[np.int64]]  # strata of reference rows and recent rows


def _cross_strata(codes: Codes, values: Codes) -> Codes:
    """Divide the rows of each code by further values, and number the codes again."""
    n_values = max(int(column.max(initial=0)) for column in values) + 1
    refined = np.concatenate(codes) * n_values + np.concatenate(values)
    finer_codes = np.unique(refined, return_inverse=True)[1]
    return finer_codes[: len(codes[0])], finer_codes[len(codes[0]) :]


def compute_table_effective_fraction(rows: pd.DataFrame, contract: Contract) -> float:
    """Return the effective sample size per row of a table; unknown entities have one row each."""
    if rows.empty or contract.entity not in rows.columns:
        return 1.0
    entities = rows[contract.entity]
    return drift_measure.compute_effective_fraction(
        np.concatenate([entities.value_counts(), np.ones(entities.isna().sum())])
    )


def write_drift_reference(folder: Path, rows: pd.DataFrame, contract: Contract) -> None:
    """Write the counts of a version's holdout into its folder."""
    text = json.dumps(_count_reference(rows, contract))
    (folder / DRIFT_REFERENCE_FILE).write_text(text, encoding="utf-8")


def _count_reference(rows: pd.DataFrame, contract: Contract) -> dict[str, Any]:
    """Count the holdout's values by feature and stratum, as plain data."""
    from modelbook.dataset.missing_patterns import find_missing_patterns

    features = contract.select_features(rows)
    patterns = _select_patterns(find_missing_patterns(rows, contract), len(rows))
    missing = [features[pattern.columns].isna().all(axis=1).to_numpy() for pattern in patterns]
    strata, row_strata, stratum_columns = _divide_by_strata(rows, contract, missing)
    return {
        "entity": contract.entity,
        "row_share": compute_table_effective_fraction(rows, contract),
        "pattern_columns": [pattern.columns for pattern in patterns],
        "newest_shares": [pattern.latest_missing_rate for pattern in patterns],
        "strata": stratum_columns,
        "kinds": strata.tolist(),
        "kind_rows": np.bincount(row_strata).tolist(),
        "features": {
            name: _count_feature(values, name in contract.numeric_features, row_strata)
            for name, values in features.items()
        },
    }


def _divide_by_strata(
    rows: pd.DataFrame, contract: Contract, criteria: list[NDArray[Any]]
) -> tuple[NDArray[np.int64], NDArray[np.int64], dict[str, list[str]]]:
    """Return the strata by criteria and columns, each row's stratum, and the columns' values.

    A column that would make more than ``MAX_STRATA`` strata is left out.
    """

    def find_strata(columns: list[NDArray[Any]]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        table = np.array(columns, dtype=np.int64).reshape(-1, len(rows)).T
        strata, row_strata = np.unique(table, axis=0, return_inverse=True)
        return strata, row_strata.ravel()

    (strata, row_strata), stratum_columns = find_strata(criteria), {}
    for name in contract.strata:
        if name not in rows.columns:
            continue
        texts = [_format_stratum_value(value) for value in rows[name].astype(object).fillna("")]
        values, positions = np.unique(texts, return_inverse=True)
        finer_strata, finer_row_strata = find_strata([*criteria, positions])
        if len(finer_strata) <= MAX_STRATA:
            criteria = [*criteria, positions]
            strata = finer_strata
            row_strata = finer_row_strata
            stratum_columns[name] = values.tolist()
    return strata, row_strata, stratum_columns


def _select_patterns(patterns: list[MissingPattern], n_rows: int) -> list[MissingPattern]:
    """Select the most frequent patterns with enough rows to match; their order is kept."""
    frequent = [
        pattern
        for pattern in patterns
        if pattern.missing_rate * n_rows >= drift_measure.MIN_STRATUM_ROWS
    ]
    by_missing_rate = sorted(frequent, key=lambda pattern: -pattern.missing_rate)
    return [pattern for pattern in frequent if pattern in by_missing_rate[:MAX_PATTERNS]]


def _count_feature(
    values: pd.Series, is_numeric: bool, row_strata: NDArray[np.int64]
) -> dict[str, Any]:
    """Count a feature's values by stratum and bin."""
    is_present = values.notna().to_numpy()
    boundaries = None
    categories = list[str]()
    present_values, strata = values[is_present], row_strata[is_present]
    if is_numeric:
        present_numbers = present_values.to_numpy(dtype=float)
        boundaries = drift_measure.find_bin_boundaries(present_numbers)
        bins = np.searchsorted(boundaries, present_numbers)
    else:
        distinct, bins = np.unique(present_values.astype(str), return_inverse=True)
        categories = distinct.tolist()
    n_bins = len(categories) if boundaries is None else len(boundaries) + 1
    n_strata = int(row_strata.max(initial=0)) + 1
    counts = np.bincount(strata * n_bins + bins, minlength=n_strata * n_bins)
    return {
        "boundaries": None if boundaries is None else boundaries.tolist(),
        "categories": categories,
        "counts": counts.reshape(n_strata, n_bins).tolist(),
    }
