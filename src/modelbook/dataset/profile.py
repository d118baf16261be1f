"""Profile of the train rows: what one must know of a table before a model is made of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy.stats import rankdata
from statsmodels.stats.proportion import proportion_confint

if TYPE_CHECKING:
    from modelbook.contract import Contract


def balance(frame: pd.DataFrame, contract: Contract) -> pd.DataFrame:
    """Rate of the positive class by period with 95 % Wilson intervals; columns ``period, rows, rate, low, high``."""
    groups = frame.groupby(contract.time) if contract.time else [("all", frame)]
    rows = []
    for period, group in groups:
        positive, count = int(group[contract.target].sum()), len(group)
        rows.append((str(period), count, positive / count, *proportion_confint(positive, count, method="wilson")))
    return pd.DataFrame(rows, columns=["period", "rows", "rate", "low", "high"])


def missingness(frame: pd.DataFrame, contract: Contract) -> pd.DataFrame:
    """Share of gaps of each feature, most first; columns ``column, share``."""
    share = frame[contract.features_].isna().mean().sort_values(ascending=False, kind="stable")
    return pd.DataFrame({"column": share.index, "share": share.to_numpy()})


def associations(frame: pd.DataFrame, contract: Contract) -> pd.DataFrame:
    """How well each column alone tells the classes apart, strongest first; columns ``column, role, auc, direction``.

    The ROC AUC of the column's values, folded to at least 0.5; of a category, of its classes' rates. Dropped columns
    are among them, so that the reasons for dropping can be seen.
    """
    outcome = contract.outcome(frame).to_numpy()
    roles = ("feature", "sensitive", "dropped")
    rows = []
    for name, column in {**contract.columns, **contract.seen}.items():
        if column.role not in roles or column.type in ("text", "date") or name not in frame.columns:
            continue
        values = frame[name]
        if column.type == "category":
            values = values.map(frame.groupby(name)[contract.target].mean())
        auc = _auc(values, outcome)
        direction = "" if column.type == "category" else ("higher" if auc >= 0.5 else "lower")
        rows.append((name, column.role, max(auc, 1 - auc), direction))
    table = pd.DataFrame(rows, columns=["column", "role", "auc", "direction"])
    return table.sort_values("auc", ascending=False, ignore_index=True)


def suspects(table: pd.DataFrame, limit: float) -> list[str]:
    """Features that alone tell the classes apart better than ``limit``: a leak, until shown otherwise."""
    return table.loc[(table["role"] == "feature") & (table["auc"] >= limit), "column"].tolist()


def duplicates(frame: pd.DataFrame, contract: Contract) -> pd.DataFrame:
    """Rows that stand more than once, by what is compared; columns ``compared, rows``."""
    compared = {
        "the key": contract.key,
        "all features and the target": [*contract.features_, contract.target],
        "all features, with another target": contract.features_,
    }
    counts = {what: int(frame.duplicated(columns, keep=False).sum()) for what, columns in compared.items()}
    counts["all features, with another target"] -= counts["all features and the target"]
    return pd.DataFrame({"compared": list(counts), "rows": list(counts.values())})


def shifts(frame: pd.DataFrame, contract: Contract) -> pd.DataFrame:
    """Standardised mean difference of each numeric feature and of its gaps to the first period.

    Returns
    -------
    DataFrame
        Columns ``column, period, value``; empty where the contract has no time column. A feature with gaps has a
        second entry, ``<column> (missing)``.
    """
    columns = ["column", "period", "value"]
    if contract.time is None:
        return pd.DataFrame(columns=columns)
    numbers = frame[contract.numeric]
    gaps = numbers.isna().loc[:, numbers.isna().any()].astype(float).add_suffix(" (missing)")
    wide = pd.concat([numbers, gaps], axis=1)
    spread = wide.std().replace(0, np.nan)
    means = wide.groupby(frame[contract.time]).mean()
    difference = (means - means.iloc[0]) / spread
    table = difference.rename_axis("period").reset_index().melt("period", var_name="column", value_name="value")
    return table.dropna()[columns].reset_index(drop=True)


def moved(table: pd.DataFrame, limit: float) -> list[str]:
    """Columns of ``shifts`` that move by ``limit`` standard deviations or more in any period."""
    return table.loc[table["value"].abs() >= limit, "column"].unique().tolist()


def sentences(
    frame: pd.DataFrame,
    contract: Contract,
    table: pd.DataFrame,
    gaps: pd.DataFrame,
    leaks: list[str],
    shifted: list[str],
) -> list[str]:
    """What was found, in words; ``table`` holds the features' associations, ``gaps`` their missingness."""
    first, gaps = table.iloc[0], gaps[gaps["share"] > 0]
    strongest = f"{contract.label(first['column'])}, reaches ROC AUC {first['auc']:.2f}"
    leak = f"No feature alone is suspicious: the strongest, {strongest}."
    if leaks:
        leak = f"Suspected of leaking the answer: {', '.join(map(contract.label, leaks))}."
    gap = "No feature has gaps."
    if len(gaps):
        most = f"{contract.label(gaps['column'][0])} with {gaps['share'][0]:.0%}"
        gap = f"{len(gaps)} of {len(table)} features have gaps, most of them {most}."
    named = (
        f": {', '.join(map(contract.label, shifted[:3]))}" + (" and others" if len(shifted) > 3 else "")
        if shifted
        else ""
    )
    return [
        f"The answer is yes for {frame[contract.target].mean():.1%} of {len(frame):,} train rows.",
        leak,
        gap,
        f"{len(shifted)} columns or their gaps shift over the train periods{named}.",
    ]


def numbers(frame: pd.DataFrame, contract: Contract, table: pd.DataFrame, gaps: pd.DataFrame) -> list[dict[str, str]]:
    """The key numbers of the exploration."""
    first, gaps = table.iloc[0], gaps[gaps["share"] > 0]
    most = f"{gaps['share'][0]:.0%}" if len(gaps) else "0%"
    return [
        {
            "name": "rate of yes",
            "value": f"{frame[contract.target].mean():.1%}",
            "beside": f"of {len(frame):,} train rows",
        },
        {
            "name": "strongest feature",
            "value": f"{first['auc']:.2f}",
            "beside": f"ROC AUC of {contract.label(first['column'])}; a coin has 0.50",
        },
        {"name": "most gaps", "value": most, "beside": contract.label(gaps["column"][0]) if len(gaps) else ""},
    ]


def _auc(values: pd.Series, outcome: np.ndarray) -> float:
    """ROC AUC of the values that are there, by ranks; gaps are left out. 0.5 where a class has no values."""
    known = values.notna().to_numpy()
    positive = int(outcome[known].sum())
    negative = int(known.sum()) - positive
    if not positive or not negative:
        return 0.5
    ranks = rankdata(values[known])
    return float((ranks[outcome[known] == 1].sum() - positive * (positive + 1) / 2) / (positive * negative))
