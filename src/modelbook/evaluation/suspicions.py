"""Suspicions of leakage, which hold a model until the contract confirms the column."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from modelbook.dataset import profiling
from modelbook.tasks.metric_format import format_metric, metric_label

if TYPE_CHECKING:
    import pandas as pd

    from modelbook.tasks.base import Task

SUSPECT_QUALITY = 0.99  # ROC AUC or R² of a holdout that few tables without a leak reach


def find_suspicions(
    task: Task,
    train: pd.DataFrame,
    metrics: pd.DataFrame,
    importance: pd.DataFrame,
    *,
    leak_threshold: float,
) -> list[str]:
    """Describe each suspicion of leakage that the contract does not confirm, in a sentence.

    Parameters
    ----------
    metrics : DataFrame
        From ``evaluate_metrics`` on the holdout.
    importance : DataFrame
        From ``measure_importance``, the most important feature first.
    leak_threshold : float
        Univariate score at which a feature is suspected.
    """
    contract = task.contract
    associations = profiling.measure_associations(train, contract)
    features, pairs = profiling.find_leaks(train, contract, associations, leak_threshold)
    sentences = [f"{feature} nearly decides the target alone" for feature in features]
    sentences += [f"{pair} together nearly decide the target" for pair in pairs]
    row = metrics.set_index("metric").loc[task.quality_metric]
    top_feature = importance["feature"].iloc[0]
    label = metric_label(task.quality_metric)
    if not contract.is_confirmed(top_feature):
        if row["value"] >= SUSPECT_QUALITY:
            sentences.append(
                f"{label} {format_metric(row['value'])} is too good to be likely, and rests on "
                f"{top_feature}"
            )
        elif np.isclose(row["low"], row["high"], atol=1e-12, rtol=0):
            sentences.append(f"the interval of {label} has no width")
    return sentences
