"""The final model: fitted on train, judged once on the holdout, refitted on all rows, and told in words."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pandas as pd
from sklearn.base import clone

from modelbook.config import FAMILIES, Finalize
from modelbook.contract import Contract
from modelbook.training import evaluation, fairness
from modelbook.training.evaluation import Scored
from modelbook.training.experiment import Experiment
from modelbook.training.golden import golden

HEADLINE = {"ROC AUC": "roc_auc", "PR AUC": "pr_auc", "Brier score": "brier"}


@dataclass(frozen=True)
class Fitted:
    """A pipeline fitted on train rows, with the threshold that its out-of-fold answers chose.

    Attributes
    ----------
    costs : DataFrame
        Mean cost a train row at each threshold; columns ``threshold, cost``.
    """

    name: str
    pipeline: Any
    threshold: float
    costs: pd.DataFrame


def fit(trial: Experiment, params: Finalize, families: list[str], metric: str, *, tell: Callable[..., None]) -> Fitted:
    """Tune the leader or blend the best, choose the threshold on out-of-fold answers, and fit on all train rows."""
    kept = families if params.strategy == "blend" else families[:1]
    name = " + ".join(FAMILIES[family] for family in kept)
    doing = f"tuning {name}, {params.tune_rounds} settings" if params.strategy == "tune" else f"blending {name}"
    tell(doing, 0, 3)
    chosen = trial.final(
        params.strategy, families, metric, params.tune_rounds, watch=lambda step: tell(doing, 0, 3, passing=step)
    )
    pipeline = trial.pipeline(chosen)
    tell("answering train rows out of fold, to choose the threshold", 1, 3)
    scored = Scored.of(trial.outcome, trial.out_of_fold(pipeline), trial.groups)
    costs = evaluation.costs(scored, params.cost_miss)
    tell("fitting on all train rows", 2, 3)
    pipeline.fit(trial.features, trial.outcome)
    return Fitted(name, pipeline, evaluation.cheapest(costs), costs)


def score(fitted: Fitted, rows: pd.DataFrame, contract: Contract) -> Scored:
    """The pipeline's answers to rows it was not fitted on."""
    answers = fitted.pipeline.predict_proba(contract.features(rows))[:, 1]
    return Scored.of(contract.outcome(rows), answers, rows[contract.entity])


def parts(
    fitted: Fitted, scored: Scored, train: pd.DataFrame, holdout: pd.DataFrame, contract: Contract,
    table: pd.DataFrame, importance: pd.DataFrame, slices: pd.DataFrame, params: Finalize,
) -> dict[str, Any]:  # fmt: skip
    """Refit on all rows, and gather what a version consists of."""
    # A fresh index: PyCaret's transformers fail on one with duplicates.
    everything = pd.concat([train, holdout], ignore_index=True)
    model = clone(fitted.pipeline).fit(contract.features(everything), contract.outcome(everything))
    chance = {"resamples": params.resamples, "seed": params.seed}
    gain = evaluation.difference(scored.baseline(), scored, "log_loss", **chance)
    gaps = fairness.gaps(
        scored, holdout, contract.named("sensitive"), fitted.threshold, fewest=params.slice_rows, **chance
    )
    return {
        "model": model,
        "evaluated": fitted.pipeline,
        "golden": golden(everything, model, contract, fitted.threshold, seed=params.seed),
        "reference": holdout.assign(score=scored.score),
        "metrics": {
            "name": fitted.name,
            "threshold": fitted.threshold,
            "rows": {"train": len(train), "holdout": len(holdout)},
            "entities": {"train": train[contract.entity].nunique(), "holdout": holdout[contract.entity].nunique()},
            "periods": sorted(everything[contract.time].unique().tolist()) if contract.time else [],
            "evaluation": table.to_dict("records"),
            "calibration": evaluation.calibration(scored, **chance).to_dict("records"),
            "gain": gain,
            "importance": dict(zip(importance["feature"], importance["mean"])),
            "importance_sd": dict(zip(importance["feature"], importance["sd"])),
            "slices": slices.to_dict("records"),
            "slice_rows": params.slice_rows,
            "gaps": gaps.to_dict("records"),
        },
    }


def logged(table: pd.DataFrame) -> dict[str, float]:
    """Metrics with the ends of their intervals, by the names a run logs them under."""
    told: dict[str, float] = {}
    for row in table.itertuples():
        told |= {row.metric: row.value, f"{row.metric}_low": row.low, f"{row.metric}_high": row.high}
    return told


def tagged(tags: dict[str, Any], table: pd.DataFrame, fitted: Fitted) -> dict[str, Any]:
    """What a version is known by in the registry: provenance, model, threshold and the headline metrics."""
    headline = {row.metric: f"{row.value:.4f}" for row in table.itertuples() if row.metric in evaluation.METRICS}
    return {**tags, "model": fitted.name, "threshold": fitted.threshold, **headline}


def story(
    fitted: Fitted,
    table: pd.DataFrame,
    gain: tuple[float, float, float],
    slices: pd.DataFrame,
    contract: Contract,
    version: int,
) -> dict[str, Any]:
    """Word, level, sentences and key numbers of the verdict; ``gain`` is the log loss gained on the baseline."""
    row = {r.metric: r for r in table.itertuples()}
    auc, loss, flagged = row["roc_auc"], row["log_loss"], row["flagged"]
    recall, precision = row["recall"], row["precision"]
    better = auc.low > 0.5 and gain[1] > 0
    who, at = f"{contract.label(contract.entity)}s it has never seen", f"threshold {fitted.threshold:g}"
    sentences = [
        f"Version {version}, {fitted.name}, ranks a yes above a no {auc.value:.1%} of the time for {who} "
        f"(95 % interval {auc.low:.1%} to {auc.high:.1%}; a coin has 50 %).",
        f"At {at} it flags {flagged.value:.0%} of the rows, finds {recall.value:.0%} of those who turn out yes, "
        f"and is right about {precision.value:.0%} of those it flags.",
        f"Its log loss is {loss.value:.3f} ({loss.low:.3f} to {loss.high:.3f}), the baseline's {loss.baseline:.3f}.",
    ]
    if len(slices):
        worst = slices.sort_values("roc_auc").iloc[0]
        sentences.append(
            f"It is weakest where {contract.label(worst['slice'])} is {worst['value']}: ROC AUC {worst['roc_auc']:.3f} "
            f"({worst['low']:.3f} to {worst['high']:.3f}) on {worst['n']:,} rows."
        )
    numbers = [_number(name, row[metric]) for name, metric in HEADLINE.items()]
    numbers.append({"name": "found", "value": f"{recall.value:.0%}", "beside": f"of the yes, at {at}"})
    word, level = ("beats baseline", "good") if better else ("no better", "bad")
    return {"word": word, "level": level, "sentences": sentences, "numbers": numbers}


def _number(name: str, row: Any) -> dict[str, str]:
    beside = f"{row.low:.3f} to {row.high:.3f}; baseline {row.baseline:.3f}"
    return {"name": name, "value": f"{row.value:.3f}", "beside": beside}
