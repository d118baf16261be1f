"""The predictor of trees: all ensembles of a blend in one call of LightGBM's library."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from modelbook.scoring.bitmask_trees import MAX_LEAVES, BitmaskTables, LeafMasks, make_leaf_masks
from modelbook.scoring.encoder import EncodedRows
from modelbook.scoring.lightgbm_native import NativeBooster
from modelbook.scoring.lightgbm_text import split_model, write_ensembles
from modelbook.scoring.predictors import BINARY_LINKS, Predictor, apply_link, link_row
from modelbook.scoring.tree_ensemble import TreeEnsemble, list_leaves

MIN_ROWS = 100  # for fewer rows, prediction without tables is faster
# Bytes of text of large trees that predict a batch together: they stay in the cache.
BLOCK_BYTES = 500_000


@dataclass(frozen=True)
class EnsembleOutput:
    """What becomes of an ensemble's sums: initial sums are added, then link and weight.

    Attributes
    ----------
    has_tables : bool
        Whether its trees are small enough for the tables of batches.
    """

    base_score: list[float]
    link: str
    weight: float
    has_tables: bool = True


class TreePredictor(Predictor):
    """The weighted sum of ensembles of trees: LightGBM's library, and tables for batches.

    Parameters
    ----------
    text : str
        Model of LightGBM with all trees.
    tables : BitmaskTables or None
        Tables for batches; None if no ensemble has some.
    """

    name = "native trees"

    def __init__(
        self,
        text: str,
        width: int,
        outputs: list[EnsembleOutput],
        tables: BitmaskTables | None = None,
    ) -> None:
        self._text, self._width = text, width
        self._booster = NativeBooster(text, width, is_raw=True)
        self._outputs, self._tables = outputs, tables
        counts = [len(output.base_score) for output in outputs]
        ends = np.cumsum(counts).tolist()
        self._slices = [slice(end - count, end) for end, count in zip(ends, counts)]
        self._base_scores = [score for output in outputs for score in output.base_score]
        self._weights = [output.weight for output in outputs]
        self._is_binary = all(output.link in BINARY_LINKS for output in outputs)
        self._binary_links = [BINARY_LINKS.get(output.link, float) for output in outputs]

    def predict_one(self, values: Sequence[float]) -> Sequence[float]:
        sums = self._booster.predict_one(values)
        if self._is_binary:
            terms = zip(self._weights, self._binary_links, sums, self._base_scores)
            probability = sum([weight * link(total + base) for weight, link, total, base in terms])
            return [1 - probability, probability]
        totals = [total + base for total, base in zip(sums, self._base_scores)]
        scores = [
            [output.weight * score for score in link_row(totals[part], output.link)]
            for part, output in zip(self._slices, self._outputs)
        ]
        return [sum(column) for column in zip(*scores)]

    def predict_many(self, rows: EncodedRows) -> np.ndarray:
        sums = np.zeros((rows.row_count, len(self._base_scores))) + self._base_scores
        if self._tables and rows.row_count >= MIN_ROWS:
            sums += self._tables.sum_leaves(rows)
        boosters = [self._booster] if rows.row_count < MIN_ROWS else self._block_boosters
        if boosters:
            dense_rows = np.ascontiguousarray(rows.dense)
            sums += sum(booster.predict_many(dense_rows) for booster in boosters)
        scores = [
            output.weight * apply_link(sums[:, part], output.link)
            for part, output in zip(self._slices, self._outputs)
        ]
        return np.sum(scores, axis=0)

    @cached_property
    def _block_boosters(self) -> list[NativeBooster]:
        """Boosters of the trees that have no tables.

        LightGBM can also predict a range of iterations, but the range is a state of the booster,
        which other threads and ``predict_one`` use.
        """
        walked_outputs = {
            index
            for part, output in zip(self._slices, self._outputs)
            if self._tables is None or not output.has_tables
            for index in range(part.start, part.stop)
        }
        texts = split_model(self._text, walked_outputs, BLOCK_BYTES)
        return [NativeBooster(text, self._width, is_raw=True) for text in texts]

    @classmethod
    def load(cls, folder: Path, stem: str, parameters: dict[str, Any]) -> TreePredictor:
        masks_path = folder / f"{stem}.npz"
        return cls(
            (folder / f"{stem}.txt").read_text(encoding="utf-8"),
            parameters["width"],
            [EnsembleOutput(**output) for output in parameters["outputs"]],
            BitmaskTables(LeafMasks.load(masks_path)) if masks_path.is_file() else None,
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
    text = write_ensembles(ensembles, starts, width)
    (folder / f"{stem}.txt").write_text(text, encoding="utf-8")
    outputs = [
        EnsembleOutput(
            ensemble.base_score.tolist(),
            ensemble.link,
            weight * ensemble.factor,
            _count_most_leaves(ensemble) <= MAX_LEAVES,
        )
        for ensemble, weight in zip(ensembles, weights)
    ]
    (folder / f"{stem}.npz").unlink(missing_ok=True)
    if any(output.has_tables for output in outputs):
        tabulated = [
            ensemble
            if output.has_tables
            else replace(ensemble, trees=[0.0] * len(ensemble.base_score))
            for ensemble, output in zip(ensembles, outputs)
        ]
        make_leaf_masks(tabulated, starts).save(folder / f"{stem}.npz")
    return {"width": width, "outputs": [asdict(output) for output in outputs]}


def _count_most_leaves(ensemble: TreeEnsemble) -> int:
    return max(sum(1 for _ in list_leaves(tree)) for tree in ensemble.trees)
