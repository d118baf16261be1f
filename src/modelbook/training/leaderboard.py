"""The leaderboard: candidates ranked by one metric, and what the ranking is worth."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from modelbook.errors import TrainingError
from modelbook.tasks.names import LOWER_IS_BETTER, label, spread, told
from modelbook.training.candidate import BASELINE, Candidate
from modelbook.whole import complete


def leaderboard(candidates: list[Candidate], metric: str) -> pd.DataFrame:
    """Candidates as rows, best first by the metric's mean, failed and skipped ones last.

    Raises
    ------
    TrainingError
        When no family beside the baseline has a score.
    """
    if not any(candidate.status == "ok" and candidate.family != BASELINE for candidate in candidates):
        why = (
            "; ".join(f"{c.name}: {c.status} ({c.reason})" for c in candidates if c.family != BASELINE)
            or "no candidates"
        )
        raise TrainingError(
            f"the leaderboard is empty: {why}", next="take other families, more rows, or a larger budget"
        )
    board = pd.DataFrame([candidate.row() for candidate in candidates])
    return board.sort_values(
        f"{metric}_mean",
        ascending=metric in LOWER_IS_BETTER,
        kind="stable",
        na_position="last",
        ignore_index=True,
    )


def kept(path: Path, log: Callable[[Candidate], None]) -> Callable[[Candidate], None]:
    """A log that also keeps the candidates so far as a file, so that an interruption does not lose them.

    Parameters
    ----------
    path : Path
        The file; whole at any moment. It is the caller's to remove when the comparison has ended.
    log : callable
        Called with each candidate first.
    """
    candidates: list[Candidate] = []

    def keep(candidate: Candidate) -> None:
        log(candidate)
        candidates.append(candidate)
        with complete(path) as part:
            pd.DataFrame([each.row() for each in candidates]).to_parquet(part)

    return keep


def is_sorted(board: pd.DataFrame, metric: str) -> bool:
    """Whether the candidates with a score stand best first."""
    means = board[f"{metric}_mean"]
    return means.is_monotonic_increasing if metric in LOWER_IS_BETTER else means.is_monotonic_decreasing


def best(board: pd.DataFrame, count: int = 1) -> list[str]:
    """The best families of a leaderboard, best first, the baseline left out."""
    ranked = board[(board["status"] == "ok") & (board["family"] != BASELINE)]
    return ranked["family"].head(count).tolist()


def metrics(board: pd.DataFrame) -> pd.DataFrame:
    """Every metric as mean ± standard deviation over the folds, a candidate a row; those with a score only."""
    scored = board[board["status"] == "ok"]
    table = {"candidate": scored["candidate"]}
    for name in (column.removesuffix("_mean") for column in board.columns if column.endswith("_mean")):
        pairs = zip(scored[f"{name}_mean"], scored[f"{name}_sd"])
        written = [spread(mean, sd).replace(" ", "\u00a0") for mean, sd in pairs]  # never broken at the sign
        table[label(name)] = pd.Series(written, scored.index)
    return pd.DataFrame({**table, "fit seconds": scored["fit_seconds"]})


def winners(board: pd.DataFrame) -> str:
    """Which candidate is best by how many metrics, in a sentence."""
    scored, best = board[board["status"] == "ok"].set_index("candidate"), {}
    for column in (name for name in board.columns if name.endswith("_mean")):
        metric, means = column.removesuffix("_mean"), scored[column].dropna()
        if len(means):
            best[metric] = str(means.idxmin() if metric in LOWER_IS_BETTER else means.idxmax())
    by: dict[str, list[str]] = {}
    for metric, candidate in best.items():
        by.setdefault(candidate, []).append(label(metric))
    first, *others = sorted(by, key=lambda candidate: -len(by[candidate]))
    more = "".join(f"; {candidate} by {', '.join(by[candidate])}" for candidate in others)
    return f"By {len(by[first])} of {len(best)} metrics the best is {first}{more}."


def behind(board: pd.DataFrame, metric: str) -> pd.DataFrame:
    """How far each candidate is behind the leader; columns ``candidate, behind, spread, told apart``.

    ``spread`` is the leader's standard deviation over the folds, ``told apart`` whether the gap is larger: a rule,
    for folds share train rows and no exact test of their means exists (Bengio & Grandvalet 2004).
    """
    scored = board[board["status"] == "ok"]
    leader = scored.iloc[0]
    gap = leader[f"{metric}_mean"] - scored[f"{metric}_mean"]
    gap = -gap if metric in LOWER_IS_BETTER else gap
    sd = leader[f"{metric}_sd"]
    table = pd.DataFrame({"candidate": scored["candidate"], "behind": gap, "spread": sd, "told apart": gap > sd})
    return table.iloc[1:].replace({"told apart": {True: "yes", False: "no"}}).reset_index(drop=True)


def story(board: pd.DataFrame, metric: str) -> dict[str, Any]:
    """Word, level, sentences and key numbers of the comparison's verdict."""
    name = label(metric)
    scored = board[board["status"] == "ok"]
    families, base = scored[scored["family"] != BASELINE], scored.loc[scored["family"] == BASELINE, f"{metric}_mean"]
    leader, seconds, missing = families.iloc[0], scored["fit_seconds"].sum(), int((board["status"] != "ok").sum())
    mean, sd, floor = leader[f"{metric}_mean"], leader[f"{metric}_sd"], base.iloc[0] if len(base) else float("nan")
    gaps = behind(families, metric)
    sentences = [
        f"{_sentence_case(leader['candidate'])} leads with {name} {spread(mean, sd)}; the baseline has {told(floor)}.",
        _near(gaps.loc[gaps["told apart"] == "no", "candidate"].tolist()),
        f"{len(families)} families were judged in {seconds:.0f} seconds; {missing} failed or were skipped.",
    ]
    numbers = [
        {"name": f"{name}, leader", "value": told(mean), "beside": f"baseline {told(floor)}"},
        {
            "name": "spread over the folds",
            "value": spread(mean, sd).partition(" ")[2],
            "beside": "one standard deviation",
        },
        {"name": "families judged", "value": str(len(families)), "beside": f"{missing} failed or skipped"},
        {
            "name": "leader's time, all folds",
            "value": f"{leader['fit_seconds']:.1f} s",
            "beside": f"{seconds:.0f} s for all",
        },
    ]
    ahead = floor - mean if metric in LOWER_IS_BETTER else mean - floor
    word, level = ("leader found", "good") if ahead > sd else ("no lead", "watch")
    return {"word": word, "level": level, "sentences": sentences, "numbers": numbers}


def _near(close: list[str]) -> str:
    if not close:
        return "No other family is within its spread."
    named = ", ".join(close[:3]) + (" and others" if len(close) > 3 else "")
    return f"Within its spread, and so as good as far as these rows can tell: {named}."


def _sentence_case(name: str) -> str:
    return name.capitalize() if name.islower() else name
