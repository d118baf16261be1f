"""Beside the model: the baseline and a simple model, asked the same rows, and what the model gains on each."""

from __future__ import annotations

from typing import Any

import pandas as pd

from modelbook.tasks.base import Task
from modelbook.tasks.names import LOWER_IS_BETTER
from modelbook.tasks.names import told as told_value
from modelbook.tasks.scored import Scored
from modelbook.training.evaluation import difference, evaluate, labelled

CAPTION = "On the same holdout rows: value with its interval, and what the model gains on each, paired"
MODEL, BASELINE, SIMPLE = "model", "baseline", "simple"


def beside(
    task: Task, name: str, scored: Scored, simple: tuple[str, Scored] | None, *, resamples: int, seed: int
) -> pd.DataFrame:
    """The model, a simple one and the baseline on the same rows, and what the model gains on the other two.

    Gains are paired: each resample draws the same entities for both, so what is hard for both cancels out.

    Parameters
    ----------
    name, scored : str, Scored
        The final model.
    simple : pair of str and Scored, or None
        The simple model; None where the final model is one itself.

    Returns
    -------
    DataFrame
        Columns ``is`` (model, simple, baseline), ``candidate, metric, value, low, high``, and ``gain, gain_low,
        gain_high``, empty for the model itself. A gain above 0 is better in every metric; of a number it is the share
        of the other's error that is saved.
    """
    chance = {"resamples": resamples, "seed": seed}
    names = list(dict.fromkeys((task.headline, task.gained)))
    metrics = {metric: task.metrics()[metric] for metric in names}
    others = [(SIMPLE, *simple)] if simple else []
    rows: list[dict[str, Any]] = []
    for kind, called, answers in [(MODEL, name, scored), *others, (BASELINE, BASELINE, scored.baseline())]:
        for row in evaluate(answers, metrics, **chance).drop(columns="baseline").to_dict("records"):
            gained = {}
            if kind != MODEL:
                gap = difference(task, scored, answers, row["metric"], **chance)
                gained = dict(zip(("gain", "gain_low", "gain_high"), gap))
            rows.append({"is": kind, "candidate": called, **row, **gained})
    return pd.DataFrame(rows).sort_values("metric", key=lambda name: name.map(names.index), kind="stable")


def worth(table: pd.DataFrame) -> bool:
    """Whether the model is better than the simple one by more than chance explains, in any of the metrics."""
    against = table[table["is"] == SIMPLE]
    return against.empty or bool((against["gain_low"] > 0).any())


def told(task: Task, table: pd.DataFrame) -> str:
    """What the model gains on the simple one, in a sentence; the rows are those of ``beside``."""
    against = table[table["is"] == SIMPLE].to_dict("records")
    if not against:
        return "It is a simple model itself: nothing plainer stands beside it but the baseline."
    first, *others = against
    side = "over" if first["gain"] >= 0 and first["metric"] not in LOWER_IS_BETTER else "against"
    said = f"The complex model {task.gain_words(first['metric'], first['gain'], _reach(first))} {side} "
    said += first["candidate"]
    if first["gain_low"] > 0:
        return f"{said}."
    if first["gain_high"] < 0:
        return f"{said}: take the simple one."
    surer = [row for row in others if row["gain_low"] > 0]
    if not surer:
        return f"{said}, which is within noise: take the simple one."
    more = task.gain_words(surer[0]["metric"], surer[0]["gain"], _reach(surer[0]))
    return f"{said}, which is within noise; but it {more}."


def shown(table: pd.DataFrame) -> pd.DataFrame:
    """The table as people read it."""
    return labelled(table.drop(columns="is")).rename(
        columns={"gain": "model's gain", "gain_low": "gain low", "gain_high": "gain high"}
    )


def _written(value: float) -> str:
    return "" if pd.isna(value) else told_value(value)  # the model gains nothing on itself


WRITTEN = dict.fromkeys(("value", "low", "high", "model's gain", "gain low", "gain high"), _written)


def looked(looks: int) -> str:
    """How often the holdout has been judged by now, and what that does, in a sentence."""
    if looks <= 1:
        return "This was the first look at this holdout: its numbers are as honest as they will ever be."
    return (
        f"This was look {looks} at this holdout: whoever keeps the best of many looks keeps its luck, too, so the best "
        "will not hold in full; a new holdout (another seed in ingest) is a fresh judge."
    )


def _reach(row: dict[str, Any]) -> float:
    """Half of the interval's width: what stands behind ±."""
    return (row["gain_high"] - row["gain_low"]) / 2
