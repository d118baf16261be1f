"""Explanation: what a fitted pipeline's answers rest on."""

from __future__ import annotations

from typing import Any

import pandas as pd
from sklearn.inspection import permutation_importance


def importance(pipeline: Any, rows: pd.DataFrame, outcome: pd.Series, *, seed: int, repeats: int = 5) -> pd.DataFrame:
    """Permutation importance (Breiman 2001): the ROC AUC lost when one column is shuffled.

    Parameters
    ----------
    rows : DataFrame
        Features as the pipeline takes them, of rows that it was not fitted on.

    Returns
    -------
    DataFrame
        Columns ``feature, mean, sd`` in units of ROC AUC, most important first.
    """
    found = permutation_importance(pipeline, rows, outcome, scoring="roc_auc", n_repeats=repeats, random_state=seed)
    table = pd.DataFrame({"feature": rows.columns, "mean": found.importances_mean, "sd": found.importances_std})
    return table.sort_values("mean", ascending=False, ignore_index=True)
