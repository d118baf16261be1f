"""Learning curve: score by share of the train rows, and whether more rows would help."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import pandas as pd

from modelbook.tasks.metric_format import LOWER_IS_BETTER, format_gain, format_mean_sd
from modelbook.training.experiment import Experiment

TRAIN_SHARES = (
    0.125,
    0.25,
    0.5,
    1.0,
)  # each point doubles the rows, so the last step indicates the gain of doubling once more
COLUMNS = ["share", "fold", "rows", "value"]


def compute_learning_curve(
    experiment: Experiment,
    family: str,
    metric: str,
    budget_seconds: float,
    *,
    seed: int,
    report_progress: Callable[..., None],
) -> pd.DataFrame:
    """Fit a family on growing shares of each fold's train entities, and score the fold's test rows.

    Shares are sampled by entity and nested. A share that lacks a class is left out.

    Parameters
    ----------
    budget_seconds : float
        Time limit: a share is skipped if it is expected to exceed it; 0 for no curve.

    Returns
    -------
    DataFrame
        Columns ``share, fold, rows`` (fitted on), ``value``; smallest share first.
    """
    points: list[pd.DataFrame] = []
    curve_start, previous_share, previous_seconds = time.monotonic(), 0.0, 0.0
    for position, share in enumerate(TRAIN_SHARES):
        if (
            budget_seconds == 0
            or time.monotonic() - curve_start + previous_seconds * share / (previous_share or share)
            > budget_seconds
        ):
            break
        point_start = time.monotonic()
        report_progress(
            f"learning curve: {experiment.family_label(family)} on {share:.0%} of the rows",
            position,
            len(TRAIN_SHARES),
        )
        points.append(_evaluate_share(experiment, family, metric, share, seed))
        previous_share, previous_seconds = share, time.monotonic() - point_start
    return pd.concat(points, ignore_index=True) if points else pd.DataFrame(columns=COLUMNS)


def _evaluate_share(
    experiment: Experiment, family: str, metric: str, share: float, seed: int
) -> pd.DataFrame:
    task, pipeline, rows = experiment.task, experiment.make_default_pipeline(family), []
    for fold, (train, test) in enumerate(experiment.cv_splits(), 1):
        entities = np.random.default_rng(seed + fold).permutation(
            experiment.entities.iloc[train].unique()
        )
        sampled = train[
            experiment.entities.iloc[train].isin(entities[: max(1, round(share * len(entities)))])
        ]
        if task.classes and experiment.outcome.iloc[sampled].nunique() < len(task.classes):
            continue
        rows.append(
            (
                share,
                fold,
                len(sampled),
                experiment.evaluate_fold(
                    metric, experiment.fit_predict_fold(pipeline, sampled, test), test
                ),
            )
        )
    return pd.DataFrame(rows, columns=COLUMNS)


def describe_learning_curve(curve: pd.DataFrame, metric: str, budget_seconds: float) -> str:
    """Describe whether more rows would help, from ``compute_learning_curve``.

    Rule of thumb: the last doubling's gain has to exceed its standard deviation over the folds.
    """
    values = curve.pivot(index="fold", columns="share", values="value").dropna()
    if values.shape[1] < 2 or len(values) < 2:
        return (
            f"Whether more rows would help is unknown: a learning_budget of {budget_seconds:g} s "
            "gave fewer than two points."
        )
    half, full = values.columns[-2:]
    fold_gains = (values[full] - values[half]) * (-1 if metric in LOWER_IS_BETTER else 1)
    gain, sd = fold_gains.mean(), fold_gains.std(ddof=0)
    gain_text = format_mean_sd(abs(gain), sd)
    budget_note = "" if full == 1 else f" (the learning_budget of {budget_seconds:g} s ended there)"
    prefix = f"From {half:.0%} to {full:.0%} of the train rows{budget_note} the leader"
    sentence = f"{prefix} {format_gain(metric, gain, gain_text, past=True)}"
    if gain > sd:
        return f"{sentence}: more rows would help."
    return f"{sentence}, within one standard deviation: more rows would change little."
