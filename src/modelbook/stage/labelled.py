"""The labelled rows that a retrain goes by: those of the env file's table, and what batches have brought besides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from modelbook import dataset
from modelbook.dataset import joined
from modelbook.stage import files

if TYPE_CHECKING:
    import pandas as pd

    from modelbook.contract import Contract


@dataclass(frozen=True)
class Labelled:
    """Rows that were checked and are conformed.

    Attributes
    ----------
    frame : DataFrame
        All of them.
    brought : DataFrame
        Those that the env file's table has not: batches have brought them, now or in an earlier retrain.
    told : list of str
        What came of each batch, a sentence each.
    """

    frame: pd.DataFrame
    brought: pd.DataFrame
    told: list[str]


def gather(root: Path, book: str, table: str, batches: Sequence[str], contract: Contract) -> Labelled:
    """Read and check the table and the batches, and join them.

    Raises
    ------
    DataError, ViolationError
        When one of them cannot be read or breaks the contract, or a batch has no outcomes or contradicts the table.
    """
    import pandas as pd

    raw = dataset.read(table, root, contract)
    contract.check(raw)
    own = contract.conform(raw)
    kept = _kept(root, book)
    brought = joined.missing(own, contract.conform(files.read(kept)), contract) if kept.is_file() else own.iloc[:0]
    told = []
    for file in batches:
        rows = joined.batch(file, root, contract)
        new = joined.join(pd.concat([own, brought]), rows, contract, file)
        brought = pd.concat([brought, new])
        there = f"; {len(rows) - len(new):,} were there already" if len(new) < len(rows) else ""
        told.append(f"{file}: {len(new):,} of {len(rows):,} rows join the table{there}.")
    return Labelled(pd.concat([own, brought], ignore_index=True), brought.reset_index(drop=True), told)


def write(root: Path, book: str, labelled: Labelled) -> str:
    """Keep the table that is joined, under its fingerprint, and what batches have brought; returns the table's path."""
    name = f"data/{book}/joined-{dataset.fingerprint(labelled.frame)[:12]}.parquet"
    if not (root / name).is_file():
        files.write(root / name, labelled.frame)
    files.write(_kept(root, book), labelled.brought)
    return name


def _kept(root: Path, book: str) -> Path:
    return root / "data" / book / "labelled.parquet"
