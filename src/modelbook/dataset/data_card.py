"""Data card: provenance of the table, its columns in use, and the subsets of its split."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from modelbook import tasks
from modelbook.dataset.splitting import split_by_period
from modelbook.formatting import KeyNumber, format_count, join_sorted_names, key_number, pluralize

if TYPE_CHECKING:
    from modelbook.contract import Contract
    from modelbook.dataset.splitting import DataSplit


def describe_origin(
    frame: pd.DataFrame, contract: Contract, table: str, fingerprint: str, version: str
) -> pd.DataFrame:
    """Provenance and size of the table; columns ``property, value``."""
    properties = {
        "question": contract.question,
        "table": table,
        "source": contract.source,
        "licence": contract.licence,
        "rows": f"{len(frame):,}",
        "entities": format_count(contract.entity_ids(frame).nunique(), contract.entity_label),
        "periods": f"{pluralize(contract.label(contract.time))} "
        + join_sorted_names(sorted(frame[contract.time].unique()))
        if contract.time
        else "none",
        "fingerprint": f"sha256 {fingerprint}",
        "data version": version,
    }
    return pd.DataFrame({"property": list(properties), "value": list(properties.values())})


def describe_columns(frame: pd.DataFrame, contract: Contract) -> pd.DataFrame:
    """Every column in use, with its allowed values and missing rate."""
    used_columns = {
        name: column for name, column in contract.columns.items() if column.role != "dropped"
    }
    return pd.DataFrame(
        {
            "column": list(used_columns),
            "role": [column.role for column in used_columns.values()],
            "allowed values": [
                column.describe_allowed_values() for column in used_columns.values()
            ],
            "missing": [frame[name].isna().mean() for name in used_columns],
            "meaning": [column.full_meaning for column in used_columns.values()],
        }
    )


def summarize_subsets(data_split: DataSplit, contract: Contract) -> pd.DataFrame:
    """Size and target of train, holdout and batches.

    Columns ``subset, rows, entities``, the task's summary of the target, and
    ``rows of entities in train``: the share of rows whose entity also has rows in train.
    """
    task = tasks.get_task(contract)
    train_entities = set(contract.entity_ids(data_split.train))
    subsets = {
        "train": data_split.train,
        "holdout": data_split.holdout,
        **{f"batch {name}": rows for name, rows in data_split.batches.items()},
    }
    return pd.DataFrame(
        [
            {
                "subset": subset,
                "rows": len(rows),
                "entities": contract.entity_ids(rows).nunique(),
                **task.summarize_outcome(contract.encode_target(rows).to_numpy()),
                "rows of entities in train": contract.entity_ids(rows).isin(train_entities).mean(),
            }
            for subset, rows in subsets.items()
        ]
    )


def choose_subset_formats(table: pd.DataFrame) -> dict[str, str]:
    """Format specs for the share columns of ``summarize_subsets``."""
    shares = ("positive_rate", "majority_share", "rows of entities in train")
    return {name: ".1%" for name in shares if name in table}


def count_rows_by_period(data_split: DataSplit, contract: Contract) -> pd.DataFrame:
    """Count rows and entities by period and use; columns ``period, rows, entities, use``."""
    development_rows = pd.concat([data_split.train, data_split.holdout])
    rows = [
        (period, len(group), contract.entity_ids(group).nunique(), use)
        for use, groups in (
            (
                "train and holdout",
                split_by_period(development_rows, contract) or {"all": development_rows},
            ),
            ("batch", data_split.batches),
        )
        for period, group in groups.items()
    ]
    return pd.DataFrame(rows, columns=["period", "rows", "entities", "use"])


def make_key_numbers(data_split: DataSplit, contract: Contract) -> list[KeyNumber]:
    """Key numbers of the data card, each with its context."""
    n_development = len(data_split.train) + len(data_split.holdout)
    n_total = n_development + len(data_split.production_rows)
    return [
        key_number(
            "rows",
            n_total,
            "count",
            context=f"{len(data_split.production_rows):,} of them in later batches",
        ),
        *(
            key_number(
                name,
                len(rows),
                "count",
                context=f"{len(rows) / n_development:.0%} of {n_development:,}",
            )
            for name, rows in (("train", data_split.train), ("holdout", data_split.holdout))
        ),
        key_number(
            "features",
            len(contract.feature_names),
            "count",
            context=f"of {len(contract.columns)} columns",
        ),
    ]
