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
    rows = contract.inputs(frame.sample(min(count, len(frame)), random_state=seed)).reset_index(drop=True)
    nullable = [name for name in contract.inputs_ if contract.columns[name].nullable]
    rows.loc[0, nullable] = np.nan
    answers = task.answers(pipeline, contract.features(rows))
    return pd.concat([rows, task.served(answers, threshold)], axis=1)
