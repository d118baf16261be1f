"""Steps ahead of PyCaret's: a book's own transformers and rare categories, learned inside folds, kept in the model."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, clone

from modelbook.config import NONE
from modelbook.contract import Contract
from modelbook.errors import ModelbookError, TransformerError
from modelbook.training import own

OTHER = "other than these"  # what rare and unseen categories become
PROBED = 50  # rows that are asked in several ways

Steps = list[tuple[str, Any]]


def steps(root: Path, transformers: Iterable[str], rare: float) -> Steps:
    """Unfitted steps by name: own transformers in their order, then the joining of rare categories.

    Parameters
    ----------
    transformers : iterable of str
        As ``ratios.PerRoom``; ``none`` stands for none.
    rare : float
        Share of a fit's rows below which a category is joined with others; 0 joins none.
    """
    names = [name for name in transformers if name != NONE]
    needs = own.packages(root) if names else []
    found: Steps = [
        (f"own_{place}", Own(name, made, needs)) for place, (name, made) in enumerate(zip(names, own.load(root, names)))
    ]
    return [*found, ("rare", Rare(rare))] if rare else found


class Own(BaseEstimator):
    """A transformer of one's own, held to what it promises wherever it is asked.

    It takes what the contract gives a model, and answers with a DataFrame of as many rows: numbers, or text with NaN
    for a gap. Infinite numbers become gaps. ``needs`` are the packages that a version must name for it.
    """

    def __init__(self, name: str, transformer: Any, needs: Sequence[str] = ()) -> None:
        self.name = name
        self.transformer = transformer
        self.needs = needs

    def fit(self, X: pd.DataFrame, y: pd.Series | None = None) -> Own:
        self.fitted_ = self._try("fit", lambda: clone(self.transformer).fit(X, y))
        self.columns_ = list(self._asked(X).columns)
        return self

    def transform(self, X: pd.DataFrame) -> pd.DataFrame:
        out = self._asked(X)
        if list(out.columns) != self.columns_:
            raise self._wrong(f"gives the columns {list(out.columns)} here and gave {self.columns_} when it was fitted")
        return out

    def _asked(self, X: pd.DataFrame) -> pd.DataFrame:
        out = self._try("transform", lambda: self.fitted_.transform(X))
        if not isinstance(out, pd.DataFrame):
            raise self._wrong(f"gives a {type(out).__name__}, no DataFrame")
        if len(out) != len(X):
            raise self._wrong(f"gives {len(out):,} rows for {len(X):,}")
        if not out.index.equals(X.index):
            raise self._wrong("gives its rows another index, or another order")
        if not all(isinstance(name, str) for name in out.columns) or not out.columns.is_unique or out.empty:
            raise self._wrong(f"gives columns named {list(out.columns)[:10]}, which are no names that differ")
        return pd.DataFrame({name: self._plain(name, out[name]) for name in out.columns}, index=X.index)

    def _plain(self, name: str, values: pd.Series) -> pd.Series:
        """A column as PyCaret's steps take it: doubles, or text, with NaN for a gap."""
        if pd.api.types.is_bool_dtype(values) or pd.api.types.is_numeric_dtype(values):
            return pd.Series(values.to_numpy("float64", na_value=np.nan), values.index).replace(
                [np.inf, -np.inf], np.nan
            )
        if all(isinstance(value, str) for value in values.dropna().unique()):
            return values.astype(object).where(values.notna(), np.nan)
        raise self._wrong(f"gives a column {name!r} of {values.dtype}, which is neither numbers nor text")

    def _try(self, doing: str, call: Any) -> Any:
        try:
            return call()
        except Exception as error:  # a person's code may fail in any way
            raise self._wrong(f"fails on {doing}: {own.told(error)}") from None

    def _wrong(self, what: str) -> ModelbookError:
        return TransformerError(
            f"transformers: {self.name} {what}",
            expected="transform(X) gives a DataFrame: the same rows, the same columns each time, numbers or text",
            next=f"mend {own.FOLDER}/{self.name.partition('.')[0]}.py; {own.PAGE}",
        )


class Rare(BaseEstimator):
    """Joins the categories that less than a share of the rows have, and all that come unseen."""

    def __init__(self, share: float) -> None:
        self.share = share

    def fit(self, X: pd.DataFrame, y: pd.Series | None = None) -> Rare:
        self.kept_ = {name: self._common(X[name]) for name in categorical(X)}
        return self

    def transform(self, X: pd.DataFrame) -> pd.DataFrame:
        return X.assign(**{
            name: X[name].where(X[name].isna() | X[name].isin(kept), OTHER) for name, kept in self.kept_.items()
        })  # fmt: skip

    def _common(self, values: pd.Series) -> list[str]:
        counted = values.value_counts()
        return counted[counted >= self.share * len(values)].index.tolist()


def categorical(frame: pd.DataFrame) -> list[str]:
    """Names of the columns of text."""
    return frame.select_dtypes(exclude="number").columns.tolist()


def seen(found: Steps, contract: Contract, features: pd.DataFrame, outcome: pd.Series) -> pd.DataFrame:
    """Rows as the steps leave them, each fitted here on all of them, and own ones proved.

    Only names and kinds of these columns may be used: a value here has been learned from rows of every fold.
    """
    given = features
    for _, step in found:
        before = given
        first = given.head(PROBED).copy()
        given = step.fit(given, outcome).transform(given)
        if isinstance(step, Own):
            if not before.head(PROBED).equals(first):
                raise step._wrong("changes the rows that it is given")
            _prove(step, before, contract)
    return given


def put(experiment: Any, found: Steps, features: pd.DataFrame) -> None:
    """Set fitted steps ahead of those of a PyCaret experiment, and the rows that they take in place of its own."""
    data, target = experiment.data, experiment.target_param
    extra = len(data) - len(features)  # rows of the test set, which PyCaret puts behind
    raw = pd.concat([features, features.head(extra)], ignore_index=True).set_index(data.index)
    experiment.data = raw.assign(**{target: data[target]})
    experiment.pipeline.steps[:0] = found
    experiment.pipeline._feature_names_in = [*features.columns, target]


def _prove(step: Own, rows: pd.DataFrame, contract: Contract) -> None:
    """Ask a fitted transformer as a service will: row by row, with gaps, with new categories, from a pickle."""
    some = rows.sample(min(PROBED, len(rows)), random_state=0).reset_index(drop=True)
    answers = step.transform(some)
    turned = step.transform(some.iloc[::-1]).iloc[::-1]
    single = pd.concat([step.transform(some.iloc[[place]]) for place in range(min(5, len(some)))])
    if not _same(answers, turned) or not _same(answers.head(len(single)), single):
        raise step._wrong("answers a row otherwise when other rows are with it, or when it is asked again")
    odd = some.head(1).copy()
    for name in odd.columns:
        column = contract.seen.get(name)
        if column and column.nullable:
            odd[name] = odd[name].astype(object if column.type == "category" else "float64").mask([True])
        elif column and column.unseen:
            odd[name] = "a category that is new"
    step.transform(odd)
    try:
        kept = cloudpickle.loads(cloudpickle.dumps(step))
    except Exception as error:
        raise step._wrong(f"cannot be kept in a model: {own.told(error)}") from None
    if not _same(answers, kept.transform(some)):
        raise step._wrong("answers otherwise once it was kept and loaded")


def _same(one: pd.DataFrame, other: pd.DataFrame) -> bool:
    numbers = one.select_dtypes("number").columns
    words = one.columns.difference(numbers)
    return np.allclose(one[numbers], other[numbers], rtol=1e-9, equal_nan=True) and one[words].equals(other[words])
