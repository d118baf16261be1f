"""PyCaret's experiments whose predictions and plots are of rows that the model was not fitted on.

PyCaret's ``setup`` wants test rows, and there are none to give: the holdout is kept out. So the
test rows are those of the folds. ``predict_model`` without data predicts each fold by a copy of
the model that was fitted on the others; a plot of test rows shows the last fold.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pandas as pd
from IPython.display import display
from pycaret.classification import ClassificationExperiment
from pycaret.regression import RegressionExperiment
from sklearn.base import clone
from sklearn.pipeline import Pipeline

TEST_PLOTS = frozenset(
    ("auc", "boundary", "calibration", "class_report", "confusion_matrix", "cooks", "error",
     "gain", "ks", "lift", "pr", "residuals", "residuals_interactive", "threshold")
)  # fmt: skip  # plots of PyCaret's that show test rows


class FoldsAsTestMixin:
    """An experiment whose test rows are those of the folds; see ``use_folds``."""

    cv_splits: list[tuple[np.ndarray, np.ndarray]]
    data: pd.DataFrame

    def use_folds(self, cv_splits: list[Any], n_rows: int) -> None:
        """Take the first rows as the experiment's only ones, and the last fold as its test rows."""
        self.cv_splits = cv_splits
        self.data = self.data.iloc[:n_rows]  # PyCaret appended copies as test rows
        self.idx = [self.data.index, self.data.index[cv_splits[-1][1]]]

    def predict_model(
        self, estimator: Any, data: pd.DataFrame | None = None, *args: Any, **options: Any
    ) -> pd.DataFrame:
        """Predict data; without data, predict the train rows out of fold.

        Its scores are means over the folds, as those of ``create_model``.
        """
        predict: Any = super().predict_model  # type: ignore[misc]
        if data is not None:
            return predict(estimator, data, *args, **options)
        predictions, scores = [], []
        for train_index, test_index in self.cv_splits:
            with self._fit_fold(estimator, train_index, test_index) as fitted:
                predictions.append(predict(fitted, None, *args, **{**options, "verbose": False}))
                scores.append(self.pull(pop=True))  # type: ignore[attr-defined]
        model = f"{scores[0]['Model'][0]}, out of fold"
        means = pd.concat(scores).drop(columns="Model").mean().round(options.get("round", 4))
        grid = pd.DataFrame([{"Model": model, **means}])
        self._display_container.append(grid)  # type: ignore[attr-defined]  # for ``pull``
        if options.get("verbose", True):
            display(grid)  # type: ignore[no-untyped-call]
        return pd.concat(predictions).sort_index()

    def _plot_model(self, estimator: Any, plot: str = "auc", *args: Any, **options: Any) -> Any:
        """PyCaret's plots, of ``evaluate_model`` too; plots of test rows show the last fold."""
        draw: Any = super()._plot_model  # type: ignore[misc]
        if plot not in TEST_PLOTS:
            return draw(estimator, plot, *args, **options)
        with self._fit_fold(estimator, *self.cv_splits[-1]) as fitted:
            return draw(fitted, plot, *args, **options)

    @contextmanager
    def _fit_fold(
        self, estimator: Any, train_index: np.ndarray, test_index: np.ndarray
    ) -> Iterator[Any]:
        """A copy of the estimator fitted on the train rows, with the test rows as the only ones."""
        estimator = estimator.steps[-1][1] if isinstance(estimator, Pipeline) else estimator
        pipeline, index = self.pipeline, self.idx  # type: ignore[has-type]
        fold_pipeline = clone(pipeline)
        fold_pipeline.steps.append(("model", clone(estimator)))
        self.idx = [self.data.index[train_index], self.data.index[test_index]]
        try:
            fold_pipeline.fit(self.X_train, self.y_train)  # type: ignore[attr-defined]
            _, fitted = fold_pipeline.steps.pop()
            self.pipeline = fold_pipeline
            yield fitted
        finally:
            self.pipeline, self.idx = pipeline, index


class LiveClassificationExperiment(FoldsAsTestMixin, ClassificationExperiment):
    """PyCaret's experiment with classes."""


class LiveRegressionExperiment(FoldsAsTestMixin, RegressionExperiment):
    """PyCaret's experiment for a number."""
