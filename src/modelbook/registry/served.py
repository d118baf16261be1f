"""The registered model, as code: MLflow runs this file when it loads a version."""

from __future__ import annotations

import os
from typing import Any

import cloudpickle
import mlflow
import pandas as pd
from mlflow.pyfunc import PythonModel

from modelbook import tasks
from modelbook.contract import Contract


class Served(PythonModel):
    """A fitted pipeline behind its contract: rows in, the columns that its task answers with out."""

    def load_context(self, context: Any) -> None:
        """Load the pipeline and the contract from the version's folder."""
        # Unpickling imports PyCaret, which writes a logs.log into whatever the working folder is.
        os.environ.setdefault("PYCARET_CUSTOM_LOGGING_PATH", os.devnull)
        self._task = tasks.of(Contract.load(context.artifacts["contract"]))
        with open(context.artifacts["model"], "rb") as file:
            self._pipeline = cloudpickle.load(file)

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Answer rows; ``params["threshold"]``, of two classes, is the probability from which the prediction is yes."""
        score = self._task.answers(self._pipeline, self._task.contract.features(model_input))
        return self._task.served(score, (params or {}).get("threshold")).set_axis(model_input.index)


mlflow.models.set_model(Served())
