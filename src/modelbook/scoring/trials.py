"""Trials: the rows that a compiled scorer must answer like the model, and the answers that the model gives them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from modelbook import tasks

if TYPE_CHECKING:
    from modelbook.contract import Contract
    from modelbook.scoring.probe import Ends

UNSEEN = "\x00unseen"  # no category of any table
MIXED = 200  # rows that mix values of others


def ends(rows: pd.DataFrame, contract: Contract) -> Ends:
    """Least and greatest value of each numeric feature: the contract's, or those of rows where it names none."""
    found = {}
    for name in contract.numeric:
        column, seen = contract.seen[name], rows[name].dropna()
        low, high = (seen.min(), seen.max()) if len(seen) else (0.0, 1.0)
        if column.type == "boolean":
            low, high = 0.0, 1.0
        low = float(low if column.min is None else column.min)
        found[name] = low, max(low, float(high if column.max is None else column.max))
    return found


def trials(rows: pd.DataFrame, contract: Contract, *, seed: int = 0) -> pd.DataFrame:
    """Rows of every kind that the contract allows, and unseen categories besides.

    The rows given; and from a typical one: each gap alone, all gaps together, both ends of each number, each category,
    a category that nobody knows, everything at its least and at its greatest; and rows that mix values of others.
    """
    base, bounds = typical(rows, contract), ends(rows, contract)
    gaps = [name for name in contract.features_ if contract.seen[name].nullable]
    made: list[dict[str, Any]] = [{name: np.nan} for name in gaps] + [dict.fromkeys(gaps, np.nan)]
    made += [{name: end} for name, both in bounds.items() for end in both]
    made += [{name: both[i] for name, both in bounds.items()} for i in (0, 1)]
    made += [
        {name: value} for name in contract.categorical for value in [*(contract.columns[name].categories or []), UNSEEN]
    ]
    random = np.random.default_rng(seed)
    mixed = pd.DataFrame({name: rows[name].to_numpy()[random.integers(0, len(rows), MIXED)] for name in rows.columns})
    every = [rows, pd.DataFrame([{**base, **change} for change in made]), mixed]
    return contract.features(pd.concat(every, ignore_index=True)[contract.features_])


def typical(rows: pd.DataFrame, contract: Contract) -> dict[str, Any]:
    """A row that nobody has: the median of each number, the most frequent of each category."""
    told: dict[str, Any] = {}
    for name in contract.features_:
        seen = rows[name].dropna()
        if seen.empty:
            told[name] = (contract.seen[name].categories or (np.nan,))[0]
        elif contract.seen[name].type == "number":
            told[name] = float(seen.median())
        else:
            told[name] = seen.mode().iloc[0]
    return told


def example(rows: pd.DataFrame, contract: Contract) -> dict[str, Any]:
    """``typical`` as one asks with it: the date in the middle in the place of its parts."""
    known = typical(contract.features(rows), contract)
    told = {}
    for name in contract.inputs_:
        column = contract.columns[name]
        told[name] = _middle(column.parsed(rows[name]), column.format) if column.type == "date" else known[name]
    return told


def _middle(at: pd.Series, format: str) -> str | None:
    middle = at.quantile(0.5, interpolation="nearest")
    if pd.isna(middle):
        return None
    return middle.isoformat() if format == "ISO8601" else middle.strftime(format)


def asked(model: Any, rows: pd.DataFrame, contract: Contract) -> np.ndarray:
    """What the fitted pipeline itself says to rows: probabilities for each class, or values; shape (rows, numbers)."""
    frame = contract.features(rows)
    out = getattr(model, tasks.of(contract).response)(frame)
    return np.asarray(out, dtype="float64").reshape(len(frame), -1)
