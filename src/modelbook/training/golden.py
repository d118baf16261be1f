"""Golden rows: rows with the answers that a model must give back wherever it is loaded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from modelbook.contract import Contract


def golden(
    frame: pd.DataFrame, pipeline: Any, contract: Contract, threshold: float, *, seed: int, count: int = 30
) -> pd.DataFrame:
    """Rows drawn from ``frame``, the first of them with every gap the contract allows, and the pipeline's answers.

    Returns
    -------
    DataFrame
        The feature columns, ``prediction`` (0, 1) and ``probability``.
    """
    rows = contract.inputs(frame.sample(min(count, len(frame)), random_state=seed)).reset_index(drop=True)
    nullable = [name for name in contract.inputs_ if contract.columns[name].nullable]
    rows.loc[0, nullable] = np.nan
    probability = pipeline.predict_proba(contract.features(rows))[:, 1]
    return rows.assign(prediction=(probability >= threshold).astype("int64"), probability=probability)
