"""Steps before PyCaret's preprocessing: custom transformers and rare categories."""

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
from modelbook.errors import CustomCodeError, ModelbookError
from modelbook.training import custom_code

OTHER_CATEGORY = "other than these"  # replaces rare and unseen categories
PROBE_ROWS = 50  # rows on which transformers are checked

NamedSteps = list[tuple[str, Any]]


def make_steps(root: Path, transformers: Iterable[str], rare_category_share: float) -> NamedSteps:
    """Make the unfitted steps: custom transformers in order, then the grouping of rare categories.

    Parameters
    ----------
    transformers : iterable of str
        Names such as ``ratios.PerRoom``; ``none`` is ignored.
    rare_category_share : float
        Share of the rows below which a category is grouped with others; 0: no grouping.
    """
    names = [name for name in transformers if name != NONE]
    requirements = custom_code.list_requirements(root) if names else []
    steps: NamedSteps = [
        (f"custom_{number}", CheckedTransformer(name, transformer, requirements))
        for number, (name, transformer) in enumerate(
            zip(names, custom_code.load_transformers(root, names))
        )
    ]
    if rare_category_share:
        steps.append(("rare_categories", RareCategoryGrouper(rare_category_share)))
    return steps


class CheckedTransformer(BaseEstimator):
    """Wraps a custom transformer and validates its output on every call.

    It takes the contract's features and has to return a DataFrame with the same rows, of numbers or
    text. Infinite numbers become NaN. ``requirements`` are the packages that a version has to list.
    """

    def __init__(self, name: str, transformer: Any, requirements: Sequence[str] = ()) -> None:
        self.name = name
        self.transformer = transformer
        self.requirements = requirements

    def fit(self, X: pd.DataFrame, y: pd.Series | None = None) -> CheckedTransformer:
        self.fitted_ = self._call("fit", lambda: clone(self.transformer).fit(X, y))
        self.columns_ = list(self._transform_and_check(X).columns)
        return self

    def transform(self, X: pd.DataFrame) -> pd.DataFrame:
        transformed = self._transform_and_check(X)
        if list(transformed.columns) != self.columns_:
            raise self._make_error(
                f"returns the columns {list(transformed.columns)}, but returned "
                f"{self.columns_} when fitted"
            )
        return transformed

    def _transform_and_check(self, X: pd.DataFrame) -> pd.DataFrame:
        transformed = self._call("transform", lambda: self.fitted_.transform(X))
        if not isinstance(transformed, pd.DataFrame):
            raise self._make_error(f"returns a {type(transformed).__name__}, not a DataFrame")
        if len(transformed) != len(X):
            raise self._make_error(f"returns {len(transformed):,} rows for {len(X):,}")
        if not transformed.index.equals(X.index):
            raise self._make_error("changes the index or the order of the rows")
        if (
            not all(isinstance(name, str) for name in transformed.columns)
            or not transformed.columns.is_unique
            or transformed.empty
        ):
            raise self._make_error(
                f"returns columns named {list(transformed.columns)[:10]}; names must be "
                "unique strings"
            )
        return pd.DataFrame(
            {
                name: self._to_pycaret_values(name, transformed[name])
                for name in transformed.columns
            },
            index=X.index,
        )

    def _to_pycaret_values(self, name: str, values: pd.Series) -> pd.Series:
        """Convert a column to float64 or text, with NaN for missing values."""
        if pd.api.types.is_bool_dtype(values) or pd.api.types.is_numeric_dtype(values):
            return pd.Series(values.to_numpy("float64", na_value=np.nan), values.index).replace(
                [np.inf, -np.inf], np.nan
            )
        if all(isinstance(value, str) for value in values.dropna().unique()):
            return values.astype(object).where(values.notna(), np.nan)
        raise self._make_error(
            f"returns a column {name!r} of {values.dtype}, which is neither numbers nor text"
        )

    def _call(self, action: str, call: Any) -> Any:
        try:
            return call()
        except Exception as error:  # user code may raise anything
            raise self._make_error(
                f"fails in {action}: {custom_code.describe_error(error)}"
            ) from None

    def _make_error(self, problem: str) -> ModelbookError:
        file = f"{custom_code.CUSTOM_FOLDER}/{self.name.partition('.')[0]}.py"
        return CustomCodeError(
            f"transformers: {self.name} {problem}",
            expected="transform(X) returns a DataFrame: the same rows, the same columns each time, "
            "numbers or text",
            next=f"fix {file}; {custom_code.DOCS_HINT}",
        )


class RareCategoryGrouper(BaseEstimator):
    """Groups categories that are rarer than a share of the rows, and unseen ones."""

    def __init__(self, min_share: float) -> None:
        self.min_share = min_share

    def fit(self, X: pd.DataFrame, y: pd.Series | None = None) -> RareCategoryGrouper:
        self.frequent_categories_ = {
            name: self._find_frequent_values(X[name]) for name in text_columns(X)
        }
        return self

    def transform(self, X: pd.DataFrame) -> pd.DataFrame:
        return X.assign(
            **{
                name: X[name].where(X[name].isna() | X[name].isin(categories), OTHER_CATEGORY)
                for name, categories in self.frequent_categories_.items()
            }
        )

    def _find_frequent_values(self, values: pd.Series) -> list[str]:
        value_counts = values.value_counts()
        return value_counts[value_counts >= self.min_share * len(values)].index.tolist()


def text_columns(frame: pd.DataFrame) -> list[str]:
    """Names of the text columns."""
    return frame.select_dtypes(exclude="number").columns.tolist()


def fit_and_check_steps(
    steps: NamedSteps, contract: Contract, features: pd.DataFrame, target: pd.Series
) -> pd.DataFrame:
    """Fit the steps on all rows, check custom transformers, and return the transformed rows.

    Use only the names and dtypes of the result: its values are fitted on the rows of all folds.
    """
    prepared = features
    for _, step in steps:
        step_input = prepared
        probe_copy = prepared.head(PROBE_ROWS).copy()
        prepared = step.fit(prepared, target).transform(prepared)
        if isinstance(step, CheckedTransformer):
            if not step_input.head(PROBE_ROWS).equals(probe_copy):
                raise step._make_error("modifies its input")
            _check_transformer(step, step_input, contract)
    return prepared


def _check_transformer(step: CheckedTransformer, rows: pd.DataFrame, contract: Contract) -> None:
    """Check a fitted transformer: row by row, with missing values and new categories, unpickled."""
    sample = rows.sample(min(PROBE_ROWS, len(rows)), random_state=0).reset_index(drop=True)
    batch_output = step.transform(sample)
    reversed_output = step.transform(sample.iloc[::-1]).iloc[::-1]
    single_row_output = pd.concat(
        [step.transform(sample.iloc[[position]]) for position in range(min(5, len(sample)))]
    )
    if not _are_frames_equal(batch_output, reversed_output) or not _are_frames_equal(
        batch_output.head(len(single_row_output)), single_row_output
    ):
        raise step._make_error(
            "transforms a row differently depending on the other rows, or on each call"
        )
    unusual_row = sample.head(1).copy()
    for name in unusual_row.columns:
        column = contract.model_features.get(name)
        if column and column.nullable:
            unusual_row[name] = (
                unusual_row[name]
                .astype(object if column.type == "category" else "float64")
                .mask([True])
            )
        elif column and column.allow_unseen:
            unusual_row[name] = "a category that is new"
    step.transform(unusual_row)
    try:
        reloaded_step = cloudpickle.loads(cloudpickle.dumps(step))
    except Exception as error:
        raise step._make_error(f"cannot be pickled: {custom_code.describe_error(error)}") from None
    if not _are_frames_equal(batch_output, reloaded_step.transform(sample)):
        raise step._make_error("transforms rows differently after it was pickled and loaded")


def _are_frames_equal(left: pd.DataFrame, right: pd.DataFrame) -> bool:
    numeric_names = left.select_dtypes("number").columns
    text_names = left.columns.difference(numeric_names)
    return np.allclose(
        left[numeric_names], right[numeric_names], rtol=1e-9, equal_nan=True
    ) and left[text_names].equals(right[text_names])
