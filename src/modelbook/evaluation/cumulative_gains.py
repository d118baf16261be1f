"""Cumulative gains: recall and precision when the rows with the highest scores are flagged."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from modelbook.config import NONE
from modelbook.contract import Contract
from modelbook.errors import ParameterError
from modelbook.evaluation.recent_period import Period
from modelbook.tasks.metrics import safe_divide
from modelbook.tasks.scored_rows import CONFIDENCE_LEVEL, ScoredRows, bootstrap_counts, share_ci

TOLERANCE = 1e-9  # of shares that are sums of weights
GAIN_SHARES = [percent / 100 for percent in range(1, 101)]
SHOWN_SHARES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0)  # rows of a table of gains


def measure_gains(
    scored: ScoredRows,
    amounts: np.ndarray | None,
    capacity: float | None,
    period: Period,
    weights: np.ndarray,
    bootstrap: dict[str, int],
) -> dict[str, Any]:
    """Gains by share of the rows, and at capacity; empty for costs that do not flag rows."""
    if capacity is None:
        return {"at_capacity": {}, "gains": {}}
    table = compute_gains(scored, amounts, [*GAIN_SHARES, capacity], weights, **bootstrap).round(4)
    flagged = {"flagged": round(capacity * period.rows)}
    return {
        "at_capacity": table.iloc[-1].to_dict() | flagged,
        "gains": table.iloc[:-1].to_dict("list"),
    }


def compute_gains(
    scored: ScoredRows,
    amounts: np.ndarray | None,
    shares: Sequence[float],
    weights: np.ndarray | None = None,
    *,
    resamples: int,
    seed: int,
) -> pd.DataFrame:
    """Recall and precision when the rows with the highest scores are flagged, by their share.

    ``weights`` are as for ``PolicyComparison``; by default 1.

    Returns
    -------
    DataFrame
        Columns ``share``; ``threshold``, the lowest score that is flagged; ``recall``,
        ``precision`` and, with amounts, ``amount``, the share of their sum; the last three with
        ``_low`` and ``_high``.
    """
    order = np.argsort(-scored.score, kind="stable")
    score = scored.score[order]
    positive = scored.outcome[order] == 1
    last_of_ties = np.append(np.diff(score) != 0, True)
    amount = np.ones(len(score)) if amounts is None else amounts[order]
    row_weights = np.ones(len(score)) if weights is None else weights[order]

    def curves(count: np.ndarray) -> np.ndarray:
        """Recall, precision and share of the amount by share of the rows, of one resample."""
        weight = count * row_weights
        share, positives, total = (
            np.append(0.0, np.cumsum(weight * values)[last_of_ties])
            for values in (1.0, positive, amount)
        )
        grid = np.asarray(shares) * share[-1]
        true_positives = np.interp(grid, share, positives)
        return np.array(
            [
                safe_divide(true_positives, np.full(len(grid), positives[-1])),
                true_positives / grid,
                safe_divide(np.interp(grid, share, total), np.full(len(grid), total[-1])),
            ]
        )

    counts = bootstrap_counts(scored.entity, resamples, seed)[:, order]
    low, high = np.nanquantile(
        np.array([curves(count) for count in counts]),
        [(1 - CONFIDENCE_LEVEL) / 2, (1 + CONFIDENCE_LEVEL) / 2],
        axis=0,
    )
    value = curves(np.ones(len(score)))
    share_after = np.cumsum(row_weights) / row_weights.sum()
    last_flagged = np.searchsorted(share_after, np.asarray(shares) - TOLERANCE)
    last_flagged = np.minimum(last_flagged, len(score) - 1)
    table = pd.DataFrame({"share": shares, "threshold": score[last_flagged]})
    for i, name in enumerate(("recall", "precision", "amount")):
        if name != "amount" or amounts is not None:
            table[name], table[f"{name}_low"], table[f"{name}_high"] = value[i], low[i], high[i]
    _widen_certain_precision(table, positive, scored.entity[order], last_flagged)
    return table


def _widen_certain_precision(
    table: pd.DataFrame, positive: np.ndarray, entity: np.ndarray, last_flagged: np.ndarray
) -> None:
    """Give a precision of 0% or 100% Wilson's interval, because all resamples have it."""
    for i in np.flatnonzero(np.isclose(table["precision_low"], table["precision_high"])):
        flagged = slice(last_flagged[i] + 1)
        low, high = share_ci(positive[flagged], entity[flagged])
        table.loc[i, ["precision_low", "precision_high"]] = low, high
        table.loc[i, "recall_low"] = min(
            table["recall_low"][i], table["recall"][i] * low / max(table["precision"][i], TOLERANCE)
        )


def list_shown_gains(value: dict[str, Any]) -> list[dict[str, float]]:
    """The rows of a table of gains: round shares and the capacity, with ``lift``."""
    gains, capacity = value["gains"], value["capacity"]
    if not gains:
        return []
    shares = [round(100 * share) for share in SHOWN_SHARES if abs(share - capacity) >= 0.005]
    rows = [{name: gains[name][share - 1] for name in gains} for share in shares]
    if capacity > 0:
        rows.append({name: value["at_capacity"][name] for name in gains})
    rows.sort(key=lambda row: row["share"])
    return [
        row | {f"lift{end}": row[f"recall{end}"] / row["share"] for end in ("", "_low", "_high")}
        for row in rows
    ]


def check_amount_column(contract: Contract, column: str) -> None:
    """Raise ParameterError unless ``amount_column`` is ``none`` or a numeric column."""
    numbers = [
        name for name, spec in contract.columns.items() if spec.type in ("number", "integer")
    ]
    if column not in (NONE, *numbers):
        raise ParameterError(
            f"amount_column = {column!r} is not a numeric column",
            expected=f"one of {', '.join([*numbers, NONE])}",
            next="correct `amount_column` in the book's env file",
        )


def read_amounts(contract: Contract, rows: pd.DataFrame, column: str) -> np.ndarray | None:
    """Return the amounts of the rows, 0 where they are missing; None without an amount column."""
    check_amount_column(contract, column)
    if column == NONE:
        return None
    return rows[column].fillna(0).to_numpy(dtype=float)
