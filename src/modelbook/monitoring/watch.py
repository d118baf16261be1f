"""Watch one batch: everything that the verdict rests on, gathered once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pandas as pd

from modelbook.config import Monitor
from modelbook.contract import Contract
from modelbook.monitoring import drift
from modelbook.training.evaluation import Scored, evaluate


@dataclass(frozen=True)
class Watched:
    """What is known of one batch.

    Attributes
    ----------
    rows, violations : int
        Rows of the batch; places where it breaks the contract.
    columns : DataFrame
        ``drift.columns``; empty when there are too few rows.
    drifted_share : float
        Importance-weighted share of drifted columns, 0 to 1.
    target_distance, score_distance : float
        Jensen-Shannon distance of outcomes and of scores to the reference's; NaN when unknown.
    metrics : DataFrame
        ``evaluation.evaluate`` with the column ``reference``; empty until outcomes are in.
    """

    batch: str
    rows: int
    violations: pd.DataFrame
    columns: pd.DataFrame
    drifted_share: float
    target_distance: float
    score_distance: float
    metrics: pd.DataFrame

    def metric(self, name: str) -> Any:
        """One row of ``metrics``, or None."""
        found = self.metrics[self.metrics["metric"] == name] if len(self.metrics) else self.metrics
        return None if found.empty else found.iloc[0]


def watch_all(
    batches: dict[str, pd.DataFrame], model: Any, reference: pd.DataFrame, contract: Contract,
    *, metrics: dict[str, Any], params: Monitor, tell: Callable[[str, int, int], None],
) -> list[Watched]:  # fmt: skip
    """Hold each batch against the reference; ``metrics`` is what the version keeps of its holdout."""
    watched = []
    for number, (name, batch) in enumerate(batches.items()):
        tell(f"watching batch {name}, {len(batch):,} rows", number, len(batches))
        if set(contract.inputs_) - set(batch.columns):
            watched.append(_unanswerable(name, batch, contract))
            continue
        scores = model.predict(contract.inputs(batch))["probability"]
        watched.append(watch(
            name, batch, scores, reference, contract,
            importance=metrics["importance"], threshold=metrics["threshold"], params=params,
        ))  # fmt: skip
    return watched


def watch(
    name: str, batch: pd.DataFrame, scores: pd.Series, reference: pd.DataFrame, contract: Contract,
    *, importance: dict[str, float], threshold: float, params: Monitor,
) -> Watched:  # fmt: skip
    """Hold a batch against the reference.

    Parameters
    ----------
    scores : Series
        The champion's probability for each row of the batch.
    reference : DataFrame
        Holdout rows with the column ``score``.
    importance : dict
        Column to its importance to the model.
    threshold : float
        Probability from which the model predicts 1.
    """
    if len(batch) < params.min_rows:
        return _unanswerable(name, batch, contract)
    violations = contract.violations(batch, target=False)
    columns = drift.columns(reference, batch, contract, threshold=params.drift, gaps=params.gaps)
    known = contract.target in batch.columns and batch[contract.target].notna().all()
    answers = pd.DataFrame({"score": scores.to_numpy(), "outcome": batch[contract.target] if known else float("nan")})
    before = pd.DataFrame({"score": reference["score"], "outcome": reference[contract.target]})
    distance = drift.distances(before, answers, ["score"], ["outcome"], params.drift)
    return Watched(
        name, len(batch), violations, columns, drift.weighted_share(columns, importance),
        distance.get("outcome", float("nan")), distance.get("score", float("nan")),
        performance(batch, scores, reference, contract, threshold, params) if known else pd.DataFrame(),
    )  # fmt: skip


def _unanswerable(name: str, batch: pd.DataFrame, contract: Contract) -> Watched:
    """A batch that is too small, or lacks columns: its contract violations are all that can be told."""
    nothing, unknown = pd.DataFrame(), float("nan")
    return Watched(name, len(batch), contract.violations(batch, target=False), nothing, 0.0, unknown, unknown, nothing)


def performance(
    batch: pd.DataFrame,
    scores: pd.Series,
    reference: pd.DataFrame,
    contract: Contract,
    threshold: float,
    params: Monitor,
) -> pd.DataFrame:
    """Metrics of the batch with intervals, beside the holdout's; columns as ``evaluate`` and ``reference``."""
    if batch[contract.target].nunique() < 2:
        return pd.DataFrame()
    now = Scored.of(batch[contract.target], scores, batch[contract.entity])
    then = Scored.of(reference[contract.target], reference["score"], reference[contract.entity])
    table = evaluate(now, threshold, resamples=params.resamples, seed=params.seed)
    before = evaluate(then, threshold, resamples=0, seed=params.seed).set_index("metric")["value"]
    return table.assign(reference=table["metric"].map(before))


def drift_table(watched: list[Watched], importance: dict[str, float]) -> pd.DataFrame:
    """Every batch's columns in one table, with the column's importance to the model."""
    tables = [w.columns.assign(batch=w.batch) for w in watched if len(w.columns)]
    names = ["batch", "column", "score", "threshold", "missing_reference", "missing_batch", "drifted", "importance"]
    if not tables:
        return pd.DataFrame(columns=names).astype({"drifted": bool})
    table = pd.concat(tables, ignore_index=True)
    return table.assign(importance=table["column"].map(importance).fillna(0))[names]


def drifted(table: pd.DataFrame, contract: Contract) -> pd.DataFrame:
    """The rows of ``drift_table`` that have drifted: ``batch, column, distance, missing then, missing now``."""
    kept = contract.labelled(table[table["drifted"]], "column")
    names = {"score": "distance", "missing_reference": "missing then", "missing_batch": "missing now"}
    return kept.rename(columns=names)[["batch", "column", *names.values()]].reset_index(drop=True)


def performance_table(watched: list[Watched]) -> pd.DataFrame:
    """Every batch's metrics in one table, beside the holdout's."""
    tables = [w.metrics.assign(batch=w.batch) for w in watched if len(w.metrics)]
    names = ["batch", "metric", "value", "low", "high", "reference"]
    return pd.concat(tables, ignore_index=True)[names] if tables else pd.DataFrame(columns=names)


def quality_table(watched: list[Watched]) -> pd.DataFrame:
    """Every batch's size and contract violations."""
    rows = [(w.batch, w.rows, len(w.violations), w.target_distance, w.score_distance, w.drifted_share) for w in watched]
    return pd.DataFrame(
        rows, columns=["batch", "rows", "violations", "outcome_distance", "score_distance", "drifted_share"]
    )


def logged(watched: list[Watched]) -> dict[str, float]:
    """Numbers of each batch by the names a run logs them under."""
    told: dict[str, float] = {}
    for one in watched:
        told |= {
            f"batch_{one.batch}_drifted_share": one.drifted_share,
            f"batch_{one.batch}_violations": float(len(one.violations)),
        }
        told |= {f"batch_{one.batch}_{row.metric}": row.value for row in one.metrics.itertuples()}
    return told
