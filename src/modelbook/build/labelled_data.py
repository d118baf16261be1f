"""Labelled rows for retraining: the env file's table, plus rows added by batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from modelbook import dataset
from modelbook.config.stages import COMBINED_PREFIX
from modelbook.dataset import labelled_batch
from modelbook.formatting import format_count
from modelbook.stage import files

if TYPE_CHECKING:
    import pandas as pd

    from modelbook.contract import Contract


@dataclass(frozen=True)
class LabelledData:
    """Labelled rows, validated and conformed to the contract.

    Attributes
    ----------
    batch_rows : DataFrame
        Rows that are not in the env file's table, added by batches now or in an earlier retrain.
    """

    frame: pd.DataFrame
    batch_rows: pd.DataFrame
    messages: list[str]


def collect_labelled_data(
    root: Path, book: str, table: str, batches: Sequence[str], contract: Contract
) -> LabelledData:
    """Read and check the table and the batches, and combine their rows.

    Raises
    ------
    DataError, ContractViolationError
        When one of them cannot be read or breaks the contract, or a batch has no outcomes or
        contradicts the table.
    """
    import pandas as pd

    raw = dataset.read_table(table, root, contract)
    contract.check(raw)
    table_rows = contract.conform(contract.select_training_rows(raw))
    batch_rows_path = _get_batch_rows_path(root, book)
    batch_rows = (
        labelled_batch.drop_rows_in_table(
            table_rows, contract.conform(files.read(batch_rows_path)), contract
        )
        if batch_rows_path.is_file()
        else table_rows.iloc[:0]
    )
    messages = []
    for file in batches:
        rows = labelled_batch.read_labelled_batch(file, root, contract)
        new_rows = labelled_batch.select_new_rows(
            pd.concat([table_rows, batch_rows]), rows, contract, file
        )
        batch_rows = pd.concat([batch_rows, new_rows])
        existing_note = (
            f"; {len(rows) - len(new_rows):,} were in it already"
            if len(new_rows) < len(rows)
            else ""
        )
        messages.append(
            f"{file}: added {len(new_rows):,} of {format_count(len(rows), 'row')} to the "
            f"combined table{existing_note}."
        )
    return LabelledData(
        pd.concat([table_rows, batch_rows], ignore_index=True),
        batch_rows.reset_index(drop=True),
        messages,
    )


def save_labelled_data(root: Path, book: str, data: LabelledData) -> str:
    """Save the combined table and the batch rows, and return the combined table's path.

    The file of the combined table is named by its fingerprint.
    """
    name = f"data/{book}/{COMBINED_PREFIX}{dataset.fingerprint(data.frame)[:12]}.parquet"
    if not (root / name).is_file():
        files.write(root / name, data.frame)
    files.write(_get_batch_rows_path(root, book), data.batch_rows)
    return name


def _get_batch_rows_path(root: Path, book: str) -> Path:
    return root / "data" / book / "labelled.parquet"
