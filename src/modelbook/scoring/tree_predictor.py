"""The predictor of boosted trees: all ensembles of a blend in one call of LightGBM's library."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from modelbook.errors import CompileError
from modelbook.scoring.bitmask_trees import BitmaskTables, LeafMasks, make_leaf_masks
from modelbook.scoring.encoder import EncodedRows
from modelbook.scoring.lightgbm_native import NativeBooster
from modelbook.scoring.lightgbm_text import write_ensembles
from modelbook.scoring.predictors import Predictor, apply_link, link_row, sigmoid
from modelbook.scoring.tree_ensemble import TreeEnsemble

MIN_ROWS = 100  # for fewer rows, prediction without tables is faster


@dataclass(frozen=True)
class EnsembleOutput:
    """What becomes of an ensemble's sums: initial sums are added, then link and weight."""

    base_score: list[float]
    link: str
    weight: float


class TreePredictor(Predictor):
    """The weighted sum of ensembles of trees: LightGBM's library, and tables for batches."""

    name = "native trees"

    def __init__(
        self, booster: NativeBooster, tables: BitmaskTables | None, outputs: list[EnsembleOutput]
    ) -> None:
        self._booster, self._tables, self._outputs = booster, tables, outputs
        counts = [len(output.base_score) for output in outputs]
        ends = np.cumsum(counts).tolist()
        self._slices = [slice(end - count, end) for end, count in zip(ends, counts)]
        self._base_scores = [score for output in outputs for score in output.base_score]
        self._weights = [output.weight for output in outputs]
        self._is_binary = all(output.link == "sigmoid" for output in outputs)

    def predict_one(self, values: Sequence[float]) -> Sequence[float]:
        sums = self._booster.predict_one(values)
        if self._is_binary:
            terms = zip(self._weights, sums, self._base_scores)
            probability = sum([weight * sigmoid(total + base) for weight, total, base in terms])
            return [1 - probability, probability]
        totals = [total + base for total, base in zip(sums, self._base_scores)]
        scores = [
            [output.weight * score for score in link_row(totals[part], output.link)]
            for part, output in zip(self._slices, self._outputs)
        ]
        return [sum(column) for column in zip(*scores)]

    def predict_many(self, rows: EncodedRows) -> np.ndarray:
        if self._tables and rows.row_count >= MIN_ROWS:
            sums = self._tables.sum_leaves(rows)
        else:
            sums = self._booster.predict_many(rows.dense)
        sums += self._base_scores
        scores = [
            output.weight * apply_link(sums[:, part], output.link)
            for part, output in zip(self._slices, self._outputs)
        ]
        return np.sum(scores, axis=0)

    @classmethod
    def load(cls, folder: Path, stem: str, parameters: dict[str, Any]) -> TreePredictor:
        masks_path = folder / f"{stem}.npz"
        return cls(
            NativeBooster(folder / f"{stem}.txt", parameters["width"], is_raw=True),
            BitmaskTables(LeafMasks.load(masks_path)) if masks_path.is_file() else None,
            [EnsembleOutput(**output) for output in parameters["outputs"]],
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
    try:
        make_leaf_masks(ensembles, starts).save(folder / f"{stem}.npz")
    except CompileError:  # large trees: LightGBM's library predicts batches as well
        (folder / f"{stem}.npz").unlink(missing_ok=True)
    outputs = [
        EnsembleOutput(ensemble.base_score.tolist(), ensemble.link, weight * ensemble.factor)
        for ensemble, weight in zip(ensembles, weights)
    ]
    return {"width": width, "outputs": [asdict(output) for output in outputs]}
