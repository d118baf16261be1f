"""The registered model as code: MLflow runs this file when it loads a version."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import cloudpickle
import mlflow
import pandas as pd
from mlflow.pyfunc import PythonModel

# MLflow puts the version's code first on the path. It lacks most of the package, so it goes behind
# a package that is installed, here and in processes that this one starts.
VERSION_CODE = Path(__file__).with_name("code")
sys.path.sort(key=lambda folder: Path(folder).absolute() == VERSION_CODE)

from modelbook import tasks  # noqa: E402
from modelbook.contract import Contract  # noqa: E402


class PipelineModel(PythonModel):
    """A fitted pipeline with its contract: takes rows, returns the task's prediction columns."""

    def load_context(self, context: Any) -> None:
        """Load the pipeline and the contract from the version's folder."""
        # Unpickling imports PyCaret, which would write logs.log into the working folder.
        os.environ.setdefault("PYCARET_CUSTOM_LOGGING_PATH", os.devnull)
        self._task = tasks.get_task(Contract.load(context.artifacts["contract"]))
        with open(context.artifacts["model"], "rb") as file:
            self._pipeline = cloudpickle.load(file)

    def predict(
        self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """Predict rows; ``params["threshold"]`` overrides the decision threshold of two classes."""
        score = self._task.predict_scores(
            self._pipeline, self._task.contract.select_features(model_input)
        )
        return self._task.make_predictions(score, (params or {}).get("threshold")).set_axis(
            model_input.index
        )


mlflow.models.set_model(PipelineModel())
