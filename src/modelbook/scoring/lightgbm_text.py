"""Write trees as the text of a LightGBM model, so that LightGBM's library walks them.

Several ensembles become one model with a sum for each of their outputs, and one call predicts them
all.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest

from modelbook.lightgbm_format import (
    IS_CATEGORY,
    MISSING_GO_LEFT,
    MISSING_IS_NAN,
    write_field,
    write_model,
)
from modelbook.scoring.tree_ensemble import TreeEnsemble, TreeNode, TreeSplit

WORD_BITS = 32  # of a set of categories
BLOCK_LEVELS = 4  # levels of a tree whose splits fit into a cache line of an array


def write_ensembles(ensembles: Sequence[TreeEnsemble], starts: Sequence[int], width: int) -> str:
    """Write ensembles as one model; ``starts`` are the first of the columns of each.

    Its outputs are the sums of the trees, without initial sums: those of the first ensemble, then
    those of the next. An ensemble with fewer iterations than others has trees of one leaf for them.
    """
    trees_of_output: list[list[TreeNode]] = []
    start_of_output: list[int] = []
    for ensemble, start in zip(ensembles, starts):
        output_count = len(ensemble.base_score)
        for output in range(output_count):
            trees_of_output.append(ensemble.trees[output::output_count])
            start_of_output.append(start)
    fields = (
        _write_tree(tree, start)
        for trees_of_iteration in zip_longest(*trees_of_output, fillvalue=0.0)
        for tree, start in zip(trees_of_iteration, start_of_output)
    )
    return write_model(len(trees_of_output), width, fields)


def _write_tree(tree: TreeNode, start: int) -> list[str]:
    """Return the fields of a tree."""
    arrays = _TreeArrays(tree, start)
    fields: dict[str, list[float]] = {
        "num_leaves": [len(arrays.leaf_value)],
        "num_cat": [len(arrays.cat_boundaries) - 1],
        "split_feature": arrays.split_feature,
        "threshold": arrays.threshold,
        "decision_type": arrays.decision_type,
        "left_child": arrays.left_child,
        "right_child": arrays.right_child,
        "leaf_value": arrays.leaf_value,
    }
    if len(arrays.cat_boundaries) > 1:
        fields |= {"cat_boundaries": arrays.cat_boundaries, "cat_threshold": arrays.cat_threshold}
    return [write_field(name, values) for name, values in fields.items()]


class _TreeArrays:
    """A tree's splits and leaves in arrays; a leaf ``i`` is the child ``-i - 1``."""

    def __init__(self, tree: TreeNode, start: int) -> None:
        self._start = start
        self.split_feature: list[float] = []
        self.threshold: list[float] = []
        self.decision_type: list[float] = []
        self.left_child: list[float] = []
        self.right_child: list[float] = []
        self.leaf_value: list[float] = []
        self.cat_boundaries: list[float] = [0]
        self.cat_threshold: list[float] = []
        splits = _order_splits(tree)
        self._numbers = {id(split): number for number, split in enumerate(splits)}
        for split in splits:
            self._add_split(split)
        if not splits:
            self._add_child(tree)

    def _add_split(self, split: TreeSplit) -> None:
        self.split_feature.append(self._start + split.feature_index)
        if split.left_codes is None:
            self.threshold.append(split.threshold)
            self.decision_type.append(MISSING_IS_NAN | MISSING_GO_LEFT * split.missing_go_left)
        else:
            self.threshold.append(self._add_codes(split.left_codes))
            self.decision_type.append(IS_CATEGORY)
        self.left_child.append(self._add_child(split.left))
        self.right_child.append(self._add_child(split.right))

    def _add_child(self, node: TreeNode) -> int:
        """Return a split's number, or add a leaf; returns its number as a child."""
        if isinstance(node, TreeSplit):
            return self._numbers[id(node)]
        self.leaf_value.append(node)
        return -len(self.leaf_value)

    def _add_codes(self, codes: frozenset[int]) -> int:
        """Add a set of codes as bits; returns its number."""
        words = [0] * (max(codes, default=0) // WORD_BITS + 1)
        for code in codes:
            words[code // WORD_BITS] |= 1 << code % WORD_BITS
        self.cat_threshold += words
        self.cat_boundaries.append(len(self.cat_threshold))
        return len(self.cat_boundaries) - 2


def _order_splits(tree: TreeNode) -> list[TreeSplit]:
    """Return the splits of a tree in blocks of ``BLOCK_LEVELS`` levels, from the root on.

    The splits that a row passes are close to each other then, so it reads fewer cache lines.
    """
    splits: list[TreeSplit] = []
    roots = [tree]
    while roots:
        nodes = [roots.pop()]
        for _ in range(BLOCK_LEVELS):
            level = [node for node in nodes if isinstance(node, TreeSplit)]
            splits += level
            nodes = [child for split in level for child in (split.left, split.right)]
        roots += reversed(nodes)
    return splits
