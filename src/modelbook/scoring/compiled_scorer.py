"""The compiled scorer: encoder and predictor, saved with the result of the parity check."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from modelbook.formatting import format_count
from modelbook.scoring import (
    predictors,
    stacking,  # noqa: F401  registers its predictors
    tree_predictor,  # noqa: F401
)
from modelbook.scoring.encoder import Encoder
from modelbook.tasks.conformal_prediction import ConformalPrediction
from modelbook.tasks.decision_rule import DecisionRule, RowPrediction, decision_rule_from_dict

if TYPE_CHECKING:
    import pandas as pd

SCORER_FILE = "scorer.json"
PREDICTOR_STEM = "kernel"  # of the predictor's files; the name in versions of 1.0.0
FORMER_KEYS = {  # 1.0.0 reads and wrote these
    "kernel": "predictor",
    "answering": "decision_rule",
    "proof": "parity",
}
TOLERANCE = 1e-6  # maximum of ``max_difference``


@dataclass(frozen=True)
class ParityResult:
    """Comparison of scorer and model on the same rows.

    Attributes
    ----------
    max_difference : float
        Largest absolute difference of a probability; for regression, of a prediction divided by
        max(1, its absolute value).
    """

    rows: int
    label_mismatches: int
    max_difference: float

    @property
    def passed(self) -> bool:
        return self.label_mismatches == 0 and self.max_difference <= TOLERANCE

    def __str__(self) -> str:
        return (
            f"{format_count(self.label_mismatches, 'label mismatch', 'label mismatches')} in "
            f"{format_count(self.rows, 'row')}, largest difference "
            f"{self.max_difference:.1g}"
        )


class CompiledScorer:
    """A compiled model that predicts rows, given as mappings, without pandas.

    Attributes
    ----------
    name : str
        Name of the predictor, such as ``native LightGBM booster``.
    conformal : ConformalPrediction or None
        Prediction intervals or prediction sets; set by ``loading.load_scorer``.
    """

    is_compiled = True
    conformal: ConformalPrediction | None = None

    def __init__(
        self,
        encoder: Encoder,
        predictor: predictors.Predictor,
        decision_rule: DecisionRule,
        parity: ParityResult | None = None,
    ) -> None:
        self.encoder = encoder
        self.decision_rule = decision_rule
        self.parity = parity
        self.name = predictor.name
        self._encode = encoder.transform_one
        self._predictor = predictor
        self._to_prediction = decision_rule.predict_row
        self._predict_one = predictor.predict_one

    def predict_one(self, row: Mapping[str, Any]) -> RowPrediction:
        """Predict one row: numbers as float, categories as str, missing as None or NaN.

        Not thread-safe.
        """
        return self._to_prediction(self._predict_one(self._encode(row)))

    def predict_scores(
        self, rows: pd.DataFrame | Mapping[str, np.ndarray], row_count: int | None = None
    ) -> np.ndarray:
        """Return class probabilities or values of many rows; shape (rows, classes or 1)."""
        return self._predictor.predict_many(
            self.encoder.transform_many(rows, len(rows) if row_count is None else row_count)
        )

    def predict_many(self, rows: Sequence[Mapping[str, Any]]) -> list[RowPrediction]:
        """Predict many rows, in order."""
        categorical_names = {encoding.name for encoding in self.encoder.category_encodings}
        columns = {
            name: np.array(
                [row[name] for row in rows],
                dtype=object if name in categorical_names else "float64",
            )
            for name in self.encoder.inputs
        }
        return self.to_predictions(self.predict_scores(columns, len(rows)))

    def to_predictions(self, scores: np.ndarray) -> list[RowPrediction]:
        """Turn the result of ``predict_scores`` into predictions."""
        return [self._to_prediction(row_scores) for row_scores in scores.tolist()]

    @classmethod
    def load(cls, folder: Path) -> CompiledScorer:
        """Load a scorer from the folder that ``compilation.compile_pipeline`` wrote."""
        content = json.loads((folder / SCORER_FILE).read_text(encoding="utf-8"))
        document = {FORMER_KEYS.get(key, key): value for key, value in content.items()}
        parity = ParityResult(**document["parity"]) if document["parity"] else None
        predictor = predictors.load_predictor(folder, PREDICTOR_STEM, document["predictor"])
        return cls(
            Encoder.from_dict(document["encoder"]),
            predictor,
            decision_rule_from_dict(document["decision_rule"]),
            parity,
        )


def save_scorer(
    folder: Path,
    encoder: Encoder,
    predictor_parameters: dict[str, Any],
    decision_rule: DecisionRule,
    parity: ParityResult | None,
) -> None:
    """Write the file that ``CompiledScorer.load`` reads, next to the predictor's files."""
    document = {
        "encoder": encoder.to_dict(),
        "predictor": predictor_parameters,
        "decision_rule": decision_rule.to_dict(),
        "parity": asdict(parity) if parity else None,
    }
    document |= {former: document[key] for former, key in FORMER_KEYS.items()}
    (folder / SCORER_FILE).write_text(json.dumps(document), encoding="utf-8")
