"""The leaderboard: candidates ranked by one metric, and the uncertainty of the ranking."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from modelbook.atomic import atomic_write
from modelbook.errors import TrainingError
from modelbook.formatting import KeyNumber, format_count, format_duration, key_number
from modelbook.tasks.metric_format import (
    LOWER_IS_BETTER,
    format_mean_sd,
    format_metric,
    metric_label,
    metric_sign,
)
from modelbook.training import fold_tests
from modelbook.training.candidate import BASELINE, Candidate


def build_leaderboard(candidates: list[Candidate], metric: str) -> pd.DataFrame:
    """Candidates as rows, best first by the metric's mean, failed and skipped ones last.

    Raises
    ------
    TrainingError
        If no family other than the baseline has a score.
    """
    families = [candidate for candidate in candidates if candidate.family != BASELINE]
    if not any(family.status == "ok" for family in families):
        reasons = [f"{family.name}: {family.status} ({family.reason})" for family in families]
        raise TrainingError(
            f"the leaderboard is empty: {'; '.join(reasons) or 'no candidates'}",
            next="set other families, use more rows, or raise time_budget",
        )
    leaderboard = pd.DataFrame([candidate.to_row() for candidate in candidates])
    # Ties are sorted by name: the order in which workers finish varies.
    names = leaderboard["family"].where(leaderboard["status"] == "ok", "")
    return (
        leaderboard.assign(tie=names)
        .sort_values(
            [f"{metric}_mean", "tie"],
            ascending=[metric in LOWER_IS_BETTER, True],
            na_position="last",
            ignore_index=True,
        )
        .drop(columns="tie")
    )


def make_candidate_logger(
    path: Path, log_candidate: Callable[[Candidate], None]
) -> Callable[[Candidate], None]:
    """Return a logger that also saves the candidates, so that an interruption does not lose them.

    Parameters
    ----------
    path : Path
        The Parquet file, written atomically. The caller removes it after the comparison.
    log_candidate : callable
        Called with each candidate first.
    """
    candidates: list[Candidate] = []

    def log_and_save(candidate: Candidate) -> None:
        log_candidate(candidate)
        candidates.append(candidate)
        with atomic_write(path) as temporary_path:
            pd.DataFrame([entry.to_row() for entry in candidates]).to_parquet(temporary_path)

    return log_and_save


def is_sorted(leaderboard: pd.DataFrame, metric: str) -> bool:
    """Whether the leaderboard is sorted by the metric, best first."""
    return (metric_sign(metric) * leaderboard[f"{metric}_mean"]).is_monotonic_decreasing


def rank_families(leaderboard: pd.DataFrame, baseline_metric: str = "") -> pd.DataFrame:
    """Rows of the families with a score, best first.

    Families whose ``baseline_metric`` is not better than the baseline's are left out, because the
    gate would hold their models; if no family is better, all stay.
    """
    scored = leaderboard[leaderboard["status"] == "ok"]
    families = scored[scored["family"] != BASELINE]
    column = f"{baseline_metric}_mean"
    baseline = scored[scored["family"] == BASELINE]
    if column not in scored or baseline.empty:
        return families
    is_better = metric_sign(baseline_metric) * (families[column] - baseline[column].iloc[0]) > 0
    return families[is_better] if is_better.any() else families


def best_families(
    leaderboard: pd.DataFrame, count: int = 1, baseline_metric: str = ""
) -> list[str]:
    """Names of the first families of ``rank_families``."""
    return rank_families(leaderboard, baseline_metric)["family"].head(count).tolist()


def make_metrics_table(leaderboard: pd.DataFrame) -> pd.DataFrame:
    """Mean ± standard deviation over the folds of every metric, for candidates with a score."""
    scored = leaderboard[leaderboard["status"] == "ok"]
    table = {"candidate": scored["candidate"]}
    for name in _list_metrics(leaderboard):
        pairs = zip(scored[f"{name}_mean"], scored[f"{name}_sd"])
        # No line break at ±.
        cells = [format_mean_sd(mean, sd).replace(" ", "\u00a0") for mean, sd in pairs]
        table[metric_label(name)] = pd.Series(cells, scored.index)
    return pd.DataFrame({**table, "fit seconds": scored["fit_seconds"]})


def _list_metrics(leaderboard: pd.DataFrame) -> list[str]:
    columns = leaderboard.columns
    return [name.removesuffix("_mean") for name in columns if name.endswith("_mean")]


def describe_winners(leaderboard: pd.DataFrame) -> str:
    """Describe which candidate is best by how many metrics."""
    scored = leaderboard[leaderboard["status"] == "ok"].set_index("candidate")
    won: dict[str, list[str]] = {}  # labels of metrics by the candidate that is best by them
    for metric in _list_metrics(leaderboard):
        means = metric_sign(metric) * scored[f"{metric}_mean"].dropna()
        if len(means):
            won.setdefault(str(means.idxmax()), []).append(metric_label(metric))
    overall_winner, *others = sorted(won, key=lambda candidate: -len(won[candidate]))
    others_text = "".join(f"; {candidate} by {', '.join(won[candidate])}" for candidate in others)
    n_metrics = sum(map(len, won.values()))
    return (
        f"Best by {len(won[overall_winner])} of {format_count(n_metrics, 'metric')}: "
        f"{overall_winner}{others_text}."
    )


def compare_with_leader(leaderboard: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Difference of each candidate from the leader.

    Columns ``candidate, difference, adjusted_p_value, distinguishable``: how much better the leader
    is, with the p-value of the corrected resampled t-test on the same folds, after Holm's (1979)
    correction for the number of candidates; ``distinguishable`` is ``yes`` if it is below 5%.
    """
    from statsmodels.stats.multitest import multipletests

    scored = leaderboard[leaderboard["status"] == "ok"]
    leader = scored.iloc[0]
    others = scored.iloc[1:]
    p_values = np.array(
        [_compute_lead_p_value(leader, row, metric) for _, row in others.iterrows()]
    )
    tested = np.nan_to_num(p_values, nan=1.0)
    is_distinguishable, adjusted_p_values = (
        multipletests(tested, fold_tests.ALPHA, method="holm")[:2] if len(others) else ([], [])
    )
    lead = metric_sign(metric) * (leader[f"{metric}_mean"] - others[f"{metric}_mean"])
    return pd.DataFrame(
        {
            "candidate": others["candidate"],
            "difference": lead,
            "adjusted_p_value": np.where(np.isnan(p_values), np.nan, adjusted_p_values),
            "distinguishable": np.where(is_distinguishable, "yes", "no").astype(object),
        }
    ).reset_index(drop=True)


def _compute_lead_p_value(leader: pd.Series, row: pd.Series, metric: str) -> float:
    gains = np.asarray(leader[f"{metric}_folds"]) - np.asarray(row[f"{metric}_folds"])
    return fold_tests.compute_gain_p_value(metric_sign(metric) * gains)


def correct_for_selection(families: pd.DataFrame, metric: str) -> float:
    """The leader's mean, corrected for being the best of several."""
    values = np.stack([*collect_fold_values(families, metric).values()])
    optimism = fold_tests.estimate_optimism(values)
    return float(families[f"{metric}_mean"].iloc[0] - metric_sign(metric) * optimism)


def collect_fold_values(families: pd.DataFrame, metric: str) -> dict[str, np.ndarray]:
    """Each family's metric in each fold, larger is better."""
    folds = metric_sign(metric) * families[f"{metric}_folds"].map(np.asarray)
    return dict(zip(families["family"], folds))


def make_verdict_fields(
    leaderboard: pd.DataFrame, metric: str, seconds: float, baseline_metric: str = ""
) -> dict[str, Any]:
    """Status, level, sentences and key numbers of the comparison's verdict.

    ``seconds`` is the duration of the comparison; it fits models at the same time, so that their
    fit times add up to more.
    """
    families = rank_families(leaderboard, baseline_metric)
    scored = leaderboard[leaderboard["status"] == "ok"]
    baselines = scored[scored["family"] == BASELINE]
    leader = families.iloc[0]
    p_value = _compute_lead_p_value(leader, baselines.iloc[0], metric) if len(baselines) else np.nan
    beats_baseline = p_value <= fold_tests.ALPHA / len(families)
    baseline_mean = baselines[f"{metric}_mean"].iloc[0] if len(baselines) else float("nan")
    n_families = len(scored) - len(baselines)
    n_unscored = len(leaderboard) - len(scored)
    total_seconds = scored.drop(baselines.index)["fit_seconds"].sum()
    differences = compare_with_leader(families, metric)
    n_close = len(_list_close(differences))
    condition = (
        f" with a better {metric_label(baseline_metric)} than the baseline's"
        if len(families) < n_families
        else ""
    )
    status = "no significant lead" if n_close else "clear leader"
    return {
        "status": status if beats_baseline else "no better than baseline",
        "level": "good" if beats_baseline else "warning",
        "sentences": [
            _describe_leader(families, metric, baseline_mean, n_close, condition)
            + _describe_rejected(scored, families, baseline_metric),
            _describe_close_families(differences, condition),
            f"{format_count(n_families, 'model was', 'models were')} evaluated in "
            f"{format_duration(seconds)} (elapsed); failed or skipped: {n_unscored}.",
        ],
        "numbers": _make_key_numbers(
            leader, metric, baseline_mean, total_seconds, (n_families, n_unscored)
        ),
    }


def _make_key_numbers(
    leader: pd.Series,
    metric: str,
    baseline_mean: float,
    total_seconds: float,
    counts: tuple[int, int],
) -> list[KeyNumber]:
    """Key numbers of the leader and the comparison: ``counts`` with and without a score."""
    mean = leader[f"{metric}_mean"]
    sd = leader[f"{metric}_sd"]
    seconds = leader["fit_seconds"]
    baseline, all_models = {"baseline": baseline_mean}, {"sum of all models": total_seconds}
    n_families, n_unscored = counts
    unscored = f"{n_unscored} failed or skipped"
    return [
        key_number(
            f"{metric_label(metric)}, leader",
            mean,
            compared_with=baseline,
            context="cross-validated on training rows",
        ),
        key_number("standard deviation over the folds", sd, "±"),
        key_number("models evaluated", n_families, "count", context=unscored),
        key_number("leader's fit time, all folds", seconds, "s", compared_with=all_models),
    ]


def _describe_leader(
    families: pd.DataFrame, metric: str, baseline_mean: float, n_close: int, condition: str
) -> str:
    """The leader's mean, and corrected for being the best of several; how many are as good.

    ``families`` are those that could lead; ``condition`` states what only they meet, if any do not.
    """
    leader = families.iloc[0]
    name = leader["candidate"]
    mean_sd = format_mean_sd(leader[f"{metric}_mean"], leader[f"{metric}_sd"])
    corrected = ""
    if len(families) > 1:
        corrected_mean = format_metric(correct_for_selection(families, metric))
        corrected = (
            f" ({corrected_mean} corrected for selection among {len(families)} models{condition})"
        )
    others_are = format_count(n_close, "other model is", "other models are")
    close = f" {others_are} not distinguishable from the leader." if n_close else ""
    return (
        f"{name.capitalize() if name.islower() else name} leads with {metric_label(metric)} "
        f"{mean_sd}{corrected}; the baseline has {format_metric(baseline_mean)}.{close}"
    )


def _describe_rejected(scored: pd.DataFrame, families: pd.DataFrame, baseline_metric: str) -> str:
    """Models that rank before the leader, but would not pass the gate."""
    better = scored.loc[: families.index[0]].iloc[:-1]
    names = ", ".join(better.loc[better["family"] != BASELINE, "candidate"])
    if not names:
        return ""
    return f" Not better than the baseline by {metric_label(baseline_metric)}: {names}."


def _describe_close_families(differences: pd.DataFrame, condition: str) -> str:
    """Name the models that are not distinguishable from the leader.

    ``differences`` are those of models that could lead; ``condition`` as in ``_describe_leader``.
    """
    if differences.empty:
        return f"There is no other model{condition}."
    names = _list_close(differences)
    if not names:
        return f"The leader is significantly better than every other model{condition}."
    names_text = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    return f"Not distinguishable from the leader (corrected resampled t-test): {names_text}."


def _list_close(differences: pd.DataFrame) -> list[str]:
    """Candidates that are not distinguishable from the leader; see ``compare_with_leader``."""
    return differences.loc[differences["distinguishable"] == "no", "candidate"].tolist()
