"""Figures of binary predictions: those of the finalize stage, by their task-independent names."""

from __future__ import annotations

import pandas as pd

from modelbook.display.components import Figure
from modelbook.display.figures import finalize
from modelbook.display.figures.finalize import plot_calibration
from modelbook.display.figures.finalize import plot_confusion_matrix as plot_error_distribution
from modelbook.display.figures.finalize import plot_threshold_cost as plot_out_of_fold_results

__all__ = [
    "plot_calibration",
    "plot_diagnostics",
    "plot_error_distribution",
    "plot_out_of_fold_results",
]


def plot_diagnostics(
    curve_frames: tuple[pd.DataFrame, pd.DataFrame], metrics: pd.DataFrame
) -> Figure:
    """ROC and precision-recall curves; ``metrics`` is the table of metrics."""
    return finalize.plot_roc_and_precision_recall(
        *curve_frames,
        metrics.set_index("metric").loc["roc_auc", "value"],
        metrics.set_index("metric").loc["pr_auc", "baseline"],
    )
