"""The fitted pipeline as a scorer, for models without a compiled form; slow, and needs PyCaret."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cloudpickle
import numpy as np
import pandas as pd

from modelbook.scoring import parity_cases
from modelbook.tasks.conformal_prediction import ConformalPrediction
from modelbook.tasks.decision_rule import RowPrediction, make_decision_rule

if TYPE_CHECKING:
    from modelbook.contract import Contract


class PipelineScorer:
    """A fitted pipeline with the interface of ``CompiledScorer``."""

    name, is_compiled, parity = "fitted pipeline", False, None
    conformal: ConformalPrediction | None = None

    def __init__(self, model: Any, contract: Contract, threshold: float | None) -> None:
        self.decision_rule = make_decision_rule(contract, threshold)
        self._pipeline = model
        self._contract = contract

    @classmethod
    def load(cls, pickle_path: Path, contract: Contract, threshold: float | None) -> PipelineScorer:
        """Load the scorer from a pickled pipeline."""
        # Unpickling imports PyCaret, which would write logs.log into the working folder.
        os.environ.setdefault("PYCARET_CUSTOM_LOGGING_PATH", os.devnull)
        with warnings.catch_warnings(), pickle_path.open("rb") as file:
            warnings.simplefilter("ignore")
            return cls(cloudpickle.load(file), contract, threshold)

    def predict_one(self, row: Mapping[str, Any]) -> RowPrediction:
        """Predict one row."""
        return self.predict_many([row])[0]

    def predict_scores(
        self, rows: pd.DataFrame | Mapping[str, np.ndarray], row_count: int | None = None
    ) -> np.ndarray:
        """Return class probabilities or values of many rows; shape (rows, classes or 1)."""
        return parity_cases.predict_pipeline_scores(
            self._pipeline, pd.DataFrame(rows), self._contract
        )

    def predict_many(self, rows: Sequence[Mapping[str, Any]]) -> list[RowPrediction]:
        """Predict many rows, in order."""
        return self.to_predictions(
            self.predict_scores(pd.DataFrame(list(rows), columns=self._contract.feature_names))
        )

    def to_predictions(self, scores: np.ndarray) -> list[RowPrediction]:
        """Turn the result of ``predict_scores`` into predictions."""
        return [self.decision_rule.predict_row(row_scores) for row_scores in scores.tolist()]
