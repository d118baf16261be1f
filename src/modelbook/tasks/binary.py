"""Binary classification: probabilities, and a threshold that minimises the expected cost."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import pandas as pd

from modelbook.config import Finalize
from modelbook.formatting import KeyNumber, format_share, key_number
from modelbook.tasks.base import MetricRows, PyCaretMetric, Task, metric_key_number
from modelbook.tasks.cost_matrix import CostMatrix
from modelbook.tasks.metrics import (
    MetricFunction,
    Precision,
    average_precision,
    binary_roc_auc,
    class_weights_by_score,
    weighted_mean,
)
from modelbook.tasks.performance_estimation import EstimatedMetric, estimate_roc_auc
from modelbook.tasks.savings import get_limited_decisions
from modelbook.tasks.scored_rows import ScoredRows, bootstrap_band

MIN_PROBABILITY = 1e-15  # keeps the log loss of a certain, wrong prediction finite


def row_log_losses(outcome: np.ndarray, score: np.ndarray) -> np.ndarray:
    """Log loss of each row."""
    return -np.log(np.clip(np.where(outcome == 1, score, 1 - score), MIN_PROBABILITY, 1))


def log_loss(outcome: np.ndarray, score: np.ndarray, weight: np.ndarray) -> Any:
    return weighted_mean(row_log_losses(outcome, score), weight)


def brier_score(outcome: np.ndarray, score: np.ndarray, weight: np.ndarray) -> Any:
    return weighted_mean((score - outcome) ** 2, weight)


def calibration_in_the_large(outcome: np.ndarray, score: np.ndarray, weight: np.ndarray) -> Any:
    """Mean predicted probability minus observed rate; 0 is perfect."""
    return np.round(weighted_mean(score - outcome, weight), 12)  # removes rounding noise around 0


METRICS: dict[str, MetricFunction] = {
    "roc_auc": binary_roc_auc, "pr_auc": average_precision, "log_loss": log_loss,
    "brier": brier_score, "calibration_in_the_large": calibration_in_the_large,
}  # fmt: skip


def make_threshold_metrics(threshold: float) -> dict[str, MetricFunction]:
    """Recall, precision and selection rate at a threshold."""

    def recall(outcome: np.ndarray, score: np.ndarray, weight: np.ndarray) -> Any:
        return weighted_mean(score >= threshold, weight * (outcome == 1))

    def selection_rate(outcome: np.ndarray, score: np.ndarray, weight: np.ndarray) -> Any:
        return weighted_mean(score >= threshold, weight)

    return {"recall": recall, "precision": Precision(threshold), "selection_rate": selection_rate}


def roc_curve(scored: ScoredRows, *, resamples: int, seed: int, points: int = 101) -> pd.DataFrame:
    """ROC curve on a grid of false positive rates, with a band; columns ``fpr, tpr, low, high``."""
    grid = np.linspace(0, 1, points)

    def curve(weight: np.ndarray) -> np.ndarray:
        true, false = _count_cumulative_positives(scored, weight)
        if not true[-1] or not false[-1]:
            return np.full(points, np.nan)
        return np.interp(grid, false / false[-1], true / true[-1])

    return bootstrap_band(curve, scored, "fpr", "tpr", grid, resamples, seed)


def precision_recall_curve(scored: ScoredRows, *, resamples: int, seed: int) -> pd.DataFrame:
    """Precision on a grid of recalls, with a band; columns ``recall, precision, low, high``."""
    grid = np.linspace(0, 1, 101)

    def curve(weight: np.ndarray) -> np.ndarray:
        true, false = _count_cumulative_positives(scored, weight)
        if not true[-1]:
            return np.full(len(grid), np.nan)
        flagged = true + false
        precision = np.divide(true, flagged, out=np.ones_like(flagged), where=flagged > 0)
        return np.interp(grid, true / true[-1], precision)

    return bootstrap_band(curve, scored, "recall", "precision", grid, resamples, seed)


def _count_cumulative_positives(scored: ScoredRows, weight: np.ndarray) -> list[np.ndarray]:
    """True and false positives: none, then at each score as the threshold, highest first.

    scikit-learn's curves check and sort the rows for each of many weights.
    """
    by_score = class_weights_by_score(scored.outcome, scored.score, weight.astype(float))
    return [np.append(0.0, of_class[::-1].cumsum()) for of_class in by_score]


def cost_curve(scored: ScoredRows, costs: CostMatrix) -> pd.DataFrame:
    """Expected cost per row by threshold; columns ``threshold, cost, cost_none, cost_all``.

    ``cost_none`` and ``cost_all`` are the costs of flagging nobody and everybody.
    """
    thresholds = np.linspace(0.01, 0.99, 99)
    flagged = scored.score[None, :] >= thresholds[:, None]
    positive_rate = scored.outcome.mean()
    cost = costs.expected_cost(
        positive_rate, (flagged & (scored.outcome == 1)).mean(axis=1), flagged.mean(axis=1)
    )
    cost_none, cost_all = costs.compute_constant_decision_costs(positive_rate)
    return pd.DataFrame(
        {"threshold": thresholds, "cost": cost, "cost_none": cost_none, "cost_all": cost_all}
    )


def find_cheapest_threshold(cost_table: pd.DataFrame) -> float:
    """The threshold with the lowest cost; the middle one of ties."""
    cheapest_thresholds = cost_table.loc[
        cost_table["cost"] <= cost_table["cost"].min() + 1e-12, "threshold"
    ]
    return float(round(cheapest_thresholds.iloc[(len(cheapest_thresholds) - 1) // 2], 2))


def univariate_roc_auc(values: pd.Series, positive: np.ndarray) -> float:
    """Rank-based ROC AUC of a column, without its missing values; 0.5 if a class has no values."""
    from scipy.stats import rankdata

    has_value = values.notna().to_numpy()
    is_positive = positive[has_value] == 1
    n_positive = int(is_positive.sum())
    n_negative = int((~is_positive).sum())
    if not n_positive or not n_negative:
        return 0.5
    rank_sum = rankdata(values[has_value])[is_positive].sum()
    return float((rank_sum - n_positive * (n_positive + 1) / 2) / (n_positive * n_negative))


def positive_rate_by_period(positive: pd.Series, periods: Any) -> pd.DataFrame:
    """Positive rate by period with 95% Wilson intervals.

    Columns ``period, rows, positive_rate, low, high``.
    """
    from statsmodels.stats.proportion import proportion_confint

    rows = []
    for period, group in positive.groupby(periods):
        n_positive = int(group.sum())
        n_rows = len(group)
        ci = proportion_confint(n_positive, n_rows, method="wilson")
        rows.append((str(period), n_rows, n_positive / n_rows, *ci))
    return pd.DataFrame(rows, columns=["period", "rows", "positive_rate", "low", "high"])


class Binary(Task):
    """Binary classification."""

    name = "binary"
    pycaret_metric_names: ClassVar = {
        "roc_auc": "ROC AUC", "accuracy": "Accuracy", "recall": "Recall", "precision": "Prec.",
        "f1": "F1", "mcc": "MCC", "pr_auc": "PR AUC", "log_loss": "Log loss",
    }  # fmt: skip
    ranking_metrics = ("roc_auc", "pr_auc", "f1", "accuracy", "mcc", "log_loss")
    champion_metrics = ("roc_auc", "pr_auc", "log_loss", "brier")
    slice_metrics = ("calibration_in_the_large", "recall", "selection_rate")
    fairness_metrics = ("recall", "selection_rate", "roc_auc", "calibration_in_the_large")

    def additional_metrics(self) -> tuple[PyCaretMetric, ...]:
        return (
            PyCaretMetric("ROC AUC", self.fold_metric("roc_auc")),
            PyCaretMetric("PR AUC", self.fold_metric("pr_auc")),
            PyCaretMetric("Log loss", self.fold_metric("log_loss"), greater_is_better=False),
        )

    def predict_scores(self, pipeline: Any, rows: pd.DataFrame) -> np.ndarray:
        return pipeline.predict_proba(rows.reset_index(drop=True))[:, 1]

    def extract_scores(self, response: np.ndarray) -> np.ndarray:
        return response[:, 1]

    @property
    def _has_class_names(self) -> bool:
        return self.contract.columns[self.contract.target].type == "category"

    def prediction_columns(self) -> dict[str, str]:
        kind = "string" if self._has_class_names else "long"
        return {"prediction": kind, "probability": "double"}

    def make_predictions(self, score: np.ndarray, threshold: float | None) -> pd.DataFrame:
        codes = (score >= threshold).astype("int64")
        names = np.array(self.classes, dtype=object)
        prediction = names[codes] if self._has_class_names else codes
        return pd.DataFrame({"prediction": prediction, "probability": score})

    def scores_from_predictions(self, predictions: pd.DataFrame) -> np.ndarray:
        return predictions["probability"].to_numpy()

    def estimate_headline_metric(
        self, score: np.ndarray, reference: ScoredRows
    ) -> EstimatedMetric | None:
        return estimate_roc_auc(
            score[:, None], reference.score[:, None], reference.outcome[:, None] == 1
        )

    def metric_functions(self, threshold: float | None = None) -> dict[str, MetricFunction]:
        return METRICS if threshold is None else {**METRICS, **make_threshold_metrics(threshold)}

    def choose_threshold(self, scored: ScoredRows, costs: Any) -> tuple[float | None, pd.DataFrame]:
        table = cost_curve(scored, costs)
        return find_cheapest_threshold(table), table

    def read_costs(self, params: Finalize) -> CostMatrix:
        return CostMatrix(params.cost_fn, params.cost_fp, params.cost_tp, params.cost_tn)

    def decide(self, score: np.ndarray, threshold: float | None) -> np.ndarray:
        return score >= (0.5 if threshold is None else threshold)

    def measure_decisions(self, outcome: np.ndarray, decision: np.ndarray) -> dict[str, np.ndarray]:
        is_positive = outcome == 1
        return {
            "flagged": decision,
            "true positives": decision & is_positive,
            "false positives": decision & ~is_positive,
            "false negatives": ~decision & is_positive,
        }

    def selection_consequences(self) -> tuple[str, ...]:
        return ("flagged",)

    def compute_curves(
        self, scored: ScoredRows, *, resamples: int, seed: int
    ) -> tuple[pd.DataFrame, pd.DataFrame]:
        return (
            roc_curve(scored, resamples=resamples, seed=seed),
            precision_recall_curve(scored, resamples=resamples, seed=seed),
        )

    def compute_row_errors(self, scored: ScoredRows) -> np.ndarray:
        return row_log_losses(scored.outcome, scored.score)

    def compute_row_losses(self, scored: ScoredRows) -> np.ndarray:
        return (scored.score - scored.outcome) ** 2

    def tabulate_actual_and_predicted(self, scored: ScoredRows) -> pd.DataFrame:
        """The predicted value is the probability of the positive class."""
        actual = np.array(self.class_names, dtype=object)[scored.outcome]
        return pd.DataFrame(
            {"actual": actual, "predicted": [format_share(share, 1) for share in scored.score]}
        )

    def summarize_outcome(self, outcome: np.ndarray) -> dict[str, float]:
        return {"positive_rate": outcome.mean()}

    def summarize_target_by_period(self, frame: pd.DataFrame) -> pd.DataFrame:
        return positive_rate_by_period(
            self.contract.encode_checked_target(frame), self.contract.row_periods(frame)
        )

    def encode_for_figures(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Replace the two classes by their names, as categories with the positive class last."""
        codes = self.contract.encode_target(frame)
        classes = pd.Categorical.from_codes(codes, self.class_names)
        return frame.assign(**{self.contract.target: classes})

    def univariate_score(
        self, values: pd.Series, is_categorical: bool, outcome: pd.Series
    ) -> tuple[float, str]:
        auc = univariate_roc_auc(
            values.map(outcome.groupby(values).mean()) if is_categorical else values,
            outcome.to_numpy(),
        )
        return max(auc, 1 - auc), "" if is_categorical else ("higher" if auc >= 0.5 else "lower")

    @property
    def class_names(self) -> list[str]:
        """Names of the classes, the positive one last; a boolean target's are made of its label."""
        target = self.contract.label(self.contract.target)
        return self.classes if self._has_class_names else [f"not {target}", target]

    @property
    def target_name(self) -> str:
        return self.class_names[1]

    def _quote_class(self, code: int) -> str:
        """Name of a class in sentences, quoted."""
        return f"“{self.class_names[code]}”"

    def describe_target(self, frame: pd.DataFrame, population: str) -> str:
        rate = self.contract.encode_checked_target(frame).mean()
        [text] = self._render("target", population=population, yes=self._quote_class(1), rate=rate)
        return text

    def target_key_number(self, frame: pd.DataFrame) -> KeyNumber:
        rate = self.contract.encode_checked_target(frame).mean()
        return key_number(f"rate of {self._quote_class(1)}", rate, "share")

    def positive_rate(self, scored: ScoredRows) -> float | None:
        return float(scored.outcome.mean())

    def sentence_values(self, threshold: float | None, value: dict[str, Any]) -> dict[str, Any]:
        names = {"yes": self._quote_class(1), "no": self._quote_class(0)}
        names["noun"] = value.get("noun", "rows")
        return {
            "threshold": threshold,
            "limited": get_limited_decisions(value),
            "is_weighted": value.get("mix", {}).get("is_weighted", False),
            **names,
        }

    def make_key_numbers(self, rows: MetricRows) -> list[KeyNumber]:
        metrics_shown = {"ROC AUC": "roc_auc", "PR AUC": "pr_auc", "Brier score": "brier"}
        return [metric_key_number(name, rows[metric]) for name, metric in metrics_shown.items()]

    def get_phrases(self) -> dict[str, str]:
        target = self.contract.label(self.contract.target)
        target_phrase = f"“{target}”"
        if self._has_class_names:
            target_phrase += f" being {self._quote_class(1)}"
        return {
            "baseline": "a model that predicts the base rate for every row",
            "prediction": f"a probability of {target_phrase}",
            "target": target_phrase,
            "importance": "the ROC AUC that is lost when a column is shuffled",
        }

    def make_metrics_caption(self, threshold: float | None, *, has_capacity: bool = False) -> str:
        values = {"threshold": threshold, "has_capacity": has_capacity}
        return " ".join(self._render("metrics_caption", **values))
