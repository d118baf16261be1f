"""What every task answers, whatever it is: how it is learned, how it is judged, and how it is told."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd

from modelbook import config
from modelbook.errors import ParameterError
from modelbook.tasks.costs import Costs
from modelbook.tasks.expected import Expected
from modelbook.tasks.metrics import Metric
from modelbook.tasks.names import LOWER_IS_BETTER, label, told, turned
from modelbook.tasks.scored import Scored

if TYPE_CHECKING:
    from modelbook.contract import Contract

Rows = dict[str, Any]  # a metric's name to its row of ``evaluate``


@dataclass(frozen=True)
class Added:
    """A metric that PyCaret does not have: its name in the leaderboard, and how it is computed."""

    name: str
    compute: Callable[..., float]
    takes: str = "pred_proba"  # or pred
    higher: bool = True


class Task(ABC):
    """One task under a contract.

    Attributes
    ----------
    learner : str
        PyCaret's kind of experiment: ``classification`` or ``regression``.
    response : str
        The method that a fitted pipeline is asked by.
    families : tuple of str
        What is compared where the book names none; in this order, so that a short budget reaches the strong ones.
    simple : tuple of str
        Families that count as simple; the first stands beside the final model as a yardstick.
    ranked : dict
        Our names of the leaderboard's metrics to PyCaret's.
    ranks : tuple of str
        Those that may rank; the first does where the book names none.
    headline : str
        The metric that a model is told, sliced and watched by. The first of ``metrics``.
    gained : str
        The metric in which a model must be better than the baseline.
    floored, floor : str, float
        The metric whose interval must reach the gate's floor, and the floor where the book names none.
    off : str
        The metric that says how far answers are off on the whole; 0 is right.
    scoring : str
        scikit-learn's name of the headline metric, for importance.
    compared : tuple of str
        Metrics in which candidate and champion are compared.
    in_slices, in_gaps : tuple of str
        Further metrics of a slice; metrics that groups of a sensitive column are compared by, the first one in words.
    error : str
        What the error of one row is, see ``errors``.
    loss : str
        What the loss of one row is, see ``losses``.
    alone, chance : str, float
        What says how much one column alone tells of the target, and its value where it tells nothing.
    """

    name: ClassVar[str]
    learner: ClassVar[str] = "classification"
    response: ClassVar[str] = "predict_proba"
    families: ClassVar[tuple[str, ...]]
    simple: ClassVar[tuple[str, ...]] = ("lr", "lda", "nb")
    ranked: ClassVar[dict[str, str]]
    ranks: ClassVar[tuple[str, ...]]
    headline: ClassVar[str] = "roc_auc"
    gained: ClassVar[str] = "log_loss"
    floored: ClassVar[str] = "roc_auc"
    floor: ClassVar[float] = 0.6
    off: ClassVar[str] = "calibration_error"
    scoring: ClassVar[str] = "roc_auc"
    compared: ClassVar[tuple[str, ...]]
    in_slices: ClassVar[tuple[str, ...]]
    in_gaps: ClassVar[tuple[str, ...]]
    error: ClassVar[str] = "log loss"
    loss: ClassVar[str] = "Brier score"
    alone: ClassVar[str] = "ROC AUC"
    chance: ClassVar[float] = 0.5

    def __init__(self, contract: Contract) -> None:
        self.contract, self.classes = contract, contract.classes

    # What a book asks for

    def chosen_families(self, families: list[str]) -> list[str]:
        """The families that a book names, or those of the task; raises ParameterError where one is of another task."""
        known = config.FAMILIES[self.learner]
        for family in families:
            if family not in known and family != config.AUTO:
                raise ParameterError(
                    f"families: {family!r} does not do {self.learner}; {config.nearest(family, known)}",
                    expected=f"families for a {self.name} task: {' '.join(known)}",
                    next="correct `families` in the book's env file, or leave it to the task: families: auto",
                )
        return list(self.families) if families == [config.AUTO] else families

    def chosen_metric(self, metric: str) -> str:
        """The metric that a book ranks by, or that of the task; raises ParameterError where it is of another task."""
        if metric not in (*self.ranks, config.AUTO):
            raise ParameterError(
                f"metric: {metric!r} does not rank a {self.name} task",
                expected=f"one of auto, {', '.join(self.ranks)}",
                next="correct `metric` in the book's env file",
            )
        return self.ranks[0] if metric == config.AUTO else metric

    def chosen_imbalance(self, imbalance: str) -> str:
        """How classes are balanced; raises ParameterError where there are none."""
        if imbalance != config.NONE and not self.classes:
            raise ParameterError(
                f"imbalance: {imbalance!r} balances classes, and a {self.name} task has none",
                expected="imbalance: none",
                next="correct `imbalance` in the book's env file",
            )
        return imbalance

    def check(self, params: config.Compare) -> None:
        """Raise ParameterError where compare asks for a family, a metric or a balance of another task."""
        self.chosen_families(params.families)
        self.chosen_metric(params.metric)
        self.chosen_imbalance(params.imbalance)

    def chosen_floor(self, floor: float | str) -> float:
        return self.floor if isinstance(floor, str) else floor

    # How it is learned and asked

    def added(self) -> tuple[Added, ...]:
        """Metrics of the leaderboard that PyCaret does not have."""
        return ()

    def fold_metric(self, name: str) -> Callable[..., float]:
        """A metric of one fold, as PyCaret calls it; NaN where the fold cannot be scored.

        PyCaret puts 0 in the place of a metric that raises, which of a log loss is the best value.
        """
        metric = self.metrics()[name]

        def compute(outcome: Any, score: Any, **_: Any) -> float:
            outcome, score = np.asarray(outcome), np.asarray(score, dtype=float)
            if not self.judgeable(outcome) or not np.isfinite(score).all():
                return np.nan
            return float(metric(outcome, score, np.ones(len(outcome))))

        return compute

    @abstractmethod
    def answers(self, pipeline: Any, rows: pd.DataFrame) -> np.ndarray:
        """What a fitted pipeline says of rows, as ``Scored.score`` holds it."""

    def scores(self, response: np.ndarray) -> np.ndarray:
        """What the response method gave, as ``Scored.score`` holds it."""
        return response

    @abstractmethod
    def outputs(self) -> dict[str, str]:
        """The columns that a served model answers with, and their MLflow types."""

    @abstractmethod
    def served(self, score: np.ndarray, threshold: float | None) -> pd.DataFrame:
        """What a served model answers: the columns of ``outputs``."""

    @abstractmethod
    def score_of(self, served: pd.DataFrame) -> np.ndarray:
        """The score that a served model's answers hold."""

    def kept(self, score: np.ndarray) -> dict[str, np.ndarray]:
        """Scores as columns of a table; ``Task.recalled`` takes them back."""
        return {"score": score}

    def recalled(self, table: pd.DataFrame) -> np.ndarray:
        return table["score"].to_numpy()

    def score(self, pipeline: Any, rows: pd.DataFrame) -> Scored:
        """A pipeline's answers to rows whose outcomes are known."""
        answers = self.answers(pipeline, self.contract.features(rows))
        return Scored.of(self.contract.outcome(rows), answers, self.contract.entities(rows))

    def reference(self, rows: pd.DataFrame) -> Scored:
        """Rows that were kept together with their scores."""
        return Scored.of(self.contract.outcome(rows), self.recalled(rows), self.contract.entities(rows))

    # How it is judged

    @abstractmethod
    def metrics(self, threshold: float | None = None) -> dict[str, Metric]:
        """Every metric of answered rows by name, the headline first."""

    def judgeable(self, outcome: np.ndarray) -> bool:
        """Whether the metrics of such rows mean anything."""
        return len(np.unique(outcome)) > 1

    @abstractmethod
    def settled(self, scored: Scored, each: Costs) -> tuple[float | None, pd.DataFrame]:
        """What answers out of fold settle before the holdout is read: a threshold, if any, and the evidence."""

    @abstractmethod
    def curves(self, scored: Scored, *, resamples: int, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
        """The two tables that show where answers are right and where they are off."""

    @abstractmethod
    def mistakes(self, scored: Scored, threshold: float | None) -> pd.DataFrame:
        """What was answered, and what happened."""

    @abstractmethod
    def errors(self, scored: Scored) -> np.ndarray:
        """How wrong each answer is, 0 or more; shape (rows,)."""

    @abstractmethod
    def losses(self, scored: Scored) -> np.ndarray:
        """How bad each answer is where means are compared, and no row may outweigh all others; shape (rows,)."""

    @abstractmethod
    def erring(self, scored: Scored) -> pd.DataFrame:
        """What turned out and what was answered, row by row, for people; columns ``turned out, answered``."""

    def calibrated(self, scored: Scored) -> Scored:
        """One prediction a row beside what it predicts, for calibration."""
        return scored

    @abstractmethod
    def level(self, outcome: np.ndarray) -> dict[str, float]:
        """Where the target lies in some rows, by what that is called."""

    def better(self, metric: str, one: Any, other: Any) -> Any:
        """How much better the first value of a metric is than the second; of many at once, as many."""
        return other - one if metric in LOWER_IS_BETTER else one - other

    def relative(self, value: float, to: float) -> float:
        """A metric's value without its unit; ``to`` is what it is compared with. Rates have no unit."""
        return value

    def expected(self, score: np.ndarray, past: Scored) -> Expected | None:
        """The headline to expect of rows before outcomes are in, learned from past ones; None: the task cannot tell."""
        return None

    def drifting(self, score: np.ndarray, outcome: Any) -> tuple[pd.DataFrame, list[str], list[str]]:
        """Columns ``score, outcome`` to look for drift in, and which of them are numeric and which categorical."""
        return pd.DataFrame({"score": score, "outcome": outcome}), ["score"], ["outcome"]

    def lost(self, row: Any) -> tuple[float, bool, str]:
        """What a batch lost on the reference, whether chance is ruled out, and that in words; of the headline's row."""
        lost = row["reference"] - row["value"]
        return lost, row["high"] < row["reference"], (
            f"{label(self.headline)} {told(row['value'])} (at most {told(row['high'])}) has lost {told(lost)} "
            f"on the holdout's {told(row['reference'])}"
        )  # fmt: skip

    def gain_words(self, metric: str, gain: float, reach: float) -> str:
        """What a gain of ``better`` does, with what stands behind ±: a verb and what follows."""
        return turned(metric, gain, f"{told(abs(gain))} ± {told(reach)}")

    def limit(self, loss: float) -> str:
        """A limit of ``lost``, in words."""
        return f"{loss:g}"

    def bias(self, rows: Rows) -> tuple[float, str]:
        """How far answers are off on the whole, and that in words."""
        off = rows[self.off]["value"]
        return off, f"predictions are {abs(off):.1%} points too {'high' if off > 0 else 'low'} on average"

    # What is looked at before any model

    @abstractmethod
    def balance(self, frame: pd.DataFrame) -> pd.DataFrame:
        """The target in some rows, with intervals; a row or more."""

    def drawn(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Rows as the task's figures take them."""
        return frame

    @abstractmethod
    def strength(self, values: pd.Series, category: bool, outcome: pd.Series) -> tuple[float, str]:
        """How much one column alone tells of the target, from ``chance`` to 1, and which values go with more of it."""

    # How it is told

    @abstractmethod
    def told_target(self, frame: pd.DataFrame) -> str:
        """Where the target lies, in a sentence without its end."""

    @abstractmethod
    def number(self, frame: pd.DataFrame) -> dict[str, str]:
        """The same as a key number."""

    @abstractmethod
    def sentences(self, rows: Rows, who: str, threshold: float | None) -> list[str]:
        """How good a model is, for readers of finalize: sentences that go on after its name."""

    @abstractmethod
    def numbers(self, rows: Rows, threshold: float | None) -> list[dict[str, str]]:
        """The key numbers of a model, the headline's first."""

    @abstractmethod
    def words(self) -> dict[str, str]:
        """Fixed words: ``baseline`` (who it is), ``answers`` (with what), ``of`` (of what), ``lost`` (by shuffling)."""

    @abstractmethod
    def caption(self, threshold: float | None) -> str:
        """How to read the metrics."""

    @abstractmethod
    def quality(self, rows: Rows, threshold: float | None) -> str:
        """How good a model is, for readers of its card."""

    def off_words(self, rows: Rows) -> str:
        """Whether answers can be taken at their word, for readers of a card."""
        row = rows[self.off]
        sure = row["low"] > 0 or row["high"] < 0
        way = ("too high" if row["value"] > 0 else "too low") if sure else "right on the whole, as far as the rows tell"
        size = f" by {100 * abs(row['value']):.1f} percentage points" if sure else ""
        return f"Its probabilities are {way}{size} ({self._span(row)})."

    def _span(self, row: Any) -> str:
        return f"predicted minus observed {row['value']:+.3f}, {row['low']:+.3f} to {row['high']:+.3f}"

    @abstractmethod
    def gap_words(self, row: Rows) -> str:
        """What a gap between groups means, without its interval; ``row`` is one of ``fairness.gaps``."""

    def gap_span(self, row: Rows) -> str:
        return f"{100 * row['low']:+.0f} to {100 * row['high']:+.0f}"

    def weakest(self, slices: pd.DataFrame, name: Callable[[str], str]) -> str:
        """The slice with the worst headline in a sentence; empty without slices."""
        if slices.empty:
            return ""
        values = slices[self.headline]
        row = slices.loc[values.idxmax() if self.headline in LOWER_IS_BETTER else values.idxmin()]
        return (
            f"It is weakest where {name(row['slice'])} is {row['value']}: {label(self.headline)} "
            f"{told(row[self.headline])} ({told(row['low'])} to {told(row['high'])}) on {row['n']:,} rows."
        )


def key_number(name: str, row: Any) -> dict[str, str]:
    """A metric as a key number beside its interval and the baseline's value."""
    beside = f"{told(row['low'])} to {told(row['high'])}; baseline {told(row['baseline'])}"
    return {"name": name, "value": told(row["value"]), "beside": beside}
