"""The predictor of trees: all ensembles of a blend in one call of LightGBM's library."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import compress
from pathlib import Path
from typing import Any

import numpy as np

from modelbook.scoring.bitmask_trees import (
    BitmaskTables,
    LeafMasks,
    fits_tables,
    is_oblivious,
    make_leaf_masks,
)
from modelbook.scoring.encoder import EncodedRows
from modelbook.scoring.lightgbm_native import NativeBooster
from modelbook.scoring.lightgbm_text import write_ensembles
from modelbook.scoring.onnx_trees import OnnxTrees, write_onnx_trees
from modelbook.scoring.predictors import BINARY_LINKS, Predictor, apply_link, apply_link_to_row
from modelbook.scoring.tree_ensemble import TreeEnsemble, list_levels

MIN_BATCH_ROWS = 100  # with fewer rows, prediction without tables is faster
# Splits that a row passes in trees with one split a level, at which tables are faster for it.
MIN_ROW_SPLITS = 1000


@dataclass(frozen=True)
class EnsembleOutput:
    """What becomes of an ensemble's sums: initial sums are added, then link and weight.

    Attributes
    ----------
    has_tables : bool
        Whether its trees are small enough for the tables of batches.
    is_in_booster : bool
        Whether LightGBM's library predicts single rows, or the tables do that too.
    """

    base_score: list[float]
    link: str
    weight: float
    has_tables: bool = True
    is_in_booster: bool = True


class TreePredictor(Predictor):
    """The weighted sum of ensembles of trees: LightGBM's library, and tables for batches.

    Parameters
    ----------
    text : str
        Model of LightGBM with all trees.
    tables : BitmaskTables or None
        Tables for batches; None if no ensemble has some.
    large_trees : OnnxTrees or None
        The trees that have no tables, for batches. None if all have some, and for versions that
        were registered before there were graphs, where the model of LightGBM predicts them.
    """

    name = "native trees"

    def __init__(
        self,
        text: str,
        width: int,
        outputs: list[EnsembleOutput],
        tables: BitmaskTables | None = None,
        large_trees: OnnxTrees | None = None,
    ) -> None:
        self._booster = NativeBooster(text, width, is_raw=True)
        self._outputs = outputs
        self._tables = tables
        self._large_trees = large_trees
        counts = [len(output.base_score) for output in outputs]
        ends = np.cumsum(counts).tolist()
        self._slices = [slice(end - count, end) for end, count in zip(ends, counts)]
        self._row_tables = None if all(output.is_in_booster for output in outputs) else tables
        self._walked_outputs = [
            index
            for part, output in zip(self._slices, outputs)
            if not (tables and output.has_tables)
            for index in range(part.start, part.stop)
        ]
        self._base_scores = [score for output in outputs for score in output.base_score]
        self._weights = [output.weight for output in outputs]
        self._is_binary = all(output.link in BINARY_LINKS for output in outputs)
        self._binary_links = [BINARY_LINKS.get(output.link, float) for output in outputs]

    def predict_one(self, values: Sequence[float]) -> Sequence[float]:
        sums = self._booster.predict_one(values)
        if self._row_tables:
            self._row_tables.add_level_sums_of_row(values, sums)
        if self._is_binary:
            terms = zip(self._weights, self._binary_links, sums, self._base_scores)
            probability = sum([weight * link(total + base) for weight, link, total, base in terms])
            return [1 - probability, probability]
        totals = [total + base for total, base in zip(sums, self._base_scores)]
        scores = [
            [output.weight * score for score in apply_link_to_row(totals[part], output.link)]
            for part, output in zip(self._slices, self._outputs)
        ]
        return [sum(column) for column in zip(*scores)]

    def predict_many(self, rows: EncodedRows) -> np.ndarray:
        sums = self._sum_few(rows) if rows.row_count < MIN_BATCH_ROWS else self._sum_batch(rows)
        sums += self._base_scores
        scores = [
            output.weight * apply_link(sums[:, part], output.link)
            for part, output in zip(self._slices, self._outputs)
        ]
        return np.sum(scores, axis=0)

    def _sum_few(self, rows: EncodedRows) -> np.ndarray:
        sums = self._booster.predict_many(rows.dense)
        if self._row_tables:
            self._row_tables.add_level_sums(rows, sums)
        return sums

    def _sum_batch(self, rows: EncodedRows) -> np.ndarray:
        sums = np.zeros((rows.row_count, len(self._base_scores)))
        if self._tables:
            sums += self._tables.sum_leaves(rows)
        if walked := self._walked_outputs:
            sums[:, walked] = (
                self._large_trees.sum_leaves(rows)
                if self._large_trees
                else self._booster.predict_many(rows.dense)[:, walked]
            )
        return sums

    @classmethod
    def load(cls, folder: Path, stem: str, parameters: dict[str, Any]) -> TreePredictor:
        masks_path, graph_path = folder / f"{stem}.npz", folder / f"{stem}.onnx"
        return cls(
            (folder / f"{stem}.txt").read_text(encoding="utf-8"),
            parameters["width"],
            [EnsembleOutput(**output) for output in parameters["outputs"]],
            BitmaskTables(LeafMasks.load(masks_path)) if masks_path.is_file() else None,
            OnnxTrees(graph_path) if graph_path.is_file() else None,
        )


def write_tree_predictor(
    ensembles: Sequence[TreeEnsemble],
    starts: Sequence[int],
    weights: Sequence[float],
    width: int,
    folder: Path,
    stem: str,
) -> dict[str, Any]:
    """Write the files of a ``TreePredictor``; returns its parameters.

    Parameters
    ----------
    starts : sequence of int
        The first of the columns of each ensemble.
    width : int
        Number of columns of all of them.
    """
    outputs = [
        EnsembleOutput(
            ensemble.base_score.tolist(),
            ensemble.link,
            weight * ensemble.factor,
            fits_tables(ensemble),
            not (is_oblivious(ensemble) and _count_row_splits(ensemble) >= MIN_ROW_SPLITS),
        )
        for ensemble, weight in zip(ensembles, weights)
    ]
    in_booster = _keep_trees(ensembles, [output.is_in_booster for output in outputs])
    text = write_ensembles(in_booster, starts, width)
    (folder / f"{stem}.txt").write_text(text, encoding="utf-8")
    tables_path, graph_path = folder / f"{stem}.npz", folder / f"{stem}.onnx"
    tables_path.unlink(missing_ok=True)
    graph_path.unlink(missing_ok=True)
    have_tables = [output.has_tables for output in outputs]
    if any(have_tables):
        make_leaf_masks(_keep_trees(ensembles, have_tables), starts).save(tables_path)
    if not all(have_tables):
        are_large = [not has_tables for has_tables in have_tables]
        large, large_starts = compress(ensembles, are_large), compress(starts, are_large)
        write_onnx_trees(list(large), list(large_starts), graph_path)
    return {"width": width, "outputs": [asdict(output) for output in outputs]}


def _keep_trees(ensembles: Sequence[TreeEnsemble], are_kept: Sequence[bool]) -> list[TreeEnsemble]:
    """Ensembles whose trees are without effect unless they are kept."""
    return [
        ensemble if is_kept else replace(ensemble, trees=[0.0] * len(ensemble.base_score))
        for ensemble, is_kept in zip(ensembles, are_kept)
    ]


def _count_row_splits(ensemble: TreeEnsemble) -> int:
    """Splits that a row passes in trees with one split a level."""
    return sum(len(list_levels(tree) or []) for tree in ensemble.trees)
