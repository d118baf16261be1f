"""What a table of a report says: one plain sentence for each, computed from the table itself.

Each function is given the table that is shown, and named after it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelbook.contract.counts import count_values

if TYPE_CHECKING:
    import pandas as pd


def origin(table: pd.DataFrame) -> str:
    """Columns ``fact, value``."""
    fact = dict(zip(table["fact"], table["value"], strict=True))
    when = "" if fact["periods"] == "none" else f", in the periods {fact['periods']}"
    return f"There are {fact['rows']} rows of {fact['entities']}{when}."


def columns(table: pd.DataFrame) -> str:
    """Columns ``role, missing``, the latter as text."""
    features, gaps = int((table["role"] == "feature").sum()), int((~table["missing"].isin(["0.0%", "nan%"])).sum())
    return f"{_many(features, 'column is a feature', 'columns are features')}; {gaps} of all {len(table)} have gaps."


def dropped(table: pd.DataFrame) -> str:
    """Column ``reason``."""
    if table.empty:
        return "No column is dropped."
    reasons = count_values(table["reason"])
    often = f"; most often ({reasons.iloc[0]}) because: {reasons.index[0]}" if len(table) > 1 else ""
    return f"{_many(len(table), 'column is', 'columns are')} dropped{often}."


def sides(table: pd.DataFrame) -> str:
    """Columns ``part, rows, known``."""
    rows, known = (dict(zip(table["part"], table[name], strict=True)) for name in ("rows", "known"))
    later = sum(rows.values()) - rows["train"] - rows["holdout"]
    share = known["holdout"]
    seen = f"{share:.1%} of them of entities that have" if share else "none of them of an entity that has"
    more = f"; {later:,} arrive later" if later else ""
    return f"{rows['train']:,} rows train, {rows['holdout']:,} test, {seen} rows in train{more}."


def leaks(table: pd.DataFrame) -> str:
    """Columns ``column, role, strength``, strongest first."""
    if table.empty:
        return "Every column but the target is a feature."
    top = table.iloc[0]
    return f"The strongest column that no model sees is {top['column']} ({top['role']}), with {top['strength']:.2f}."


def duplicates(table: pd.DataFrame) -> str:
    """Columns ``compared, rows``."""
    told = [
        f"{rows:,} rows agree in {what}" for what, rows in zip(table["compared"], table["rows"], strict=True) if rows
    ]
    return f"{'; '.join(told)}." if told else "No row stands twice."


def folds(table: pd.DataFrame) -> str:
    """Columns ``fold, rows``."""
    low, high = table["rows"].min(), table["rows"].max()
    size = f"{low:,} rows each" if low == high else f"{low:,} to {high:,} rows"
    return f"{len(table)} folds of {size}."


def behind(table: pd.DataFrame) -> str:
    """Columns ``candidate, told apart``, nearest first."""
    if table.empty:
        return "Nobody is behind: one candidate has a score."
    near = table.loc[table["told apart"] == "no", "candidate"].tolist()
    if not near:
        return (
            f"The lead is more than noise: {table['candidate'].iloc[0]}, the next, is further behind than the spread."
        )
    return f"The lead may be noise; within the leader's spread: {_listed(near)}."


def failed(table: pd.DataFrame) -> str:
    """Columns ``candidate, status``."""
    if table.empty:
        return "Every family was judged."
    return f"{_many(len(table), 'family has', 'families have')} no score: {_listed(table['candidate'].tolist())}."


def holdout(table: pd.DataFrame) -> str:
    """Columns ``metric, value, low, high, baseline``, the headline first, numbers as they are."""
    from modelbook.tasks.names import told

    first = table.iloc[0]
    span = f"{told(first['low'])} to {told(first['high'])}"
    return f"{first['metric']} is {told(first['value'])} ({span}); the baseline has {told(first['baseline'])}."


def versions(table: pd.DataFrame) -> str:
    """Columns ``fact, candidate`` and, where there is one, ``champion``."""
    fact = table.set_index("fact")
    new = f"Version {fact.loc['version', 'candidate']} ({fact.loc['model', 'candidate']})"
    if "champion" not in fact:
        return f"{new} is the first to stand here: there is no champion."
    return f"{new} stands against version {fact.loc['version', 'champion']} ({fact.loc['model', 'champion']})."


def criteria(table: pd.DataFrame) -> str:
    """Columns ``criterion, passed``."""
    missed = table.loc[table["passed"] == "no", "criterion"].tolist()
    unknown = int((table["passed"] == "not judged").sum())
    more = f"; {unknown} could not be judged" if unknown else ""
    if not missed:
        return f"{'None of' if unknown else 'All'} {len(table)} criteria {'fails' if unknown else 'pass'}{more}."
    return f"Of {len(table)} criteria, {len(missed)} did not pass: {_listed(missed)}{more}."


def outcome(table: pd.DataFrame) -> str:
    """Columns ``fact, value``."""
    champion, moved, golden, served = table["value"]
    if champion == "none":
        return "The alias names no version; nothing is in service."
    how = "has just moved to" if moved == "yes" else "still names"
    came = f"which gave all {golden} golden rows back exactly"
    return f"The alias {how} {champion}, {came}; requests are answered by {served}."


def quality(table: pd.DataFrame) -> str:
    """Columns ``batch, rows, violations``."""
    if table.empty:
        return "There is no batch to judge."
    broken = table[table["violations"] > 0]
    whole = f"{_many(len(table), 'batch', 'batches')} with {table['rows'].sum():,} rows"
    if broken.empty:
        return f"{whole}: all keep the contract."
    return f"{whole}; the contract is broken in {_listed([f'batch {name}' for name in broken['batch']])}."


def gaps(table: pd.DataFrame) -> str:
    """Columns ``batch, column, missing then, missing now``."""
    if table.empty:
        return "No column has drifted."
    change = (table["missing now"] - table["missing then"]).abs()
    top = table.loc[change.idxmax()]
    if change.max() < 0.005:
        return "The drifted columns lack as many values as before."
    share = f"from {top['missing then']:.0%} to {top['missing now']:.0%}"
    return f"The share of gaps moved most in {top['column']} of batch {top['batch']}: {share}."


def expected(table: pd.DataFrame) -> str:
    """Columns ``batch, expected, came, off``."""
    if table.empty:
        return "Nothing can be told before outcomes are in: a number's answers do not say how far off they are."
    last, known = table.iloc[-1], table["off"].dropna()
    said = f"Of batch {last['batch']} ROC AUC {last['expected']:.3f} is to be expected"
    if known.empty:
        return f"{said}; no batch's outcomes are in to tell how good such estimates are."
    whole = _many(len(known), "batch", "batches")
    return f"{said}; over {whole} with outcomes, estimates were off by {known.abs().mean():.3f}."


def _many(count: int, one: str, more: str) -> str:
    return f"{count:,} {one if count == 1 else more}"


def _listed(names: list[str], most: int = 3) -> str:
    return ", ".join(map(str, names[:most])) + (f" and {len(names) - most} others" if len(names) > most else "")
