"""The final model: fitted on train, judged once on the holdout, refitted on all rows, and told in words."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
from sklearn.base import clone

from modelbook.config import NONE, Finalize
from modelbook.dataset.rule import RULES, Rule
from modelbook.engine import LOCAL
from modelbook.tasks.base import Task
from modelbook.tasks.costs import Costs
from modelbook.tasks.metrics import Metric
from modelbook.tasks.names import LOWER_IS_BETTER
from modelbook.tasks.scored import Scored
from modelbook.training import beside, evaluation, fairness
from modelbook.training.experiment import Experiment
from modelbook.training.golden import golden
from modelbook.training.search import search

DOING = {
    "tune": "tuning the leader",
    "blend": "blending the best",
    "stack": "stacking the best",
    "best": "tuning and joining the best",
}


@dataclass(frozen=True)
class Fitted:
    """A pipeline fitted on train rows, with what its out-of-fold answers settled.

    Attributes
    ----------
    threshold : float or None
        Probability from which the answer is yes; None but for two classes.
    settled : DataFrame
        The evidence, as ``Task.settled`` gives it.
    simple : pair of str and pipeline, or None
        A simple model, fitted on the same rows, to stand beside; None where the pipeline is one itself.
    tried, searched : DataFrame, str
        What was tried, and what came of it, in a sentence.
    chosen : str
        On which rows that was settled, in a sentence, where these were not all.
    costs : Costs
        By which the threshold was settled.
    rule : Rule
        By which rows were held out and put into folds.
    """

    name: str
    pipeline: Any
    threshold: float | None
    settled: pd.DataFrame
    simple: tuple[str, Any] | None = None
    tried: pd.DataFrame = field(default_factory=pd.DataFrame)
    searched: str = ""
    chosen: str = ""
    costs: Costs = field(default_factory=Costs)
    rule: Rule = RULES["group"]

    def metrics(self, task: Task) -> dict[str, Metric]:
        """Every metric of the answers; of yes and no, what they cost as well."""
        cost = {} if self.threshold is None else {"cost": self.costs.metric(self.threshold)}
        return {**task.metrics(self.threshold), **cost}

    def beside(self, task: Task, scored: Scored, rows: pd.DataFrame, *, resamples: int, seed: int) -> pd.DataFrame:
        """The pipeline's answers to rows beside those of the simple model and the baseline; see ``beside``."""
        simple = (self.simple[0], task.score(self.simple[1], rows)) if self.simple else None
        return beside.beside(task, self.name, scored, simple, resamples=resamples, seed=seed)


@dataclass(frozen=True)
class Judged:
    """What the holdout said of a fitted pipeline, each table as the function of its name gives it.

    Attributes
    ----------
    looks : int
        How often this holdout has been judged, this time included.
    """

    scored: Scored
    table: pd.DataFrame
    beside: pd.DataFrame
    looks: int
    importance: pd.DataFrame
    slices: pd.DataFrame


def fit(
    trial: Experiment, params: Finalize, families: list[str], metric: str, *, tell: Callable[..., None],
    name: str = LOCAL, scheduler: str = NONE,
) -> Fitted:  # fmt: skip
    """Search by ``params``, settle what out-of-fold answers settle, and fit on all train rows.

    ``name`` and ``scheduler`` are those of the engine that tries settings, as ``engine.opened`` takes them.
    """
    doing = DOING[params.strategy]
    tell(doing, 0, 2)
    found = search(
        trial, params, families, metric, lambda step: tell(doing, 0, 2, passing=step), name=name, scheduler=scheduler
    )
    scored = trial.answered(found.answers)
    costs = Costs(params.cost_miss, params.cost_false_alarm, params.cost_hit, params.cost_rest)
    threshold, settled = trial.task.settled(scored, costs)
    tell("fitting on all train rows", 1, 2)
    found.pipeline.fit(*trial.all_rows())
    name, simple = " + ".join(map(trial.called, found.families)), _simple(trial, found.families)
    return Fitted(
        name, found.pipeline, threshold, settled, simple, found.tried, found.said, trial.told(), costs, trial.rule
    )


def _simple(trial: Experiment, kept: list[str]) -> tuple[str, Any] | None:
    if set(kept) <= set(trial.task.simple):
        return None
    simple = trial.task.simple[0]
    return trial.called(simple), trial.fresh(simple).fit(*trial.all_rows())


def parts(
    task: Task, fitted: Fitted, judged: Judged, train: pd.DataFrame, holdout: pd.DataFrame, params: Finalize
) -> dict[str, Any]:
    """Refit on all rows, and gather what a version consists of."""
    # A fresh index: PyCaret's transformers fail on one with duplicates.
    everything, contract = pd.concat([train, holdout], ignore_index=True), task.contract
    model = clone(fitted.pipeline).fit(contract.features(everything), contract.outcome(everything))
    chance = {"resamples": params.resamples, "seed": params.seed}
    scored, importance = judged.scored, judged.importance
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
            "evaluation": judged.table.to_dict("records"),
            "beside": judged.beside.astype(object).where(judged.beside.notna(), None).to_dict("records"),
            "split": fitted.rule.name,
            "told": {"beside": beside.told(task, judged.beside), "looks": beside.looked(judged.looks)},
            "looks": judged.looks,
            "calibration": evaluation.calibration(task.calibrated(scored), **chance).to_dict("records"),
            "gain": evaluation.gain(task, scored, **chance),
            "importance": dict(zip(importance["feature"], importance["mean"])),
            "importance_sd": dict(zip(importance["feature"], importance["sd"])),
            "slices": judged.slices.to_dict("records"),
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


def story(task: Task, fitted: Fitted, judged: Judged, gain: tuple[float, float, float], version: int) -> dict[str, Any]:
    """Word, level, sentences and key numbers of the verdict; ``gain`` is what the model gained on the baseline."""
    rows = {row["metric"]: row for row in judged.table.to_dict("records")}
    first, *others = task.sentences(rows, fitted.rule.judged(task.contract), fitted.threshold)
    weakest = task.weakest(judged.slices, task.contract.label)
    against = f"{beside.told(task, judged.beside)} {fitted.chosen}".strip()
    sentences = [f"Version {version}, {fitted.name}, {first}", *others, *filter(None, (weakest, against))]
    cost = [fitted.costs.number(rows["cost"], judged.scored.outcome.mean())] if "cost" in rows else []
    looks = {"name": "looks at this holdout", "value": str(judged.looks), "beside": "this one included"}
    word, level = ("no better", "bad")
    if _beats(rows[task.headline], task) and gain[1] > 0:
        word, level = ("beats baseline", "good") if beside.worth(judged.beside) else ("take the simple one", "watch")
    return {
        "word": word,
        "level": level,
        "sentences": sentences,
        "numbers": [*task.numbers(rows, fitted.threshold), *cost, looks],
    }


def _beats(row: dict[str, Any], task: Task) -> bool:
    """Whether the whole interval of the headline is on the better side of the baseline's value."""
    if task.headline in LOWER_IS_BETTER:
        return row["high"] < row["baseline"]
    return row["low"] > row["baseline"]
