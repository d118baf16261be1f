"""Repeat the comparison with permuted targets: without a leak, a pipeline is at chance.

The targets are permuted between whole entities (Ojala & Garriga 2010, "Permutation tests for
studying classifier performance", JMLR 11), so that no feature predicts them. A family that is
significantly better than the baseline then suggests that targets of test rows leak into training.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from modelbook.formatting import join_names
from modelbook.tasks.metric_format import format_metric, metric_label, metric_sign
from modelbook.training.candidate import BASELINE, Candidate
from modelbook.training.comparison import compare_families
from modelbook.training.experiment import Experiment
from modelbook.training.fold_tests import compute_gain_p_value

ALPHA = 0.01  # family-wise significance level (Bonferroni)
COLUMNS = ["candidate", "value", "baseline", "p", "better_than_chance"]


def compare_with_permuted_targets(
    experiment: Experiment,
    families: list[str],
    metric: str,
    budget: float,
    *,
    seed: int,
    report_progress: Callable[..., None],
) -> pd.DataFrame:
    """Cross-validate the families on permuted targets until the budget is spent.

    Returns
    -------
    DataFrame
        Columns ``candidate, value, baseline``, ``p`` (one-sided, of being better than the
        baseline) and ``better_than_chance``, whether that is significant; a row for each family
        that was scored.
    """
    if budget == 0:
        return pd.DataFrame(columns=COLUMNS)
    candidates = compare_families(
        experiment.with_permuted_targets(seed),
        families,
        budget,
        report_progress=report_progress,
        log_candidate=lambda _: None,
    )
    return tabulate_candidates(candidates, metric)


def tabulate_candidates(candidates: list[Candidate], metric: str) -> pd.DataFrame:
    """Each scored family against the baseline, with the p-value of being better."""
    scored = {candidate.family: candidate for candidate in candidates if candidate.status == "ok"}
    baseline = scored.pop(BASELINE, None)
    if baseline is None:
        return pd.DataFrame(columns=COLUMNS)
    sign = metric_sign(metric)
    rows = []
    for candidate in scored.values():
        gains = sign * np.subtract(candidate.fold_values[metric], baseline.fold_values[metric])
        p = compute_gain_p_value(gains)
        is_better = p < ALPHA / len(scored)
        rows.append((candidate.name, candidate.mean[metric], baseline.mean[metric], p, is_better))
    return pd.DataFrame(rows, columns=COLUMNS)


def describe_suspicions(table: pd.DataFrame) -> list[str]:
    """The sentence for families that are better than chance; empty if there are none."""
    better_than_chance = table.loc[table["better_than_chance"].astype(bool), "candidate"]
    if better_than_chance.empty:
        return []
    verb = "is" if len(better_than_chance) == 1 else "are"
    return [
        f"With permuted targets {join_names(better_than_chance)} {verb} significantly better than "
        "chance: targets of test rows probably leak into training."
    ]


def describe_permutation_check(table: pd.DataFrame, metric: str) -> str:
    """Describe the result in a sentence."""
    if table.empty:
        return "The comparison was not repeated with permuted targets (learning_budget)."
    if suspicions := describe_suspicions(table):
        return suspicions[0]
    n_families = len(table)
    families = "the only model is not" if n_families == 1 else f"none of {n_families} models is"
    return (
        f"With permuted targets {families} significantly better than chance "
        f"({metric_label(metric)} {format_metric(table['value'].min())} to "
        f"{format_metric(table['value'].max())})."
    )
