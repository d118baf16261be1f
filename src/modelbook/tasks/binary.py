"""Binary: yes or no, answered by a probability, and by a threshold that weighs misses against false alarms."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import pandas as pd

from modelbook.tasks.base import Added, Rows, Task, key_number
from modelbook.tasks.costs import Costs
from modelbook.tasks.expected import Expected, area
from modelbook.tasks.metrics import Metric, auc, average_precision, mean
from modelbook.tasks.names import told
from modelbook.tasks.scored import Scored, band

EPSILON = 1e-15  # keeps the logarithm of a certain, wrong answer finite


def log_loss(outcome: np.ndarray, score: np.ndarray, weight: np.ndarray) -> Any:
    return mean(-np.log(np.clip(np.where(outcome == 1, score, 1 - score), EPSILON, 1)), weight)


def brier(outcome: np.ndarray, score: np.ndarray, weight: np.ndarray) -> Any:
    return mean((score - outcome) ** 2, weight)


def calibration_error(outcome: np.ndarray, score: np.ndarray, weight: np.ndarray) -> Any:
    """Mean predicted minus observed: how far answers are off on the whole; 0 is right."""
    return np.round(mean(score - outcome, weight), 12)  # no 6e-18 where it is 0


METRICS: dict[str, Metric] = {
    "roc_auc": auc, "pr_auc": average_precision, "log_loss": log_loss, "brier": brier,
    "calibration_error": calibration_error,
}  # fmt: skip


def at_threshold(threshold: float) -> dict[str, Metric]:
    """Recall, precision and flagged share of the answers at a threshold."""

    def recall(outcome: np.ndarray, score: np.ndarray, weight: np.ndarray) -> Any:
        return mean(score >= threshold, weight * (outcome == 1))

    def precision(outcome: np.ndarray, score: np.ndarray, weight: np.ndarray) -> Any:
        return np.nan_to_num(mean(outcome, weight * (score >= threshold)))

    def flagged(outcome: np.ndarray, score: np.ndarray, weight: np.ndarray) -> Any:
        return mean(score >= threshold, weight)

    return {"recall": recall, "precision": precision, "flagged": flagged}


def roc_curve(scored: Scored, *, resamples: int, seed: int, points: int = 101) -> pd.DataFrame:
    """True positive rate at evenly spaced false positive rates, with a band; columns ``fpr, tpr, low, high``."""
    from sklearn.metrics import roc_curve as curve_of

    grid = np.linspace(0, 1, points)

    def curve(weight: np.ndarray) -> np.ndarray:
        fpr, tpr, _ = curve_of(scored.outcome, scored.score, sample_weight=weight, drop_intermediate=True)
        return np.interp(grid, fpr, tpr)

    return band(curve, scored, "fpr", "tpr", grid, resamples, seed)


def precision_recall_curve(scored: Scored, *, resamples: int, seed: int, points: int = 101) -> pd.DataFrame:
    """Precision at evenly spaced recalls, with a band; columns ``recall, precision, low, high``."""
    from sklearn.metrics import precision_recall_curve as curve_of

    grid = np.linspace(0, 1, points)

    def curve(weight: np.ndarray) -> np.ndarray:
        precision, recall, _ = curve_of(scored.outcome, scored.score, sample_weight=weight, drop_intermediate=True)
        return np.interp(grid, recall[::-1], precision[::-1])

    return band(curve, scored, "recall", "precision", grid, resamples, seed)


def costs(scored: Scored, each: Costs) -> pd.DataFrame:
    """Mean cost a row at each threshold, and of answering alike to all; columns ``threshold, cost, no, yes``."""
    thresholds = np.linspace(0.01, 0.99, 99)
    flagged, rate = scored.score[None, :] >= thresholds[:, None], scored.outcome.mean()
    cost = each.mean(rate, (flagged & (scored.outcome == 1)).mean(axis=1), flagged.mean(axis=1))
    no, yes = each.alike(rate)
    return pd.DataFrame({"threshold": thresholds, "cost": cost, "no": no, "yes": yes})


def cheapest(frame: pd.DataFrame) -> float:
    """The threshold of the least cost; of several, the one in the middle."""
    least = frame.loc[frame["cost"] <= frame["cost"].min() + 1e-12, "threshold"]
    return float(round(least.iloc[(len(least) - 1) // 2], 2))


def alone(values: pd.Series, positive: np.ndarray) -> float:
    """ROC AUC of the values that are there, by ranks; gaps are left out. 0.5 where a class has no values."""
    from scipy.stats import rankdata

    known = values.notna().to_numpy()
    yes = int(positive[known].sum())
    no = int(known.sum()) - yes
    if not yes or not no:
        return 0.5
    ranks = rankdata(values[known])
    return float((ranks[positive[known] == 1].sum() - yes * (yes + 1) / 2) / (yes * no))


def shares(positive: pd.Series, periods: Any) -> pd.DataFrame:
    """Share of positives by period with 95 % Wilson intervals; columns ``period, rows, rate, low, high``."""
    from statsmodels.stats.proportion import proportion_confint

    rows = []
    for period, group in positive.groupby(periods):
        found, count = int(group.sum()), len(group)
        rows.append((str(period), count, found / count, *proportion_confint(found, count, method="wilson")))
    return pd.DataFrame(rows, columns=["period", "rows", "rate", "low", "high"])


class Binary(Task):
    """Yes or no."""

    name = "binary"
    families = ("lr", "lightgbm", "et", "rf", "gbc", "lda", "ada", "nb", "knn", "dt")
    ranked: ClassVar = {
        "roc_auc": "ROC AUC", "accuracy": "Accuracy", "recall": "Recall", "precision": "Prec.",
        "f1": "F1", "mcc": "MCC", "pr_auc": "PR AUC", "log_loss": "Log loss",
    }  # fmt: skip
    ranks = ("roc_auc", "pr_auc", "f1", "accuracy", "mcc", "log_loss")
    compared = ("roc_auc", "pr_auc", "log_loss", "brier")
    in_slices = ("calibration_error", "recall", "flagged")
    in_gaps = ("recall", "flagged", "roc_auc", "calibration_error")

    def added(self) -> tuple[Added, ...]:
        return (
            Added("ROC AUC", self.fold_metric("roc_auc")),
            Added("PR AUC", self.fold_metric("pr_auc")),
            Added("Log loss", self.fold_metric("log_loss"), higher=False),
        )

    def answers(self, pipeline: Any, rows: pd.DataFrame) -> np.ndarray:
        return pipeline.predict_proba(rows)[:, 1]

    def scores(self, response: np.ndarray) -> np.ndarray:
        return response[:, 1]

    @property
    def _named(self) -> bool:
        return self.contract.columns[self.contract.target].type == "category"

    def outputs(self) -> dict[str, str]:
        return {"prediction": "string" if self._named else "long", "probability": "double"}

    def served(self, score: np.ndarray, threshold: float | None) -> pd.DataFrame:
        codes = (score >= threshold).astype("int64")
        return pd.DataFrame({
            "prediction": np.array(self.classes, dtype=object)[codes] if self._named else codes, "probability": score,
        })  # fmt: skip

    def score_of(self, served: pd.DataFrame) -> np.ndarray:
        return served["probability"].to_numpy()

    def expected(self, score: np.ndarray, past: Scored) -> Expected | None:
        return area(score[:, None], past.score[:, None], past.outcome[:, None] == 1)

    def metrics(self, threshold: float | None = None) -> dict[str, Metric]:
        return METRICS if threshold is None else {**METRICS, **at_threshold(threshold)}

    def settled(self, scored: Scored, each: Costs) -> tuple[float | None, pd.DataFrame]:
        table = costs(scored, each)
        return cheapest(table), table

    def curves(self, scored: Scored, *, resamples: int, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
        return (
            roc_curve(scored, resamples=resamples, seed=seed),
            precision_recall_curve(scored, resamples=resamples, seed=seed),
        )

    def mistakes(self, scored: Scored, threshold: float | None) -> pd.DataFrame:
        """Counts of rows: actual class down, predicted class across."""
        from sklearn.metrics import confusion_matrix

        counts = confusion_matrix(scored.outcome, scored.score >= threshold, labels=[0, 1])
        names = pd.Index(self.classes)
        return pd.DataFrame(counts, index=names.rename("actual"), columns=names.rename("predicted"))

    def errors(self, scored: Scored) -> np.ndarray:
        return -np.log(np.clip(np.where(scored.outcome == 1, scored.score, 1 - scored.score), EPSILON, 1))

    def losses(self, scored: Scored) -> np.ndarray:
        return (scored.score - scored.outcome) ** 2

    def erring(self, scored: Scored) -> pd.DataFrame:
        """The answer is the probability of yes."""
        names = np.array(self.classes, dtype=object)
        return pd.DataFrame({"turned out": names[scored.outcome], "answered": [f"{p:.1%}" for p in scored.score]})

    def level(self, outcome: np.ndarray) -> dict[str, float]:
        return {"rate": outcome.mean()}

    def balance(self, frame: pd.DataFrame) -> pd.DataFrame:
        return shares(self.contract.outcome(frame), self.contract.periods(frame))

    def drawn(self, frame: pd.DataFrame) -> pd.DataFrame:
        """With 0 and 1 for the two classes, whatever they are called."""
        return frame.assign(**{self.contract.target: self.contract.codes(frame)})

    def strength(self, values: pd.Series, category: bool, outcome: pd.Series) -> tuple[float, str]:
        auc = alone(values.map(outcome.groupby(values).mean()) if category else values, outcome.to_numpy())
        return max(auc, 1 - auc), "" if category else ("higher" if auc >= 0.5 else "lower")

    def _called(self, code: int) -> str:
        """What a class is called in sentences: yes, no, or its name in quotes."""
        return f"“{self.classes[code]}”" if self._named else self.classes[code]

    def _yes(self) -> str:
        return self._called(1)

    def told_target(self, frame: pd.DataFrame) -> str:
        return f"The answer is {self._yes()} for {self.contract.outcome(frame).mean():.1%} of"

    def number(self, frame: pd.DataFrame) -> dict[str, str]:
        return {"name": f"rate of {self._yes()}", "value": f"{self.contract.outcome(frame).mean():.1%}", "beside": ""}

    def sentences(self, rows: Rows, who: str, threshold: float | None) -> list[str]:
        auc, loss, yes = rows["roc_auc"], rows["log_loss"], self._yes()
        recall, precision, flagged = (rows[name]["value"] for name in ("recall", "precision", "flagged"))
        return [
            f"ranks a {yes} above a {self._called(0)} {auc['value']:.1%} of the time for {who} "
            f"(95 % interval {auc['low']:.1%} to {auc['high']:.1%}; a coin has 50 %).",
            f"At threshold {threshold:g} it flags {flagged:.0%} of the rows, finds {recall:.0%} of those who turn out "
            f"{yes}, and is right about {precision:.0%} of those it flags.",
            f"Its log loss is {told(loss['value'])} ({told(loss['low'])} to {told(loss['high'])}), "
            f"the baseline's {told(loss['baseline'])}.",
        ]

    def numbers(self, rows: Rows, threshold: float | None) -> list[dict[str, str]]:
        shown = {"ROC AUC": "roc_auc", "PR AUC": "pr_auc", "Brier score": "brier"}
        found = {"name": "found", "value": f"{rows['recall']['value']:.0%}"}
        beside = f"of the {self._yes()}, at threshold {threshold:g}"
        return [*(key_number(name, rows[metric]) for name, metric in shown.items()), {**found, "beside": beside}]

    def words(self) -> dict[str, str]:
        target = self.contract.label(self.contract.target)
        named = f"“{target}”" if not self._named else f"“{target}” being {self._yes()}"
        return {
            "baseline": "the baseline that answers the base rate to everyone",
            "answers": f"a probability of {named}",
            "of": named,
            "lost": "the ROC AUC that is lost when a column is shuffled",
        }

    def caption(self, threshold: float | None) -> str:
        return (
            f"Holdout metrics; recall, precision and flagged share at threshold {threshold:g}. "
            "ROC AUC: the chance that a yes is ranked above a no. PR AUC: precision over all recalls; its baseline "
            "is the base rate. Log loss, Brier score: lower is better."
        )

    def quality(self, rows: Rows, threshold: float | None) -> str:
        auc, recall, precision, flagged = (rows[name] for name in ("roc_auc", "recall", "precision", "flagged"))
        return (
            f"It ranks a {self._yes()} above a {self._called(0)} {auc['value']:.0%} of the time ({auc['low']:.0%} to "
            f"{auc['high']:.0%}; guessing reaches 50%). At threshold {threshold:g} it flags {flagged['value']:.0%} of "
            f"the rows, finds {recall['value']:.0%} of those who turn out {self._yes()} ({recall['low']:.0%} to "
            f"{recall['high']:.0%}), and is right about {precision['value']:.0%} of those it flags "
            f"({precision['low']:.0%} to {precision['high']:.0%})."
        )

    def gap_words(self, row: Rows) -> str:
        return (
            f"Of those who turn out {self._yes()} it finds {row['one']:.0%} where {row['slice']} is {row['value']} and "
            f"{row['other']:.0%} where it is {row['against']}: {100 * abs(row['gap']):.0f} points "
            f"{'fewer' if row['gap'] < 0 else 'more'}"
        )
