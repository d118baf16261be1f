"""Multiclass: one of several classes, answered by a probability each; the likeliest is the prediction."""

from __future__ import annotations

from functools import partial
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from modelbook.contract.counts import count_values
from modelbook.errors import TrainingError
from modelbook.tasks.base import Added, Rows, Task, key_number
from modelbook.tasks.binary import EPSILON, alone, shares
from modelbook.tasks.costs import Costs
from modelbook.tasks.expected import Expected, area
from modelbook.tasks.metrics import Metric, auc, mean, ratio
from modelbook.tasks.names import told
from modelbook.tasks.scored import Scored, interval, weights


def roc_auc(outcome: np.ndarray, score: np.ndarray, weight: np.ndarray) -> Any:
    """Mean over the classes of each one's ROC AUC against the rest; a class that is not there is left out."""
    return _over_classes([auc(outcome == code, score[:, code], weight) for code in range(score.shape[1])])


def log_loss(outcome: np.ndarray, score: np.ndarray, weight: np.ndarray) -> Any:
    return mean(-np.log(np.clip(score[np.arange(len(outcome)), outcome], EPSILON, 1)), weight)


def brier(outcome: np.ndarray, score: np.ndarray, weight: np.ndarray) -> Any:
    """Squared distance of the probabilities from what happened, summed over the classes; 0 to 2."""
    happened = np.eye(score.shape[1])[outcome]
    return mean(((score - happened) ** 2).sum(axis=1), weight)


def accuracy(outcome: np.ndarray, score: np.ndarray, weight: np.ndarray) -> Any:
    return mean(score.argmax(axis=1) == outcome, weight)


def overconfidence(outcome: np.ndarray, score: np.ndarray, weight: np.ndarray) -> Any:
    """Mean probability of the answer minus the share that is right; 0 is right."""
    return np.round(mean(score.max(axis=1) - (score.argmax(axis=1) == outcome), weight), 12)


def of_class(code: int) -> dict[str, Metric]:
    """Recall, precision and F1 of one class; NaN where there is nothing to divide by."""

    def counted(kind: str, outcome: np.ndarray, score: np.ndarray, weight: np.ndarray) -> Any:
        called, there = score.argmax(axis=1) == code, outcome == code
        hit, calls, rows = (weight @ kept for kept in (called & there, called, there))
        return ratio(hit, {"recall": rows, "precision": calls, "f1": (rows + calls) / 2}[kind])

    return {kind: partial(counted, kind) for kind in ("recall", "precision", "f1")}


def f1(outcome: np.ndarray, score: np.ndarray, weight: np.ndarray) -> Any:
    """Mean over the classes of each one's F1; a class that is neither there nor answered is left out."""
    return _over_classes([of_class(code)["f1"](outcome, score, weight) for code in range(score.shape[1])])


def _over_classes(found: list[Any]) -> Any:
    """The mean of the values that are there."""
    known = np.isfinite(found)
    return ratio(np.where(known, found, 0).sum(axis=0), known.sum(axis=0))


METRICS: dict[str, Metric] = {
    "roc_auc": roc_auc, "accuracy": accuracy, "f1": f1, "log_loss": log_loss, "brier": brier,
    "overconfidence": overconfidence,
}  # fmt: skip


class Multiclass(Task):
    """One of several classes."""

    name = "multiclass"
    families = ("lr", "lightgbm", "et", "rf", "lda", "nb", "knn", "dt")
    ranked: ClassVar = {
        "roc_auc": "Macro AUC",
        "log_loss": "Log loss",
        "accuracy": "Accuracy",
        "f1": "Macro F1",
        "mcc": "MCC",
    }
    ranks = ("roc_auc", "log_loss", "f1", "accuracy", "mcc")
    off = "overconfidence"
    alone = "mean ROC AUC"
    scoring = "roc_auc_ovr"
    compared = ("roc_auc", "accuracy", "log_loss", "brier")
    in_slices = ("accuracy", "overconfidence")
    in_gaps = ("accuracy", "roc_auc", "overconfidence")

    def added(self) -> tuple[Added, ...]:
        """The same metrics as on the holdout: PyCaret's own are weighted by the classes' sizes."""
        from sklearn.metrics import f1_score

        def macro_f1(found: Any, called: Any, **_: Any) -> float:
            return float(f1_score(found, called, average="macro"))

        return (
            Added("Macro AUC", self.fold_metric("roc_auc")),
            Added("Log loss", self.fold_metric("log_loss"), higher=False),
            Added("Macro F1", macro_f1, takes="pred"),
        )

    def answers(self, pipeline: Any, rows: pd.DataFrame) -> np.ndarray:
        found = pipeline.predict_proba(rows)
        if found.shape[1] != len(self.classes):
            raise TrainingError(
                f"the model knows {found.shape[1]} of the {len(self.classes)} classes",
                expected="rows of every class in training",
                next="take more rows (sample), or join rare classes in table and contract",
            )
        return found

    @property
    def _columns(self) -> list[str]:
        return [f"probability_{name}" for name in self.classes]

    def outputs(self) -> dict[str, str]:
        return {"prediction": "string"} | dict.fromkeys(self._columns, "double")

    def served(self, score: np.ndarray, threshold: float | None) -> pd.DataFrame:
        called = np.array(self.classes, dtype=object)[score.argmax(axis=1)]
        return pd.DataFrame({"prediction": called} | dict(zip(self._columns, score.T, strict=True)))

    def score_of(self, served: pd.DataFrame) -> np.ndarray:
        return served[self._columns].to_numpy()

    def kept(self, score: np.ndarray) -> dict[str, np.ndarray]:
        return dict(zip(self._columns, score.T, strict=True))

    def recalled(self, table: pd.DataFrame) -> np.ndarray:
        return self.score_of(table)

    def expected(self, score: np.ndarray, past: Scored) -> Expected | None:
        return area(score, past.score, past.outcome[:, None] == np.arange(len(self.classes)))

    def metrics(self, threshold: float | None = None) -> dict[str, Metric]:
        return METRICS

    def settled(self, scored: Scored, each: Costs) -> tuple[float | None, pd.DataFrame]:
        """No threshold; how often each class is answered and how often it is there: ``class, answered, there``."""
        count = len(self.classes)
        answered, there = (
            np.bincount(codes, minlength=count) / len(scored) for codes in (scored.score.argmax(axis=1), scored.outcome)
        )
        return None, pd.DataFrame({"class": self.classes, "answered": answered, "there": there})

    def curves(self, scored: Scored, *, resamples: int, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Each class's ROC curve against the rest, and its recall, precision and F1; both with intervals."""
        return self._roc(scored, resamples, seed), self._by_class(scored, resamples, seed)

    def _roc(self, scored: Scored, resamples: int, seed: int) -> pd.DataFrame:
        from modelbook.tasks.binary import roc_curve

        told = []
        for code, name in enumerate(self.classes):
            one = Scored(scored.outcome == code, scored.score[:, code], scored.entity)
            if self.judgeable(one.outcome):
                area = auc(one.outcome, one.score, np.ones(len(one)))
                curve = roc_curve(one, resamples=min(resamples, 300), seed=seed, points=51)
                told.append(curve.assign(area=area, **{"class": name}))
        return pd.concat(told, ignore_index=True)[["class", "area", "fpr", "tpr", "low", "high"]]

    def _by_class(self, scored: Scored, resamples: int, seed: int) -> pd.DataFrame:
        drawn, once = weights(scored.entity, resamples, seed), np.ones(len(scored))
        rows = []
        for code, name in enumerate(self.classes):
            for kind, metric in of_class(code).items():
                value = partial(metric, scored.outcome, scored.score)
                rows.append((name, kind, value(once), *interval(value, drawn), int((scored.outcome == code).sum())))
        return pd.DataFrame(rows, columns=["class", "metric", "value", "low", "high", "rows"])

    def mistakes(self, scored: Scored, threshold: float | None) -> pd.DataFrame:
        """Counts of rows: actual class down, predicted class across."""
        from sklearn.metrics import confusion_matrix

        counts = confusion_matrix(scored.outcome, scored.score.argmax(axis=1), labels=range(len(self.classes)))
        names = pd.Index(self.classes)
        return pd.DataFrame(counts, index=names.rename("actual"), columns=names.rename("predicted"))

    def calibrated(self, scored: Scored) -> Scored:
        """The probability of the answer, and whether it was right."""
        right = (scored.score.argmax(axis=1) == scored.outcome).astype("int64")
        return Scored(right, scored.score.max(axis=1), scored.entity)

    def errors(self, scored: Scored) -> np.ndarray:
        return -np.log(np.clip(scored.score[np.arange(len(scored)), scored.outcome], EPSILON, 1))

    def losses(self, scored: Scored) -> np.ndarray:
        return ((scored.score - np.eye(scored.score.shape[1])[scored.outcome]) ** 2).sum(axis=1)

    def erring(self, scored: Scored) -> pd.DataFrame:
        """The answer is the likeliest class with its probability."""
        names, likely = np.array(self.classes, dtype=object), scored.score.argmax(axis=1)
        said = [f"{name} ({p:.1%})" for name, p in zip(names[likely], scored.score.max(axis=1))]
        return pd.DataFrame({"turned out": names[scored.outcome], "answered": said})

    def level(self, outcome: np.ndarray) -> dict[str, float]:
        return {"commonest": np.bincount(outcome).max() / len(outcome) if len(outcome) else np.nan}

    def drifting(self, score: np.ndarray, outcome: Any) -> tuple[pd.DataFrame, list[str], list[str]]:
        names = pd.Series(self.classes, dtype=object)
        answered = names.iloc[score.argmax(axis=1)].to_numpy()
        return (
            pd.DataFrame({"score": answered, "outcome": pd.Series(outcome, index=range(len(score))).map(names)}),
            [],
            ["score", "outcome"],
        )

    def bias(self, rows: Rows) -> tuple[float, str]:
        off = rows[self.off]["value"]
        way = "high" if off > 0 else "low"
        return off, f"the answers' probabilities are {abs(off):.1%} points too {way} on average"

    def balance(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Share of each class by period, with its interval; columns ``class, period, rows, rate, low, high``."""
        outcome, periods = self.contract.outcome(frame), self.contract.periods(frame)
        told = [shares(outcome == code, periods).assign(**{"class": n}) for code, n in enumerate(self.classes)]
        return pd.concat(told, ignore_index=True)[["class", "period", "rows", "rate", "low", "high"]]

    def strength(self, values: pd.Series, category: bool, outcome: pd.Series) -> tuple[float, str]:
        """Mean over the classes of each one's ROC AUC against the rest, folded to at least 0.5."""
        found = []
        for code in sorted(outcome.unique()):
            one = (outcome == code).astype(int)
            auc = alone(values.map(one.groupby(values).mean()) if category else values, one.to_numpy())
            found.append(max(auc, 1 - auc))
        return float(np.mean(found)), ""

    def told_target(self, frame: pd.DataFrame) -> str:
        share = count_values(self.contract.outcome(frame)) / len(frame)
        most, least = (f"{self.classes[code]} ({share[code]:.1%})" for code in (share.index[0], share.index[-1]))
        return f"The commonest of {len(self.classes)} classes is {most}, the rarest {least}, of"

    def number(self, frame: pd.DataFrame) -> dict[str, str]:
        share = count_values(self.contract.outcome(frame)) / len(frame)
        return {"name": f"share of {self.classes[share.index[0]]}", "value": f"{share.iloc[0]:.1%}", "beside": ""}

    def sentences(self, rows: Rows, who: str, threshold: float | None) -> list[str]:
        auc, right, loss = rows["roc_auc"], rows["accuracy"], rows["log_loss"]
        return [
            f"gives the right class to {right['value']:.1%} of the rows, for {who} (95 % interval {right['low']:.1%} "
            f"to {right['high']:.1%}; the commonest class alone is right for {right['baseline']:.1%}).",
            f"It ranks a row of a class above the others' {auc['value']:.1%} of the time, on average over the classes "
            f"({auc['low']:.1%} to {auc['high']:.1%}; a coin has 50 %).",
            f"Its log loss is {told(loss['value'])} ({told(loss['low'])} to {told(loss['high'])}), "
            f"the baseline's {told(loss['baseline'])}.",
        ]

    def numbers(self, rows: Rows, threshold: float | None) -> list[dict[str, str]]:
        shown = {"ROC AUC": "roc_auc", "accuracy": "accuracy", "F1": "f1", "log loss": "log_loss"}
        return [key_number(name, rows[metric]) for name, metric in shown.items()]

    def words(self) -> dict[str, str]:
        named = f"each class of “{self.contract.label(self.contract.target)}”"
        return {
            "baseline": "the baseline that answers the classes' shares to everyone",
            "answers": f"a probability of {named}",
            "of": named,
            "lost": "the ROC AUC (mean over the classes) that is lost when a column is shuffled",
        }

    def caption(self, threshold: float | None) -> str:
        return (
            "Holdout metrics. "
            "ROC AUC and F1 are means over the classes, each against the rest, so that rare classes count as much "
            "as common ones. Accuracy: the share that is answered right. Log loss, Brier score: lower is better."
        )

    def quality(self, rows: Rows, threshold: float | None) -> str:
        auc, right = rows["roc_auc"], rows["accuracy"]
        return (
            f"It gives the right one of {len(self.classes)} classes to {right['value']:.0%} of the rows "
            f"({right['low']:.0%} to {right['high']:.0%}; the commonest class alone is right for "
            f"{right['baseline']:.0%}). It ranks a row of a class above the others' {auc['value']:.0%} of the time, on "
            f"average over the classes ({auc['low']:.0%} to {auc['high']:.0%}; guessing reaches 50%)."
        )

    def _span(self, row: Any) -> str:
        value, low, high = row["value"], row["low"], row["high"]
        return f"mean probability of the answer minus share right {value:+.3f}, {low:+.3f} to {high:+.3f}"

    def gap_words(self, row: Rows) -> str:
        return (
            f"It is right about {row['one']:.0%} where {row['slice']} is {row['value']} and {row['other']:.0%} where "
            f"it is {row['against']}: {100 * abs(row['gap']):.0f} points {'fewer' if row['gap'] < 0 else 'more'}"
        )
