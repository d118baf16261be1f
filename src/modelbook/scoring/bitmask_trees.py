"""Evaluate trees on batches with bitmask tables instead of traversal (QuickScorer).

Each leaf of a tree is one bit. Each split has a mask without the leaves that are unreachable for
rows that go right. The AND of the masks of all splits where a row goes right has the row's leaf as
its lowest set bit (Lucchese et al., SIGIR 2015). For one column these splits depend only on the
position of the value among the thresholds, so a table for each column holds the combined masks.

A tree whose levels have one split each, as CatBoost's, needs one bit for each level instead: the
AND of the masks is the number of the row's leaf.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np

from modelbook.errors import CompileError
from modelbook.scoring.encoder import EncodedRows
from modelbook.scoring.tree_ensemble import (
    TreeEnsemble,
    TreeNode,
    TreeSplit,
    list_leaves,
    list_levels,
)

MAX_LEAVES = 64  # most leaves of a tree: each is one bit
MAX_LEVELS = 10  # maximum depth of trees with one split a level, which is one bit
TREES_PER_GROUP = 128  # trees whose tables fit into the processor's cache together
BLOCK_ROWS = 1024  # rows that fit into the cache as well
MAX_JOINED_ROWS = 4096  # most rows of a table for several columns
# When a smaller share of a sample is distinct, distinct values are looked up once.
SAMPLE_VALUES, MAX_DISTINCT_SHARE = (1000, 0.9)
FLOAT32_EXPONENT_BIAS = 127  # exponent bias of single precision

TableLookup = tuple[np.ndarray, np.ndarray]  # table (rows, trees), row of each input


class RightRange(NamedTuple):
    """Values above ``low`` and up to ``high``, which go right at a split; the leaves on its left.

    A split of a number has one range, a split of a category one between each of its left codes.
    In a tree with one split a level, the mask is the bit of the level.
    """

    tree_index: int
    feature_index: int
    low: float
    high: float
    missing_go_left: bool
    left_leaf_mask: int


@dataclass(frozen=True)
class LeafMasks:
    """Trees as arrays: the fields of all ``RightRange``, and those of each tree.

    Attributes
    ----------
    leaf_values : array
        Value of each leaf, numbered from left to right; shape (trees, most leaves of a tree).
    leaf_counts, output_index : array
        Number of leaves of each tree, and the sum that it adds to; trees of a sum are adjacent.
    is_oblivious : array, optional
        Whether each tree has a bit for each level, set where a row goes left, and leaves from right
        to left; default: none has.
    """

    tree_index: np.ndarray
    feature_index: np.ndarray
    low: np.ndarray
    high: np.ndarray
    missing_go_left: np.ndarray
    left_leaf_mask: np.ndarray
    leaf_values: np.ndarray
    leaf_counts: np.ndarray
    output_index: np.ndarray
    is_oblivious: np.ndarray = field(default_factory=lambda: np.array(False))

    def save(self, path: Path) -> None:
        """Save the arrays to a file for ``load``."""
        np.savez(path, **asdict(self))

    @classmethod
    def load(cls, path: Path) -> LeafMasks:
        """Load the arrays from a file."""
        with np.load(path) as archive:
            return cls(**archive)


def fits_tables(ensemble: TreeEnsemble) -> bool:
    """Whether all trees of an ensemble are small enough for tables."""
    return is_oblivious(ensemble) or _count_most_leaves(ensemble) <= MAX_LEAVES


def make_leaf_masks(ensembles: Sequence[TreeEnsemble], starts: Sequence[int]) -> LeafMasks:
    """Make the masks of ensembles; ``starts`` are the first of the columns of each.

    The sums are those of the first ensemble, then those of the next.

    Raises
    ------
    CompileError
        When a tree has more than 64 leaves, and not one split a level.
    """
    leaves: list[list[float]] = []
    output_index: list[int] = []
    have_levels: list[bool] = []
    ranges: list[RightRange] = []
    for ensemble, start in zip(ensembles, starts):
        output_count = len(ensemble.base_score)
        first_output = max(output_index, default=-1) + 1
        has_levels = is_oblivious(ensemble)
        if not has_levels and (most := _count_most_leaves(ensemble)) > MAX_LEAVES:
            raise CompileError(f"a tree has {most} leaves", expected=f"at most {MAX_LEAVES}")
        list_ranges = _list_level_ranges if has_levels else _list_ranges
        for output in range(output_count):
            for tree in ensemble.trees[output::output_count]:
                list_ranges(tree, len(leaves), start, ranges)
                leaves.append(list(list_leaves(tree))[:: -1 if has_levels else 1])
                output_index.append(first_output + output)
                have_levels.append(has_levels)
    leaf_counts = np.array([len(values) for values in leaves])
    leaf_values = np.zeros((len(leaves), leaf_counts.max()))
    for row, values in zip(leaf_values, leaves):
        row[: len(values)] = values
    types = ("int64", "int64", "float64", "float64", "bool", "uint64")
    columns = zip(*ranges) if ranges else [()] * len(types)
    ranges_by_field = [np.array(values, dtype) for values, dtype in zip(columns, types)]
    by_tree = [leaf_values, leaf_counts, np.array(output_index), np.array(have_levels)]
    return LeafMasks(*[*ranges_by_field, *by_tree])


def is_oblivious(ensemble: TreeEnsemble) -> bool:
    """Whether each level of each tree has one split, and there are few enough levels for tables."""
    levels = map(list_levels, ensemble.trees)
    return all(splits is not None and len(splits) <= MAX_LEVELS for splits in levels)


def _count_most_leaves(ensemble: TreeEnsemble) -> int:
    return max(sum(1 for _ in list_leaves(tree)) for tree in ensemble.trees)


def _list_level_ranges(tree: TreeNode, number: int, start: int, ranges: list[RightRange]) -> None:
    """Append the ranges of a tree with one split a level; the root has the highest bit."""
    for level, split in enumerate(reversed(list_levels(tree) or [])):
        ranges += _find_right_ranges(split, number, start, 1 << level)


def _list_ranges(
    node: TreeNode, tree: int, start: int, ranges: list[RightRange], first_leaf: int = 0
) -> int:
    """Append the ranges of a node's splits; return the number of the leaf after its last one."""
    if not isinstance(node, TreeSplit):
        return first_leaf + 1
    next_leaf = _list_ranges(node.left, tree, start, ranges, first_leaf)
    mask = ((1 << next_leaf) - (1 << first_leaf)) % (1 << MAX_LEAVES)
    ranges += _find_right_ranges(node, tree, start, mask)
    return _list_ranges(node.right, tree, start, ranges, next_leaf)


def _find_right_ranges(split: TreeSplit, tree: int, start: int, mask: int) -> Iterator[RightRange]:
    for low, high in _find_right_intervals(split):
        column = start + split.feature_index
        yield RightRange(tree, column, low, high, split.missing_go_left, mask)


def _find_right_intervals(split: TreeSplit) -> Iterator[tuple[float, float]]:
    if split.left_codes is None:
        yield split.threshold, np.inf
        return
    codes = sorted(split.left_codes)
    for below, above in zip([-np.inf, *codes], [*codes, np.inf]):
        if above - below > 1:
            yield below + 0.5, above - 0.5


class BitmaskTables:
    """Sums the trees of ``LeafMasks`` for many rows; the tables are made when they are used."""

    def __init__(self, masks: LeafMasks) -> None:
        self._masks = masks

    def sum_leaves(self, rows: EncodedRows) -> np.ndarray:
        """Return the sums of the leaf values; shape (rows, sums)."""
        sums = np.zeros((rows.row_count, self._masks.output_index[-1] + 1))
        for group in self._tree_groups:
            group.add_outputs(rows, sums)
        return sums

    def add_level_sums(self, rows: EncodedRows, sums: np.ndarray) -> None:
        """Add the leaf values of the trees with one split a level."""
        for group in self._level_groups:
            group.add_outputs(rows, sums)

    def add_level_sums_of_row(self, values: Sequence[float], sums: list[float]) -> None:
        """``add_level_sums`` for one encoded row."""
        for group in self._level_groups:
            group.add_row_outputs(values, sums)

    @cached_property
    def _tree_groups(self) -> list[_TreeGroup]:
        return [
            _TreeGroup(self._masks, slice(first, min(first + TREES_PER_GROUP, end)), is_oblivious)
            for start, end, is_oblivious in self._list_runs()
            for first in range(start, end, TREES_PER_GROUP)
        ]

    @cached_property
    def _level_groups(self) -> list[_TreeGroup]:
        return [
            _TreeGroup(self._masks, slice(start, end), True)
            for start, end, is_oblivious in self._list_runs()
            if is_oblivious
        ]

    def _list_runs(self) -> list[tuple[int, int, bool]]:
        """Start and end of adjacent trees of one kind, and whether each level has one split.

        The sums of which all trees have few leaves are apart, because their masks are shorter.
        """
        masks = self._masks
        tree_count = len(masks.leaf_values)
        is_oblivious = np.broadcast_to(masks.is_oblivious, tree_count)
        most_leaves = np.maximum.reduceat(
            masks.leaf_counts, np.unique(masks.output_index, return_index=True)[1]
        )
        mask_bits = np.array([_choose_mask_bits(min(count, MAX_LEAVES)) for count in most_leaves])
        kinds = np.where(is_oblivious, 0, mask_bits[masks.output_index])
        bounds = [0, *(np.flatnonzero(np.diff(kinds)) + 1).tolist(), tree_count]
        return [(start, end, bool(is_oblivious[start])) for start, end in pairwise(bounds)]


def _choose_mask_bits(bit_count: int) -> int:
    """Return the bits of the smallest integer that has a bit for each leaf or level."""
    return next(bits for bits in (8, 16, 32, 64) if bit_count <= bits)


class _TreeGroup:
    """Bitmask tables of a group of trees, one for each column that the trees split on."""

    def __init__(self, masks: LeafMasks, trees: slice, is_oblivious: bool) -> None:
        most_leaves = int(masks.leaf_counts[trees].max())
        leaves = masks.leaf_values[trees, :most_leaves]
        used_bits = (most_leaves - 1).bit_length() if is_oblivious else most_leaves
        dtype = f"uint{_choose_mask_bits(used_bits)}"
        self._is_oblivious = is_oblivious
        self._all_leaves = (
            (masks.leaf_counts[trees] - 1).astype(dtype)
            if is_oblivious
            else np.full(len(leaves), np.iinfo(dtype).max, dtype)
        )
        self._leaf_values = leaves.ravel()
        self._leaf_offsets = np.arange(len(leaves)) * most_leaves
        self._outputs, self._first_trees = np.unique(masks.output_index[trees], return_index=True)
        is_in_group = (masks.tree_index >= trees.start) & (masks.tree_index < trees.stop)
        self._mask_tables = {
            int(feature): self._build_mask_table(
                masks, trees.start, np.flatnonzero(is_in_group & (masks.feature_index == feature))
            )
            for feature in np.unique(masks.feature_index[is_in_group])
        }

    def _build_mask_table(
        self, masks: LeafMasks, first_tree: int, ranges: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return a column's thresholds, and the masks below, between and above them and for NaN."""
        edges = np.unique([*masks.low[ranges], *masks.high[ranges], np.inf])
        table = np.tile(self._all_leaves, (len(edges) + 1, 1))
        starts, ends = (
            np.searchsorted(edges, sides[ranges]) + 1 for sides in (masks.low, masks.high)
        )
        for split, start, end in zip(ranges, starts, ends):
            tree = masks.tree_index[split] - first_tree
            right_mask = (~masks.left_leaf_mask[split]).astype(table.dtype)
            table[start:end, tree] &= right_mask
            if not masks.missing_go_left[split]:
                table[-1, tree] &= right_mask
        return np.append(edges, np.nan), table  # searchsorted: NaN is last

    def add_outputs(self, rows: EncodedRows, sums: np.ndarray) -> None:
        """Add the leaf values of each row to its sums."""
        lookups = self._look_up_rows(rows)
        max_joined_rows = min(MAX_JOINED_ROWS, rows.row_count)  # joining more takes longer
        (table, table_rows), *other_lookups = _join_small_tables(lookups, max_joined_rows)
        for start in range(0, rows.row_count, BLOCK_ROWS):
            block = slice(start, start + BLOCK_ROWS)
            masks = table.take(table_rows[block], axis=0)
            for other_table, other_rows in other_lookups:
                masks &= other_table.take(other_rows[block], axis=0)
            leaves = masks if self._is_oblivious else _find_lowest_bit(masks)
            outputs = self._leaf_values.take(leaves + self._leaf_offsets)
            sums[block, self._outputs] += np.add.reduceat(outputs, self._first_trees, axis=1)

    def add_row_outputs(self, values: Sequence[float], sums: list[float]) -> None:
        """Add the leaf values of one row, in a group of trees with one split a level."""
        table, columns = self._row_table
        rows = [0]
        for feature, edges, first_row in columns:
            value = values[feature]
            is_missing = value != value  # noqa: PLR0124  NaN
            rows.append(first_row + (len(edges) if is_missing else bisect_left(edges, value)))
        leaves = np.bitwise_and.reduce(table.take(rows, axis=0), axis=0)
        outputs = self._leaf_values.take(leaves + self._leaf_offsets)
        totals = np.add.reduceat(outputs, self._first_trees).tolist()
        for output, total in zip(self._outputs.tolist(), totals):
            sums[output] += total

    @cached_property
    def _row_table(self) -> tuple[np.ndarray, list[tuple[int, list[float], int]]]:
        """All leaves, with the columns' tables below; edges and first row of each column."""
        tables = [self._all_leaves[None]]
        columns = []
        row_count = 1
        for feature, (edges, table) in self._mask_tables.items():
            columns.append((feature, edges[:-1].tolist(), row_count))  # the last one is NaN
            tables.append(table)
            row_count += len(table)
        return np.concatenate(tables), columns

    def _look_up_rows(self, rows: EncodedRows) -> list[TableLookup]:
        """Return the mask tables, and the table row of each input row."""
        common_mask = self._all_leaves.copy()
        lookups = []
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


def _join_small_tables(lookups: list[TableLookup], max_rows: int) -> list[TableLookup]:
    """Join small tables to one with all combinations of rows, for fewer look-ups."""
    joined_tables: list[TableLookup] = []
    for table, table_rows in sorted(lookups, key=lambda lookup: len(lookup[0])):
        if joined_tables and len(joined_tables[-1][0]) * len(table) <= max_rows:
            joined_table, joined_rows = joined_tables[-1]
            joined_tables[-1] = (
                (joined_table[:, None] & table).reshape(-1, table.shape[1]),
                joined_rows * len(table) + table_rows,
            )
        else:
            joined_tables.append((table, table_rows))
    return joined_tables


def _search_distinct(edges: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return ``np.searchsorted`` of values with many repeats."""
    import pyarrow as pa

    encoded = pa.array(values).dictionary_encode()
    return np.searchsorted(edges, encoded.dictionary.to_numpy()).take(encoded.indices.to_numpy())


def _find_lowest_bit(masks: np.ndarray) -> np.ndarray:
    """Return the index of each mask's lowest set bit.

    The lowest bit alone is a power of two, so its index is the exponent of the float32 value.
    """
    return ((masks & -masks).astype("float32").view("int32") >> 23) - FLOAT32_EXPONENT_BIAS
