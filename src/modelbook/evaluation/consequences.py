"""How decisions change when a candidate replaces the champion."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from modelbook.tasks.base import Task
from modelbook.tasks.cost_matrix import DecisionCosts
from modelbook.tasks.metrics import weighted_mean
from modelbook.tasks.scored_rows import DIFFERENCE, ScoredRows, jackknife_ci

COST = "cost"
COLUMNS = ["consequence", "candidate", "champion", "change", "low", "high"]


def compare_consequences(
    task: Task,
    costs: DecisionCosts,
    candidate: tuple[ScoredRows, float | None],
    champion: tuple[ScoredRows, float | None],
    *,
    min_rows: int,
    resamples: int,
    seed: int,
) -> pd.DataFrame:
    """Compare what both versions decide about the same rows, each at its own threshold.

    Parameters
    ----------
    costs : DecisionCosts
        The candidate's costs, which apply to both.
    candidate, champion : pair of ScoredRows and float or None
        The scored rows and the threshold.

    Returns
    -------
    DataFrame
        Columns ``consequence, candidate, champion, change, low, high``, per row: the mean of each
        of ``Task.measure_decisions``, and the expected cost, last. Empty with fewer than
        ``min_rows`` rows.
    """
    if len(candidate[0]) < max(min_rows, 1):
        return pd.DataFrame(columns=COLUMNS)
    candidate_values, champion_values = (
        _compute_row_values(task, costs, *scored) for scored in (candidate, champion)
    )
    rows = []
    for name in candidate_values:
        before, after = champion_values[name].astype(float), candidate_values[name].astype(float)
        change = partial(weighted_mean, after - before)
        ci = jackknife_ci(change, candidate[0], DIFFERENCE, resamples=resamples, seed=seed)
        rows.append((name, after.mean(), before.mean(), (after - before).mean(), *ci))
    return pd.DataFrame(rows, columns=COLUMNS)


def _compute_row_values(
    task: Task, costs: DecisionCosts, scored: ScoredRows, threshold: float | None
) -> dict[str, np.ndarray]:
    decision = task.decide(scored.score, threshold)
    consequences = task.measure_decisions(scored.outcome, decision)
    return {**consequences, COST: costs.compute_row_costs(scored.outcome, decision)}


def find_largest_change(comparison: pd.DataFrame) -> dict[str, Any] | None:
    """The significant change of the largest size; None without one.

    The cost is excluded: it has its own criterion. All others have one unit: shares of the rows,
    or the target's.
    """
    changes = comparison[comparison["consequence"] != COST]
    significant = changes[(changes["low"] > 0) | (changes["high"] < 0)]
    if significant.empty:
        return None
    return significant.loc[significant["change"].abs().idxmax()].to_dict()
