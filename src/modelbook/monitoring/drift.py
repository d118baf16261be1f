"""Drift: how far a batch's columns have moved from the reference, as effect sizes."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pandas as pd
from evidently import DataDefinition, Dataset, Report
from evidently.metrics import ValueDrift

if TYPE_CHECKING:
    from modelbook.contract import Contract

# A distance from 0 to sqrt(ln 2) = 0.83, for numbers and categories alike. From some 500 rows on, the row count does
# not drive it; below, chance alone moves it, so smaller batches are not judged (min_rows).
METHOD = "jensenshannon"
FEWEST = 2  # values a column needs on each side


def columns(
    reference: pd.DataFrame, batch: pd.DataFrame, contract: Contract, *, threshold: float, gaps: float
) -> pd.DataFrame:
    """Each feature's drift, worst first.

    Parameters
    ----------
    reference, batch : DataFrame
        Conformed rows under the contract.
    threshold : float
        Jensen-Shannon distance of the present values from which a column has drifted.
    gaps : float
        Change of the share of missing values from which it has.

    Returns
    -------
    DataFrame
        Columns ``column, score, threshold, missing_reference, missing_batch, drifted``. ``score`` is missing where
        either side has fewer than two values.
    """
    before, now = contract.features(reference), contract.features(batch)
    scores = distances(before, now, contract.numeric, contract.categorical, threshold)
    table = pd.DataFrame({
        "column": contract.features_,
        "score": [scores.get(name, float("nan")) for name in contract.features_],
        "threshold": threshold,
        "missing_reference": before.isna().mean().to_numpy(),
        "missing_batch": now.isna().mean().to_numpy(),
    })  # fmt: skip
    moved = (table["missing_batch"] - table["missing_reference"]).abs() >= gaps
    table["drifted"] = (table["score"] >= threshold) | moved
    return table.sort_values(["drifted", "score"], ascending=False, ignore_index=True)


def distances(
    before: pd.DataFrame, now: pd.DataFrame, numeric: list[str], categorical: list[str], threshold: float
) -> dict[str, float]:
    """Evidently's Jensen-Shannon distance of each column that has values on both sides."""
    # One column without values would end Evidently's whole report, so such columns never reach it.
    usable = [name for name in [*numeric, *categorical] if min(before[name].count(), now[name].count()) >= FEWEST]
    if not usable:
        return {}
    told = _report(
        before[usable],
        now[usable],
        [n for n in numeric if n in usable],
        [n for n in categorical if n in usable],
        threshold,
    )
    return {metric["config"]["column"]: float(metric["value"]) for metric in told["metrics"]}


def _report(
    before: pd.DataFrame, now: pd.DataFrame, numeric: list[str], categorical: list[str], threshold: float
) -> dict[str, Any]:
    os.environ.setdefault("DO_NOT_TRACK", "true")  # Evidently reports its use to its maker otherwise
    definition = DataDefinition(numerical_columns=numeric, categorical_columns=categorical)
    report = Report([ValueDrift(column=name, method=METHOD, threshold=threshold) for name in [*numeric, *categorical]])
    return report.run(
        Dataset.from_pandas(now, data_definition=definition), Dataset.from_pandas(before, data_definition=definition)
    ).dict()


def weighted_share(table: pd.DataFrame, importance: dict[str, float]) -> float:
    """Share of drifted columns, each weighted by its importance to the model (those below zero count as zero)."""
    weight = table["column"].map(importance).fillna(0).clip(lower=0)
    return float(weight[table["drifted"]].sum() / weight.sum()) if weight.sum() else float(table["drifted"].mean())
