"""Check the predictions of a custom estimator on a few rows, before cross-validation."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import cloudpickle
import numpy as np
import pandas as pd
from sklearn.base import clone

from modelbook.errors import CustomCodeError
from modelbook.tasks.base import Task
from modelbook.training.custom_code import DOCS_HINT, describe_error

PROBE_ROWS = 100  # rows of each class; in a regression, rows in all
SINGLE_ROWS = 3  # rows that are also predicted one by one
TOLERANCE = 1e-5  # maximum difference between two predictions of a row
SUM_TOLERANCE = 1e-3  # maximum distance of a row's summed probabilities from 1


def select_probe_rows(task: Task, target: pd.Series) -> pd.Index:
    """Return the index of the first rows of each class, or of the table in a regression."""
    rows = target.groupby(target) if task.classes else target
    return rows.head(PROBE_ROWS).index.sort_values()


def check_predictions(
    task: Task, name: str, pipeline: Any, rows: pd.DataFrame, target: pd.Series
) -> None:
    """Fit a copy of a pipeline, and check its predictions.

    An estimator that fails on these few rows, as nearest neighbours may, is not rejected: the
    comparison fits it to all, and states why it fails, as for any candidate.

    Raises
    ------
    CustomCodeError
        If predictions are invalid for the task, depend on the other rows, or change after pickling.
    """
    try:
        fitted_pipeline = clone(pipeline).fit(rows, target)
        problem = next(_find_problems(task, fitted_pipeline, rows), "")
    except Exception:  # an estimator of a user may raise anything
        return
    if problem := problem or _find_copy_problem(task, fitted_pipeline, rows):
        raise CustomCodeError(
            f"estimators: {name} {problem}",
            expected="fit(X, y) stores classes_ = np.unique(y), predict(X) returns a class for "
            "each row, and predict_proba(X) a column for each class, which sum to 1"
            if task.classes
            else "predict(X) returns a finite number for each row",
            next="correct the estimator in 03_compare, or in the file of estimators_file; "
            f"{DOCS_HINT}",
        )


def _find_problems(task: Task, pipeline: Any, rows: pd.DataFrame) -> Iterator[str]:
    """Yield what is wrong with the predictions; later problems may follow from earlier ones."""
    if task.classes:
        yield from _find_class_problems(task, pipeline, rows)
    yield from _find_response_problems(task, pipeline, rows)


def _find_class_problems(task: Task, pipeline: Any, rows: pd.DataFrame) -> Iterator[str]:
    codes = list(range(len(task.classes)))
    classes = getattr(pipeline.steps[-1][1], "classes_", None)
    if classes is None:
        yield "has no classes_ after fit"
    elif (listed := np.asarray(classes).tolist()) != codes:
        yield f"has the classes_ {listed} after fit, not {codes}"
    labels = np.asarray(pipeline.predict(rows))
    if labels.shape != (len(rows),):
        yield f"returns predictions of shape {labels.shape} for {len(rows)} rows"
    if unknown := sorted(set(labels.tolist()) - set(codes), key=str):
        yield f"predicts {unknown[:3]}, which are not classes of the target"


def _find_response_problems(task: Task, pipeline: Any, rows: pd.DataFrame) -> Iterator[str]:
    method = task.response_method
    response = np.asarray(getattr(pipeline, method)(rows), dtype=float)
    shape = (len(rows), len(task.classes)) if task.classes else (len(rows),)
    if response.shape != shape:
        yield f"returns an array of shape {response.shape} from {method}, not {shape}"
    if not np.isfinite(response).all():
        yield f"returns {response[~np.isfinite(response)][0]} from {method}"
    if task.classes:
        sums = response.sum(axis=1)
        if np.abs(sums - 1).max() > SUM_TOLERANCE:
            yield (
                f"returns probabilities whose sum by row is between {sums.min():.3g} and "
                f"{sums.max():.3g}, not 1"
            )
        if response.min() < 0:
            yield f"returns the probability {response.min():.3g}"


def _find_copy_problem(task: Task, pipeline: Any, rows: pd.DataFrame) -> str:
    """Return what differs for single rows or after pickling; empty if nothing does."""
    first = rows.head(SINGLE_ROWS)
    scores = task.predict_scores(pipeline, rows)[: len(first)]
    try:
        singles = [
            task.predict_scores(pipeline, first.iloc[[position]]) for position in range(len(first))
        ]
    except Exception as error:  # an estimator of a user may raise anything
        return f"cannot predict a single row: {describe_error(error)}"
    if not np.allclose(np.concatenate(singles), scores, atol=TOLERANCE):
        return "predicts a row differently depending on the other rows, or on each call"
    try:
        pipeline_copy = cloudpickle.loads(cloudpickle.dumps(pipeline))
        copy_scores = task.predict_scores(pipeline_copy, first)
    except Exception as error:
        return f"cannot be pickled and loaded once it is fitted: {describe_error(error)}"
    if not np.allclose(copy_scores, scores, atol=TOLERANCE):
        return "predicts other values once it is pickled and loaded"
    return ""
