"""Explanation: what a fitted pipeline's answers rest on, and how they move."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from sklearn.inspection import partial_dependence, permutation_importance

from modelbook.tasks.base import Task

JUDGED = 5_000  # rows that importance is measured on
ASKED = 400  # times that the model is asked about them, at most, where that leaves two a column
SAMPLED, POINTS = 300, 12  # rows and values of a column: the slowest family answers them in seconds
MIDDLE = (0.1, 0.9)  # the band holds the answers to all rows but the lowest and the highest tenth


def importance(task: Task, pipeline: Any, frame: pd.DataFrame, *, seed: int, repeats: int = 5) -> pd.DataFrame:
    """Permutation importance (Breiman 2001): how much the headline metric worsens when one column is shuffled.

    Parameters
    ----------
    frame : DataFrame
        Rows that the pipeline was not fitted on; of more than 5,000 a sample.
    repeats : int
        How often each column is shuffled; less often, but at least twice, where there are more than 80 columns.

    Returns
    -------
    DataFrame
        Columns ``feature, mean, sd`` in units of the headline metric, most important first.
    """
    some = frame.sample(JUDGED, random_state=seed) if len(frame) > JUDGED else frame
    rows, outcome = task.contract.features(some), task.contract.outcome(some)
    repeats = max(2, min(repeats, ASKED // len(rows.columns)))
    found = permutation_importance(pipeline, rows, outcome, scoring=task.scoring, n_repeats=repeats, random_state=seed)
    table = pd.DataFrame({"feature": rows.columns, "mean": found.importances_mean, "sd": found.importances_std})
    return table.sort_values("mean", ascending=False, kind="stable", ignore_index=True)


def dependence(task: Task, pipeline: Any, frame: pd.DataFrame, features: Sequence[str], *, seed: int) -> pd.DataFrame:
    """Partial dependence (Friedman 2001): the mean answer when one column is set to a value in every row.

    Where columns hang together, some of these rows could not exist, and nothing here is a cause.

    Parameters
    ----------
    frame : DataFrame
        Rows that the pipeline was not fitted on; a sample of them is answered. Of each column, only rows that have it
        are.
    features : sequence of str
        The columns to look at.

    Returns
    -------
    DataFrame
        Columns ``feature, kind`` (``number`` or ``code``), ``value, mean, low, high, rows``: mean answer (probability
        or number), and the ends of the band that holds the answers to the middle 80 % of the rows (individual
        conditional expectation; Goldstein et al. 2015). Numbers run from their 5th to their 95th percentile. Of several
        classes each has its rows, named in the column ``class``.
    """
    rows = task.contract.features(frame)
    told = [_moved(task, pipeline, rows, name, seed) for name in features if rows[name].nunique() > 1]
    names = ["feature", "kind", "value", "mean", "low", "high", "rows", "class"]
    return pd.concat(told, ignore_index=True) if told else pd.DataFrame(columns=names)


def _moved(task: Task, pipeline: Any, rows: pd.DataFrame, name: str, seed: int) -> pd.DataFrame:
    code = name in task.contract.categorical
    known = rows[rows[name].notna()]  # a gap has no place on the axis, and spoils scikit-learn's percentiles
    some = known.sample(min(SAMPLED, len(known)), random_state=seed).reset_index(drop=True)
    found = partial_dependence(
        pipeline, some, [name], categorical_features=[name] if code else None, kind="individual",
        grid_resolution=POINTS, response_method=task.response if task.learner == "classification" else "auto",
    )  # fmt: skip
    several = len(found["individual"]) > 1  # answers: an array for each class, one for two classes or a number
    few = code or some[name].nunique() <= 2
    told = []
    for place, answers in enumerate(found["individual"]):
        low, high = np.quantile(answers, MIDDLE, axis=0)
        told.append(pd.DataFrame({
            "feature": name, "kind": "code" if few else "number",
            "value": [_plain(value) for value in found["grid_values"][0]], "mean": answers.mean(axis=0),
            "low": low, "high": high, "rows": len(some), "class": task.classes[place] if several else "",
        }))  # fmt: skip
    return pd.concat(told, ignore_index=True)


def _plain(value: Any) -> Any:
    return value if isinstance(value, str) else float(value)
