"""Weakness: the rows that a model got most wrong, and the slices, found by a tree, where it errs most."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from sklearn.tree import DecisionTreeRegressor

from modelbook.contract import Contract
from modelbook.contract.counts import count_values
from modelbook.tasks.base import Task
from modelbook.tasks.metrics import mean
from modelbook.tasks.names import told as written
from modelbook.tasks.scored import Scored, interval, weights

DEEP, SLICES, COMMON = 3, 5, 20  # conditions of a slice, slices that are judged, categories of a column that may split
COLUMNS = ["slice", "rows", "its error", "elsewhere", "gap", "low", "high"]


def most_wrong(task: Task, scored: Scored, frame: pd.DataFrame, *, count: int = 10) -> pd.DataFrame:
    """The rows with the largest errors, worst first, by the contract's key and never with another column's value.

    Returns
    -------
    DataFrame
        The key's columns (``row``, the place in the holdout, where there is none that may be shown), ``turned out,
        answered``, and the error: log loss of the row, or how far a number was off.
    """
    contract = task.contract
    shown = [name for name in contract.key if name not in contract.named("sensitive") and name != contract.target]
    who = frame[shown].astype(str).rename(columns=contract.label) if shown else pd.DataFrame({"row": range(len(frame))})
    answers = task.erring(scored).assign(**{task.error: task.errors(scored)})
    worst = np.argsort(-answers[task.error].to_numpy(), kind="stable")[:count]
    return pd.concat([who.reset_index(drop=True), answers], axis=1).iloc[worst].reset_index(drop=True)


def found(task: Task, scored: Scored, frame: pd.DataFrame, *, fewest: int, resamples: int, seed: int) -> pd.DataFrame:
    """Slices of the features where the error is largest: a shallow tree finds them, other rows judge them.

    Half of the entities grow the tree and choose its worst leaves; the other half says how much larger the error there
    is than elsewhere, so that a slice is not merely the luck that it was chosen for.

    Parameters
    ----------
    fewest : int
        Fewest rows of a slice, in each half half as many.

    Returns
    -------
    DataFrame
        Columns ``slice`` (in words), ``rows`` (that judged it), ``its error, elsewhere, gap, low, high``; the largest
        gap first.
    """
    flat, words = _flat(task.contract, frame)
    errors, least = task.errors(scored), max(fewest // 2, 10)
    names = np.unique(scored.entity)
    chosen = np.random.default_rng(seed).permutation(names)[: len(names) // 2]
    grows = np.isin(scored.entity, chosen)
    if min(grows.sum(), (~grows).sum()) < 2 * least or flat.empty:
        return pd.DataFrame(columns=COLUMNS)
    tree = DecisionTreeRegressor(max_depth=DEEP, min_samples_leaf=least, random_state=seed)
    tree.fit(flat[grows], errors[grows])
    leaf, judged = tree.apply(flat), ~grows
    worst = pd.Series(errors[grows]).groupby(leaf[grows]).mean().sort_values(ascending=False, kind="stable")
    above = worst[worst > errors[grows].mean()].index[:SLICES]
    drawn = weights(scored.entity[judged], resamples, seed)
    rows = [
        {"slice": _path(tree, number, words), **_gap(errors[judged], leaf[judged] == number, drawn)}
        for number in above if (leaf[judged] == number).sum() >= least
    ]  # fmt: skip
    table = pd.DataFrame(rows, columns=COLUMNS)
    return table.sort_values("gap", ascending=False, kind="stable", ignore_index=True)


def told(task: Task, table: pd.DataFrame) -> str:
    """The worst slice that holds up, in a sentence; the rows are those of ``found``."""
    sure = table[table["low"] > 0]
    if sure.empty:
        return "No slice that a tree found has surely larger errors on rows that had no say in finding it."
    top = sure.iloc[0]
    return (
        f"It errs most where {top['slice']}: {task.error} {written(top['its error'])}, elsewhere "
        f"{written(top['elsewhere'])}, on {top['rows']:,} rows that had no say in finding it."
    )


def _gap(errors: np.ndarray, within: np.ndarray, drawn: np.ndarray) -> dict[str, float]:
    inside, outside = (partial(_mean, errors, rows) for rows in (within, ~within))

    def gap(weight: np.ndarray) -> Any:
        return inside(weight) - outside(weight)

    one = np.ones(len(errors))
    low, high = interval(gap, drawn)
    return {
        "rows": int(within.sum()), "its error": inside(one), "elsewhere": outside(one),
        "gap": gap(one), "low": low, "high": high,
    }  # fmt: skip


def _mean(errors: np.ndarray, rows: np.ndarray, weight: np.ndarray) -> Any:
    return mean(errors[rows], weight[..., rows])


def _flat(contract: Contract, frame: pd.DataFrame) -> tuple[pd.DataFrame, list[tuple[str, str]]]:
    """Features as numbers without gaps, and what a column's low and high side are in words, with room for the border.

    A gap is put below every number, so it goes with the low side, which says so.
    """
    features, columns, words = contract.features(frame), {}, list[tuple[str, str]]()
    for name in features:
        values, label = features[name], contract.label(name)
        if name in contract.categorical:
            for value in count_values(values).index[:COMMON]:
                columns[f"{name}={value}"] = (values == value).astype(float)
                words.append((f"{label} is not {value}", f"{label} is {value}"))
        elif values.notna().any():
            numbers = values.astype(float)
            columns[name] = numbers.fillna(numbers.min() - 1)
            gaps = " or missing" if numbers.isna().any() else ""
            words.append((f"{label} ≤ {{0}}{gaps}", f"{label} > {{0}}"))
    return pd.DataFrame(columns), words


def _path(tree: DecisionTreeRegressor, leaf: int, words: list[tuple[str, str]]) -> str:
    """The conditions on the way to a leaf; of two borders on one side of a column the narrower one."""
    made, said, node = tree.tree_, dict[str, str](), leaf
    while node:
        parent = int(np.flatnonzero((made.children_left == node) | (made.children_right == node))[0])
        low, high = words[made.feature[parent]]
        side = low if made.children_left[parent] == node else high
        said.setdefault(side, side.replace("{0}", written(made.threshold[parent])))
        node = parent
    return " and ".join(reversed(said.values()))
