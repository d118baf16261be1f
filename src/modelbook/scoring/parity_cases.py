"""Parity cases: rows on which a compiled scorer must match the model, and the model's scores."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from modelbook import tasks
from modelbook.contract import dates

if TYPE_CHECKING:
    from modelbook.contract import Contract
    from modelbook.scoring.encoder_extraction import FeatureRanges

UNSEEN_CATEGORY = "\x00unseen"  # a value that no table contains
MIXED_ROWS = 200  # rows with values from different rows


def measure_feature_ranges(rows: pd.DataFrame, contract: Contract) -> FeatureRanges:
    """Return the range of each numeric feature from the contract, or else from the rows."""
    ranges = {}
    for name in contract.numeric_features:
        column = contract.model_features[name]
        present_values = rows[name].dropna()
        low, high = (
            (present_values.min(), present_values.max()) if len(present_values) else (0.0, 1.0)
        )
        if column.type == "boolean":
            low, high = 0.0, 1.0
        low = float(low if column.min is None else column.min)
        ranges[name] = low, max(low, float(high if column.max is None else column.max))
    return ranges


def build_parity_cases(rows: pd.DataFrame, contract: Contract, *, seed: int = 0) -> pd.DataFrame:
    """Build rows of every kind that the contract allows, and rows with unseen categories.

    The result has the rows themselves, variations of a typical row, and rows that mix values of
    others. The variations are: each nullable value missing, all of them missing, both limits of
    each number, all numbers at their minimum and at their maximum, each category, an unseen one.
    """
    base_row, ranges = make_typical_row(rows, contract), measure_feature_ranges(rows, contract)
    nullable_features = [
        name for name in contract.feature_names if contract.model_features[name].nullable
    ]
    changes: list[dict[str, Any]] = [{name: np.nan} for name in nullable_features] + [
        dict.fromkeys(nullable_features, np.nan)
    ]
    changes += [{name: limit} for name, limits in ranges.items() for limit in limits]
    changes += [{name: limits[i] for name, limits in ranges.items()} for i in (0, 1)]
    changes += [
        {name: value}
        for name in contract.categorical_features
        for value in [*(contract.columns[name].categories or []), UNSEEN_CATEGORY]
    ]
    rng = np.random.default_rng(seed)
    mixed = pd.DataFrame(
        {
            name: rows[name].to_numpy()[rng.integers(0, len(rows), MIXED_ROWS)]
            for name in rows.columns
        }
    )
    tables = [rows, pd.DataFrame([{**base_row, **change} for change in changes]), mixed]
    return contract.select_features(pd.concat(tables, ignore_index=True)[contract.feature_names])


def make_typical_row(rows: pd.DataFrame, contract: Contract) -> dict[str, Any]:
    """Return an artificial row: medians of columns of type number, modes of all others."""
    row: dict[str, Any] = {}
    for name in contract.feature_names:
        present_values = rows[name].dropna()
        if present_values.empty:
            row[name] = (contract.model_features[name].categories or (np.nan,))[0]
        elif contract.model_features[name].type == "number":
            row[name] = float(present_values.median())
        else:
            row[name] = present_values.mode().iloc[0]
    return row


def make_example_request(rows: pd.DataFrame, contract: Contract) -> dict[str, Any]:
    """Return ``make_typical_row`` as a request, with the median date and the most frequent text."""
    typical = make_typical_row(contract.select_features(rows), contract)
    request = {}
    for name in contract.input_names:
        column = contract.columns[name]
        if column.type == "date":
            request[name] = _compute_median_date(column.parse_values(rows[name]), column.format)
        elif column.type == "text":
            texts = column.parse_values(rows[name]).mode()
            request[name] = None if texts.empty else texts[0]
        else:
            request[name] = typical[name]
    return request


def _compute_median_date(timestamps: pd.Series, date_format: str) -> str | None:
    median_date = timestamps.quantile(0.5, interpolation="nearest")
    if pd.isna(median_date):
        return None
    return dates.format_date(median_date, date_format)


def predict_pipeline_scores(pipeline: Any, rows: pd.DataFrame, contract: Contract) -> np.ndarray:
    """Return the pipeline's class probabilities or values; shape (rows, classes or 1)."""
    frame = contract.select_features(rows)
    scores = getattr(pipeline, tasks.get_task(contract).response_method)(frame)
    return np.asarray(scores, dtype="float64").reshape(len(frame), -1)
