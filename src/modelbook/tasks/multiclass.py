"""Multiclass classification: a probability for each class, the most probable is predicted."""

from __future__ import annotations

from functools import partial
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from modelbook.config import Finalize
from modelbook.config.values import parse_class_costs
from modelbook.contract.counts import count_values
from modelbook.errors import ParameterError, TrainingError
from modelbook.formatting import KeyNumber, format_share, key_number
from modelbook.tasks.base import MetricRows, PyCaretMetric, Task, metric_key_number
from modelbook.tasks.binary import (
    MIN_PROBABILITY,
    positive_rate_by_period,
    roc_curve,
    univariate_roc_auc,
)
from modelbook.tasks.cost_matrix import ClassCosts
from modelbook.tasks.metrics import MetricFunction, binary_roc_auc, safe_divide, weighted_mean
from modelbook.tasks.performance_estimation import EstimatedMetric, estimate_roc_auc
from modelbook.tasks.scored_rows import LOGIT, ScoredRows, jackknife_ci


def roc_auc(outcome: np.ndarray, score: np.ndarray, weight: np.ndarray) -> Any:
    """Macro-averaged one-vs-rest ROC AUC; absent classes are excluded."""
    return _compute_mean_over_classes(
        [binary_roc_auc(outcome == code, score[:, code], weight) for code in range(score.shape[1])]
    )


def row_log_losses(outcome: np.ndarray, score: np.ndarray) -> np.ndarray:
    """Log loss of each row."""
    return -np.log(np.clip(score[np.arange(len(outcome)), outcome], MIN_PROBABILITY, 1))


def row_brier_scores(outcome: np.ndarray, score: np.ndarray) -> np.ndarray:
    """Squared distance of the probabilities from the outcome, summed over the classes; 0 to 2."""
    return ((score - np.eye(score.shape[1])[outcome]) ** 2).sum(axis=1)


def log_loss(outcome: np.ndarray, score: np.ndarray, weight: np.ndarray) -> Any:
    return weighted_mean(row_log_losses(outcome, score), weight)


def brier_score(outcome: np.ndarray, score: np.ndarray, weight: np.ndarray) -> Any:
    return weighted_mean(row_brier_scores(outcome, score), weight)


def accuracy(outcome: np.ndarray, score: np.ndarray, weight: np.ndarray) -> Any:
    return weighted_mean(score.argmax(axis=1) == outcome, weight)


def overconfidence(outcome: np.ndarray, score: np.ndarray, weight: np.ndarray) -> Any:
    """Mean probability of the predicted class minus accuracy; 0 is perfect."""
    return np.round(
        weighted_mean(score.max(axis=1) - (score.argmax(axis=1) == outcome), weight), 12
    )


def class_metrics(code: int) -> dict[str, MetricFunction]:
    """Recall, precision and F1 of one class; NaN where undefined."""

    def compute_rate(kind: str, outcome: np.ndarray, score: np.ndarray, weight: np.ndarray) -> Any:
        is_predicted = score.argmax(axis=1) == code
        is_actual = outcome == code
        true_positives, predicted_positives, actual_positives = (
            weight @ mask for mask in (is_predicted & is_actual, is_predicted, is_actual)
        )
        return safe_divide(
            true_positives,
            {
                "recall": actual_positives,
                "precision": predicted_positives,
                "f1": (actual_positives + predicted_positives) / 2,
            }[kind],
        )

    return {kind: partial(compute_rate, kind) for kind in ("recall", "precision", "f1")}


def f1(outcome: np.ndarray, score: np.ndarray, weight: np.ndarray) -> Any:
    """Macro-averaged F1; classes neither present nor predicted are excluded."""
    return _compute_mean_over_classes(
        [class_metrics(code)["f1"](outcome, score, weight) for code in range(score.shape[1])]
    )


def _compute_mean_over_classes(values: list[Any]) -> Any:
    """Mean of the finite values."""
    is_defined = np.isfinite(values)
    return safe_divide(np.where(is_defined, values, 0).sum(axis=0), is_defined.sum(axis=0))


METRICS: dict[str, MetricFunction] = {
    "roc_auc": roc_auc, "accuracy": accuracy, "f1": f1, "log_loss": log_loss, "brier": brier_score,
    "overconfidence": overconfidence,
}  # fmt: skip


class Multiclass(Task):
    """Multiclass classification."""

    name = "multiclass"
    pycaret_metric_names: ClassVar = {
        "roc_auc": "Macro AUC",
        "log_loss": "Log loss",
        "accuracy": "Accuracy",
        "f1": "Macro F1",
        "mcc": "MCC",
    }
    row_loss_bound = 2.0
    ranking_metrics = ("roc_auc", "log_loss", "f1", "accuracy", "mcc")
    calibration_metric = "overconfidence"
    calibration_subject = "probabilities of the predicted class"
    univariate_measure = "mean ROC AUC"
    champion_metrics = ("roc_auc", "accuracy", "log_loss", "brier")
    slice_metrics = ("accuracy", "overconfidence")
    fairness_metrics = ("accuracy", "roc_auc", "overconfidence")

    def additional_metrics(self) -> tuple[PyCaretMetric, ...]:
        """Macro-averaged metrics as on the holdout; PyCaret's are weighted by class size."""
        from sklearn.metrics import f1_score

        def macro_f1(y_true: Any, y_pred: Any, **_: Any) -> float:
            return float(f1_score(y_true, y_pred, average="macro"))

        return (
            PyCaretMetric("Macro AUC", self.fold_metric("roc_auc")),
            PyCaretMetric("Log loss", self.fold_metric("log_loss"), greater_is_better=False),
            PyCaretMetric("Macro F1", macro_f1, prediction_type="pred"),
        )

    def predict_scores(self, pipeline: Any, rows: pd.DataFrame) -> np.ndarray:
        probabilities = pipeline.predict_proba(rows.reset_index(drop=True))
        if probabilities.shape[1] != len(self.classes):
            raise TrainingError(
                f"the model has {probabilities.shape[1]} of the {len(self.classes)} classes",
                expected="rows of every class in training",
                next="use more rows (sample), or merge rare classes in table and contract",
            )
        return probabilities

    @property
    def _probability_columns(self) -> list[str]:
        return [f"probability_{name}" for name in self.classes]

    def prediction_columns(self) -> dict[str, str]:
        return {"prediction": "string"} | dict.fromkeys(self._probability_columns, "double")

    def make_predictions(self, score: np.ndarray, threshold: float | None) -> pd.DataFrame:
        predictions = np.array(self.classes, dtype=object)[score.argmax(axis=1)]
        return pd.DataFrame({"prediction": predictions, **self.score_columns(score)})

    def scores_from_predictions(self, predictions: pd.DataFrame) -> np.ndarray:
        return predictions[self._probability_columns].to_numpy()

    def score_columns(self, score: np.ndarray) -> dict[str, np.ndarray]:
        return dict(zip(self._probability_columns, score.T, strict=True))

    def scores_from_columns(self, table: pd.DataFrame) -> np.ndarray:
        return self.scores_from_predictions(table)

    def estimate_headline_metric(
        self, score: np.ndarray, reference: ScoredRows
    ) -> EstimatedMetric | None:
        return estimate_roc_auc(
            score, reference.score, reference.outcome[:, None] == np.arange(len(self.classes))
        )

    def metric_functions(self, threshold: float | None = None) -> dict[str, MetricFunction]:
        return METRICS

    def choose_threshold(self, scored: ScoredRows, costs: Any) -> tuple[float | None, pd.DataFrame]:
        """No threshold; predicted and actual share by class: ``class, predicted, actual``."""
        n_classes = len(self.classes)
        predicted_share, actual_share = (
            np.bincount(codes, minlength=n_classes) / len(scored)
            for codes in (scored.score.argmax(axis=1), scored.outcome)
        )
        return None, pd.DataFrame(
            {"class": self.classes, "predicted": predicted_share, "actual": actual_share}
        )

    def read_costs(self, params: Finalize) -> ClassCosts:
        errors = parse_class_costs(params.class_costs)
        unknown = sorted({name for pair in errors for name in pair} - {*self.classes})
        if unknown:
            raise ParameterError(
                f"class_costs: {', '.join(unknown)} is not a class of the target",
                expected=f"classes among {', '.join(self.classes)}",
                next="correct `class_costs` in the book's env file",
            )
        return ClassCosts(list(self.classes), errors)

    def decide(self, score: np.ndarray, threshold: float | None) -> np.ndarray:
        return score.argmax(axis=1)

    def measure_decisions(self, outcome: np.ndarray, decision: np.ndarray) -> dict[str, np.ndarray]:
        predicted = {f"predicted {name}": decision == i for i, name in enumerate(self.classes)}
        return {**predicted, "errors": decision != outcome}

    def selection_consequences(self) -> tuple[str, ...]:
        return tuple(f"predicted {name}" for name in self.classes)

    def compute_curves(
        self, scored: ScoredRows, *, resamples: int, seed: int
    ) -> tuple[pd.DataFrame, pd.DataFrame]:
        """One-vs-rest ROC curves, and recall, precision and F1 by class, with intervals."""
        options = {"resamples": resamples, "seed": seed}
        return self._compute_roc_curves(scored, **options), self._measure_classes(scored, **options)

    def _compute_roc_curves(self, scored: ScoredRows, resamples: int, seed: int) -> pd.DataFrame:
        curves = []
        for code, name in enumerate(self.classes):
            one_vs_rest = ScoredRows(scored.outcome == code, scored.score[:, code], scored.entity)
            if self.is_evaluable(one_vs_rest.outcome):
                weight = np.ones(len(one_vs_rest))
                area = binary_roc_auc(one_vs_rest.outcome, one_vs_rest.score, weight)
                curve = roc_curve(one_vs_rest, resamples=min(resamples, 300), seed=seed, points=51)
                curves.append(curve.assign(area=area, **{"class": name}))
        return pd.concat(curves, ignore_index=True)[["class", "area", "fpr", "tpr", "low", "high"]]

    def _measure_classes(self, scored: ScoredRows, resamples: int, seed: int) -> pd.DataFrame:
        unit_weights = np.ones(len(scored))
        rows = []
        for code, name in enumerate(self.classes):
            one_vs_rest = ScoredRows(scored.outcome == code, scored.score[:, code], scored.entity)
            n_predicted = len(np.unique(scored.entity[scored.score.argmax(axis=1) == code]))
            for kind, metric in class_metrics(code).items():
                value = partial(metric, scored.outcome, scored.score)
                n_units = n_predicted if kind == "precision" else None
                options: dict[str, Any] = {"resamples": resamples, "seed": seed}
                ci = jackknife_ci(value, one_vs_rest, LOGIT, n_units=n_units, **options)
                rows.append((name, kind, value(unit_weights), *ci, int(one_vs_rest.outcome.sum())))
        return pd.DataFrame(rows, columns=["class", "metric", "value", "low", "high", "rows"])

    def select_calibration_pairs(self, scored: ScoredRows) -> ScoredRows:
        """The probability of the predicted class, and whether it was correct."""
        is_correct = (scored.score.argmax(axis=1) == scored.outcome).astype("int64")
        return ScoredRows(is_correct, scored.score.max(axis=1), scored.entity)

    def compute_row_errors(self, scored: ScoredRows) -> np.ndarray:
        return row_log_losses(scored.outcome, scored.score)

    def compute_row_losses(self, scored: ScoredRows) -> np.ndarray:
        return row_brier_scores(scored.outcome, scored.score)

    def compute_nonconformity_scores(self, scored: ScoredRows) -> np.ndarray:
        return 1 - scored.score[np.arange(len(scored)), scored.outcome]

    def tabulate_actual_and_predicted(self, scored: ScoredRows) -> pd.DataFrame:
        """The predicted value is the most probable class with its probability."""
        names = np.array(self.classes, dtype=object)
        predicted_codes = scored.score.argmax(axis=1)
        predictions = [
            f"{name} ({format_share(probability, 1)})"
            for name, probability in zip(names[predicted_codes], scored.score.max(axis=1))
        ]
        return pd.DataFrame({"actual": names[scored.outcome], "predicted": predictions})

    def summarize_outcome(self, outcome: np.ndarray) -> dict[str, float]:
        return {
            "majority_share": np.bincount(outcome).max() / len(outcome) if len(outcome) else np.nan
        }

    def make_drift_frame(self, score: np.ndarray, outcome: Any) -> tuple[pd.DataFrame, list[str]]:
        names = pd.Series(self.classes, dtype=object)
        predicted_classes = names.iloc[score.argmax(axis=1)].to_numpy()
        actual_classes = pd.Series(outcome, index=range(len(score))).map(names)
        return pd.DataFrame({"score": predicted_classes, "outcome": actual_classes}), []

    def summarize_target_by_period(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Share of each class by period; columns ``class, period, rows, share, low, high``."""
        outcome = self.contract.encode_checked_target(frame)
        periods = self.contract.row_periods(frame)
        tables = [
            positive_rate_by_period(outcome == code, periods).assign(**{"class": name})
            for code, name in enumerate(self.classes)
        ]
        columns = ["class", "period", "rows", "share", "low", "high"]
        table = pd.concat(tables, ignore_index=True).rename(columns={"positive_rate": "share"})
        return table[columns]

    def univariate_score(
        self, values: pd.Series, is_categorical: bool, outcome: pd.Series
    ) -> tuple[float, str]:
        """Macro-averaged one-vs-rest ROC AUC of the column, each reflected to at least 0.5."""
        class_scores = []
        for code in sorted(outcome.unique()):
            is_class = (outcome == code).astype(int)
            auc = univariate_roc_auc(
                values.map(is_class.groupby(values).mean()) if is_categorical else values,
                is_class.to_numpy(),
            )
            class_scores.append(max(auc, 1 - auc))
        return float(np.mean(class_scores)), ""

    def describe_target(self, frame: pd.DataFrame, population: str) -> str:
        share = count_values(self.contract.encode_checked_target(frame)) / len(frame)
        most = share.index[0]
        least = share.index[-1]
        [text] = self._render(
            "target",
            population=population,
            n_classes=len(self.classes),
            most=self.classes[most],
            most_share=share[most],
            least=self.classes[least],
            least_share=share[least],
        )
        return text

    def target_key_number(self, frame: pd.DataFrame) -> KeyNumber:
        share = count_values(self.contract.encode_checked_target(frame)) / len(frame)
        return key_number(f"share of {self.classes[share.index[0]]}", share.iloc[0], "share")

    def make_key_numbers(self, rows: MetricRows) -> list[KeyNumber]:
        metrics_shown = {
            "ROC AUC": "roc_auc",
            "accuracy": "accuracy",
            "F1": "f1",
            "log loss": "log_loss",
        }
        return [metric_key_number(name, rows[metric]) for name, metric in metrics_shown.items()]

    def get_phrases(self) -> dict[str, str]:
        target_phrase = f"each class of “{self.contract.label(self.contract.target)}”"
        return {
            "baseline": "a model that predicts the class shares for every row",
            "prediction": f"a probability of {target_phrase}",
            "target": target_phrase,
            "importance": (
                "the ROC AUC (mean over the classes) that is lost when a column is shuffled"
            ),
        }

    def describe_quality(
        self, rows: MetricRows, threshold: float | None, value: dict[str, Any]
    ) -> str:
        n_classes = len(self.classes)
        return " ".join(self._render("quality", rows=rows, n_classes=n_classes))
