"""Large trees of batches as a graph of ONNX Runtime, which walks them faster than LightGBM.

An operator walks all rows through its trees, so those of one operator fit into the processor's
cache together. See "TreeEnsemble" in the documentation of ONNX; thresholds and leaves are double.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from modelbook.scoring.encoder import EncodedRows
from modelbook.scoring.predictors import open_session
from modelbook.scoring.tree_ensemble import TreeEnsemble, TreeNode, TreeSplit

BLOCK_NODES = 1000  # splits of the trees of an operator, unless one tree has more
BLOCK_ROWS = 10_000  # rows that are walked through all trees before the next ones
OPSET, TREE_OPSET, IR_VERSION = 18, 5, 9
BRANCH_LEQ, BRANCH_MEMBER = 0, 6  # modes of a split
COLUMNS_KEY = "columns"  # of the metadata: the encoded columns that the graph reads; default: all
SUM = 1  # aggregation: the sum of the leaves' values; post_transform 0 is none


class OnnxTrees:
    """Sums the trees of a graph; the graph is loaded when it is used."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @cached_property
    def _session(self) -> Any:
        return open_session(self._path)

    @cached_property
    def _columns(self) -> list[int] | None:
        """The encoded columns that the graph reads; None for all."""
        metadata = self._session.get_modelmeta().custom_metadata_map
        return json.loads(metadata.get(COLUMNS_KEY, "null"))

    def sum_leaves(self, rows: EncodedRows) -> np.ndarray:
        """Return the sums of the leaf values of encoded rows; shape (rows, sums)."""
        columns = np.array(self._columns or range(len(rows.constant_row)))
        blocks = [
            self._session.run(
                None, {"rows": rows.take_columns(columns, slice(start, start + BLOCK_ROWS))}
            )[0]
            for start in range(0, rows.row_count, BLOCK_ROWS)
        ]
        return np.concatenate(blocks)


def write_onnx_trees(ensembles: Sequence[TreeEnsemble], starts: Sequence[int], path: Path) -> None:
    """Write a graph with a sum for each output of each ensemble, without initial sums.

    Parameters
    ----------
    starts : sequence of int
        The first of the columns of each ensemble.
    """
    from onnx import TensorProto, helper

    output_count = sum(len(ensemble.base_score) for ensemble in ensembles)
    blocks = list(_list_blocks(ensembles, starts))
    # Each operator reads all values of its input: the fewer, the faster.
    columns = np.unique(np.concatenate([block.features for block in blocks]))
    names = [f"sums_{number}" for number in range(len(blocks))]
    operators = [
        helper.make_node(
            "TreeEnsemble",
            ["rows"],
            [name],
            domain="ai.onnx.ml",
            **block.make_operator(columns, output_count),
        )
        for name, block in zip(names, blocks)
    ]
    operators.append(helper.make_node("Sum", names, ["sums"]))
    tensors = [
        helper.make_tensor_value_info(name, TensorProto.DOUBLE, [None, count])
        for name, count in (("rows", len(columns)), ("sums", output_count))
    ]
    graph = helper.make_graph(operators, "trees", tensors[:1], tensors[1:])
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid("ai.onnx.ml", TREE_OPSET)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)
    helper.set_model_props(model, {COLUMNS_KEY: json.dumps(columns.tolist())})
    path.write_bytes(model.SerializeToString())


def _list_blocks(
    ensembles: Sequence[TreeEnsemble], starts: Sequence[int]
) -> Iterator[_OperatorTrees]:
    first_output = 0
    block = _OperatorTrees()
    for ensemble, start in zip(ensembles, starts):
        output_count = len(ensemble.base_score)
        for number, tree in enumerate(ensemble.trees):
            block.add_tree(tree, start, first_output + number % output_count)
            if len(block.modes) >= BLOCK_NODES:
                yield block
                block = _OperatorTrees()
        first_output += output_count
    if block.roots:
        yield block


class _OperatorTrees:
    """Trees as the attributes of an operator; a child is a number among splits or among leaves."""

    def __init__(self) -> None:
        self.roots: list[int] = []
        self.features: list[int] = []
        self.thresholds: list[float] = []
        self.modes: list[int] = []
        self.missing_go_left: list[int] = []
        self.left: list[tuple[int, bool]] = []
        self.right: list[tuple[int, bool]] = []
        self.codes: list[float] = []
        self.leaf_values: list[float] = []
        self.leaf_outputs: list[int] = []

    def add_tree(self, tree: TreeNode, start: int, output: int) -> None:
        """Add a tree; one without a split becomes a split with equal leaves, as a root must be."""
        root = tree if isinstance(tree, TreeSplit) else TreeSplit(0, 0.0, False, tree, tree)
        self.roots.append(self._add_node(root, start, output)[0])

    def _add_node(self, node: TreeNode, start: int, output: int) -> tuple[int, bool]:
        """Add a node with all below it; returns its number, and whether it is a leaf."""
        if not isinstance(node, TreeSplit):
            self.leaf_values.append(node)
            self.leaf_outputs.append(output)
            return len(self.leaf_values) - 1, True
        number = len(self.features)
        self.features.append(start + node.feature_index)
        self.missing_go_left.append(int(node.missing_go_left))
        if node.left_codes is None:
            self.modes.append(BRANCH_LEQ)
            self.thresholds.append(node.threshold)
        else:
            self.modes.append(BRANCH_MEMBER)
            self.thresholds.append(0.0)
            self.codes += [*sorted(node.left_codes), np.nan]  # NaN ends a set
        self.left.append((0, False))
        self.right.append((0, False))
        self.left[number] = self._add_node(node.left, start, output)
        self.right[number] = self._add_node(node.right, start, output)
        return number, False

    def make_operator(self, columns: np.ndarray, output_count: int) -> dict[str, Any]:
        """Return the attributes of a ``TreeEnsemble`` whose input has these columns of the rows."""
        from onnx import numpy_helper

        left_numbers, left_are_leaves = zip(*self.left)
        right_numbers, right_are_leaves = zip(*self.right)
        attributes: dict[str, Any] = {
            "n_targets": output_count,
            "aggregate_function": SUM,
            "post_transform": 0,
            "tree_roots": self.roots,
            "nodes_featureids": np.searchsorted(columns, self.features).tolist(),
            "nodes_modes": numpy_helper.from_array(np.array(self.modes, "uint8")),
            "nodes_splits": numpy_helper.from_array(np.array(self.thresholds)),
            "nodes_missing_value_tracks_true": self.missing_go_left,
            "nodes_truenodeids": left_numbers,
            "nodes_trueleafs": [int(is_leaf) for is_leaf in left_are_leaves],
            "nodes_falsenodeids": right_numbers,
            "nodes_falseleafs": [int(is_leaf) for is_leaf in right_are_leaves],
            "leaf_targetids": self.leaf_outputs,
            "leaf_weights": numpy_helper.from_array(np.array(self.leaf_values)),
        }
        if self.codes:
            attributes["membership_values"] = numpy_helper.from_array(np.array(self.codes))
        return attributes
