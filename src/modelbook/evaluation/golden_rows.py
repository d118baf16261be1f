"""Golden rows: inputs with the predictions that a model must reproduce wherever it is loaded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from modelbook.tasks.base import Task


def make_golden_rows(
    task: Task,
    frame: pd.DataFrame,
    pipeline: Any,
    threshold: float | None,
    *,
    seed: int,
    max_rows: int = 30,
) -> pd.DataFrame:
    """Sample rows with the pipeline's predictions; the first row has every allowed missing value.

    Returns
    -------
    DataFrame
        The input columns and the task's prediction columns.
    """
    contract = task.contract
    rows = contract.select_inputs(
        frame.sample(min(max_rows, len(frame)), random_state=seed)
    ).reset_index(drop=True)
    nullable = [name for name in contract.input_names if contract.columns[name].nullable]
    rows.loc[0, nullable] = np.nan
    scores = task.predict_scores(pipeline, contract.select_features(rows))
    return pd.concat([rows, task.make_predictions(scores, threshold)], axis=1)
