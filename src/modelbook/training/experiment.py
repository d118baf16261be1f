"""Experiment: PyCaret's preprocessing with group-aware cross-validation of one family at a time."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV

from modelbook import tasks
from modelbook.config import FAMILIES, NONE
from modelbook.contract import Contract
from modelbook.dataset.folds import digest_folds
from modelbook.dataset.split_strategy import SPLIT_STRATEGIES
from modelbook.formatting import render_html_table
from modelbook.tasks.base import PyCaretMetric
from modelbook.tasks.metric_format import metric_label
from modelbook.tasks.scored_rows import ScoredRows
from modelbook.tasks.scorers import ScorerMetric, check_metric
from modelbook.training import boosters, class_balancing, preprocessing, spaces
from modelbook.training.candidate import (
    BASELINE,
    BASELINE_LABEL,
    POSTPONED,
    Candidate,
    FamilyPostponed,
)
from modelbook.training.entity_sampling import permute_targets, sample_entities
from modelbook.training.estimators import SearchSpaces, search_distributions, to_distributions
from modelbook.training.folds import ProgressCallback, choose_folds
from modelbook.training.prediction_check import check_predictions, select_probe_rows
from modelbook.training.pycaret import EXPERIMENT_CLASSES, RESAMPLING_STEP, CrossValidation
from modelbook.training.setup_options import check_setup_options

MEAN_AND_SD = ("Mean", "Std")  # below the folds of PyCaret's table
MAX_PERMUTED_ROWS = 4000  # a leak in the pipeline shows on few rows
LEAF_ROWS = {"min_samples_leaf": 3}  # probabilities of leaves of one row are 0 or 1
FAMILY_PARAMETERS: dict[str, dict[str, Any]] = {  # in place of PyCaret's defaults
    "qda": {"reg_param": 0.001},  # one-hot columns are collinear, which scikit-learn 1.9 refuses
    "rf": LEAF_ROWS,
    "et": LEAF_ROWS,
}
CLASSIFIER_PARAMETERS: dict[str, dict[str, Any]] = {
    "mlp": {  # PyCaret's has 500 epochs, overfits, and takes ten times as long
        "hidden_layer_sizes": (64,), "alpha": 1.0, "learning_rate_init": 0.003, "max_iter": 60,
        "tol": 0.001, "n_iter_no_change": 5,
    },
}  # fmt: skip

FoldScores = Mapping[str, dict[str, list[np.ndarray]]]  # digest of rows and folds, family


class Experiment:
    """A PyCaret experiment on the train rows only, with folds by the split strategy.

    Parameters
    ----------
    train : DataFrame
        Train rows, conformed to the contract.
    folds : int
        Number of cross-validation folds.
    seed : int
        Random seed.
    max_rows : int, optional
        Maximum number of rows for model selection; entities are sampled if there are more.
    steps : list, optional
        Unfitted steps before PyCaret's, from ``preprocessing.make_steps``.
    imbalance : str, optional
        Class balancing: ``none, weights, oversample`` or ``undersample``.
    split : str, optional
        Split strategy of the folds: ``group`` (by entity), ``time`` or ``random``.
    estimators, search_spaces : mapping, optional
        Candidates in addition to PyCaret's families, from ``estimators.resolve_candidates``, and
        their search spaces.
    metrics : mapping, optional
        Metrics in addition to the task's, from ``scorers.make_metrics``.
    setup_options : mapping, optional
        Arguments of PyCaret's ``setup`` in place of ``DEFAULT_SETUP_OPTIONS``.
    fold_scores : mapping, optional
        Fold scores of earlier experiments, by ``compute_selection_digest``; ignored if rows or
        folds differ.
    fold_seconds : mapping, optional
        Seconds of a fold by family, from an earlier experiment.

    Attributes
    ----------
    fold_scores : dict
        Predictions for each fold's test rows that have been recorded so far, by family with its
        default parameters; empty for a family that the comparison skipped for lack of time.
    fold_seconds : dict
        Seconds of a fold by family, as far as the comparison has measured them.
    options : dict
        Arguments that set up the same experiment on the same rows.
    features, target, entities : DataFrame, Series, Series
        The rows for model selection.
    train_data : DataFrame
        All train rows.
    cv_splits : list of (ndarray, ndarray)
        Train and test positions of each fold, in the rows for model selection.
    pycaret : pycaret's experiment
        Its test rows are those of the folds.
    """

    def __init__(
        self,
        train: pd.DataFrame,
        contract: Contract,
        *,
        folds: int,
        seed: int,
        max_rows: int | None = None,
        steps: preprocessing.NamedSteps | None = None,
        imbalance: str = NONE,
        split: str = "group",
        estimators: Mapping[str, Any] | None = None,
        search_spaces: SearchSpaces | None = None,
        metrics: Mapping[str, ScorerMetric] | None = None,
        setup_options: Mapping[str, Any] | None = None,
        fold_scores: FoldScores | None = None,
        fold_seconds: Mapping[str, float] | None = None,
    ) -> None:
        self._contract = contract
        self.task = tasks.get_task(contract)
        self._imbalance = self.task.resolve_imbalance(imbalance)
        self.train_data = train
        self._steps = steps or []
        self._seed = seed
        self._estimators, self._search_spaces = estimators or {}, search_spaces or {}
        self._metrics = dict(metrics or {})
        self._setup_options = check_setup_options(
            EXPERIMENT_CLASSES[self.task.experiment_type], setup_options, self._imbalance
        )
        self.options: dict[str, Any] = {
            "folds": folds,
            "max_rows": max_rows,
            "steps": steps,
            "imbalance": imbalance,
            "split": split,
            "estimators": dict(self._estimators),
            "search_spaces": dict(self._search_spaces),
            "metrics": self._metrics,
            "setup_options": self._setup_options,
        }
        self._select_rows(max_rows)
        self._assign_folds(folds, split)
        for metric in self._metrics.values():
            check_metric(self.task, metric, self.target.iloc[self.cv_splits[0][1]].to_numpy())
        recorded_scores = fold_scores or {}
        self.fold_scores = recorded_scores.get(self.compute_selection_digest(), {})
        self.options["fold_scores"] = {self.compute_selection_digest(): self.fold_scores}
        self.fold_seconds = self.options["fold_seconds"] = dict(fold_seconds or {})
        self._encoded_folds: dict[tuple[bool, int], tuple[Any, Any, Any]] = {}
        self.pycaret = self._set_up()

    def _select_rows(self, max_rows: int | None) -> None:
        """Set the rows for model selection: all train rows, or a sample of entities."""
        rows = sample_entities(self.task, self.train_data, max_rows, seed=self._seed)
        self._selection_rows = rows
        self.features = self._contract.select_features(rows).reset_index(drop=True)
        self.target = self._contract.encode_checked_target(rows).reset_index(drop=True)
        self.entities = self._contract.entity_ids(rows).reset_index(drop=True)

    def _assign_folds(self, folds: int, split: str) -> None:
        """Set the folds of the rows for model selection: as many as requested, or fewer."""
        self.split_strategy = SPLIT_STRATEGIES[split]
        groups = self.split_strategy.groups(self._selection_rows, self._contract)
        self._groups = groups.reset_index(drop=True)
        self._splitter = choose_folds(
            self.task, self.target, self._groups, folds, self.split_strategy
        )
        self.folds = self._splitter.n_splits
        self._n_folds_requested = folds
        self.options["folds"] = self.folds
        self.cv_splits = list(self._splitter.split(self.features, self.target, self._groups))

    def __reduce__(self) -> Any:
        """Pickle as a call that sets up the experiment again: the same folds, no fold scores."""
        options = {**self.options, "max_rows": None, "fold_scores": None}
        factory = partial(
            Experiment, self._selection_rows, self._contract, seed=self._seed, **options
        )
        return factory, ()

    def with_permuted_targets(self, seed: int) -> Experiment:
        """Return the experiment on a sample of rows whose targets come from other entities."""
        train = permute_targets(self._selection_rows, self._contract, seed)
        options = {**self.options, "max_rows": MAX_PERMUTED_ROWS, "fold_scores": None}
        return Experiment(train, self._contract, seed=self._seed, **options)

    def _set_up(self) -> Any:
        prepared_features = preprocessing.fit_and_check_steps(
            self._steps, self._contract, self.features, self.target
        )
        categorical_names = preprocessing.text_columns(prepared_features)
        self._category_columns = [
            prepared_features.columns.get_loc(name) for name in categorical_names
        ]
        data = prepared_features.assign(**{self._contract.target: self.target})
        experiment: Any = EXPERIMENT_CLASSES[self.task.experiment_type]()
        experiment.setup(
            data=data,
            # PyCaret requires a test set, and the holdout is kept out: see ``use_folds``.
            test_data=data.head(2 * self.folds),
            target=self._contract.target,
            index=False,
            numeric_features=[name for name in prepared_features if name not in categorical_names],
            categorical_features=categorical_names,
            fold_strategy=self._splitter,
            fold_groups=self._groups,
            session_id=self._seed,
            n_jobs=1,  # workers would import the whole stack again
            memory=False,
            verbose=False,
            html=False,
            system_log=False,
            **class_balancing.get_resampling_arguments(self._imbalance),
            **self._setup_options,
        )
        if self._steps:
            experiment.prepend_steps(self._steps, self.features)
        experiment.use_folds(self.cv_splits, len(data))
        custom_metrics = [
            PyCaretMetric(name, metric.__call__) for name, metric in self._metrics.items()
        ]
        experiment.use_metrics(
            self.task.pycaret_metric_names.values(),
            [*self.task.additional_metrics(), *custom_metrics],
        )
        return experiment

    def check_estimators(self) -> None:
        """Check what each custom estimator predicts, on a few rows.

        Raises
        ------
        CustomCodeError
            If its predictions cannot be used.
        """
        probe_index = select_probe_rows(self.task, self.target)
        rows, target = self.features.loc[probe_index], self.target.loc[probe_index]
        for name in self._estimators:
            pipeline = self.make_default_pipeline(name)
            check_predictions(self.task, name, pipeline, rows, target)

    def _repr_html_(self) -> str:
        """HTML for notebooks: settings of PyCaret's experiment, and the folds."""
        folds = self.summarize_folds()
        settings = {
            "rows": len(self.features),
            "features": len(self.features.columns),
            "split": self.split_strategy.name,
            "class balancing": self._imbalance,
            "steps": ", ".join(name for name, _ in self.pycaret.pipeline.steps),
            **self._setup_options,
        }
        return render_html_table(("setting", "value"), settings.items()) + render_html_table(
            list(folds), folds.to_numpy(dtype=object).tolist(), caption=self.describe_folds()
        )

    def get_train_features_and_target(self) -> tuple[pd.DataFrame, pd.Series]:
        """Return features and target of all train rows."""
        rows = self.train_data.reset_index(drop=True)
        return self._contract.select_features(rows), self._contract.encode_checked_target(rows)

    def describe_folds(self) -> str:
        """Caption of the table of folds."""
        return (
            f"Size of the folds and distribution of the target. {self.describe_sampling()}".strip()
        )

    def describe_sampling(self) -> str:
        """Describe sampling, number of folds and balancing in sentences; empty for the defaults."""
        sentences = []
        if self.folds < self._n_folds_requested:
            sentences.append(
                f"{self.folds} folds instead of {self._n_folds_requested}: with more, a fold would "
                "have no rows of a class and could not be scored."
            )
        if len(self.features) < len(self.train_data):
            sentences.append(
                f"Families and hyperparameters were selected on {len(self.features):,} of "
                f"{len(self.train_data):,} training rows (search_rows), sampled by entity; "
                "the final fit uses all rows."
            )
        sentences.append(class_balancing.describe_balancing(self._imbalance))
        return " ".join(filter(None, sentences))

    def compute_fold_digest(self) -> str:
        """SHA-256 of the assignment of groups to test folds."""
        folds = np.full(len(self.target), -1)  # a time-series split never tests the first rows
        for number, (_, test_index) in enumerate(self.cv_splits):
            folds[test_index] = number
        return digest_folds(self._groups, folds)

    def compute_selection_digest(self) -> str:
        """SHA-256 of the rows for model selection, their outcomes and their folds."""
        rows = pd.util.hash_pandas_object(self.features.assign(outcome=self.target), index=False)
        return hashlib.sha256(
            rows.to_numpy().tobytes() + self.compute_fold_digest().encode()
        ).hexdigest()

    def summarize_folds(self) -> pd.DataFrame:
        """Size and target summary of each test fold; columns ``fold, rows, entities, …``."""
        return pd.DataFrame(
            [
                {
                    "fold": fold,
                    "rows": len(test_index),
                    "entities": self.entities.iloc[test_index].nunique(),
                    **self.task.summarize_outcome(self.target.iloc[test_index].to_numpy()),
                }
                for fold, (_, test_index) in enumerate(self.cv_splits, 1)
            ]
        )

    def get_family_label(self, family: str) -> str:
        """Return the display name of a family."""
        labels = {BASELINE: BASELINE_LABEL} | FAMILIES[self.task.experiment_type]
        return labels.get(family, family)

    def cross_validate(
        self, family: str, on_fold: ProgressCallback | None = None, *, keep_model: bool = False
    ) -> Candidate:
        """Cross-validate one family. A failure is returned as a candidate's status, not raised.

        Parameters
        ----------
        on_fold : callable, optional
            Called with ``fold 2 of 5`` as each fold begins; may raise ``FamilyPostponed``.
        keep_model : bool
            Whether the candidate holds its fitted pipeline.
        """
        start_time = time.perf_counter()
        self._splitter.on_progress = on_fold
        make_candidate = partial(Candidate, family, label=self.get_family_label(family))
        try:
            result = self._run_cross_validation(family, keep_model)
        except Exception as error:  # libraries may raise anything; the other families still run
            is_postponed = isinstance(error, FamilyPostponed)
            return make_candidate(
                POSTPONED if is_postponed else "failed",
                time.perf_counter() - start_time,
                reason=str(error) if is_postponed else f"{type(error).__name__}: {error}"[:500],
            )
        seconds = time.perf_counter() - start_time
        metrics = self._read_metrics(result.table)
        mean, sd = (
            {name: float(values[row]) for name, values in metrics.items()} for row in MEAN_AND_SD
        )
        undefined_metrics = [
            metric_label(name)
            for name in (*self.task.ranking_metrics, *self._metrics)
            if not np.isfinite(mean[name])
        ]
        if undefined_metrics:
            reason = f"{', '.join(undefined_metrics)}: undefined in a fold"
            return make_candidate("failed", seconds, reason=reason)
        return make_candidate(
            "ok",
            seconds,
            mean,
            sd,
            fold_values={
                name: values.drop([*MEAN_AND_SD]).astype(float).tolist()
                for name, values in metrics.items()
            },
            pipeline=result.pipeline,
            fold_scores=result.fold_scores,
        )

    def _read_metrics(self, table: pd.DataFrame) -> dict[str, pd.Series]:
        """Columns of PyCaret's table of a cross-validation, by Modelbook's names of metrics."""
        columns = self.task.pycaret_metric_names | {name: name for name in self._metrics}
        return {name: table[column] for name, column in columns.items()}

    def get_search_spaces(self, family: str) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the search distributions and grid of a candidate, without ``class_weight``.

        From ``spaces.RANGES``, otherwise PyCaret's.
        """
        if family in self._estimators:
            return search_distributions(
                family, self._estimators[family], self._search_spaces.get(family, {})
            )
        if family in spaces.RANGES:
            return to_distributions(family, spaces.RANGES[family])
        estimator = self.make_estimator(family)
        prefix = "estimator__" if isinstance(estimator, CalibratedClassifierCV) else ""
        parameters = estimator.get_params()
        ranges, grid = (
            {
                f"{prefix}{name}": values
                for name, values in space.items()
                if f"{prefix}{name}" in parameters and name != "class_weight"
            }
            for space in self.pycaret.get_search_spaces(family)
        )
        return ranges, grid

    def select_early_stopping_rows(self, fold: int, share: float) -> np.ndarray:
        """Mask of a fold's train rows for early stopping: whole groups, or the last periods."""
        groups = self._groups.iloc[self.cv_splits[fold][0]]
        names = np.unique(groups.to_numpy())
        if not self.split_strategy.is_forward:
            names = np.random.default_rng(self._seed + fold).permutation(names)
        n_stop = max(1, round(share * len(names)))
        return groups.isin(names[len(names) - n_stop :]).to_numpy()

    def make_default_pipeline(self, family: str) -> Any:
        """An unfitted pipeline of a family's preprocessing and its default parameters."""
        return self.make_pipeline(self.make_estimator(family), family)

    def make_estimator(self, family: str) -> Any:
        """An unfitted estimator with its defaults; ``create_model`` would fit it."""
        estimator, params = self._get_estimator_and_parameters(family)
        if family in boosters.BOOSTERS:
            estimator = self._make_booster(family).set_params(**params)
        elif isinstance(estimator, str):
            estimator = self.pycaret.make_estimator(estimator, params)
        else:
            estimator = clone(estimator).set_params(**params)
        if self.task.classes and not hasattr(estimator, "predict_proba"):
            return CalibratedClassifierCV(estimator, ensemble=False)
        return estimator

    def _make_booster(self, family: str) -> Any:
        return boosters.make_booster(
            family,
            n_classes=len(self.task.classes),
            category_columns=self._category_columns,
            seed=self._seed,
        )

    def _run_cross_validation(self, family: str, keep_model: bool) -> CrossValidation:
        """Cross-validate with PyCaret; the baseline is fitted without class balancing."""
        estimator, params = self._get_estimator_and_parameters(family)
        model = self.make_estimator(family)
        is_booster = family in boosters.BOOSTERS
        is_calibrated = isinstance(model, CalibratedClassifierCV)
        if not isinstance(estimator, str) or is_booster or is_calibrated:
            estimator = model
            params = {}
        return self.pycaret.cross_validate(
            estimator,
            params,
            steps=self._make_booster_steps() if is_booster else None,
            resample=family != BASELINE,
            keep_model=keep_model,
        )

    def _get_estimator_and_parameters(self, family: str) -> tuple[Any, dict[str, Any]]:
        """Estimator (or PyCaret's family name) and parameters for ``create_model``."""
        params = FAMILY_PARAMETERS.get(family, {})
        if self.task.classes:
            params = {**params, **CLASSIFIER_PARAMETERS.get(family, {})}
        estimator = self._estimators.get(family, family)
        if family == BASELINE or self._imbalance != class_balancing.CLASS_WEIGHTS:
            return estimator, params
        parameter_names = (
            self._make_booster(family)
            if family in boosters.BOOSTERS
            else self.pycaret.make_estimator(family, {})
            if estimator == family
            else estimator
        ).get_params()
        return class_balancing.add_class_weights(
            estimator,
            self.get_family_label(family),
            parameter_names,
            len(self.task.classes),
            params,
            self._seed,
        )

    def make_pipeline(self, estimator: Any, family: str = "") -> Any:
        """An unfitted pipeline of the preprocessing that suits a family, and an estimator."""
        pipeline = clone(self.pycaret.pipeline)
        if family in boosters.BOOSTERS:
            pipeline.steps = self._make_booster_steps()
        pipeline.steps.append(("model", clone(estimator)))
        return pipeline

    def _make_booster_steps(self) -> preprocessing.NamedSteps:
        """Unfitted steps for boosted trees: category codes; other columns are unchanged."""
        resampling = [step for step in self.pycaret.pipeline.steps if step[0] == RESAMPLING_STEP]
        steps = [*self._steps, ("codes", boosters.CategoryCodes()), *resampling]
        return [(name, clone(step)) for name, step in steps]

    def encode_fold(self, family: str, fold: int) -> tuple[Any, Any, Any]:
        """Return a fold's ``X_train, y_train, X_test`` as a family's estimator takes them.

        They are computed once for all families with the same preprocessing.
        """
        key = (family in boosters.BOOSTERS, fold)
        if key not in self._encoded_folds:
            train_index, test_index = self.cv_splits[fold]
            preprocessor = self.make_default_pipeline(family)
            preprocessor.steps.pop()
            features, y_train = self.features.iloc[train_index], self.target.iloc[train_index]
            encoded = preprocessor.fit_transform(features, y_train)
            # A tuple if rows are resampled.
            X_train, y_train = encoded if isinstance(encoded, tuple) else (encoded, y_train)
            X_test = preprocessor.transform(self.features.iloc[test_index])
            self._encoded_folds[key] = X_train, y_train, X_test
        return self._encoded_folds[key]

    def encode_folds(self, families: list[str]) -> None:
        """Encode all folds for these families, so that workers that are forked then share them."""
        for family in families:
            for fold in range(self.folds):
                self.encode_fold(family, fold)

    def predict_out_of_fold(self, pipeline: Any) -> ScoredRows:
        """Out-of-fold scores of the train rows; NaN for rows that no fold tests."""
        fold_scores = [self.fit_predict_fold(pipeline, *split) for split in self.cv_splits]
        scores = self.join_fold_scores(enumerate(fold_scores))
        return ScoredRows.from_arrays(self.target, scores, self.entities)

    def to_scored_rows(self, scores: np.ndarray) -> ScoredRows:
        """Scored rows from out-of-fold scores; rows without a score are dropped."""
        has_score = np.isfinite(scores).reshape(len(scores), -1).all(axis=1)
        return ScoredRows.from_arrays(self.target, scores, self.entities).select(has_score)

    def fit_predict_fold(
        self, pipeline: Any, train_index: np.ndarray, test_index: np.ndarray
    ) -> np.ndarray:
        """Fit a copy of the pipeline on the train rows and score the test rows, by position."""
        # A copy, because a refitted PyCaret pipeline keeps the columns of its first fit.
        fitted_pipeline = clone(pipeline).fit(
            self.features.iloc[train_index], self.target.iloc[train_index]
        )
        return self.task.predict_scores(fitted_pipeline, self.features.iloc[test_index])

    def evaluate_fold(self, metric: str, scores: np.ndarray, test_index: np.ndarray) -> float:
        """A metric of scores for the rows at these positions."""
        functions: dict[str, Callable[..., float]] = {
            **self.task.metric_functions(),
            **self._metrics,
        }
        return functions[metric](
            self.target.iloc[test_index].to_numpy(), scores, np.ones(len(test_index))
        )

    def evaluate_folds(self, metric: str, out_of_fold_scores: np.ndarray) -> np.ndarray:
        """A metric in each fold of out-of-fold scores; NaN in a fold without scores."""
        values = np.full(self.folds, np.nan)
        for fold, (_, test_index) in enumerate(self.cv_splits):
            scores = out_of_fold_scores[test_index]
            if np.isfinite(scores).all():
                values[fold] = self.evaluate_fold(metric, scores, test_index)
        return values

    def resolve_score_metric(self, metric: str) -> str:
        """The ranking metric if it can be computed from scores, otherwise the headline metric."""
        is_known = metric in self.task.metric_functions() or metric in self._metrics
        return metric if is_known else self.task.headline_metric

    def join_fold_scores(self, fold_scores: Iterable[tuple[int, np.ndarray]]) -> np.ndarray:
        """Join pairs of fold and scores to ``ScoredRows.score``; NaN for rows of other folds."""
        by_fold = dict(fold_scores)
        columns = next(iter(by_fold.values())).shape[1:]
        scores = np.full((len(self.target), *columns), np.nan)
        for fold, fold_score in by_fold.items():
            scores[self.cv_splits[fold][1]] = fold_score
        return scores
