"""A version's reference for the drift of recent requests: counts of the holdout, without its rows.

The counts are divided by kinds of rows: by which columns are missing together in them. So the
service can weight them to the mix of recent requests, as monitor draws rows of the holdout.
"""

from __future__ import annotations

import json
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
        found = Counter(str(value) for value in values if value is not None)
        known = [found.pop(category, 0) for category in self.categories]
        return np.array([*known, *found.values()], dtype=np.int64)


@dataclass(frozen=True)
class RecentCounts:
    """Counts of recent rows.

    Attributes
    ----------
    by_feature : dict
        By feature, the counts from ``FeatureCounts.count_values``.
    is_missing : ndarray
        By row and pattern of the reference, whether all its columns are missing.
    row_share : float
        Effective sample size per row.
    """

    by_feature: dict[str, NDArray[np.int64]]
    is_missing: NDArray[np.bool_]
    row_share: float

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(self.is_missing)


@dataclass(frozen=True)
class DriftReference:
    """Counts of the holdout by kind of rows.

    Attributes
    ----------
    features : dict
        Counts by feature.
    pattern_columns : list of list of str
        Columns that are missing in the same rows.
    newest_shares : list of float
        By pattern, the share of such rows in the newest period.
    kinds : ndarray
        By kind and pattern, whether its columns are missing.
    kind_rows : ndarray
        Rows of each kind.
    entity : str or None
        Column of the entity, of which recent rows may have several.
    row_share : float
        Effective sample size per row.
    """

    features: dict[str, FeatureCounts]
    pattern_columns: list[list[str]]
    newest_shares: list[float]
    kinds: NDArray[np.bool_]
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
        kinds = np.array(data["kinds"], dtype=bool).reshape(len(data["kind_rows"]), -1)
        return cls(
            features,
            data["pattern_columns"],
            data["newest_shares"],
            kinds,
            np.array(data["kind_rows"], dtype=np.int64),
            data["entity"],
            data["row_share"],
        )

    @cached_property
    def test_count(self) -> int:
        """Number of tests of all features."""
        return drift_measure.count_tests(len(self.features))

    def find_missing(self, rows: Sequence[Row]) -> NDArray[np.bool_]:
        """Return by row and pattern whether all columns of the pattern are missing."""
        return np.array(
            [
                [all(row.get(name) is None for name in columns) for columns in self.pattern_columns]
                for row in rows
            ],
            dtype=bool,
        )

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
        weights, matched = np.ones(len(self.kind_rows)), list[int]()
        for pattern in range(len(self.pattern_columns)):
            if not self._is_mix_shift(pattern, recent, params):
                continue
            codes, recent_codes = (
                side[:, [*matched, pattern]] @ (1 << np.arange(len(matched) + 1))
                for side in (self.kinds, recent.is_missing)
            )
            n_codes = 2 << len(matched)
            available = np.bincount(codes, self.kind_rows, n_codes).astype(np.int64)
            drawn = drift_measure.count_rows_to_match(
                available, np.bincount(recent_codes, minlength=n_codes)
            )
            if drawn is not None and drawn.sum() >= params.min_rows:
                matched.append(pattern)
                weights = (drawn / np.maximum(available, 1))[codes]
        return weights

    def _is_mix_shift(self, pattern: int, recent: RecentCounts, params: Monitor) -> bool:
        shares = (
            float(self.kinds[:, pattern] @ self.kind_rows / self.kind_rows.sum()),
            float(recent.is_missing[:, pattern].mean()),
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
        measured = drift_measure.measure_count_distance(
            counts, recent_counts, row_shares, self.test_count
        )
        became_constant = np.count_nonzero(recent_counts) < min(2, np.count_nonzero(counts))
        limit = np.fmax(params.drift, measured.critical_distance)
        return bool(measured.distance < limit) and not became_constant


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
    codes = np.zeros(len(rows), dtype=np.int64)
    for i, pattern in enumerate(patterns):
        codes |= features[pattern.columns].isna().all(axis=1).to_numpy().astype(np.int64) << i
    kind_codes, row_kinds = np.unique(codes, return_inverse=True)
    return {
        "entity": contract.entity,
        "row_share": measure_table_row_share(rows, contract),
        "pattern_columns": [pattern.columns for pattern in patterns],
        "newest_shares": [pattern.newest_share for pattern in patterns],
        "kinds": [[bool(code >> i & 1) for i in range(len(patterns))] for code in kind_codes],
        "kind_rows": np.bincount(row_kinds).tolist(),
        "features": {
            name: _count_feature(values, name in contract.numeric_features, row_kinds)
            for name, values in features.items()
        },
    }


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
