"""Regression: a number, answered by a number; errors are in the target's own unit."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import pandas as pd

from modelbook.tasks.base import Rows, Task, key_number
from modelbook.tasks.costs import Costs
from modelbook.tasks.metrics import Metric, mean, ratio
from modelbook.tasks.names import told, turned
from modelbook.tasks.scored import LEVEL, Scored

SHOWN = 400  # rows that a cloud of dots can hold and still be read
NOTHING = 1e-12  # of a size: what rounding leaves of 0
SPREAD = (0.05, 0.25, 0.5, 0.75, 0.95)  # quantiles by which a spread of numbers is drawn


def rmse(outcome: np.ndarray, score: np.ndarray, weight: np.ndarray) -> Any:
    """Root of the mean squared error."""
    return np.sqrt(mean((score - outcome) ** 2, weight))


def mae(outcome: np.ndarray, score: np.ndarray, weight: np.ndarray) -> Any:
    """Mean absolute error."""
    return mean(np.abs(score - outcome), weight)


def r2(outcome: np.ndarray, score: np.ndarray, weight: np.ndarray) -> Any:
    """Share of the variance that is explained; 0 answers the mean to everyone."""
    apart = outcome - outcome.mean()  # else squares of large numbers leave nothing of a small variance
    around = mean(apart**2, weight) - mean(apart, weight) ** 2
    there = around > NOTHING * (apart**2).max()
    return 1 - ratio(mean((score - outcome) ** 2, weight), np.where(there, around, 0))


def mean_error(outcome: np.ndarray, score: np.ndarray, weight: np.ndarray) -> Any:
    """Mean predicted minus observed; 0 is right."""
    off = mean(score - outcome, weight)
    return np.where(np.abs(off) > NOTHING * np.abs(outcome).max(), off, 0.0)[()]  # no 6e-18 where it is 0


def within(share: float) -> Metric:
    """The distance that a share of the errors stays within."""

    def distance(outcome: np.ndarray, score: np.ndarray, weight: np.ndarray) -> Any:
        errors = np.abs(score - outcome)
        order = np.argsort(errors, kind="stable")
        reached = weight[..., order].cumsum(axis=-1) >= share * weight.sum(axis=-1, keepdims=True)
        return errors[order][reached.argmax(axis=-1)]

    return distance


METRICS: dict[str, Metric] = {
    "rmse": rmse, "mae": mae, "r2": r2, "half_within": within(0.5), "most_within": within(0.9),
    "calibration_error": mean_error,
}  # fmt: skip


def by_tenth(scored: Scored) -> pd.DataFrame:
    """Errors by tenths of the prediction; columns ``predicted, median, q05, q25, q75, q95, rows``."""
    errors = scored.outcome - scored.score
    edges = np.unique(np.quantile(scored.score, np.linspace(0, 1, 11)))
    place = np.clip(np.searchsorted(edges, scored.score, side="right") - 1, 0, max(len(edges) - 2, 0))
    rows = []
    for number in np.unique(place):
        here = place == number
        low, lower, middle, upper, high = np.quantile(errors[here], SPREAD)
        rows.append((scored.score[here].mean(), middle, low, lower, upper, high, int(here.sum())))
    return pd.DataFrame(rows, columns=["predicted", "median", "q05", "q25", "q75", "q95", "rows"])


class Regression(Task):
    """A number."""

    name = "regression"
    learner = "regression"
    response = "predict"
    families = ("ridge", "lightgbm", "et", "gbr", "rf", "lr", "lasso", "en", "huber", "knn", "dt")
    ranked: ClassVar = {"rmse": "RMSE", "mae": "MAE", "r2": "R2"}
    ranks = ("rmse", "mae", "r2")
    simple = ("ridge", "lr", "lasso", "en", "br", "huber")
    headline = gained = "rmse"
    floored, floor = "r2", 0.1
    scoring = "neg_root_mean_squared_error"
    compared = ("rmse", "mae")
    in_slices = ("mae", "calibration_error")
    in_gaps = ("mae", "rmse", "calibration_error")
    error = loss = "absolute error"
    alone, chance = "rank correlation", 0.0

    def answers(self, pipeline: Any, rows: pd.DataFrame) -> np.ndarray:
        return np.asarray(pipeline.predict(rows), dtype=float)

    def outputs(self) -> dict[str, str]:
        return {"prediction": "double"}

    def served(self, score: np.ndarray, threshold: float | None) -> pd.DataFrame:
        return pd.DataFrame({"prediction": score})

    def score_of(self, served: pd.DataFrame) -> np.ndarray:
        return served["prediction"].to_numpy()

    def metrics(self, threshold: float | None = None) -> dict[str, Metric]:
        return METRICS

    def settled(self, scored: Scored, each: Costs) -> tuple[float | None, pd.DataFrame]:
        """No threshold; how far answers out of fold were off: columns ``share, within``."""
        shares = np.linspace(0.05, 0.95, 19)
        errors = np.quantile(np.abs(scored.score - scored.outcome), shares)
        return None, pd.DataFrame({"share": shares, "within": errors})

    def curves(self, scored: Scored, *, resamples: int, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
        """A sample of rows, ``predicted, actual``; and errors by tenths of the prediction."""
        kept = np.random.default_rng(seed).permutation(len(scored))[:SHOWN]
        return pd.DataFrame({"predicted": scored.score[kept], "actual": scored.outcome[kept]}), by_tenth(scored)

    def mistakes(self, scored: Scored, threshold: float | None) -> pd.DataFrame:
        """The errors themselves: actual minus predicted; columns ``low, high, rows`` of each bin."""
        errors = scored.outcome - scored.score
        low, high = np.quantile(errors, [0.005, 0.995])
        counts, edges = np.histogram(np.clip(errors, low, high), bins=31)
        return pd.DataFrame({"low": edges[:-1], "high": edges[1:], "rows": counts})

    def errors(self, scored: Scored) -> np.ndarray:
        return np.abs(scored.score - scored.outcome)

    def losses(self, scored: Scored) -> np.ndarray:
        return self.errors(scored)

    def erring(self, scored: Scored) -> pd.DataFrame:
        return pd.DataFrame({"turned out": map(told, scored.outcome), "answered": map(told, scored.score)})

    def level(self, outcome: np.ndarray) -> dict[str, float]:
        return {"mean": outcome.mean()}

    def better(self, metric: str, one: Any, other: Any) -> Any:
        """The share of the other model's error that is saved: it has no unit, so one margin fits every target."""
        return np.where(other == 0, np.sign(other - one), 1 - ratio(one, other))[()]

    def relative(self, value: float, to: float) -> float:
        return value / to if to else float("nan")

    def drifting(self, score: np.ndarray, outcome: Any) -> tuple[pd.DataFrame, list[str], list[str]]:
        return pd.DataFrame({"score": score, "outcome": outcome}), ["score", "outcome"], []

    def lost(self, row: Any) -> tuple[float, bool, str]:
        lost = row["value"] / row["reference"] - 1 if row["reference"] else float("inf")
        return lost, row["low"] > row["reference"], (
            f"RMSE {told(row['value'])} (at least {told(row['low'])}) is {lost:.0%} above "
            f"the holdout's {told(row['reference'])}"
        )  # fmt: skip

    def gain_words(self, metric: str, gain: float, reach: float) -> str:
        return turned(metric, gain, f"{100 * abs(gain):.1f} ± {100 * reach:.1f} %")

    def limit(self, loss: float) -> str:
        return f"{loss:.0%}"

    def bias(self, rows: Rows) -> tuple[float, str]:
        """In standard deviations of the outcomes: what the baseline, which answers their mean, is off by."""
        off, spread = rows[self.off]["value"], rows["rmse"]["baseline"]
        share = off / spread if spread else 0.0
        way = "high" if off > 0 else "low"
        return share, f"predictions are {told(abs(off))} too {way} on average, {abs(share):.0%} of the spread"

    def balance(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Spread and mean by period; columns ``period, rows, mean, low, high, q05, q25, median, q75, q95``."""
        from scipy.stats import t

        rows = []
        for period, group in self.contract.outcome(frame).groupby(self.contract.periods(frame)):
            error = group.sem() if len(group) > 1 else np.nan
            reach = error * t.ppf((1 + LEVEL) / 2, max(len(group) - 1, 1))
            ends = (group.mean(), group.mean() - reach, group.mean() + reach)
            rows.append((str(period), len(group), *ends, *group.quantile(list(SPREAD))))
        names = ["period", "rows", "mean", "low", "high", "q05", "q25", "median", "q75", "q95"]
        return pd.DataFrame(rows, columns=names)

    def strength(self, values: pd.Series, category: bool, outcome: pd.Series) -> tuple[float, str]:
        """Spearman's rank correlation, without its sign; of a category, of its classes' means."""
        ranked = values.map(outcome.groupby(values).mean()) if category else values
        known = ranked.notna()
        if ranked[known].nunique() < 2 or outcome[known].nunique() < 2:
            return 0.0, ""
        found = float(ranked[known].rank().corr(outcome[known].rank()))
        return abs(found), "" if category else ("higher" if found >= 0 else "lower")

    @property
    def _label(self) -> str:
        return self.contract.label(self.contract.target)

    def told_target(self, frame: pd.DataFrame) -> str:
        outcome = self.contract.outcome(frame)
        low, high = outcome.quantile([0.25, 0.75])
        return (
            f"{self._label[:1].upper()}{self._label[1:]} is {told(outcome.mean())} on average, and from {told(low)} to "
            f"{told(high)} for the middle half of"
        )

    def number(self, frame: pd.DataFrame) -> dict[str, str]:
        return {"name": f"mean {self._label}", "value": told(self.contract.outcome(frame).mean()), "beside": ""}

    def sentences(self, rows: Rows, who: str, threshold: float | None) -> list[str]:
        off, gap, part = rows["mae"], rows["rmse"], rows["r2"]
        half, most = (told(rows[name]["value"]) for name in ("half_within", "most_within"))
        return [
            f"is off by {told(off['value'])} on average for {who} (95 % interval {told(off['low'])} to "
            f"{told(off['high'])}); answering the mean to everyone is off by {told(off['baseline'])}.",
            f"Half of its answers are within {half} of what turned out, nine in ten within {most}.",
            f"It explains {part['value']:.0%} of the variance (R² {told(part['low'])} to {told(part['high'])}); its "
            f"RMSE is {told(gap['value'])} ({told(gap['low'])} to {told(gap['high'])}), the baseline's "
            f"{told(gap['baseline'])}.",
        ]

    def numbers(self, rows: Rows, threshold: float | None) -> list[dict[str, str]]:
        shown = {"RMSE": "rmse", "MAE": "mae", "R²": "r2"}
        most = {
            "name": "nine in ten within",
            "value": told(rows["most_within"]["value"]),
            "beside": "of what turned out",
        }
        return [*(key_number(name, rows[metric]) for name, metric in shown.items()), most]

    def words(self) -> dict[str, str]:
        return {
            "baseline": "the baseline that answers the mean to everyone",
            "answers": f"a value of “{self._label}”",
            "of": f"“{self._label}”",
            "lost": "the RMSE that is added when a column is shuffled",
        }

    def caption(self, threshold: float | None) -> str:
        return (
            "Holdout metrics. "
            "All but R² are errors in the target's own unit, lower is better. RMSE weighs large errors more than "
            "MAE. R²: the share of the variance that is explained; the baseline has 0."
        )

    def quality(self, rows: Rows, threshold: float | None) -> str:
        off, part = rows["mae"], rows["r2"]
        half, most = (told(rows[name]["value"]) for name in ("half_within", "most_within"))
        return (
            f"It is off by {told(off['value'])} on average ({told(off['low'])} to {told(off['high'])}; answering the "
            f"mean to everyone, by {told(off['baseline'])}). Half of its answers are within {half}, nine in ten within "
            f"{most}. It explains {part['value']:.0%} of the variance ({part['low']:.0%} to {part['high']:.0%})."
        )

    def off_words(self, rows: Rows) -> str:
        row = rows[self.off]
        sure = row["low"] > 0 or row["high"] < 0
        way = ("too high" if row["value"] > 0 else "too low") if sure else "right on the whole, as far as the rows tell"
        size = f" by {told(abs(row['value']))}" if sure else ""
        span = f"{told(row['value'])}, {told(row['low'])} to {told(row['high'])}"
        return f"Its answers are {way}{size} (predicted minus observed {span})."

    def gap_words(self, row: Rows) -> str:
        return (
            f"It is off by {told(row['one'])} on average where {row['slice']} is {row['value']} and by "
            f"{told(row['other'])} where it is {row['against']}: {told(abs(row['gap']))} "
            f"{'less' if row['gap'] < 0 else 'more'}"
        )

    def gap_span(self, row: Rows) -> str:
        return f"{told(row['low'])} to {told(row['high'])}"
