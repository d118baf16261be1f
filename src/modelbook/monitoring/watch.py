"""Watch one batch: everything that the verdict rests on, gathered once."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from modelbook import tasks
from modelbook.config import Monitor
from modelbook.contract import Contract
from modelbook.monitoring import copies, drift
from modelbook.tasks.base import Task
from modelbook.tasks.scored import Scored
from modelbook.training import evaluation
from modelbook.training.evaluation import evaluate

MOST_JUDGED = 20_000  # rows with outcomes behind metrics and intervals: a thousand resamples of a million take 8 GB
SLICE_ROWS = 100  # rows with outcomes that a slice needs on each side
SLICE_RESAMPLES = 200  # there are many slices
UNFIT = re.compile(r"[^\w.-]")  # for the name of a metric in MLflow


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
    answers : DataFrame
        ``drift.table`` of what was answered and what turned out, in the rows ``score`` and ``outcome``; empty when
        there are too few rows.
    metrics : DataFrame
        ``evaluation.evaluate`` of the rows whose outcomes are in, with the column ``reference``; empty until there are
        enough.
    slices : DataFrame
        ``evaluation.slices`` of them, with the column ``reference`` for the slice's headline in the reference.
    expected : dict
        The headline to expect by the answers alone, as a row of ``metrics``; None where the task cannot tell.
    copies : Copies
        Rows that repeat another one in every feature; none where there are too few rows.
    drawn_from : int or None
        How many rows there are, where these are drawn from them at random.
    """

    task: Task
    batch: str
    rows: int
    violations: pd.DataFrame
    columns: pd.DataFrame
    drifted_share: float
    answers: pd.DataFrame
    metrics: pd.DataFrame
    slices: pd.DataFrame
    expected: dict[str, Any] | None = None
    copies: copies.Copies = copies.NONE
    drawn_from: int | None = None

    def moved(self, which: str) -> drift.Distance:
        """How far ``score`` or ``outcome`` has moved."""
        found = self.answers[self.answers["column"] == which] if len(self.answers) else self.answers
        return drift.UNKNOWN if found.empty else drift.Distance(*map(float, found.iloc[0][["score", "chance"]]))

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
        violations = _broken(batch, contract)
        if batch.empty or set(contract.inputs_) - set(batch.columns):
            watched.append(_unanswerable(name, batch, contract, violations))
            continue
        readable = _readable(batch, contract, violations)
        scores = tasks.of(contract).score_of(model.predict(contract.inputs(readable)))
        watched.append(watch(
            name, readable, scores, reference, contract, importance=metrics["importance"],
            threshold=metrics["threshold"], params=params, violations=violations,
        ))  # fmt: skip
    return watched


def watch(
    name: str, batch: pd.DataFrame, scores: np.ndarray, reference: pd.DataFrame, contract: Contract,
    *, importance: dict[str, float], threshold: float | None, params: Monitor,
    violations: pd.DataFrame | None = None,
) -> Watched:  # fmt: skip
    """Hold a batch against the reference.

    Parameters
    ----------
    scores : ndarray
        What the champion says of each row of the batch, as ``Task.score_of`` gives it.
    reference : DataFrame
        Holdout rows with the scores that they got.
    importance : dict
        Column to its importance to the model.
    threshold : float or None
        Probability from which the model predicts yes, of two classes.
    violations : DataFrame, optional
        What is known of them already.
    """
    violations = _broken(batch, contract) if violations is None else violations
    if len(batch) < params.min_rows:
        return _unanswerable(name, batch, contract, violations)
    columns = drift.columns(reference, batch, contract, threshold=params.drift, gaps=params.gaps)
    task, known = tasks.of(contract), _known(batch, contract)
    sound = (known & _sound(batch, contract, violations)).to_numpy()
    now, numeric, _ = task.drifting(scores, contract.codes(batch).to_numpy() if known.all() else float("nan"))
    before, _, _ = task.drifting(task.recalled(reference), contract.codes(reference).to_numpy())
    sizes = drift.sizes(reference, batch, contract)
    answers = drift.table(before, now, numeric, threshold=params.drift, gaps=1, sizes=sizes)
    share, told = drift.weighted_share(columns, importance), _judged(batch, scores, sound, params.seed)
    metrics = performance(task, *told, reference, threshold, params)
    parts = slices(task, *told, reference, threshold, params) if len(metrics) else pd.DataFrame()
    likely = expected(task, scores, reference, threshold)
    twice = copies.copies(batch, reference, contract)
    return Watched(task, name, len(batch), violations, columns, share, answers, metrics, parts, likely, twice)


def _judged(batch: pd.DataFrame, scores: np.ndarray, known: np.ndarray, seed: int) -> tuple[pd.DataFrame, np.ndarray]:
    """The rows whose outcomes are in, and their scores; of very many a share, drawn at random."""
    places = np.flatnonzero(known)
    if len(places) > MOST_JUDGED:
        places = np.sort(np.random.default_rng(seed).choice(places, MOST_JUDGED, replace=False))
    return batch.iloc[places], scores[places]


def expected(task: Task, scores: np.ndarray, reference: pd.DataFrame, threshold: float | None) -> dict[str, Any] | None:
    """The headline to expect by the answers alone, beside its value on the reference."""
    past = task.reference(reference)
    found = task.expected(scores, past)
    if found is None:
        return None
    before = task.metrics(threshold)[task.headline](past.outcome, past.score, np.ones(len(past)))
    return {"metric": task.headline, **found._asdict(), "reference": before}


def _broken(batch: pd.DataFrame, contract: Contract) -> pd.DataFrame:
    """Where the batch breaks the contract; an outcome that is not in yet does not."""
    found = contract.violations(batch, target=False)
    return found[~((found["column"] == contract.target) & found["value"].isna())]


def _readable(batch: pd.DataFrame, contract: Contract, violations: pd.DataFrame) -> pd.DataFrame:
    """The batch with gaps where a value cannot be read as its column's type: one such value is no reason to stop."""
    gaps = {}
    for name in set(violations["column"]) & set(contract.inputs_) & set(batch.columns):
        values = contract.known(batch[[name]])[name]
        gaps[name] = values.where(contract.columns[name].parsed(values).notna())
    return batch.assign(**gaps)


def _known(batch: pd.DataFrame, contract: Contract) -> pd.Series:
    """Of which rows the outcome is in, and is one that the contract knows."""
    if contract.target not in batch.columns:
        return pd.Series(False, index=batch.index)
    values = batch[contract.target]
    return values.notna() & contract.columns[contract.target].holds(values)


def _sound(batch: pd.DataFrame, contract: Contract, violations: pd.DataFrame) -> pd.Series:
    """Which rows are fit to judge the model by: a service answers only rows that keep the contract, and one outcome."""
    sound = pd.Series(True, index=batch.index)
    sound.iloc[violations.loc[violations["column"].isin(contract.inputs_), "row"].dropna().astype(int)] = False
    if contract.key and {*contract.key, contract.target} <= set(batch.columns):
        twice = (batch.duplicated(contract.key, keep=False) & batch[contract.key].notna().all(axis=1)).to_numpy()
        told = batch.assign(told=batch[contract.target].astype(str)).loc[twice]
        sound.loc[twice] = (told.groupby(contract.key)["told"].transform("nunique") == 1).to_numpy()
    return sound


def _unanswerable(name: str, batch: pd.DataFrame, contract: Contract, broken: pd.DataFrame) -> Watched:
    """A batch that is too small, or lacks columns: its contract violations are all that can be told."""
    nothing = pd.DataFrame()
    return Watched(tasks.of(contract), name, len(batch), broken, nothing, 0.0, nothing, nothing, nothing)


def performance(
    task: Task, batch: pd.DataFrame, scores: np.ndarray, reference: pd.DataFrame, threshold: float | None,
    params: Monitor,
) -> pd.DataFrame:  # fmt: skip
    """Metrics of the batch with intervals, beside the holdout's; columns as ``evaluate`` and ``reference``."""
    if len(batch) < params.min_rows:
        return pd.DataFrame()
    now = Scored.of(task.contract.codes(batch), scores, _whose(batch, task.contract))
    if not task.judgeable(now.outcome):
        return pd.DataFrame()
    metrics = task.metrics(threshold)
    table = evaluate(now, metrics, resamples=params.resamples, seed=params.seed)
    before = evaluate(task.reference(reference), metrics, resamples=0, seed=params.seed).set_index("metric")["value"]
    return table.assign(reference=table["metric"].map(before))


def _whose(batch: pd.DataFrame, contract: Contract) -> Any:
    """Whose row each row is; one of which that is not known stands for itself."""
    if contract.entity and contract.entity not in batch.columns:
        return np.arange(len(batch))
    told = contract.entities(batch)
    codes = pd.factorize(told)[0] if told.dtype == object or told.isna().any() else told.to_numpy()
    return np.where(told.isna(), -1 - np.arange(len(batch)), codes)


def slices(
    task: Task, batch: pd.DataFrame, scores: np.ndarray, reference: pd.DataFrame, threshold: float | None,
    params: Monitor,
) -> pd.DataFrame:  # fmt: skip
    """The headline in each slice of the batch, beside its value in that slice of the reference."""
    asked: dict[str, Any] = {"fewest": SLICE_ROWS, "seed": params.seed}
    there = [name for name in task.contract.slices if name in batch.columns and name in reference.columns]
    if there != task.contract.slices:
        return pd.DataFrame()
    now = Scored.of(task.contract.codes(batch), scores, _whose(batch, task.contract))
    some = min(params.resamples, SLICE_RESAMPLES)
    found = evaluation.slices(task, now, batch, threshold, resamples=some, **asked)
    before = evaluation.slices(task, task.reference(reference), reference, threshold, resamples=0, **asked)
    before = before.rename(columns={task.headline: "reference"})[["slice", "value", "reference"]]
    joined = found.rename(columns={"value": "group", task.headline: "value"}).merge(
        before.rename(columns={"value": "group"}), on=["slice", "group"]
    )
    return joined[["slice", "group", "n", "value", "low", "high", "reference"]]


def drift_table(watched: list[Watched], importance: dict[str, float]) -> pd.DataFrame:
    """Every batch's columns in one table, with the column's importance to the model."""
    tables = [w.columns.assign(batch=w.batch) for w in watched if len(w.columns)]
    names = ["batch", *drift.NAMES, "importance"]
    if not tables:
        return pd.DataFrame(columns=names).astype({"drifted": bool})
    table = pd.concat(tables, ignore_index=True)
    return table.assign(importance=table["column"].map(importance).fillna(0))[names]


def drifted(table: pd.DataFrame, contract: Contract) -> pd.DataFrame:
    """The rows of ``drift_table`` that have drifted, with names for people.

    Columns ``batch, column, distance, by chance, KS p, new, missing then, missing now``.
    """
    kept = contract.labelled(table[table["drifted"]], "column")
    names = {
        "score": "distance", "chance": "by chance", "ks_p": "KS p", "new": "new", "missing_reference": "missing then",
        "missing_batch": "missing now",
    }  # fmt: skip
    return kept.rename(columns=names)[["batch", "column", *names.values()]].reset_index(drop=True)


def performance_table(watched: list[Watched]) -> pd.DataFrame:
    """Every batch's metrics in one table, beside the holdout's."""
    tables = [w.metrics.assign(batch=w.batch) for w in watched if len(w.metrics)]
    names = ["batch", "metric", "value", "low", "high", "reference"]
    return pd.concat(tables, ignore_index=True)[names] if tables else pd.DataFrame(columns=names)


def expected_table(watched: list[Watched]) -> pd.DataFrame:
    """What was expected of each batch, and what came of it: ``batch, expected, low, high, came, off``."""
    rows = []
    for one in (one for one in watched if one.expected):
        row, came = one.expected or {}, one.metric(one.task.headline)
        value = float("nan") if came is None else came["value"]
        rows.append((one.batch, row["value"], row["low"], row["high"], value, row["value"] - value))
    return pd.DataFrame(rows, columns=["batch", "expected", "low", "high", "came", "off"])


def quality_table(watched: list[Watched]) -> pd.DataFrame:
    """Every batch's size, contract violations, share of copies, and how far it has moved."""
    rows = [
        (w.batch, w.rows, len(w.violations), w.copies.share, w.moved("outcome").score, w.moved("score").score,
         w.drifted_share)
        for w in watched
    ]  # fmt: skip
    return pd.DataFrame(
        rows, columns=["batch", "rows", "violations", "copies", "outcome_distance", "score_distance", "drifted_share"]
    )


def logged(watched: list[Watched]) -> dict[str, float]:
    """Numbers by the names a run logs them under: those of one batch alone, so that runs compare; of several each."""
    if len(watched) == 1:
        return _numbers(watched[0])
    return {
        f"batch_{UNFIT.sub('_', one.batch)[:100]}_{name}": value
        for one in watched
        for name, value in _numbers(one).items()
    }


def _numbers(one: Watched) -> dict[str, float]:
    told = {"rows": float(one.rows), "drifted_share": one.drifted_share, "violations": float(len(one.violations))}
    told["copies"] = one.copies.share
    if one.drawn_from:
        told["drawn_from"] = float(one.drawn_from)
    if one.expected:
        told[f"expected_{one.expected['metric']}"] = one.expected["value"]
    return told | {row.metric: row.value for row in one.metrics.itertuples()}
