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

from modelbook import tasks
from modelbook.contract import Contract


class PipelineModel(PythonModel):
    """A fitted pipeline with its contract: takes rows, returns the task's prediction columns."""

    def load_context(self, context: Any) -> None:
        """Load the pipeline and the contract from the version's folder."""
        # Unpickling imports PyCaret, which would write logs.log into the working folder.
        os.environ.setdefault("PYCARET_CUSTOM_LOGGING_PATH", os.devnull)
        self._task = tasks.get_task(Contract.load(context.artifacts["contract"]))
        with open(context.artifacts["model"], "rb") as file:
            self._pipeline = cloudpickle.load(file)
        _prefer_imported_package()

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


def _prefer_imported_package() -> None:
    """Move other copies of the package to the end of ``sys.path``.

    MLflow puts the code of a version first, so that processes that this one starts would import
    the package from there, and lack the modules that a version does not have.
    """
    package = Path(tasks.__file__).parents[1]
    copies = [
        folder
        for folder in sys.path
        if Path(folder, package.name).is_dir() and Path(folder) != package.parent
    ]
    sys.path[:] = [folder for folder in sys.path if folder not in copies] + copies


mlflow.models.set_model(PipelineModel())
