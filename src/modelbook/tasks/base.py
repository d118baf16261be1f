"""Base class of the tasks: training, prediction, metrics, and descriptions in reports."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd

from modelbook import config
from modelbook.errors import ParameterError
from modelbook.formatting import KeyNumber, format_ci, format_share, key_number, render_sentences
from modelbook.tasks.cost_matrix import DecisionCosts
from modelbook.tasks.intervals import find_weaker_slices
from modelbook.tasks.metric_format import LOWER_IS_BETTER, format_gain, format_metric, metric_label
from modelbook.tasks.metrics import MetricFunction
from modelbook.tasks.performance_estimation import EstimatedMetric
from modelbook.tasks.savings import SIMPLE, list_savings, project_policies
from modelbook.tasks.scored_rows import ScoredRows

if TYPE_CHECKING:
    from modelbook.contract import Contract

TEMPLATE_FOLDER = Path(__file__).parent / "templates"
MAX_SMALL_ROWS = 2000  # of the training rows of a small table
YEAR_WIDENING = 1.6  # z = 3.1 instead of 1.96
MetricRows = dict[str, Any]  # metric name to its row of ``evaluate_metrics``


@dataclass(frozen=True)
class PyCaretMetric:
    """A metric that PyCaret lacks: its name in the leaderboard, and its function."""

    name: str
    compute: Callable[..., float]
    prediction_type: str = "pred_proba"  # or pred
    greater_is_better: bool = True


class Task(ABC):
    """The task of a contract.

    Attributes
    ----------
    experiment_type : str
        PyCaret's experiment type: ``classification`` or ``regression``.
    response_method : str
        The prediction method of a fitted pipeline.
    default_families : tuple of str
        Families compared by default, in an order that puts strong ones within a short budget.
    small_table_families : tuple of str
        Further families that are compared by default with at most ``MAX_SMALL_ROWS`` rows: the
        time that they take grows with the square of the rows.
    simple_families : tuple of str
        Families that count as simple; the first is the simple model that others are compared with.
    pycaret_metric_names : dict
        The leaderboard's metric names, mapped to PyCaret's.
    ranking_metrics : tuple of str
        Metrics that may rank the leaderboard; the first is the default.
    headline_metric : str
        The main metric of reports, slices and monitoring; the first of ``metric_functions``.
    baseline_metric : str
        The metric in which a model must beat the baseline.
    quality_metric, default_min_quality, quality_chance_level : str, float, float
        The metric of the gate's minimum quality, the default minimum, and its value by chance.
    calibration_metric, calibration_subject : str
        The metric of calibration-in-the-large, where 0 is perfect; the values that it is of.
    champion_metrics : tuple of str
        Metrics in which candidate and champion are compared.
    slice_metrics, fairness_metrics : tuple of str
        Additional metrics by slice; metrics compared between groups of a sensitive column, of which
        the first is described in sentences.
    gap_unit : str
        Unit of hundredths of a gap between groups, as ``normalization_factor`` makes it.
    row_error_label : str
        Name of the error of one row, see ``compute_row_errors``.
    row_loss_label, row_loss_bound : str, float or None
        Name of the loss of one row, see ``compute_row_losses``, and the largest loss if there is
        one.
    univariate_measure, univariate_chance_level : str, float
        Name of ``univariate_score``, and its value for an uninformative column.
    """

    name: ClassVar[str]
    experiment_type: ClassVar[str] = "classification"
    response_method: ClassVar[str] = "predict_proba"
    default_families: ClassVar[tuple[str, ...]] = (
        "lr", "lightgbm", "hgb", "catboost", "et", "rf", "mlp", "lda", "nb", "knn", "dt"
    )  # fmt: skip
    small_table_families: ClassVar[tuple[str, ...]] = ("rbfsvm",)
    simple_families: ClassVar[tuple[str, ...]] = ("lr", "lda", "nb")
    pycaret_metric_names: ClassVar[dict[str, str]]
    ranking_metrics: ClassVar[tuple[str, ...]]
    headline_metric: ClassVar[str] = "roc_auc"
    baseline_metric: ClassVar[str] = "log_loss"
    quality_metric: ClassVar[str] = "roc_auc"
    default_min_quality: ClassVar[float] = 0.6
    quality_chance_level: ClassVar[float] = 0.5
    calibration_metric: ClassVar[str] = "calibration_in_the_large"
    calibration_subject: ClassVar[str] = "predictions"
    champion_metrics: ClassVar[tuple[str, ...]]
    slice_metrics: ClassVar[tuple[str, ...]]
    fairness_metrics: ClassVar[tuple[str, ...]]
    gap_unit: ClassVar[str] = "percentage points"
    row_error_label: ClassVar[str] = "log loss"
    row_loss_label: ClassVar[str] = "Brier score"
    row_loss_bound: ClassVar[float | None] = 1.0
    univariate_measure: ClassVar[str] = "ROC AUC"
    univariate_chance_level: ClassVar[float] = 0.5

    def __init__(self, contract: Contract) -> None:
        self.contract = contract
        self.classes = contract.classes

    # Parameters of a book

    def resolve_families(self, families: list[str], n_rows: int | None = None) -> list[str]:
        """The given families, or the defaults of a table with so many rows; None: a large table.

        Raises
        ------
        ParameterError
            If a family is unknown.
        """
        for family in families:
            if family != config.AUTO:
                self._check_family(family)
        if families != [config.AUTO]:
            return families
        is_small = n_rows is not None and n_rows <= MAX_SMALL_ROWS
        return [*self.default_families, *(self.small_table_families if is_small else ())]

    def _check_family(self, family: str) -> None:
        available_families = config.FAMILIES[self.experiment_type]
        known_names: set[str] = {*available_families}
        if config.CLASS_NAME.fullmatch(family):
            known_names |= {*estimator_classes(self.experiment_type)}
        if family not in known_names:
            raise ParameterError(
                f"families: {family!r} does not support {self.experiment_type}; "
                f"{config.suggest_name(family, known_names)}",
                expected=f"families for a {self.name} task: {' '.join(available_families)}, "
                "or a class of scikit-learn",
                next="correct `families` in the book's env file, or set families: auto",
            )
        package = config.FAMILY_PACKAGES.get(family)
        if package and not find_spec(package):
            raise ParameterError(
                f"families: {family!r} needs the package {package}, which is not installed",
                expected="a family whose package is installed",
                next=f"install it: .venv/bin/pip install {config.FAMILY_DISTRIBUTIONS[family]}; "
                f"or leave {family} out",
            )

    def resolve_metric(self, metric: str, custom_metrics: Collection[str] = ()) -> str:
        """The given ranking metric or the default; raises ParameterError for an unknown metric.

        Parameters
        ----------
        custom_metrics : collection of str
            Names of custom metrics.
        """
        if metric == config.AUTO:
            return self.ranking_metrics[0]
        if metric in (*self.ranking_metrics, *custom_metrics):
            return metric
        from modelbook.tasks.scorers import is_scorer_of_task  # imports scikit-learn

        if is_scorer_of_task(self, metric):
            return metric
        raise ParameterError(
            f"metric: {metric!r} cannot rank models of a {self.name} task",
            expected=f"one of {', '.join(('auto', *self.ranking_metrics, *custom_metrics))}; "
            f"or a scorer of scikit-learn for {self.experiment_type}, as "
            f"{'balanced_accuracy' if self.classes else 'neg_median_absolute_error'}",
            next="correct `metric` in the book's env file, or define it in the file of "
            "`metrics_file`",
        )

    def resolve_imbalance(self, imbalance: str) -> str:
        """The given class balancing; raises ParameterError if the task has no classes."""
        if imbalance != config.NONE and not self.classes:
            raise ParameterError(
                f"imbalance: {imbalance!r} balances classes, and a {self.name} task has none",
                expected="imbalance: none",
                next="correct `imbalance` in the book's env file",
            )
        return imbalance

    def check_params(self, params: config.Compare) -> None:
        """Raise ParameterError if a parameter of compare does not fit the task."""
        self.resolve_families(params.families)
        if params.metrics_file == config.NONE:  # otherwise the file defines the metrics
            self.resolve_metric(params.metric)
        self.resolve_imbalance(params.imbalance)

    def resolve_min_quality(self, min_quality: float | str) -> float:
        return self.default_min_quality if isinstance(min_quality, str) else min_quality

    # Training and prediction

    def additional_metrics(self) -> tuple[PyCaretMetric, ...]:
        """Metrics of the leaderboard that PyCaret lacks."""
        return ()

    def fold_metric(self, name: str) -> Callable[..., float]:
        """A metric with PyCaret's signature; NaN if the fold cannot be scored.

        PyCaret replaces a metric that raises by 0, which is the best value of a log loss.
        """
        metric = self.metric_functions()[name]

        def compute(outcome: Any, score: Any, **_: Any) -> float:
            outcome = np.asarray(outcome)
            score = np.asarray(score, dtype=float)
            if not self.is_evaluable(outcome) or not np.isfinite(score).all():
                return np.nan
            return float(metric(outcome, score, np.ones(len(outcome))))

        return compute

    @abstractmethod
    def predict_scores(self, pipeline: Any, rows: pd.DataFrame) -> np.ndarray:
        """Scores of a fitted pipeline, in the form of ``ScoredRows.score``.

        The rows are numbered again: with pandas 3 PyCaret's imputers sort them by their index.
        """

    def extract_scores(self, response: np.ndarray) -> np.ndarray:
        """Convert the output of the response method to the form of ``ScoredRows.score``."""
        return response

    @abstractmethod
    def prediction_columns(self) -> dict[str, str]:
        """The output columns of a served model, and their MLflow types."""

    @abstractmethod
    def make_predictions(self, score: np.ndarray, threshold: float | None) -> pd.DataFrame:
        """Convert scores to predictions with the columns of ``prediction_columns``."""

    @abstractmethod
    def scores_from_predictions(self, predictions: pd.DataFrame) -> np.ndarray:
        """Recover the scores from a served model's predictions."""

    def score_columns(self, score: np.ndarray) -> dict[str, np.ndarray]:
        """Scores as table columns; ``scores_from_columns`` is the inverse."""
        return {"score": score}

    def scores_from_columns(self, table: pd.DataFrame) -> np.ndarray:
        return table["score"].to_numpy()

    def score_rows(self, pipeline: Any, rows: pd.DataFrame) -> ScoredRows:
        """Score labelled rows with a pipeline."""
        scores = self.predict_scores(pipeline, self.contract.select_features(rows))
        return ScoredRows.from_arrays(
            self.contract.encode_checked_target(rows), scores, self.contract.entity_ids(rows)
        )

    def restore_scored_rows(self, rows: pd.DataFrame) -> ScoredRows:
        """ScoredRows from rows stored together with their scores."""
        return ScoredRows.from_arrays(
            self.contract.encode_checked_target(rows),
            self.scores_from_columns(rows),
            self.contract.entity_ids(rows),
        )

    # Metrics

    @abstractmethod
    def metric_functions(self, threshold: float | None = None) -> dict[str, MetricFunction]:
        """Every metric function by name, the headline metric first."""

    def is_evaluable(self, outcome: np.ndarray) -> bool:
        """Whether metrics are defined for these outcomes."""
        return len(np.unique(outcome)) > 1

    @abstractmethod
    def choose_threshold(self, scored: ScoredRows, costs: Any) -> tuple[float | None, pd.DataFrame]:
        """Choose the threshold (or None) from out-of-fold scores; returns it and a table."""

    # Decisions and their costs

    @abstractmethod
    def read_costs(self, params: config.Finalize) -> DecisionCosts:
        """The costs that the parameters state; raises ParameterError if they do not fit."""

    def costs_from_parameters(self, costs: dict[str, Any]) -> DecisionCosts:
        """The inverse of ``DecisionCosts.parameters``."""
        return self.read_costs(config.Finalize(**costs))

    def decide(self, score: np.ndarray, threshold: float | None) -> np.ndarray:
        """The decision on each row that follows from its score."""
        return score

    @abstractmethod
    def measure_decisions(self, outcome: np.ndarray, decision: np.ndarray) -> dict[str, np.ndarray]:
        """Consequences of the decisions for each row, by name: the action, and errors."""

    def selection_consequences(self) -> tuple[str, ...]:
        """Names of the consequences that describe decisions; empty for a regression."""
        return ()

    @abstractmethod
    def compute_curves(
        self, scored: ScoredRows, *, resamples: int, seed: int
    ) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Two tables for the diagnostic curves of the task."""

    @property
    def class_names(self) -> list[str]:
        """Names of the classes, of two the positive one last."""
        return self.classes

    def tabulate_errors(self, scored: ScoredRows, threshold: float | None) -> pd.DataFrame:
        """The confusion matrix, with actual classes in rows; a regression has a histogram."""
        from sklearn.metrics import confusion_matrix

        names = pd.Index(self.class_names)
        decision = self.decide(scored.score, threshold)
        counts = confusion_matrix(scored.outcome, decision, labels=range(len(names)))
        return pd.DataFrame(counts, index=names.rename("actual"), columns=names.rename("predicted"))

    @abstractmethod
    def compute_row_errors(self, scored: ScoredRows) -> np.ndarray:
        """Error of each prediction, 0 or more; shape (rows,)."""

    @abstractmethod
    def compute_row_losses(self, scored: ScoredRows) -> np.ndarray:
        """Loss of each prediction for comparing means, bounded for classes; shape (rows,)."""

    def compute_nonconformity_scores(self, scored: ScoredRows) -> np.ndarray | None:
        """How far each outcome is from its prediction; None without conformal predictions."""
        return None

    def choose_loss_bound(self, metrics: dict[str, Any]) -> float | None:
        """Largest loss of a row in an A/B test, from a version's metrics; None: no bound."""
        return self.row_loss_bound

    @abstractmethod
    def tabulate_actual_and_predicted(self, scored: ScoredRows) -> pd.DataFrame:
        """Actual and predicted values by row, formatted; columns ``actual, predicted``."""

    def select_calibration_pairs(self, scored: ScoredRows) -> ScoredRows:
        """Pairs of one predicted value and its outcome per row, for the reliability curve."""
        return scored

    @abstractmethod
    def summarize_outcome(self, outcome: np.ndarray) -> dict[str, float]:
        """A summary statistic of the target by its name, e.g. ``positive_rate`` or ``mean``."""

    def compute_improvement(self, metric: str, value: Any, reference: Any) -> Any:
        """Improvement of a metric's value over the reference; element-wise."""
        return reference - value if metric in LOWER_IS_BETTER else value - reference

    def normalization_factor(self, reference: float) -> float:
        """Factor that makes a metric unitless, relative to ``reference``; 1 for rates."""
        return 1.0

    def compute_outcome_sd(self, rows: MetricRows) -> float:
        """Standard deviation of a numeric outcome, from the baseline's metrics; 1 for classes."""
        return 1.0

    def estimate_headline_metric(
        self, score: np.ndarray, reference: ScoredRows
    ) -> EstimatedMetric | None:
        """Estimate the headline metric without outcomes; None if the task does not support it."""
        return None

    def make_drift_frame(self, score: np.ndarray, outcome: Any) -> tuple[pd.DataFrame, list[str]]:
        """Columns ``score, outcome`` for drift detection, and the names of the numeric ones."""
        return pd.DataFrame({"score": score, "outcome": outcome}), ["score"]

    def assess_metric_drop(self, row: Any) -> tuple[float, bool, str]:
        """Drop of the headline metric, whether it is significant, and a description.

        See ``is_beyond_chance``.
        """
        drop = row["reference"] - row["value"]
        reference_error = row["reference"] - row.get("reference_low", row["reference"])
        is_significant = is_beyond_chance(drop, row["high"] - row["value"], reference_error)
        text = (
            f"{metric_label(self.headline_metric)} {format_metric(row['value'])} (upper 95% bound "
            f"{format_metric(row['high'])}) is {format_metric(drop)} below the matched holdout's "
            f"{format_metric(row['reference'])}"
        )
        return drop, is_significant, text

    def describe_gain(self, metric: str, gain: float, low: float, high: float) -> str:
        """Describe a gain of ``compute_improvement`` with its interval, starting with the verb."""
        return format_gain(metric, gain, describe_size(gain, low, high, format_metric))

    def format_drop_limit(self, max_drop: float) -> str:
        """Format the limit of ``assess_metric_drop``."""
        return f"{max_drop:g}"

    def assess_calibration(self, rows: MetricRows) -> tuple[float, str]:
        """Calibration-in-the-large and its description."""
        bias = rows[self.calibration_metric]["value"]
        direction = "high" if bias > 0 else "low"
        return bias, (
            f"{self.calibration_subject} are {100 * abs(bias):.1f} percentage points too "
            f"{direction} on average"
        )

    # Exploration

    @abstractmethod
    def summarize_target_by_period(self, frame: pd.DataFrame) -> pd.DataFrame:
        """The target by period, with confidence intervals."""

    @property
    def target_name(self) -> str:
        """What figures of the target show: its label, or the name of the positive class."""
        return self.contract.label(self.contract.target)

    def encode_for_figures(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Encode the target as the task's figures expect it."""
        return frame

    @abstractmethod
    def univariate_score(
        self, values: pd.Series, is_categorical: bool, outcome: pd.Series
    ) -> tuple[float, str]:
        """Univariate association with the target, from ``univariate_chance_level`` to 1.

        The second value is the direction: ``higher``, ``lower``, or empty.
        """

    # Descriptions

    @abstractmethod
    def describe_target(self, frame: pd.DataFrame, population: str) -> str:
        """Describe the target's distribution over ``population``, such as "the training rows"."""

    @abstractmethod
    def target_key_number(self, frame: pd.DataFrame) -> KeyNumber:
        """The target's rate, share or mean as a key number."""

    def _render(self, name: str, **values: Any) -> list[str]:
        """Render sentences of the task's template."""
        return render_sentences(TEMPLATE_FOLDER / f"{self.name}.txt.j2", name, **values)

    def sentence_values(self, threshold: float | None, value: dict[str, Any]) -> dict[str, Any]:
        """Further values for the templates of performance and quality."""
        return {}

    def describe_performance(
        self, rows: MetricRows, population: str, threshold: float | None, value: dict[str, Any]
    ) -> list[str]:
        """Describe performance for the finalize report: sentences that follow the model's name.

        ``value`` is of ``business_value.measure_value``: with a capacity that limits the model,
        decisions at capacity come first. Empty if it is unknown.
        """
        values = self.sentence_values(threshold, value)
        return self._render("performance", rows=rows, population=population, **values)

    def describe_quality(
        self, rows: MetricRows, threshold: float | None, value: dict[str, Any]
    ) -> str:
        """Describe performance for the model card; ``value`` as in ``describe_performance``."""
        values = self.sentence_values(threshold, value)
        return " ".join(self._render("quality", rows=rows, **values))

    @abstractmethod
    def make_key_numbers(self, rows: MetricRows) -> list[KeyNumber]:
        """The key numbers of a model, the headline metric first."""

    @abstractmethod
    def get_phrases(self) -> dict[str, str]:
        """Return what texts call ``baseline``, ``prediction``, ``target`` and ``importance``.

        The last is the unit of permutation importance.
        """

    def make_metrics_caption(self, threshold: float | None, *, has_capacity: bool = False) -> str:
        """Caption that explains the metrics, which no capacity limits."""
        return " ".join(self._render("metrics_caption"))

    def describe_calibration(self, rows: MetricRows) -> str:
        """Describe calibration for the model card."""
        [sentence] = self._render("calibration", row=rows[self.calibration_metric])
        return sentence

    def describe_gap(self, row: dict[str, Any]) -> str:
        """Describe a gap between groups: metric, groups, both values and their difference.

        ``row`` is of ``fairness.measure_fairness_gaps``. The caller adds the interval, whose width
        depends on the number of comparisons.
        """
        groups = {
            "group": self.contract.label_group(row["slice"], row["value"]),
            "reference": self.contract.label_group(row["slice"], row["reference"]),
        }
        [sentence] = self._render_shared("gap_difference", row=self.label_gap({**row, **groups}))
        return sentence

    def positive_rate(self, scored: ScoredRows) -> float | None:
        """Share of positive rows; None unless the task is binary."""
        return None

    def describe_business_value(self, value: dict[str, Any]) -> str:
        """Describe the savings of the model, from ``business_value.measure_value``."""
        [sentence] = self._render_shared(
            "business_value",
            value=value,
            model=project_policies(value)[0],
            savings=list_savings(value),
        )
        return sentence

    def describe_saving_over_simple(self, value: dict[str, Any], metrics: list[str]) -> str:
        """Describe the saving over the simple model, if it is not significant; else empty.

        Parameters
        ----------
        value : dict
            From ``business_value.measure_value``.
        metrics : list of str
            Metrics in which the model is significantly better than the simple model.
        """
        rows = [row for row in project_policies(value) if row["kind"] == SIMPLE] if value else []
        if (
            not metrics
            or not rows
            or not rows[0]["model_saving_low"] <= 0 <= rows[0]["model_saving_high"]
        ):
            return ""
        labels = list(map(metric_label, metrics))
        return " ".join(
            self._render_shared("saving_over_simple", value=value, row=rows[0], metrics=labels)
        )

    def describe_fairness_gaps(self, gaps: dict[str, list[MetricRows]]) -> list[str]:
        """Describe the largest gaps between groups, and name all significant sensitive ones.

        ``gaps`` is of ``fairness.summarize_gaps``.
        """
        kinds = ("conclusive", "inconclusive")
        labelled = {kind: [self.label_gap(row) for row in gaps[kind]] for kind in kinds}
        columns = self.contract.columns_with_role("sensitive")
        sensitive = [row for row in labelled["conclusive"][1:] if row["slice"] in columns]
        uncovered = " ".join(self.describe_uncovered_gaps(gaps))
        return [
            *self._render_shared("fairness_gaps", **labelled, sensitive=sensitive),
            *filter(None, [uncovered]),
        ]

    def describe_uncovered_gaps(self, gaps: dict[str, list[MetricRows]]) -> list[str]:
        """Describe which gaps the gate's fairness criterion leaves out: of no sensitive column.

        The second sentence says how the contract changes that.
        """
        sensitive = self.contract.columns_with_role("sensitive")
        columns = [row["slice"] for row in [*gaps["conclusive"], *gaps["inconclusive"]]]
        uncovered = [name for name in dict.fromkeys(columns) if name not in sensitive]
        return self._render_shared(
            "uncovered",
            metric=metric_label(self.fairness_metrics[0]),
            sensitive=list(map(self.contract.label, sensitive)),
            uncovered=list(map(self.contract.label, uncovered)),
        )

    def describe_overall_metrics(self, gaps: list[MetricRows]) -> str:
        """Describe the shares that ``gaps`` compare, of all rows: recall, selection rate, accuracy.

        Empty for other metrics, and for versions of 1.0.0, which do not store them.
        """
        labelled = [self.label_gap(row) for row in gaps if "overall" in row]
        shares = dict.fromkeys(
            f"{row['label']} {format_share(row['overall'], 1)}"
            for row in labelled
            if row["is_share"] and not row["is_bias"]
        )
        return ", ".join(shares)

    def describe_labelled_gap(self, row: dict[str, Any]) -> str:
        """Describe a gap of ``fairness.summarize_gaps``, and the rows that would decide it."""
        [sentence] = self._render_shared("labelled_gap", row=self.label_gap(row))
        return sentence

    def describe_group_metrics(self, row: dict[str, Any]) -> str:
        """Describe the metric of both groups of a gap of ``fairness.summarize_gaps``."""
        [sentence] = self._render_shared("group_metrics", row=self.label_gap(row))
        return sentence

    def label_gap(self, row: dict[str, Any]) -> dict[str, Any]:
        """A gap with the ``label`` of its metric, and what its sentences need.

        ``has_ci_alone``: of a sensitive column, with the interval that is not widened for the other
        gaps; ``is_significant_alone``: by that interval only.
        """
        label = f"{metric_label(row['metric'])} {row.get('decision', '')}".strip()
        target = self.contract.label(self.contract.target)
        is_share = bool(self.classes) and row["metric"] != "roc_auc"  # written as elsewhere: 0.765
        is_sensitive = row["slice"] in self.contract.columns_with_role("sensitive")
        has_ci_alone = is_sensitive and "low_alone" in row and row["n_gaps"] > 1
        return {
            **row,
            "label": label,
            "is_share": is_share,
            "is_bias": row["metric"] == self.calibration_metric,
            "target": target,
            "has_ci_alone": has_ci_alone,
            "is_significant_alone": has_ci_alone
            and row["low"] <= 0 <= row["high"]
            and not row["low_alone"] <= 0 <= row["high_alone"],
        }

    def describe_consequences(
        self, consequences: pd.DataFrame, largest: dict[str, Any] | None, value: dict[str, Any]
    ) -> list[str]:
        """Describe what changes from the champion, the largest change first; empty without one.

        Parameters
        ----------
        consequences, largest : DataFrame, dict or None
            From ``evaluation.consequences``.
        value : dict
            From ``evaluation.business_value.compare_versions``: names of versions, rows and unit.
        """
        if consequences.empty:
            return []
        rows = {row["consequence"]: row for row in consequences.to_dict("records")}
        return self._render("consequences", rows=rows, largest=largest, value=value)

    def _render_shared(self, name: str, **values: Any) -> list[str]:
        return render_sentences(TEMPLATE_FOLDER / "shared.txt.j2", name, **values)

    def describe_weakest_slice(self, slices: pd.DataFrame, overall: float) -> str:
        """Describe the slice with the worst headline metric; empty without slices.

        Other slices are named if their whole interval, widened for the number of slices, is worse
        than ``overall``, the metric on all rows.
        """
        if slices.empty:
            return ""
        metric = self.headline_metric
        labelled = slices.assign(
            value=slices[metric],
            group=list(map(self.contract.label_group, slices["slice"], slices["value"])),
        ).sort_values("value", ascending=metric not in LOWER_IS_BETTER, kind="stable")
        weakest, *others = find_weaker_slices(labelled, metric, overall).to_dict("records")
        weaker = [row for row in others if row["is_weaker"]]
        sentences = self._render_shared(
            "weakest_slice",
            row=weakest,
            others=weaker,
            n_slices=len(slices),
            metric=metric_label(metric),
            overall=overall,
        )
        has_note = weakest["is_weaker"] or bool(weaker)
        return " ".join([*sentences, *(self._render("slice_note") if has_note else [])])


def describe_size(gain: float, low: float, high: float, format_: Callable[[float], str]) -> str:
    """The size of a gain or a loss with its interval, in its own direction."""
    bounds = (low, high) if gain >= 0 else (-high, -low)
    return f"{format_(abs(gain))} ({format_ci(*bounds, format_)})"


def estimator_classes(experiment_type: str) -> dict[str, type]:
    """scikit-learn's classifiers or regressors by the names of their classes."""
    from sklearn.utils.discovery import all_estimators

    kind = {"classification": "classifier", "regression": "regressor"}[experiment_type]
    return dict(all_estimators(type_filter=kind))


def is_beyond_chance(drop: float, error: float, reference_error: float) -> bool:
    """Whether a drop exceeds the errors of both sides, over a year of weekly windows.

    The errors are half the widths of 95% intervals; they are joined by square-and-add (Newcombe
    1998) and widened for the number of windows, which share the reference's error.
    """
    return bool(drop > YEAR_WIDENING * np.hypot(error, reference_error))


def metric_key_number(label: str, row: Any) -> KeyNumber:
    """A metric as a key number, with its interval and the baseline's value."""
    interval = (row["low"], row["high"])
    compared_with = {"baseline": row["baseline"]}
    return key_number(label, row["value"], interval=interval, compared_with=compared_with)
