"""Summary sentences of report tables, computed from the tables.

Each function is named after a table and takes the table that is shown.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelbook.contract.counts import count_values

if TYPE_CHECKING:
    import pandas as pd


def origin(table: pd.DataFrame) -> str:
    """Columns ``fact, value``."""
    facts = dict(zip(table["fact"], table["value"], strict=True))
    period_text = "" if facts["periods"] == "none" else f", in the periods {facts['periods']}"
    return f"There are {facts['rows']} rows of {facts['entities']}{period_text}."


def columns(table: pd.DataFrame) -> str:
    """Columns ``role, missing``, the latter as text."""
    n_features, n_incomplete = (
        int((table["role"] == "feature").sum()),
        int((~table["missing"].isin(["0.0%", "nan%"])).sum()),
    )
    return (
        f"{_count_noun(n_features, 'column is a feature', 'columns are features')}; "
        f"{n_incomplete} of all {len(table)} have missing values."
    )


def dropped_columns(table: pd.DataFrame) -> str:
    """Column ``reason``."""
    if table.empty:
        return "No column is dropped."
    reasons = count_values(table["reason"])
    most_frequent = (
        f"; most frequent reason ({reasons.iloc[0]}): {reasons.index[0]}" if len(table) > 1 else ""
    )
    return f"{_count_noun(len(table), 'column is', 'columns are')} dropped{most_frequent}."


def open_questions(table: pd.DataFrame) -> str:
    """Column ``about``."""
    if table.empty:
        return "No decision is open."
    return f"{_count_noun(len(table), 'decision is', 'decisions are')} open."


def split_sizes(table: pd.DataFrame) -> str:
    """Columns ``part, rows, known``."""
    rows, known_shares = (
        dict(zip(table["part"], table[name], strict=True)) for name in ("rows", "known")
    )
    n_later = sum(rows.values()) - rows["train"] - rows["holdout"]
    known_share = known_shares["holdout"]
    known_text = (
        f"{known_share:.1%} of them of entities that have"
        if known_share
        else "none of them of an entity that has"
    )
    later_text = f"; {n_later:,} are production rows" if n_later else ""
    return (
        f"{rows['train']:,} train rows, {rows['holdout']:,} holdout rows, {known_text} rows in "
        f"train{later_text}."
    )


def holdout_copies(table: pd.DataFrame) -> str:
    """Columns ``measure, share of holdout rows``, the share of copies beyond chance last."""
    return f"{table.iloc[-1, 1]:.1%} of the holdout rows repeat a train row beyond chance."


def groupings(table: pd.DataFrame) -> str:
    """Columns ``column, loss, is_suspect``."""
    n_suspect = int(table["is_suspect"].sum())
    largest = f"; the largest loss is {table['loss'].max():.3f}" if len(table) else ""
    return (
        f"{_count_noun(len(table), 'grouping was', 'groupings were')} tried, {n_suspect} of them "
        f"lose quality beyond chance when kept apart{largest}."
    )


def non_feature_columns(table: pd.DataFrame) -> str:
    """Columns ``column, role, strength``, highest strength first."""
    if table.empty:
        return "Every column but the target is a feature."
    top = table.iloc[0]
    return (
        f"The strongest column that is not a feature is {top['column']} ({top['role']}), with "
        f"{top['strength']:.2f}."
    )


def duplicates(table: pd.DataFrame) -> str:
    """Columns ``compared, rows``."""
    texts = [
        f"{rows:,} rows agree in {compared}"
        for compared, rows in zip(table["compared"], table["rows"], strict=True)
        if rows
    ]
    return f"{'; '.join(texts)}." if texts else "There are no duplicate rows."


def folds(table: pd.DataFrame) -> str:
    """Columns ``fold, rows``."""
    low, high = table["rows"].min(), table["rows"].max()
    size = f"{low:,} rows each" if low == high else f"{low:,} to {high:,} rows"
    return f"{len(table)} folds of {size}."


def leader_differences(table: pd.DataFrame) -> str:
    """Columns ``candidate, distinguishable``, nearest first."""
    if table.empty:
        return "Only one model was scored."
    close_candidates = table.loc[table["distinguishable"] == "no", "candidate"].tolist()
    if not close_candidates:
        return (
            "The leader is ahead of every other model by more than noise; next is "
            f"{table['candidate'].iloc[0]}."
        )
    return f"Not distinguishable from the leader: {_join_names(close_candidates)}."


def failed_candidates(table: pd.DataFrame) -> str:
    """Columns ``candidate, status``."""
    if table.empty:
        return "Every family was scored."
    return (
        f"{_count_noun(len(table), 'family has', 'families have')} no score: "
        f"{_join_names(table['candidate'].tolist())}."
    )


def holdout_metrics(table: pd.DataFrame) -> str:
    """Columns ``metric, value, low, high, baseline``, headline metric first, unformatted."""
    from modelbook.tasks.metric_format import format_metric

    headline = table.iloc[0]
    interval = f"{format_metric(headline['low'])} to {format_metric(headline['high'])}"
    return (
        f"{headline['metric']} is {format_metric(headline['value'])} (95% CI {interval}); "
        f"baseline: {format_metric(headline['baseline'])}."
    )


def versions(table: pd.DataFrame) -> str:
    """Columns ``fact, candidate`` and, if there is a champion, ``champion``."""
    facts = table.set_index("fact")
    candidate_text = (
        f"Version {facts.loc['version', 'candidate']} ({facts.loc['model', 'candidate']})"
    )
    if "champion" not in facts:
        return f"{candidate_text} has no champion to be compared with."
    return (
        f"{candidate_text} is compared with the champion, version "
        f"{facts.loc['version', 'champion']} ({facts.loc['model', 'champion']})."
    )


def criteria(table: pd.DataFrame) -> str:
    """Columns ``criterion, passed``."""
    failed = table.loc[table["passed"] == "no", "criterion"].tolist()
    n_unknown = int((table["passed"] == "not evaluated").sum())
    unknown_text = f"; {n_unknown} could not be evaluated" if n_unknown else ""
    if not failed:
        return (
            f"{'None of' if n_unknown else 'All'} {len(table)} criteria "
            f"{'fails' if n_unknown else 'pass'}{unknown_text}."
        )
    return (
        f"Of {len(table)} criteria, {len(failed)} did not pass: "
        f"{_join_names(failed)}{unknown_text}."
    )


def champion_alias(table: pd.DataFrame) -> str:
    """Columns ``fact, value``."""
    champion, moved, golden, served = table["value"]
    if champion == "none":
        return "The alias champion names no version; no model is in service."
    alias_text = "has just moved to" if moved == "yes" else "still names"
    golden_text = f"which reproduced all {golden} golden rows exactly"
    return f"The alias {alias_text} {champion}, {golden_text}; requests are scored by {served}."


def batch_quality(table: pd.DataFrame) -> str:
    """Columns ``batch, rows, violations``."""
    if table.empty:
        return "There is no batch to evaluate."
    invalid_batches = table[table["violations"] > 0]
    batches_text = (
        f"{_count_noun(len(table), 'batch', 'batches')} with {table['rows'].sum():,} rows"
    )
    if invalid_batches.empty:
        return f"{batches_text}: all meet the contract."
    return (
        f"{batches_text}; contract violations in "
        f"{_join_names([f'batch {name}' for name in invalid_batches['batch']])}."
    )


def missing_rate_changes(table: pd.DataFrame) -> str:
    """Columns ``batch, column, missing then, missing now``."""
    if table.empty:
        return "No column has drifted."
    change = (table["missing now"] - table["missing then"]).abs()
    top = table.loc[change.idxmax()]
    if change.max() < 0.005:
        return "The missing rates of the drifted columns are unchanged."
    range_text = f"from {top['missing then']:.0%} to {top['missing now']:.0%}"
    return (
        f"The missing rate changed most in {top['column']} of batch {top['batch']}: {range_text}."
    )


def expected_performance(table: pd.DataFrame) -> str:
    """Columns ``batch, expected, came, off``."""
    if table.empty:
        return (
            "No estimate before outcomes arrive: it requires batches with predicted probabilities."
        )
    last_batch, errors = table.iloc[-1], table["off"].dropna()
    estimate_text = f"Batch {last_batch['batch']}: expected ROC AUC {last_batch['expected']:.3f}"
    if errors.empty:
        return f"{estimate_text}; no outcomes have arrived to check such estimates."
    count_text = _count_noun(len(errors), "batch", "batches")
    return (
        f"{estimate_text}; over {count_text} with outcomes, the mean absolute error of such "
        f"estimates is {errors.abs().mean():.3f}."
    )


def _count_noun(count: int, singular: str, plural: str) -> str:
    return f"{count:,} {singular if count == 1 else plural}"


def _join_names(names: list[str], max_names: int = 3) -> str:
    return ", ".join(map(str, names[:max_names])) + (
        f" and {len(names) - max_names} others" if len(names) > max_names else ""
    )
