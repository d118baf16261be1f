"""The data card: where a table came from, what its columns are for, and what its split guarantees."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from modelbook import tasks
from modelbook.dataset.split import by_period

if TYPE_CHECKING:
    from modelbook.contract import Contract
    from modelbook.dataset.split import Split


def origin(frame: pd.DataFrame, contract: Contract, table: str, fingerprint: str, version: str) -> pd.DataFrame:
    """Where the table came from, and how large it is; columns ``fact, value``."""
    facts = {
        "question": contract.question,
        "table": table,
        "source": contract.source,
        "licence": contract.licence,
        "rows": f"{len(frame):,}",
        "entities": f"{contract.entities(frame).nunique():,} ({contract.who})",
        "periods": ", ".join(map(str, sorted(frame[contract.time].unique()))) if contract.time else "none",
        "fingerprint": f"sha256 {fingerprint}",
        "data version": version,
    }
    return pd.DataFrame({"fact": list(facts), "value": list(facts.values())})


def columns(frame: pd.DataFrame, contract: Contract) -> pd.DataFrame:
    """Every column that is kept, with what it may hold and how much of it is missing."""
    kept = {name: column for name, column in contract.columns.items() if column.role != "dropped"}
    return pd.DataFrame({
        "column": list(kept),
        "role": [column.role for column in kept.values()],
        "may hold": [column.rule() for column in kept.values()],
        "missing": [f"{frame[name].isna().mean():.1%}" for name in kept],
        "meaning": [column.meaning for column in kept.values()],
    })  # fmt: skip


def dropped(contract: Contract) -> pd.DataFrame:
    """Every column that no model sees, with the reason; columns ``column, meaning, reason``."""
    gone = [
        (name, column.meaning, column.reason) for name, column in contract.columns.items() if column.role == "dropped"
    ]
    return pd.DataFrame(gone, columns=["column", "meaning", "reason"])


def sides(split: Split, contract: Contract) -> pd.DataFrame:
    """Train, holdout and batches; columns ``part, rows, entities``, where the target lies, ``known``.

    ``known`` is the share of rows whose entity has rows in train.
    """
    task, trained = tasks.of(contract), set(contract.entities(split.train))
    parts = {
        "train": split.train,
        "holdout": split.holdout,
        **{f"batch {name}": rows for name, rows in split.batches.items()},
    }
    return pd.DataFrame([
        {
            "part": part, "rows": len(rows), "entities": contract.entities(rows).nunique(),
            **task.level(contract.codes(rows).to_numpy()), "known": contract.entities(rows).isin(trained).mean(),
        }
        for part, rows in parts.items()
    ])  # fmt: skip


def formats(table: pd.DataFrame) -> dict[str, str]:
    """How the shares among the columns of ``sides`` are written."""
    return {name: ".1%" for name in ("rate", "commonest", "known") if name in table}


def periods(split: Split, contract: Contract) -> pd.DataFrame:
    """Rows and entities by period and use; columns ``period, rows, entities, use``."""
    used = pd.concat([split.train, split.holdout])
    rows = [
        (period, len(group), contract.entities(group).nunique(), use)
        for use, groups in (("train and holdout", by_period(used, contract) or {"all": used}), ("batch", split.batches))
        for period, group in groups.items()
    ]
    return pd.DataFrame(rows, columns=["period", "rows", "entities", "use"])


def numbers(split: Split, contract: Contract) -> list[dict[str, str]]:
    """The key numbers of the data card, each beside what it is part of."""
    used = len(split.train) + len(split.holdout)
    total = used + len(split.later)
    return [
        {"name": "rows", "value": f"{total:,}", "beside": f"{len(split.later):,} of them in later batches"},
        {"name": "train", "value": f"{len(split.train):,}", "beside": f"{len(split.train) / used:.0%} of {used:,}"},
        {
            "name": "holdout",
            "value": f"{len(split.holdout):,}",
            "beside": f"{len(split.holdout) / used:.0%} of {used:,}",
        },
        {"name": "features", "value": f"{len(contract.features_)}", "beside": f"of {len(contract.columns)} columns"},
    ]
