"""Post-stratification weights: give scored rows the recent missing rate of one feature."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from modelbook.contract import Contract
from modelbook.tasks.scored_rows import ScoredRows

MIX_DIFFERENCE = 0.05  # smallest difference between missing rates that counts


def find_mix_difference(
    contract: Contract, holdout: pd.DataFrame, recent: pd.DataFrame
) -> dict[str, Any]:
    """Find the feature whose missing rate differs most between holdout and recent rows.

    Returns
    -------
    dict
        ``column`` and its ``recent_missing_rate``; empty if the rates differ by less than
        ``MIX_DIFFERENCE``.
    """
    recent_rates = contract.select_features(recent).isna().mean()
    difference = (contract.select_features(holdout).isna().mean() - recent_rates).abs()
    if not difference.max() >= MIX_DIFFERENCE:
        return {}
    column = difference.idxmax()
    return {"column": column, "recent_missing_rate": float(recent_rates[column])}


def weight_rows(
    contract: Contract, scored: ScoredRows, rows: pd.DataFrame, mix: dict[str, Any]
) -> tuple[dict[str, Any], np.ndarray]:
    """Weight rows so that a feature is missing as often as in recent ones.

    This is post-stratification (Holt & Smith 1979, JRSS A 142) with two strata. It assumes that
    within each stratum, scored and recent rows have the same distribution.

    Parameters
    ----------
    rows : DataFrame
        The scored rows, with the features.
    mix : dict
        From ``find_mix_difference``.

    Returns
    -------
    dict
        ``column`` and ``label`` of the feature, its ``recent_missing_rate``, its ``missing_rate``
        in these rows, and ``is_weighted``; empty if these rows are like recent ones.
    ndarray
        Weights with mean 1; all 1 if rows are not weighted: a stratum is empty, or has too few
        entities for an interval although at least ``MIX_DIFFERENCE`` of the recent rows are in it.
    """
    equal = np.ones(len(scored))
    if not mix:
        return {}, equal
    is_missing = contract.select_features(rows)[mix["column"]].isna().to_numpy()
    missing_rate = float(is_missing.mean())
    recent_missing_rate = mix["recent_missing_rate"]
    if not abs(missing_rate - recent_missing_rate) >= MIX_DIFFERENCE:
        return {}, equal
    strata = ((is_missing, recent_missing_rate), (~is_missing, 1 - recent_missing_rate))
    is_weighted = 0 < missing_rate < 1 and all(
        scored.select(stratum).has_enough_entities()
        for stratum, recent_share in strata
        if recent_share >= MIX_DIFFERENCE
    )
    described = {
        "column": mix["column"],
        "label": contract.label(mix["column"]),
        "recent_missing_rate": recent_missing_rate,
        "missing_rate": missing_rate,
        "is_weighted": is_weighted,
    }
    if not is_weighted:
        return described, equal
    weight_if_missing = recent_missing_rate / missing_rate
    weight_if_present = (1 - recent_missing_rate) / (1 - missing_rate)
    return described, np.where(is_missing, weight_if_missing, weight_if_present)
