"""The final model: fitted on train, judged once on the holdout, refitted on all rows, and told in words."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pandas as pd
from sklearn.base import clone

from modelbook.config import Finalize
from modelbook.tasks.base import Task
from modelbook.tasks.names import LOWER_IS_BETTER
from modelbook.tasks.scored import Scored
from modelbook.training import evaluation, fairness
from modelbook.training.experiment import Experiment
from modelbook.training.golden import golden


@dataclass(frozen=True)
class Fitted:
    """A pipeline fitted on train rows, with what its out-of-fold answers settled.

    Attributes
    ----------
    threshold : float or None
        Probability from which the answer is yes; None but for two classes.
    settled : DataFrame
        The evidence, as ``Task.settled`` gives it.
    """

    name: str
    pipeline: Any
    threshold: float | None
    settled: pd.DataFrame


def fit(trial: Experiment, params: Finalize, families: list[str], metric: str, *, tell: Callable[..., None]) -> Fitted:
    """Tune the leader or blend the best, settle what out-of-fold answers settle, and fit on all train rows."""
    kept = families if params.strategy == "blend" else families[:1]
    name = " + ".join(trial.called(family) for family in kept)
    doing = f"tuning {name}, {params.tune_rounds} settings" if params.strategy == "tune" else f"blending {name}"
    tell(doing, 0, 3)
    chosen = trial.final(
        params.strategy, families, metric, params.tune_rounds, watch=lambda step: tell(doing, 0, 3, passing=step)
    )
    pipeline = trial.pipeline(chosen)
    tell("answering train rows out of fold", 1, 3)
    threshold, settled = trial.task.settled(trial.out_of_fold(pipeline), params.cost_miss)
    tell("fitting on all train rows", 2, 3)
    pipeline.fit(trial.features, trial.outcome)
    return Fitted(name, pipeline, threshold, settled)


def parts(
    task: Task, fitted: Fitted, scored: Scored, train: pd.DataFrame, holdout: pd.DataFrame,
    table: pd.DataFrame, importance: pd.DataFrame, slices: pd.DataFrame, params: Finalize,
) -> dict[str, Any]:  # fmt: skip
    """Refit on all rows, and gather what a version consists of."""
    # A fresh index: PyCaret's transformers fail on one with duplicates.
    everything, contract = pd.concat([train, holdout], ignore_index=True), task.contract
    model = clone(fitted.pipeline).fit(contract.features(everything), contract.outcome(everything))
    chance = {"resamples": params.resamples, "seed": params.seed}
    gaps = fairness.gaps(task, scored, holdout, fitted.threshold, fewest=params.slice_rows, **chance)
    return {
        "model": model,
        "evaluated": fitted.pipeline,
        "golden": golden(task, everything, model, fitted.threshold, seed=params.seed),
        "reference": holdout.assign(**task.kept(scored.score)),
        "metrics": {
            "name": fitted.name,
            "threshold": fitted.threshold,
            "rows": {"train": len(train), "holdout": len(holdout)},
            "entities": {
                "train": contract.entities(train).nunique(), "holdout": contract.entities(holdout).nunique(),
            },
            "periods": sorted(everything[contract.time].unique().tolist()) if contract.time else [],
            "evaluation": table.to_dict("records"),
            "calibration": evaluation.calibration(task.calibrated(scored), **chance).to_dict("records"),
            "gain": evaluation.gain(task, scored, **chance),
            "importance": dict(zip(importance["feature"], importance["mean"])),
            "importance_sd": dict(zip(importance["feature"], importance["sd"])),
            "slices": slices.to_dict("records"),
            "slice_rows": params.slice_rows,
            "gaps": gaps.to_dict("records"),
        },
    }  # fmt: skip


def logged(table: pd.DataFrame) -> dict[str, float]:
    """Metrics with the ends of their intervals, by the names a run logs them under."""
    told: dict[str, float] = {}
    for row in table.itertuples():
        told |= {row.metric: row.value, f"{row.metric}_low": row.low, f"{row.metric}_high": row.high}
    return told


def tagged(task: Task, tags: dict[str, Any], table: pd.DataFrame, fitted: Fitted) -> dict[str, Any]:
    """What a version is known by in the registry: provenance, model, threshold and the headline metrics."""
    headline = {row.metric: f"{row.value:.4f}" for row in table.itertuples() if row.metric in task.metrics()}
    threshold = {} if fitted.threshold is None else {"threshold": fitted.threshold}
    return {**tags, "task": task.name, "model": fitted.name, **threshold, **headline}


def story(
    task: Task,
    fitted: Fitted,
    table: pd.DataFrame,
    gain: tuple[float, float, float],
    slices: pd.DataFrame,
    version: int,
) -> dict[str, Any]:
    """Word, level, sentences and key numbers of the verdict; ``gain`` is what the model gained on the baseline."""
    rows = {row["metric"]: row for row in table.to_dict("records")}
    who = f"{task.contract.who}s it has never seen"
    first, *others = task.sentences(rows, who, fitted.threshold)
    weakest = task.weakest(slices, task.contract.label)
    sentences = [f"Version {version}, {fitted.name}, {first}", *others, *([weakest] if weakest else [])]
    better = _beats(rows[task.headline], task) and gain[1] > 0
    word, level = ("beats baseline", "good") if better else ("no better", "bad")
    return {"word": word, "level": level, "sentences": sentences, "numbers": task.numbers(rows, fitted.threshold)}


def _beats(row: dict[str, Any], task: Task) -> bool:
    """Whether the whole interval of the headline is on the better side of the baseline's value."""
    if task.headline in LOWER_IS_BETTER:
        return row["high"] < row["baseline"]
    return row["low"] > row["baseline"]
