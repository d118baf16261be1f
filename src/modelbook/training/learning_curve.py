"""Learning curve: score by share of the train rows, and whether more rows would help."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

import numpy as np
import pandas as pd

from modelbook import engine
from modelbook.config import NONE
from modelbook.tasks.metric_format import format_gain, format_metric, metric_sign
from modelbook.training import fold_tests
from modelbook.training.experiment import Experiment

TRAIN_SHARES = (0.125, 0.25, 0.5, 1.0)  # doubled, so that the last gain indicates the next one
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
    points: list[tuple[float, int, int, float]] = []
    curve_start = time.monotonic()
    previous_share = 0.0
    previous_seconds = 0.0
    evaluate_share = partial(_evaluate_share, experiment, family, metric, seed)
    with engine.open_engine(engine.LOCAL, NONE, evaluate_share, workers=None) as executor:
        for position, share in enumerate(TRAIN_SHARES):
            expected_seconds = previous_seconds * share / (previous_share or share)
            if share == 1 and experiment.fold_scores.get(family):  # recorded by the comparison
                expected_seconds = 0.0
            elapsed = time.monotonic() - curve_start
            if budget_seconds == 0 or elapsed + expected_seconds > budget_seconds:
                break
            point_start = time.monotonic()
            report_progress(
                f"learning curve: {experiment.get_family_label(family)} on {share:.0%} of the rows",
                position,
                len(TRAIN_SHARES),
            )
            futures = [executor.submit((share, fold)) for fold in range(experiment.folds)]
            points += filter(None, [executor.get_result(future) for future in futures])
            previous_share = share
            previous_seconds = time.monotonic() - point_start
    return pd.DataFrame(points, columns=COLUMNS)


def _evaluate_share(
    experiment: Experiment, family: str, metric: str, seed: int, item: tuple[float, int]
) -> tuple[float, int, int, float] | None:
    """A row of the curve: a share of a fold's train entities; None where it lacks a class."""
    share, fold = item
    train, test = experiment.cv_splits[fold]
    if share == 1 and experiment.fold_scores.get(family):
        scores = experiment.fold_scores[family][fold]
        return share, fold + 1, len(train), experiment.evaluate_fold(metric, scores, test)
    train_entities = experiment.entities.iloc[train]
    entities = np.random.default_rng(seed + fold + 1).permutation(train_entities.unique())
    n_sampled = max(1, round(share * len(entities)))
    sample = train[train_entities.isin(entities[:n_sampled])]
    classes = experiment.task.classes
    if classes and experiment.target.iloc[sample].nunique() < len(classes):
        return None
    pipeline = experiment.make_default_pipeline(family)
    scores = experiment.fit_predict_fold(pipeline, sample, test)
    return share, fold + 1, len(sample), experiment.evaluate_fold(metric, scores, test)


def describe_learning_curve(curve: pd.DataFrame, metric: str, budget_seconds: float) -> str:
    """Describe whether more rows would help, from ``compute_learning_curve``.

    The gain of the last doubling is that of each fold, on the same test rows; the corrected
    resampled t-test decides whether it is above 0.
    """
    values = curve.pivot(index="fold", columns="share", values="value").dropna()
    if values.shape[1] < 2 or len(values) < 2:
        return (
            f"Whether more rows would help is unknown: a learning_budget of {budget_seconds:g} s "
            "gave fewer than two points."
        )
    half, full = values.columns[-2:]
    fold_gains = (values[full] - values[half]) * metric_sign(metric)
    gain = fold_gains.mean()
    p_value = fold_tests.compute_gain_p_value(fold_gains.to_numpy())
    budget_note = "" if full == 1 else f" (the learning_budget of {budget_seconds:g} s ended there)"
    prefix = f"From {half:.0%} to {full:.0%} of the training rows{budget_note} the leader"
    claim = (
        "more rows would probably help"
        if p_value <= fold_tests.ALPHA
        else "the gain is not significant; whether more rows would help is open"
    )
    return (
        f"{prefix} {format_gain(metric, gain, format_metric(abs(gain)), past=True)}, with a gain "
        f"in {(fold_gains > 0).sum()} of {len(fold_gains)} folds (corrected resampled t-test, "
        f"p = {p_value:.2g}): {claim}."
    )
