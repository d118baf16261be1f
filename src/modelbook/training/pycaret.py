"""PyCaret: the only module that imports it, or uses its private attributes.

PyCaret's ``setup`` requires test rows, and the holdout must stay out of it. The test rows are
therefore those of the folds. ``predict_model`` without data predicts each fold by a copy of the
model that was fitted on the others; a plot of test rows shows the last fold.

``tests/test_pycaret.py`` tests each assumption about private attributes.
"""
# ruff: noqa: E402  imports after a call

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd
from IPython.display import display
from optuna.distributions import BaseDistribution
from sklearn.base import clone
from sklearn.pipeline import Pipeline

from modelbook.formatting import render_html_table
from modelbook.tasks.base import PyCaretMetric
from modelbook.training.installed_packages import patch_skbase_version_lookup

patch_skbase_version_lookup()  # before the imports of PyCaret, which request versions

from pycaret.classification import ClassificationExperiment
from pycaret.containers.models import classification as classification_models
from pycaret.containers.models import regression as regression_models
from pycaret.internal.distributions import Distribution, IntUniformDistribution, UniformDistribution
from pycaret.internal.pipeline import Pipeline as PyCaretPipeline
from pycaret.regression import RegressionExperiment
from pycaret.utils.generic import np_list_arange

DECIMALS = 12  # of the metrics of folds; PyCaret's default is 4
RESAMPLING_STEP = "balance"  # PyCaret's name of the step that resamples classes
TEST_PLOTS = frozenset(
    ("auc", "boundary", "calibration", "class_report", "confusion_matrix", "cooks", "error",
     "gain", "ks", "lift", "pr", "residuals", "residuals_interactive", "threshold")
)  # fmt: skip  # plots of PyCaret's that show test rows


RECORDER = "recorded predictions"  # name of the metric that records predictions


@dataclass(frozen=True)
class CrossValidation:
    """Result of a cross-validation.

    Attributes
    ----------
    table : DataFrame
        Metrics of each fold, with the rows ``Mean`` and ``Std``.
    fold_scores : list of ndarray
        Predictions for the test rows of each fold.
    pipeline : pipeline or None
        Fitted on all rows.
    """

    table: pd.DataFrame
    fold_scores: list[np.ndarray]
    pipeline: Any = None


def _make_recorder(fold_scores: list[np.ndarray]) -> PyCaretMetric:
    """A metric that records what PyCaret predicts of each fold; its value is not used."""

    def record(y_true: Any, y_score: Any, **_: Any) -> float:
        fold_scores.append(np.asarray(y_score, dtype=float))
        return 0.0

    return PyCaretMetric(RECORDER, record)


@lru_cache(maxsize=None, typed=True)
def _round_range(*arguments: float, **options: bool) -> tuple[float, ...]:
    return tuple(np_list_arange(*arguments, **options))


def _list_range(*arguments: float, **options: bool) -> list[float]:
    """PyCaret's ``np_list_arange``, whose numbers are rounded once a process."""
    return list(_round_range(*arguments, **options))


class FoldsAsTestMixin:
    """An experiment whose test rows are those of the folds; see ``use_folds``."""

    estimator_type: str
    cv_splits: list[tuple[np.ndarray, np.ndarray]]
    data: pd.DataFrame
    pipeline: Pipeline

    def _check_environment(self) -> None:
        """Log no versions of packages: PyCaret reads those of all, 0.2 s a process."""

    def _get_models(self, raise_errors: bool = True) -> Any:
        """Reuse the ranges of search spaces: a setup requests 16,000 of them eight times."""
        for models in (classification_models, regression_models):
            models.np_list_arange = _list_range
        return super()._get_models(raise_errors)  # type: ignore[misc]

    def use_folds(self, cv_splits: list[Any], n_rows: int) -> None:
        """Use the first rows as the experiment's only ones, and the last fold as its test rows."""
        self.cv_splits = cv_splits
        self.data = self.data.iloc[:n_rows]  # PyCaret appended copies as test rows
        self.idx = [self.data.index, self.data.index[cv_splits[-1][1]]]

    def prepend_steps(self, steps: list[tuple[str, Any]], features: pd.DataFrame) -> None:
        """Insert steps before the preprocessing, and take the rows that these steps expect."""
        target: str = self.target_param  # type: ignore[attr-defined]
        n_test_rows = len(self.data) - len(features)  # copies that PyCaret appended
        raw = pd.concat([features, features.head(n_test_rows)], ignore_index=True)
        self.data = raw.set_index(self.data.index).assign(**{target: self.data[target]})
        self.pipeline.steps[:0] = steps
        self.pipeline._feature_names_in = [*features.columns, target]

    def use_metrics(self, labels: Iterable[str] | None, custom: Iterable[PyCaretMetric]) -> None:
        """Keep PyCaret's metrics with these labels only (None: all), and add custom ones."""
        experiment: Any = self
        for name, row in experiment.get_metrics().iterrows():
            if labels is not None and row["Display Name"] not in labels:
                experiment.remove_metric(name)  # unused, and some raise warnings
        for metric in custom:
            options: dict[str, Any] = {"greater_is_better": metric.greater_is_better}
            if self.estimator_type == "classifier":
                options |= {"target": metric.prediction_type, "multiclass": True}
            experiment.add_metric(metric.name, metric.name, metric.compute, **options)

    def make_estimator(self, family: str, params: Mapping[str, Any]) -> Any:
        """An unfitted estimator of a family; ``create_model`` would fit it."""
        container = self._all_models_internal[family]  # type: ignore[attr-defined]
        return container.class_def(**{**container.args, **params})

    def get_search_spaces(self, family: str) -> tuple[dict[str, Any], dict[str, Any]]:
        """Search distributions and grid of a family, by parameter."""
        container = self._all_models_internal[family]  # type: ignore[attr-defined]
        return container.tune_distribution, container.tune_grid

    def cross_validate(
        self,
        estimator: Any,
        params: Mapping[str, Any],
        *,
        steps: list[tuple[str, Any]] | None = None,
        resample: bool = True,
        keep_model: bool = False,
    ) -> CrossValidation:
        """Cross-validate an estimator on the folds.

        Parameters
        ----------
        estimator : estimator or str
            An estimator, or the name of a family of PyCaret's.
        steps : list, optional
            Unfitted steps in place of the experiment's preprocessing.
        resample : bool
            Whether the classes are resampled, if the experiment resamples them at all.
        keep_model : bool
            Whether the result holds the fitted pipeline.
        """
        experiment: Any = self
        fold_scores: list[np.ndarray] = []
        default_steps = self.pipeline.steps
        if steps is not None:
            self.pipeline.steps = steps
            self.pipeline.fit(self.X_train, self.y_train)  # type: ignore[attr-defined]
        elif not resample:
            self.pipeline.steps = [step for step in default_steps if step[0] != RESAMPLING_STEP]
        self.use_metrics(None, [_make_recorder(fold_scores)])
        try:
            model = experiment.create_model(
                estimator, verbose=False, error_score="raise", round=DECIMALS, **params
            )
        finally:
            steps = self.pipeline.steps
            self.pipeline.steps = default_steps
            experiment.remove_metric(RECORDER)
        table = experiment.pull(pop=True)
        if not keep_model:
            return CrossValidation(table, fold_scores)
        pipeline = copy(self.pipeline)
        pipeline.steps = [*steps, ("model", model)]
        return CrossValidation(table, fold_scores, pipeline)

    def _repr_html_(self) -> str:
        """HTML for notebooks: the data, the folds, and the steps of the pipeline."""
        rows = {
            "train rows": len(self.data),
            "target": self.target_param,  # type: ignore[attr-defined]
            "folds": len(self.cv_splits),
            "test rows": "those of the folds; plots show the last fold",
            "steps": ", ".join(name for name, _ in self.pipeline.steps),
            "methods": "create_model, tune_model, predict_model, plot_model, interpret_model, pull",
        }
        caption = f"PyCaret: {type(self).__mro__[2].__name__}"
        return render_html_table(("", "value"), rows.items(), caption=caption)

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
            return draw(self._with_estimator_type(estimator), plot, *args, **options)
        with self._fit_fold(estimator, *self.cv_splits[-1]) as fitted:
            return draw(self._with_estimator_type(fitted), plot, *args, **options)

    def _with_estimator_type(self, estimator: Any) -> Any:
        """A copy with the attribute that Yellowbrick reads, and scikit-learn 1.6 has removed."""
        typed = copy(estimator)
        if not hasattr(typed, "_estimator_type"):
            typed._estimator_type = self.estimator_type
        return typed

    def interpret_model(self, estimator: Any, *args: Any, **options: Any) -> Any:
        """PyCaret's explanations of the last fold, by a copy of the model fitted on the others.

        They need ``shap``, which is not in the locks.
        """
        explain: Any = super().interpret_model  # type: ignore[misc]
        with self._fit_fold(estimator, *self.cv_splits[-1]) as fitted:
            return explain(fitted, *args, **options)

    @contextmanager
    def _fit_fold(
        self, estimator: Any, train_index: np.ndarray, test_index: np.ndarray
    ) -> Iterator[Any]:
        """A copy of the estimator fitted on the train rows, with the test rows as the only ones."""
        estimator = estimator.steps[-1][1] if isinstance(estimator, Pipeline) else estimator
        pipeline, index = self.pipeline, self.idx
        fold_pipeline = clone(pipeline)
        fold_pipeline.steps.append(("model", clone(estimator)))
        self.idx = [self.data.index[train_index], self.data.index[test_index]]
        try:
            fold_pipeline.fit(self.X_train, self.y_train)  # type: ignore[attr-defined]
            _, fitted = fold_pipeline.steps.pop()
            self.pipeline = fold_pipeline
            yield fitted
        finally:
            self.pipeline = pipeline
            self.idx = index


class FoldsClassificationExperiment(FoldsAsTestMixin, ClassificationExperiment):
    """PyCaret's classification experiment, whose test rows are those of the folds."""

    estimator_type = "classifier"


class FoldsRegressionExperiment(FoldsAsTestMixin, RegressionExperiment):
    """PyCaret's regression experiment, whose test rows are those of the folds."""

    estimator_type = "regressor"


EXPERIMENT_CLASSES: dict[str, Any] = {
    "classification": FoldsClassificationExperiment,
    "regression": FoldsRegressionExperiment,
}


def is_pycaret_pipeline(estimator: Any) -> bool:
    """Whether an estimator is a pipeline of PyCaret's, whose only argument is its steps."""
    return type(estimator) is PyCaretPipeline


def make_distribution(low: float, high: float, *, log: bool) -> Any:
    """PyCaret's uniform distribution; of whole numbers if both limits are."""
    are_whole = isinstance(low, int) and isinstance(high, int)
    return (IntUniformDistribution if are_whole else UniformDistribution)(low, high, log=log)


def is_distribution(values: Any) -> bool:
    """Whether values are a search distribution of PyCaret or Optuna."""
    return isinstance(values, Distribution | BaseDistribution)


def to_optuna(distribution: Any) -> BaseDistribution | None:
    """Optuna's form of a distribution; None where it has none."""
    if isinstance(distribution, BaseDistribution):
        return distribution
    try:
        return distribution.get_optuna()
    except (AttributeError, ValueError):
        return None
