"""The leaderboard: candidates ranked by one metric, and what the ranking is worth."""

from __future__ import annotations

from typing import Any

import pandas as pd

from modelbook.errors import TrainingError
from modelbook.training.experiment import BASELINE, METRICS, Candidate


def leaderboard(candidates: list[Candidate], metric: str) -> pd.DataFrame:
    """Candidates as rows, best first by the metric's mean, failed and skipped ones last.

    Raises
    ------
    TrainingError
        When no family beside the baseline has a score.
    """
    if not any(candidate.status == "ok" and candidate.family != BASELINE for candidate in candidates):
        told = "; ".join(f"{c.name}: {c.status} ({c.reason})" for c in candidates if c.family != BASELINE) or "no candidates"
        raise TrainingError(f"the leaderboard is empty: {told}", next="take other families, more rows, or a larger budget")
    board = pd.DataFrame([candidate.row() for candidate in candidates])
    return board.sort_values(f"{metric}_mean", ascending=False, na_position="last", ignore_index=True)


def best(board: pd.DataFrame, count: int = 1) -> list[str]:
    """The best families of a leaderboard, best first, the baseline left out."""
    ranked = board[(board["status"] == "ok") & (board["family"] != BASELINE)]
    return ranked["family"].head(count).tolist()


def means(board: pd.DataFrame) -> pd.DataFrame:
    """Every metric's mean and the fit time, a candidate a row; those with a score only."""
    scored = board[board["status"] == "ok"]
    table = scored[["candidate", *(f"{name}_mean" for name in METRICS), "fit_seconds"]]
    return table.rename(columns=lambda name: name.removesuffix("_mean").replace("_", " "))


def behind(board: pd.DataFrame, metric: str) -> pd.DataFrame:
    """How far each candidate is behind the leader, beside the leader's spread; columns ``candidate, behind, spread, told apart``.

    ``told apart`` says whether the gap is larger than the leader's standard deviation over the folds: a rule of thumb,
    for folds share train rows and no exact test of their means exists (Bengio & Grandvalet 2004).
    """
    scored = board[board["status"] == "ok"]
    leader = scored.iloc[0]
    gap = leader[f"{metric}_mean"] - scored[f"{metric}_mean"]
    spread = leader[f"{metric}_sd"]
    table = pd.DataFrame({"candidate": scored["candidate"], "behind": gap, "spread": spread, "told apart": gap > spread})
    return table.iloc[1:].replace({"told apart": {True: "yes", False: "no"}}).reset_index(drop=True)


def story(board: pd.DataFrame, metric: str) -> dict[str, Any]:
    """Word, level, sentences and key numbers of the comparison's verdict."""
    name = metric.replace("_", " ").upper().replace("ROC AUC", "ROC AUC")
    scored = board[board["status"] == "ok"]
    families = scored[scored["family"] != BASELINE]
    leader, base = families.iloc[0], scored.loc[scored["family"] == BASELINE, f"{metric}_mean"]
    mean, sd, floor = leader[f"{metric}_mean"], leader[f"{metric}_sd"], base.iloc[0] if len(base) else float("nan")
    gaps = behind(families, metric)
    close = gaps.loc[gaps["told apart"] == "no", "candidate"].tolist()
    missing = board[board["status"] != "ok"]
    better = mean - sd > floor
    sentences = [
        f"{leader['candidate'].capitalize() if leader['candidate'].islower() else leader['candidate']} leads with {name} {mean:.3f} ± {sd:.3f}; the baseline has {floor:.3f}.",
        f"{len(close)} other families are within its spread: {', '.join(close[:3])}{' and others' if len(close) > 3 else ''}."
        if close else "No other family is within its spread.",
        f"{len(families)} families were judged in {scored['fit_seconds'].sum():.0f} seconds; {len(missing)} failed or were skipped.",
    ]  # fmt: skip
    numbers = [
        {"name": f"{name}, leader", "value": f"{mean:.3f}", "beside": f"baseline {floor:.3f}"},
        {"name": "spread over the folds", "value": f"± {sd:.3f}", "beside": "one standard deviation"},
        {"name": "families judged", "value": str(len(families)), "beside": f"{len(missing)} failed or skipped"},
        {"name": "leader's fit time", "value": f"{leader['fit_seconds']:.1f} s", "beside": f"{scored['fit_seconds'].sum():.0f} s for all"},
    ]
    return {"word": "leader found" if better else "no lead", "level": "good" if better else "watch", "sentences": sentences, "numbers": numbers}
