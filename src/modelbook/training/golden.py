"""Golden rows: rows with the answers that a model must give back wherever it is loaded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from modelbook.tasks.base import Task


def golden(
    task: Task, frame: pd.DataFrame, pipeline: Any, threshold: float | None, *, seed: int, count: int = 30
) -> pd.DataFrame:
    """Rows drawn from ``frame``, the first of them with every gap the contract allows, and the pipeline's answers.

    Returns
    -------
    DataFrame
        The feature columns, and those that the task answers with.
    """
    contract = task.contract
    rows = contract.features(frame.sample(min(count, len(frame)), random_state=seed)).reset_index(drop=True)
    nullable = [name for name in contract.features_ if contract.columns[name].nullable]
    rows.loc[0, nullable] = np.nan
    return pd.concat([rows, task.served(task.answers(pipeline, rows), threshold)], axis=1)
