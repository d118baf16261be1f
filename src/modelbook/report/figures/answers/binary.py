"""Figures of binary answers: those of the finalize stage itself, by the names that every task's have."""

from __future__ import annotations

from typing import Any

import pandas as pd

from modelbook.report.display import Figure
from modelbook.report.figures import finalize
from modelbook.report.figures.finalize import calibration
from modelbook.report.figures.finalize import confusion as mistakes

__all__ = ["calibration", "curves", "mistakes", "settled"]


def settled(table: pd.DataFrame, threshold: float) -> Figure:
    """What each threshold would cost, and the one that costs least."""
    return finalize.threshold_cost(table, threshold)


def curves(found: tuple[pd.DataFrame, pd.DataFrame], table: pd.DataFrame) -> Figure:
    """The ROC curve beside precision against recall; ``table`` holds the metrics."""
    return finalize.curves(*found, _row(table, "roc_auc")["value"], _row(table, "pr_auc")["baseline"])


def _row(table: pd.DataFrame, metric: str) -> Any:
    return table[table["metric"] == metric].iloc[0]
