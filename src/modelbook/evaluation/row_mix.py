"""Weights that give scored rows the mix of recent ones, by one feature that is often missing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from modelbook.contract import Contract
from modelbook.tasks.scored_rows import ScoredRows

MIX_DIFFERENCE = 0.05  # smallest difference between shares of rows that counts


def find_mix_difference(
    contract: Contract, holdout: pd.DataFrame, recent: pd.DataFrame
) -> dict[str, Any]:
    """Find the feature whose share of missing values differs most between holdout and recent rows.

    Returns
    -------
    dict
        ``column``, and ``share``, that of the recent rows in which it is missing; empty if the
        shares differ by less than ``MIX_DIFFERENCE``.
    """
    share = contract.select_features(recent).isna().mean()
    difference = (contract.select_features(holdout).isna().mean() - share).abs()
    if not difference.max() >= MIX_DIFFERENCE:
        return {}
    return {"column": difference.idxmax(), "share": float(share[difference.idxmax()])}


def weight_rows(
    contract: Contract, scored: ScoredRows, rows: pd.DataFrame, mix: dict[str, Any]
) -> tuple[dict[str, Any], np.ndarray]:
    """Weight rows so that a feature is missing as often as in recent ones.

    This is post-stratification (Holt & Smith 1979, JRSS A 142) with two strata. It assumes that
    rows of a stratum are like the recent ones of it.

    Parameters
    ----------
    rows : DataFrame
        The scored rows, with the features.
    mix : dict
        From ``find_mix_difference``.

    Returns
    -------
    dict
        ``column``, ``share`` and ``label`` of the feature, the ``rows_share`` of these rows in
        which it is missing, and ``is_weighted``; empty if these rows are like recent ones.
    ndarray
        Weights with mean 1; all 1 if rows are not weighted, as where one of the two strata has too
        few entities for an interval.
    """
    equal = np.ones(len(scored))
    if not mix:
        return {}, equal
    is_missing = contract.select_features(rows)[mix["column"]].isna().to_numpy()
    rows_share, share = float(is_missing.mean()), mix["share"]
    if not abs(rows_share - share) >= MIX_DIFFERENCE:
        return {}, equal
    strata = ((is_missing, share), (~is_missing, 1 - share))
    is_weighted = 0 < rows_share < 1 and all(
        scored.select(stratum).has_enough_entities()
        for stratum, recent_share in strata
        if recent_share >= MIX_DIFFERENCE
    )
    described = {
        "column": mix["column"],
        "share": share,
        "label": contract.label(mix["column"]),
        "rows_share": rows_share,
        "is_weighted": is_weighted,
    }
    if not is_weighted:
        return described, equal
    return described, np.where(is_missing, share / rows_share, (1 - share) / (1 - rows_share))
