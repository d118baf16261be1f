"""Profile of the train rows: what one must know of a table before a model is made of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from modelbook import tasks

if TYPE_CHECKING:
    from modelbook.contract import Contract


def missingness(frame: pd.DataFrame, contract: Contract) -> pd.DataFrame:
    """Share of gaps of each feature, most first; columns ``column, share``."""
    share = frame[contract.features_].isna().mean().sort_values(ascending=False, kind="stable")
    return pd.DataFrame({"column": share.index, "share": share.to_numpy()})


def associations(frame: pd.DataFrame, contract: Contract) -> pd.DataFrame:
    """How much each column alone tells of the target, strongest first; columns ``column, role, strength, direction``.

    The task says in which measure (``Task.alone``); of a category, by its values' mean targets. Dropped columns are
    among them, so that the reasons for dropping can be seen.
    """
    task, outcome = tasks.of(contract), contract.outcome(frame)
    roles = ("feature", "sensitive", "dropped")
    rows = []
    for name, column in {**contract.columns, **contract.seen}.items():
        if column.role in roles and column.type not in ("text", "date") and name in frame.columns:
            rows.append((name, column.role, *task.strength(frame[name], column.type == "category", outcome)))
    table = pd.DataFrame(rows, columns=["column", "role", "strength", "direction"])
    return table.sort_values("strength", ascending=False, kind="stable", ignore_index=True)


def suspects(table: pd.DataFrame, limit: float) -> list[str]:
    """Features that alone tell the target better than ``limit``: a leak, until shown otherwise."""
    return table.loc[(table["role"] == "feature") & (table["strength"] >= limit), "column"].tolist()


def duplicates(frame: pd.DataFrame, contract: Contract) -> pd.DataFrame:
    """Rows that stand more than once, by what is compared; columns ``compared, rows``."""
    compared = {
        **({"the key": contract.key} if contract.key else {}),
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
    task, first, gaps = tasks.of(contract), table.iloc[0], gaps[gaps["share"] > 0]
    strongest = f"{contract.label(first['column'])}, reaches {task.alone} {first['strength']:.2f}"
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
        f"{task.told_target(frame)} {len(frame):,} train rows.",
        leak,
        gap,
        f"{len(shifted)} columns or their gaps shift over the train periods{named}."
        if contract.time else "The table has no time column, so no shift over periods can be seen.",
    ]  # fmt: skip


def numbers(frame: pd.DataFrame, contract: Contract, table: pd.DataFrame, gaps: pd.DataFrame) -> list[dict[str, str]]:
    """The key numbers of the exploration."""
    task, first, gaps = tasks.of(contract), table.iloc[0], gaps[gaps["share"] > 0]
    most = f"{gaps['share'][0]:.0%}" if len(gaps) else "0%"
    return [
        task.number(frame) | {"beside": f"of {len(frame):,} train rows"},
        {
            "name": "strongest feature",
            "value": f"{first['strength']:.2f}",
            "beside": f"{task.alone} of {contract.label(first['column'])}; chance has {task.chance:.2f}",
        },
        {"name": "most gaps", "value": most, "beside": contract.label(gaps["column"][0]) if len(gaps) else ""},
    ]
