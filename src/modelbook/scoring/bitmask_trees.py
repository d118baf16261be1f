"""Evaluate tree ensembles on batches with bitmask tables instead of traversal (QuickScorer).

Each leaf of a tree is one bit. Each split has a mask without the leaves that are unreachable for
rows that go right. The AND of the masks of all splits where a row goes right has the row's leaf as
its lowest set bit (Lucchese et al., SIGIR 2015). For one column these splits depend only on the
position of the value among the thresholds, so a table for each column holds the combined masks.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from modelbook.scoring.encoder import EncodedRows
from modelbook.scoring.predictors import Predictor, apply_link, load_predictor
from modelbook.scoring.tree_ensemble import TreeEnsemble

MIN_ROWS = 1000  # for fewer rows, prediction without tables is faster
TREES_PER_GROUP = 128  # trees whose tables fit into the processor's cache together
BLOCK_ROWS = 1024  # rows that fit into the cache as well
MAX_JOINED_ROWS = 4096  # most rows of a table for several columns
# When a smaller share of a sample is distinct, distinct values are looked up once.
SAMPLE_VALUES, MAX_DISTINCT_SHARE = (1000, 0.9)
FLOAT32_EXPONENT_BIAS = 127  # exponent bias of single precision

TableLookup = tuple[np.ndarray, np.ndarray]  # table (rows, trees), row of each input


class BitmaskTreePredictor(Predictor):
    """Bitmask tables for batches; another predictor for single rows and small batches."""

    name = "bitmask tables"

    def __init__(self, ensemble: TreeEnsemble, row_predictor: Predictor) -> None:
        self._ensemble, self._row_predictor = ensemble, row_predictor
        self.name = row_predictor.name  # it serves requests

    def predict_one(self, values: Sequence[float]) -> Sequence[float]:
        return self._row_predictor.predict_one(values)

    def predict_many(self, rows: EncodedRows) -> np.ndarray:
        if rows.row_count < MIN_ROWS:
            return self._row_predictor.predict_many(rows)
        sums = np.tile(self._ensemble.base_score, (rows.row_count, 1))
        for group in self._tree_groups:
            group.add_outputs(rows, sums)
        return apply_link(sums, self._ensemble.link)

    @cached_property
    def _tree_groups(self) -> list[_TreeGroup]:
        tree_count, output_count = len(self._ensemble.leaf_values), len(self._ensemble.base_score)
        group_size = TREES_PER_GROUP // output_count * output_count or output_count
        return [
            _TreeGroup(self._ensemble, first_tree, min(first_tree + group_size, tree_count))
            for first_tree in range(0, tree_count, group_size)
        ]

    @classmethod
    def load(cls, folder: Path, stem: str, parameters: dict[str, Any]) -> BitmaskTreePredictor:
        return cls(
            TreeEnsemble.load(folder / f"{stem}.npz"),
            load_predictor(folder, stem, parameters["alone"]),
        )


class _TreeGroup:
    """Bitmask tables of a group of trees, one for each column that the trees split on."""

    def __init__(self, ensemble: TreeEnsemble, first_tree: int, last_tree: int) -> None:
        leaves = ensemble.leaf_values[first_tree:last_tree]
        bits = next(bits for bits in (8, 16, 32, 64) if leaves.shape[1] <= bits)
        self._all_leaves = np.full(len(leaves), -1, f"int{bits}").view(f"uint{bits}")
        self._leaf_values = leaves.ravel()
        self._leaf_offsets = np.arange(len(leaves)) * leaves.shape[1] - FLOAT32_EXPONENT_BIAS
        is_in_group = (ensemble.tree_index >= first_tree) & (ensemble.tree_index < last_tree)
        self._mask_tables = {
            int(feature): self._build_mask_table(
                ensemble,
                first_tree,
                np.flatnonzero(is_in_group & (ensemble.feature_index == feature)),
            )
            for feature in np.unique(ensemble.feature_index[is_in_group])
        }

    def _build_mask_table(
        self, ensemble: TreeEnsemble, first_tree: int, splits: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return a column's thresholds, and the masks below, between and above them and for NaN."""
        edges = np.unique(ensemble.threshold[splits])
        table = np.tile(self._all_leaves, (len(edges) + 2, 1))
        for split, edge_index in zip(splits, np.searchsorted(edges, ensemble.threshold[splits])):
            tree = ensemble.tree_index[split] - first_tree
            right_mask = (~ensemble.left_leaf_mask[split]).astype(table.dtype)
            table[edge_index + 1 : -1, tree] &= right_mask
            if not ensemble.missing_go_left[split]:
                table[-1, tree] &= right_mask
        return np.append(edges, [np.inf, np.nan]), table  # searchsorted: NaN is last

    def add_outputs(self, rows: EncodedRows, sums: np.ndarray) -> None:
        """Add the leaf values of each row to its sums."""
        (table, table_rows), *other_lookups = _join_small_tables(self._look_up_rows(rows))
        for start in range(0, rows.row_count, BLOCK_ROWS):
            block = slice(start, start + BLOCK_ROWS)
            masks = table.take(table_rows[block], axis=0)
            for other_table, other_rows in other_lookups:
                masks &= other_table.take(other_rows[block], axis=0)
            outputs = self._leaf_values.take(_lowest_bit(masks) + self._leaf_offsets)
            sums[block] += outputs.reshape(len(masks), -1, sums.shape[1]).sum(axis=1)

    def _look_up_rows(self, rows: EncodedRows) -> list[TableLookup]:
        """Return the mask tables, and the table row of each input row."""
        common_mask, lookups = self._all_leaves.copy(), []
        categorical_features = {
            feature for features, _, _ in rows.category_columns for feature in features
        }
        for feature, value in enumerate(rows.constant_row):
            if feature not in rows.numeric_columns and feature not in categorical_features:
                common_mask &= self._look_up_masks(feature, np.array([value]))[0]
        for feature, values in rows.numeric_columns.items():
            if feature in self._mask_tables:
                lookups.append(
                    (self._mask_tables[feature][1], self._find_intervals(feature, values))
                )
        for features, codes, blocks in rows.category_columns:
            masks = [
                self._look_up_masks(feature, values) for feature, values in zip(features, blocks.T)
            ]
            lookups.append((np.bitwise_and.reduce(masks), codes))
        return [(common_mask[None], np.zeros(rows.row_count, "int64")), *lookups]

    def _look_up_masks(self, feature_index: int, values: np.ndarray) -> np.ndarray:
        if feature_index not in self._mask_tables:
            return np.tile(self._all_leaves, (len(values), 1))
        return self._mask_tables[feature_index][1][self._find_intervals(feature_index, values)]

    def _find_intervals(self, feature_index: int, values: np.ndarray) -> np.ndarray:
        edges = self._mask_tables[feature_index][0]
        has_repeats = (
            len(values) > SAMPLE_VALUES
            and len(np.unique(values[:SAMPLE_VALUES])) < MAX_DISTINCT_SHARE * SAMPLE_VALUES
        )
        if has_repeats and find_spec("pyarrow"):
            return _search_distinct(edges, values)
        return np.searchsorted(edges, values)


def _join_small_tables(lookups: list[TableLookup]) -> list[TableLookup]:
    """Join small tables to one with all combinations of rows, for fewer look-ups."""
    joined: list[TableLookup] = []
    for table, table_rows in sorted(lookups, key=lambda lookup: len(lookup[0])):
        if joined and len(joined[-1][0]) * len(table) <= MAX_JOINED_ROWS:
            joined_table, joined_rows = joined[-1]
            joined[-1] = (
                (joined_table[:, None] & table).reshape(-1, table.shape[1]),
                joined_rows * len(table) + table_rows,
            )
        else:
            joined.append((table, table_rows))
    return joined


def _search_distinct(edges: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return ``np.searchsorted`` of values with many repeats."""
    import pyarrow as pa

    encoded = pa.array(values).dictionary_encode()
    return np.searchsorted(edges, encoded.dictionary.to_numpy()).take(encoded.indices.to_numpy())


def _lowest_bit(masks: np.ndarray) -> np.ndarray:
    """Return the index of each mask's lowest set bit, plus ``FLOAT32_EXPONENT_BIAS``.

    The lowest bit alone is a power of two, so its index is the exponent of the float32 value.
    """
    return (masks & -masks).astype("float32").view("int32") >> 23
