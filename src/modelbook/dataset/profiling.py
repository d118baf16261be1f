"""Profile of the training rows: missing values, associations, leakage, duplicates and shifts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from modelbook import tasks
from modelbook.dataset.decisive_features import (
    MIN_PAIR_SCORE,
    find_decisive_features,
    list_candidate_pairs,
)
from modelbook.dataset.missing_patterns import MissingPattern, find_missing_patterns
from modelbook.formatting import (
    KeyNumber,
    format_column_list,
    format_count,
    format_share,
    key_number,
)

if TYPE_CHECKING:
    from modelbook.contract import Contract
    from modelbook.tasks.base import Task

MAX_PAIR_ROWS, MAX_PAIR_FEATURES = 2000, 20  # rows and strongest numeric features of pairs


def measure_associations(frame: pd.DataFrame, contract: Contract) -> pd.DataFrame:
    """Univariate association of each column with the target, strongest first.

    Columns ``column, role, univariate_score, direction, non_missing_rate``; the score is
    ``Task.univariate_score`` on the rows in which the column has a value, and ``non_missing_rate``
    the share of these rows; categorical columns are target-encoded. Dropped columns are included,
    so that the reasons for dropping them can be checked.
    """
    task, target = tasks.get_task(contract), contract.encode_checked_target(frame)
    roles = ("feature", "sensitive", "dropped")
    rows = []
    for name, column in {**contract.columns, **contract.model_features}.items():
        if column.role in roles and column.type not in ("text", "date") and name in frame.columns:
            rows.append(
                (
                    name,
                    column.role,
                    *task.univariate_score(frame[name], column.type == "category", target),
                    frame[name].notna().mean(),
                )
            )
    names = ["column", "role", "univariate_score", "direction", "non_missing_rate"]
    table = pd.DataFrame(rows, columns=names)
    return table.sort_values("univariate_score", ascending=False, kind="stable", ignore_index=True)


def find_leaks(
    frame: pd.DataFrame, contract: Contract, associations: pd.DataFrame, threshold: float
) -> tuple[list[str], list[str]]:
    """Find features, and pairs, that nearly determine the target: by rank, or by a tree.

    Pairs are returned as texts: ``one and other``.
    """
    features, pairs = find_decisive_features(frame, contract, threshold)
    ranked_features = find_suspected_leaks(associations, threshold, contract)
    ranked_pairs = find_suspected_pairs(frame, contract, associations, threshold)
    ranked = set(map(frozenset, ranked_pairs))
    all_pairs = [*ranked_pairs, *(pair for pair in pairs if frozenset(pair) not in ranked)]
    return list(dict.fromkeys(ranked_features + features)), list(map(" and ".join, all_pairs))


def find_suspected_leaks(
    associations: pd.DataFrame, threshold: float, contract: Contract
) -> list[str]:
    """Features whose univariate score reaches ``threshold``, unless the contract confirms them."""
    is_feature = associations["role"] == "feature"
    is_suspect = is_feature & (associations["univariate_score"] >= threshold)
    return [
        name for name in associations.loc[is_suspect, "column"] if not contract.is_confirmed(name)
    ]


def find_suspected_pairs(
    frame: pd.DataFrame, contract: Contract, associations: pd.DataFrame, threshold: float
) -> list[tuple[str, str]]:
    """Find pairs of numeric features that nearly determine the target.

    Difference, sum, ratio and product of the features are scored like single columns. A pair is
    suspected from ``threshold`` or ``MIN_PAIR_SCORE`` on, whichever is larger, if neither of its
    features is as strong alone and the contract does not confirm both.
    """
    task, rows = tasks.get_task(contract), frame.head(MAX_PAIR_ROWS)
    scores = dict(zip(associations["column"], associations["univariate_score"]))
    names = [name for name in scores if name in contract.numeric_features]
    target = contract.encode_target(rows)
    limit = max(threshold, MIN_PAIR_SCORE)
    numbers = {name: rows[name].astype(float) for name in names[:MAX_PAIR_FEATURES]}
    suspected = []
    for first, second in list_candidate_pairs(numbers, scores, limit, contract):
        left, right = numbers[first], numbers[second]
        joint = (left - right, left + right, left / right.where(right != 0), left * right)
        if max(task.univariate_score(values, False, target)[0] for values in joint) >= limit:
            suspected.append((first, second))
    return suspected


def measure_shifts(frame: pd.DataFrame, contract: Contract) -> pd.DataFrame:
    """Means by period of numeric features and missing rates, the columns that shift most first.

    Returns
    -------
    DataFrame
        Columns ``column, period, mean``; ``shift``, the difference to the mean of the first period
        in standard deviations; ``is_share``, whether the mean is a share of the rows. Empty if the
        contract has no time column. A feature with missing values has a second entry,
        ``<column> (missing)``.
    """
    columns = ["column", "period", "mean", "shift", "is_share"]
    if contract.time is None:
        return pd.DataFrame(columns=columns)
    numbers = frame[contract.numeric_features]
    is_missing = numbers.isna().loc[:, numbers.isna().any()].astype(float).add_suffix(" (missing)")
    wide = pd.concat([numbers, is_missing], axis=1)
    sd = wide.std().replace(0, np.nan)
    means = wide.groupby(frame[contract.time]).mean()
    shifts = (means - means.iloc[0]) / sd
    order = shifts.abs().max().sort_values(ascending=False, kind="stable").index
    tables = {"mean": means[order], "shift": shifts[order]}
    long = [
        table.rename_axis("period").rename_axis(columns="column").unstack().rename(name)
        for name, table in tables.items()
    ]
    is_yes_or_no = {name for name in numbers if contract.columns[name].type == "boolean"}
    shares = is_yes_or_no | set(is_missing.columns)
    result = pd.concat(long, axis=1).dropna().reset_index()
    return result.assign(is_share=result["column"].isin(shares))[columns]


def find_shifted_columns(shifts: pd.DataFrame, threshold: float) -> list[str]:
    """Columns that shift by at least ``threshold`` standard deviations in any period."""
    return shifts.loc[shifts["shift"].abs() >= threshold, "column"].unique().tolist()


def summarize_profile(
    frame: pd.DataFrame,
    contract: Contract,
    associations: pd.DataFrame,
    missing_rates: pd.DataFrame,
    leaks: list[str],
    pairs: list[str],
    shifted_columns: list[str],
) -> list[str]:
    """Summarise the profile in sentences.

    ``associations`` and ``missing_rates`` are those of the features only.
    """
    task = tasks.get_task(contract)
    return [
        _describe_leaks(contract, task, associations, leaks, pairs),
        task.describe_target(frame, f"{len(frame):,} training rows"),
        _describe_missing_rates(contract, missing_rates, len(associations)),
        _describe_shifts(contract, shifted_columns, find_missing_patterns(frame, contract)),
    ]


def _describe_leaks(
    contract: Contract, task: Task, associations: pd.DataFrame, leaks: list[str], pairs: list[str]
) -> str:
    if leaks or pairs:
        suspects = [*map(contract.label, leaks), *(f"{pair} together" for pair in pairs)]
        return f"Suspected target leakage: {', '.join(suspects)}."
    strongest = associations.iloc[0]
    subject = "No single feature"
    if len(associations) > 1:
        subject += " and no pair that was tried"
    return (
        f"{subject} suggests leakage: the strongest feature, "
        f"{contract.label(strongest['column'])}, reaches {task.univariate_measure} "
        f"{strongest['univariate_score']:.2f}{_format_scored_rows(strongest)}."
    )


def _format_scored_rows(association: pd.Series) -> str:
    """Format the share of rows on which a score is computed; empty if about 100%."""
    non_missing_rate = format_share(association["non_missing_rate"])
    return f" on the {non_missing_rate} of rows with a value" if non_missing_rate != "100%" else ""


def _describe_missing_rates(
    contract: Contract, missing_rates: pd.DataFrame, n_features: int
) -> str:
    missing_rates = missing_rates[missing_rates["share"] > 0]
    if missing_rates.empty:
        return "No feature has missing values."
    names = _format_most_missing(contract, missing_rates)
    return (
        f"{len(missing_rates)} of {n_features} features "
        f"{'has' if len(missing_rates) == 1 else 'have'} missing values, most often {names}, in "
        f"{format_share(missing_rates['share'].iloc[0])} of the rows."
    )


def _format_most_missing(contract: Contract, missing_rates: pd.DataFrame) -> str:
    """List the columns with the highest missing rate, which come first."""
    is_highest = missing_rates["share"] == missing_rates["share"].iloc[0]
    return format_column_list([*map(contract.label, missing_rates.loc[is_highest, "column"])])


def _describe_shifts(
    contract: Contract, shifted_columns: list[str], patterns: list[MissingPattern]
) -> str:
    if not contract.time:
        return "The table has no time column, so shifts over time cannot be measured."
    examples = ""
    if shifted_columns:
        examples = f": {', '.join(map(contract.label, shifted_columns[:3]))}"
    if len(shifted_columns) > 3:
        examples += " and others"
    return (
        f"{format_count(len(shifted_columns), 'column shifts', 'columns shift')} over the training "
        f"periods, in mean or missing rate{examples}"
        f"{_describe_period(contract, shifted_columns, patterns)}."
    )


def _describe_period(
    contract: Contract, shifted_columns: list[str], patterns: list[MissingPattern]
) -> str:
    """Name the period that misses most of the shifted columns; empty if there is none."""
    counts = {
        pattern.period: sum(f"{name} (missing)" in shifted_columns for name in pattern.columns)
        for pattern in patterns
        if pattern.period
    }
    period = max(counts, key=lambda period: counts[period], default="")
    if not counts.get(period):
        return ""
    time = contract.label(contract.time or "")
    n_shifted = len(shifted_columns)
    subject = f"{counts[period]} of them" if counts[period] < n_shifted else "all"
    return f", {f'{subject} ' if n_shifted > 1 else ''}missing mostly in {time} {period}"


def make_key_numbers(
    frame: pd.DataFrame, contract: Contract, associations: pd.DataFrame, missing_rates: pd.DataFrame
) -> list[KeyNumber]:
    """Key numbers of the profile."""
    task = tasks.get_task(contract)
    top_feature = associations.iloc[0]
    missing_rates = missing_rates[missing_rates["share"] > 0]
    measure = task.univariate_measure
    column = contract.label(top_feature["column"])
    return [
        task.target_key_number(frame) | {"context": f"of {len(frame):,} training rows"},
        key_number(
            "strongest feature",
            top_feature["univariate_score"],
            compared_with={"chance": task.univariate_chance_level},
            context=f"{measure} of {column}{_format_scored_rows(top_feature)}",
        ),
        key_number(
            "highest missing rate",
            missing_rates["share"].iloc[0] if len(missing_rates) else 0.0,
            "share",
            context=_format_most_missing(contract, missing_rates) if len(missing_rates) else "",
        ),
    ]
