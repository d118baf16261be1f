"""Journal the predictions of a scored batch like those of the service, for monitor and outcomes."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson
import pandas as pd
import pyarrow as pa

from modelbook.errors import JournalError
from modelbook.journal import Journal, JournalWriter, PredictionRecord
from modelbook.scoring.batch import name_new_column
from modelbook.serving.served_models import ServedModel

if TYPE_CHECKING:
    from modelbook.scoring.batch import ChunkResult

ID_COLUMN = "prediction_id"
RECORDS_PER_WRITE = 1000
ID_BYTES = 16


class BatchJournal:
    """Journals chunks, and adds the predictions' ids to their rows.

    An id is the digest of the output's path or URI, the row's position, the version and the inputs:
    a batch that is repeated after an interruption is journaled once.
    """

    def __init__(
        self, journal: Journal, model: ServedModel, variant: str, redacted_columns: list[str]
    ) -> None:
        self._journal = journal
        self._model = model
        self._variant = variant
        self._redacted_features = model.list_features(redacted_columns)
        self._loop = asyncio.new_event_loop()
        self._write_errors: list[str] = []
        self._writer = JournalWriter(journal, self._write_errors.append)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Write until the end of the block."""
        self._loop.run_until_complete(self._start())
        try:
            yield
        finally:
            self._loop.run_until_complete(self._writer.stop())
            self._loop.close()

    async def _start(self) -> None:
        self._writer.start()

    def record(self, output: str, chunk: ChunkResult, rows_before: int) -> pa.Table:
        """Journal a chunk's predictions; return its rows with their ids.

        Parameters
        ----------
        output : str
            Path or URI of the file that the chunk is written to.
        rows_before : int
            Rows of earlier chunks of the same file.

        Raises
        ------
        JournalError
            When the journal cannot be written.
        """
        records = self._make_records(output, chunk, rows_before)
        for start in range(0, len(records), RECORDS_PER_WRITE):
            group = records[start : start + RECORDS_PER_WRITE]
            if self._loop.run_until_complete(self._writer.write(group)) is None:
                reason = "; ".join(self._write_errors) or "it did not write in time"
                raise JournalError(
                    f"the journal {self._journal.safe_url}: {reason}",
                    expected="a journal that can be written",
                    next="repair it, and score again: what was journaled is not journaled twice",
                )
        ids = pa.array([record.id for record in records], pa.string())
        return chunk.scored.append_column(name_new_column(ID_COLUMN, chunk.scored), ids)

    def _make_records(
        self, output: str, chunk: ChunkResult, rows_before: int
    ) -> list[PredictionRecord]:
        rule = self._model.scorer.decision_rule
        now = time.time()
        names = [name for name in chunk.features if name not in self._redacted_features]
        columns = [_to_python(chunk.features[name]) for name in names]
        predictions = np.asarray(rule.predict(chunk.scores)).tolist()
        records = []
        for index, position in enumerate(chunk.positions.tolist()):
            inputs = orjson.dumps({n: column[index] for n, column in zip(names, columns)}).decode()
            identity = f"{output}|{rows_before + position}|{self._model.number}|{inputs}"
            probabilities = (
                self._model.label_probabilities(chunk.scores[index].tolist())
                if rule.classes
                else None
            )
            records.append(
                PredictionRecord(
                    hashlib.blake2b(identity.encode(), digest_size=ID_BYTES).hexdigest(),
                    self._variant,
                    now,
                    self._model.number,
                    True,
                    inputs,
                    orjson.dumps(predictions[index]).decode(),
                    None if probabilities is None else orjson.dumps(probabilities).decode(),
                    0.0,
                )
            )
        return records


def _to_python(values: np.ndarray) -> list[Any]:
    """Return values as JSON has them: None for a missing one."""
    return [None if missing else value for value, missing in zip(values.tolist(), pd.isna(values))]
