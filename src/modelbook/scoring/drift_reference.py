"""A version's reference for the drift of recent requests: counts of the holdout, without its rows.

The counts are divided by kinds of rows: by which columns are missing together in them, and by the
values of the contract's ``strata``. So the service can weight them to the mix of recent requests,
as monitor draws rows of the holdout.
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
from modelbook.scoring.drift_measure import Counts, EffectiveRowShares

if TYPE_CHECKING:
    import pandas as pd

    from modelbook.config import Monitor
    from modelbook.contract import Contract
    from modelbook.dataset.missing_patterns import MissingPattern

DRIFT_REFERENCE_FILE = "drift_reference.json"
MAX_PATTERNS = 4  # groups of missing columns, the most frequent: 2 ** 4 kinds of rows at most
MAX_KINDS = 256  # kinds of rows; a stratum that would make more is not matched
Row = dict[str, Any]


@dataclass(frozen=True)
class FeatureCounts:
    """Counts of a feature's values, by kind of rows and cell.

    A number's cells are the bins between ``boundaries``; others have one for each category.
    """

    counts: NDArray[np.int64]
    boundaries: NDArray[np.float64] | None
    categories: dict[str, int]

    def count_values(self, values: Sequence[Any]) -> NDArray[np.int64]:
        """Count values by cell; each category that the reference does not have gets a new one."""
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
    kinds : ndarray
        By row and criterion of the reference, from ``DriftReference.find_kinds``.
    row_share : float
        Effective sample size per row.
    """

    by_feature: dict[str, NDArray[np.int64]]
    kinds: NDArray[np.int64]
    row_share: float

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(self.kinds)


@dataclass(frozen=True)
class DriftReference:
    """Counts of the holdout by kind of rows.

    Attributes
    ----------
    pattern_columns : list of list of str
        Columns that are missing in the same rows.
    newest_shares : list of float
        By pattern, the share of such rows in the newest period.
    strata : dict
        By stratum, its values as texts.
    kinds : ndarray
        By kind and criterion, 1 where the columns of a pattern are missing, or the position of the
        value of a stratum. The patterns are the first criteria, the strata the others.
    kind_rows : ndarray
        Rows of each kind.
    entity : str or None
        Column of the entity, of which recent rows may have several.
    """

    features: dict[str, FeatureCounts]
    pattern_columns: list[list[str]]
    newest_shares: list[float]
    strata: dict[str, list[str]]
    kinds: NDArray[np.int64]
    kind_rows: NDArray[np.int64]
    entity: str | None
    row_share: float

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
        kinds = np.array(data["kinds"], dtype=np.int64).reshape(len(data["kind_rows"]), -1)
        return cls(
            features,
            data["pattern_columns"],
            data["newest_shares"],
            data.get("strata", {}),  # 1.0.0 did not match strata
            kinds,
            np.array(data["kind_rows"], dtype=np.int64),
            data["entity"],
            data["row_share"],
        )

    @cached_property
    def test_count(self) -> int:
        """Number of tests of all features."""
        return drift_measure.count_tests(len(self.features))

    def find_kinds(self, rows: Sequence[Row]) -> NDArray[np.int64]:
        """Return by row and criterion the value that ``kinds`` has; -1 if no row has the column.

        A value of a stratum that the reference does not have gets a new position.
        """
        criteria: list[list[int]] = [
            [all(row.get(name) is None for name in columns) for row in rows]
            for columns in self.pattern_columns
        ]
        for name, values in self.strata.items():
            positions = {value: position for position, value in enumerate(values)}
            is_known = any(name in row for row in rows)
            criteria.append(
                [
                    positions.setdefault(_stratum_text(row.get(name)), len(positions))
                    if is_known
                    else -1
                    for row in rows
                ]
            )
        return np.array(criteria, dtype=np.int64).reshape(-1, len(rows)).T

    def measure_row_share(self, rows: Sequence[Row]) -> float:
        """Return the effective sample size per row; rows without an entity count as one each."""
        if self.entity is None:
            return 1.0
        sizes = Counter(row.get(self.entity) for row in rows)
        unknown_rows = sizes.pop(None, 0)
        return drift_measure.effective_row_share(np.array([*sizes.values(), *[1] * unknown_rows]))

    def measure_drift(self, recent: RecentCounts, params: Monitor) -> Iterator[tuple[str, float]]:
        """Yield each feature's drift in multiples of its threshold; drifted from 1."""
        weights = self._match_mix(recent, params)
        for name in self.features:
            yield name, self._measure_feature(name, recent, weights, params)

    def _measure_feature(
        self, name: str, recent: RecentCounts, weights: NDArray[np.float64], params: Monitor
    ) -> float:
        counts, recent_counts = self._count_both(name, recent, weights)
        n_rows = float(weights @ self.kind_rows), recent.rows
        row_shares = EffectiveRowShares(self.row_share, recent.row_share)
        missing_rates = (
            max(0.0, (n_rows[0] - float(counts.sum())) / n_rows[0]),
            (n_rows[1] - int(recent_counts.sum())) / n_rows[1],
        )
        effective_rows = n_rows[0] * row_shares.reference, n_rows[1] * row_shares.batch
        return drift_measure.measure_excess(
            drift_measure.measure_count_distance(
                counts, recent_counts, row_shares, self.test_count
            ),
            missing_rates,
            drift_measure.critical_share_change(missing_rates, effective_rows, self.test_count),
            threshold=params.drift,
            missing_rate_change=params.missing_rate_change,
        )

    def _count_both(
        self, name: str, recent: RecentCounts, weights: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], Counts]:
        """Return the weighted counts of the reference and those of recent rows, cell by cell."""
        recent_counts = recent.by_feature[name]
        counts = weights @ self.features[name].counts
        return np.pad(counts, (0, len(recent_counts) - len(counts))), recent_counts

    def _match_mix(self, recent: RecentCounts, params: Monitor) -> NDArray[np.float64]:
        """Weight the kinds of rows so that the reference has the mix of the recent rows."""
        weights = np.ones(len(self.kind_rows))
        codes = np.zeros(len(self.kind_rows), np.int64), np.zeros(recent.rows, np.int64)
        for criterion in range(self.kinds.shape[1]):
            if not self._is_mix_shift(criterion, recent, params):
                continue
            finer_codes = _refine(codes, (self.kinds[:, criterion], recent.kinds[:, criterion]))
            n_codes = max(int(side.max(initial=0)) for side in finer_codes) + 1
            available = np.bincount(finer_codes[0], self.kind_rows, n_codes).astype(np.int64)
            matched_counts = drift_measure.count_rows_to_match(
                available, np.bincount(finer_codes[1], minlength=n_codes)
            )
            if matched_counts is not None and matched_counts.sum() >= params.min_rows:
                codes = finer_codes
                weights = (matched_counts / np.maximum(available, 1))[codes[0]]
        return weights

    def _is_mix_shift(self, criterion: int, recent: RecentCounts, params: Monitor) -> bool:
        if criterion < len(self.pattern_columns):
            return self._is_pattern_shift(criterion, recent, params)
        return self._is_stratum_shift(criterion, recent, params)

    def _is_stratum_shift(self, criterion: int, recent: RecentCounts, params: Monitor) -> bool:
        values, recent_values = self.kinds[:, criterion], recent.kinds[:, criterion]
        if recent_values.min(initial=0) < 0:  # requests do not have this column
            return False
        n_values = max(int(side.max(initial=0)) for side in (values, recent_values)) + 1
        distance = drift_measure.measure_count_distance(
            np.bincount(values, self.kind_rows, n_values),
            np.bincount(recent_values, minlength=n_values),
            EffectiveRowShares(self.row_share, recent.row_share),
            self.test_count,
        )
        return bool(distance.distance >= max(params.drift, distance.critical_distance))

    def _is_pattern_shift(self, pattern: int, recent: RecentCounts, params: Monitor) -> bool:
        shares = (
            float(self.kinds[:, pattern] @ self.kind_rows / self.kind_rows.sum()),
            float(recent.kinds[:, pattern].mean()),
        )
        effective_rows = (
            float(self.kind_rows.sum()) * self.row_share,
            recent.rows * recent.row_share,
        )
        critical_change = drift_measure.critical_share_change(
            shares, effective_rows, self.test_count
        )
        return drift_measure.is_expected_mix_change(
            shares, self.newest_shares[pattern], critical_change, params.missing_rate_change
        ) and all(
            self._values_agree(name, recent, params) for name in self.pattern_columns[pattern]
        )

    def _values_agree(self, name: str, recent: RecentCounts, params: Monitor) -> bool:
        """Whether the values that are not missing have neither drifted nor become constant."""
        counts, recent_counts = self._count_both(name, recent, np.ones(len(self.kind_rows)))
        row_shares = EffectiveRowShares(self.row_share, recent.row_share)
        distance = drift_measure.measure_count_distance(
            counts, recent_counts, row_shares, self.test_count
        )
        n_values, n_recent = (int(np.count_nonzero(side)) for side in (counts, recent_counts))
        became_constant = n_recent < min(2, n_values)
        limit = np.fmax(params.drift, distance.critical_distance)
        return bool(distance.distance < limit) and not became_constant


def _stratum_text(value: Any) -> str:
    """The text of a value, the same for a number of a table and that of a request."""
    if isinstance(value, numbers.Real | np.bool_):
        return repr(float(value))
    return "" if value is None else str(value)


Codes = tuple[NDArray[np.int64], NDArray[np.int64]]  # kinds of reference rows and recent rows


def _refine(codes: Codes, values: Codes) -> Codes:
    """Divide the rows of each code by further values, and number the codes again."""
    n_values = max(int(side.max(initial=0)) for side in values) + 1
    refined = np.concatenate(codes) * n_values + np.concatenate(values)
    finer_codes = np.unique(refined, return_inverse=True)[1]
    return finer_codes[: len(codes[0])], finer_codes[len(codes[0]) :]


def measure_table_row_share(rows: pd.DataFrame, contract: Contract) -> float:
    """Return the effective sample size per row of a table; unknown entities have one row each."""
    if rows.empty or contract.entity not in rows.columns:
        return 1.0
    entities = rows[contract.entity]
    return drift_measure.effective_row_share(
        np.concatenate([entities.value_counts(), np.ones(entities.isna().sum())])
    )


def write_drift_reference(folder: Path, rows: pd.DataFrame, contract: Contract) -> None:
    """Write the counts of a version's holdout into its folder."""
    text = json.dumps(_count_reference(rows, contract))
    (folder / DRIFT_REFERENCE_FILE).write_text(text, encoding="utf-8")


def _count_reference(rows: pd.DataFrame, contract: Contract) -> dict[str, Any]:
    """Count the holdout's values by feature and kind of rows, as plain data."""
    from modelbook.dataset.missing_patterns import find_missing_patterns

    features = contract.select_features(rows)
    patterns = _select_patterns(find_missing_patterns(rows, contract), len(rows))
    missing = [features[pattern.columns].isna().all(axis=1).to_numpy() for pattern in patterns]
    kinds, row_kinds, strata = _divide_by_strata(rows, contract, missing)
    return {
        "entity": contract.entity,
        "row_share": measure_table_row_share(rows, contract),
        "pattern_columns": [pattern.columns for pattern in patterns],
        "newest_shares": [pattern.newest_share for pattern in patterns],
        "strata": strata,
        "kinds": kinds.tolist(),
        "kind_rows": np.bincount(row_kinds).tolist(),
        "features": {
            name: _count_feature(values, name in contract.numeric_features, row_kinds)
            for name, values in features.items()
        },
    }


def _divide_by_strata(
    rows: pd.DataFrame, contract: Contract, criteria: list[NDArray[Any]]
) -> tuple[NDArray[np.int64], NDArray[np.int64], dict[str, list[str]]]:
    """Divide rows by criteria and strata: the kinds, the kind of each row, the strata's values.

    A stratum that would make more than ``MAX_KINDS`` kinds is left out.
    """

    def find_kinds(columns: list[NDArray[Any]]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        table = np.array(columns, dtype=np.int64).reshape(-1, len(rows)).T
        kinds, row_kinds = np.unique(table, axis=0, return_inverse=True)
        return kinds, row_kinds.ravel()

    (kinds, row_kinds), strata = find_kinds(criteria), {}
    for name in contract.strata:
        if name not in rows.columns:
            continue
        texts = [_stratum_text(value) for value in rows[name].astype(object).fillna("")]
        values, positions = np.unique(texts, return_inverse=True)
        finer_kinds, finer_row_kinds = find_kinds([*criteria, positions])
        if len(finer_kinds) <= MAX_KINDS:
            criteria = [*criteria, positions]
            kinds, row_kinds, strata[name] = finer_kinds, finer_row_kinds, values.tolist()
    return kinds, row_kinds, strata


def _select_patterns(patterns: list[MissingPattern], n_rows: int) -> list[MissingPattern]:
    """Select the most frequent patterns, in their order, of those with rows enough to match."""
    frequent = [
        pattern for pattern in patterns if pattern.share * n_rows >= drift_measure.MIN_STRATUM_ROWS
    ]
    by_share = sorted(frequent, key=lambda pattern: -pattern.share)
    return [pattern for pattern in frequent if pattern in by_share[:MAX_PATTERNS]]


def _count_feature(
    values: pd.Series, is_numeric: bool, row_kinds: NDArray[np.int64]
) -> dict[str, Any]:
    """Count a feature's values by kind of rows and cell."""
    is_present, boundaries, categories = values.notna().to_numpy(), None, list[str]()
    present_values, kinds = values[is_present], row_kinds[is_present]
    if is_numeric:
        numbers = present_values.to_numpy(dtype=float)
        boundaries = drift_measure.find_bin_boundaries(numbers)
        cells = np.searchsorted(boundaries, numbers)
    else:
        distinct, cells = np.unique(present_values.astype(str), return_inverse=True)
        categories = distinct.tolist()
    n_cells = len(categories) if boundaries is None else len(boundaries) + 1
    n_kinds = int(row_kinds.max(initial=0)) + 1
    counts = np.bincount(kinds * n_cells + cells, minlength=n_kinds * n_cells)
    return {
        "boundaries": None if boundaries is None else boundaries.tolist(),
        "categories": categories,
        "counts": counts.reshape(n_kinds, n_cells).tolist(),
    }
