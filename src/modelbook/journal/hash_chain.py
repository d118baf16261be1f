"""Hash chain: a hash of each journaled prediction, chained to the one that was written before it.

A caller who keeps the hash of a response can later prove that the journal holds this prediction
unaltered. A row that was altered or removed breaks the chain at a known place.
"""

from __future__ import annotations

import math
import re
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson
import sqlalchemy as sa

from modelbook.journal.schema import PREDICTIONS_TABLE

if TYPE_CHECKING:
    from modelbook.journal.database import Journal

HASH_BYTES = 10  # length of a hash, which is written as twice as many hexadecimal digits
# Columns that a hash covers, in addition to the row's place in the chain.
HASHED_COLUMNS = (
    "book", "id", "variant", "at", "version", "returned", "inputs", "prediction", "probabilities",
    "milliseconds", "bucket",
)  # fmt: skip
# An id of the service: milliseconds since 1970, and random digits. Ids of batches are digests of
# the same length, nearly all of which would be times in the future.
SERVICE_ID = re.compile(r"([0-9a-f]{12})[0-9a-f]{20}")


class ChainLink(NamedTuple):
    """Place of a row in a chain: the columns of the journal that follow ``HASHED_COLUMNS``."""

    chain: str
    position: int
    previous_hash: str
    row_hash: str


def compute_row_hash(chain: str, position: int, previous: str, values: Sequence[Any]) -> str:
    """Return the hash of a row; ``values`` are those of ``HASHED_COLUMNS``."""
    content = orjson.dumps((chain, position, previous, *values))
    return blake2b(content, digest_size=HASH_BYTES).hexdigest()


@dataclass
class HashChain:
    """Chain of the rows that one writer adds; the first row follows an empty hash."""

    chain_id: str = field(default_factory=lambda: uuid.uuid4().hex[:16])
    length: int = 0
    last_hash: str = ""

    def link_rows(self, rows: Iterable[Sequence[Any]]) -> list[tuple[Any, ...]]:
        """Return the next rows with the columns of ``ChainLink``, without adding them to the chain.

        Parameters
        ----------
        rows : iterable of sequences
            Values of ``HASHED_COLUMNS``.
        """
        linked_rows = []
        chain = self.chain_id
        previous = self.last_hash
        for position, values in enumerate(rows, self.length):
            row_hash = compute_row_hash(chain, position, previous, values)
            linked_rows.append((*values, chain, position, previous, row_hash))
            previous = row_hash
        return linked_rows

    def append(self, linked_rows: Sequence[tuple[Any, ...]]) -> None:
        """Add rows that were committed."""
        self.length += len(linked_rows)
        self.last_hash = linked_rows[-1][-1] if linked_rows else self.last_hash


@dataclass(frozen=True)
class Verification:
    """Whether the journal holds a prediction unaltered; otherwise what is wrong."""

    prediction_id: str
    problem: str = ""

    @property
    def is_verified(self) -> bool:
        return not self.problem


def verify_predictions(
    journal: Journal, row_hashes: Mapping[str, str | None]
) -> list[Verification]:
    """Verify predictions by id.

    Parameters
    ----------
    row_hashes : dict
        By prediction id, the hash of the response; None to verify the journal's own.

    Raises
    ------
    JournalError
        When the database cannot be read.
    """
    with journal.explain_errors(), journal.engine.connect() as connection:
        return [
            Verification(
                prediction_id, _find_problem(connection, journal.book, prediction_id, row_hash)
            )
            for prediction_id, row_hash in row_hashes.items()
        ]


def _find_problem(
    connection: sa.Connection, book: str, prediction_id: str, row_hash: str | None
) -> str:
    columns = PREDICTIONS_TABLE.c
    query = sa.select(PREDICTIONS_TABLE).where(
        columns.book == book, columns.id == prediction_id, columns.returned
    )
    row = connection.execute(query).mappings().first()
    if row is None:
        return f"it is not in the journal; {_describe_missing_row(connection, book, prediction_id)}"
    if row["row_hash"] is None:
        return "its row has no hash: it was written before journals had a hash chain"
    values = [row[name] for name in HASHED_COLUMNS]
    link = ChainLink(*(row[name] for name in ChainLink._fields))
    if compute_row_hash(link.chain, link.position, link.previous_hash, values) != link.row_hash:
        return "its row was altered: its content does not match its hash"
    if row_hash is not None and row_hash != link.row_hash:
        return f"its row was rewritten: the journal has the hash {link.row_hash}"
    return _find_broken_link(connection, link)


def _find_broken_link(connection: sa.Connection, link: ChainLink) -> str:
    """Compare a row with its neighbours in the chain."""
    columns = PREDICTIONS_TABLE.c
    chain = columns.chain == link.chain
    before = sa.select(sa.func.max(columns.position)).where(chain, columns.position < link.position)
    last_position = connection.execute(before).scalar()
    if link.position and last_position != link.position - 1:
        first_missing = 0 if last_position is None else last_position + 1
        return (
            f"rows {first_missing:,} to {link.position - 1:,} before it in chain {link.chain} "
            "are missing: lost, or deleted by journal.retention_days"
        )
    neighbours = sa.select(columns.position, columns.previous_hash, columns.row_hash).where(
        chain, columns.position.in_([link.position - 1, link.position + 1])
    )
    for position, previous_hash, row_hash in connection.execute(neighbours):
        if position < link.position and row_hash != link.previous_hash:
            return f"row {position:,} before it in chain {link.chain} was altered"
        if position > link.position and previous_hash != link.row_hash:
            return f"row {position:,} after it in chain {link.chain} was altered"
    return ""


def _describe_missing_row(connection: sa.Connection, book: str, prediction_id: str) -> str:
    """Return between which rows a prediction is missing, by the time in its id."""
    match = SERVICE_ID.fullmatch(prediction_id)
    at = int(match[1], 16) / 1000 if match else math.inf
    if at > time.time():
        return "its id contains no timestamp"
    times = PREDICTIONS_TABLE.c.at
    of_book = PREDICTIONS_TABLE.c.book == book
    before, after = connection.execute(
        sa.select(
            sa.select(sa.func.max(times)).where(of_book, times < at).scalar_subquery(),
            sa.select(sa.func.min(times)).where(of_book, times >= at).scalar_subquery(),
        )
    ).one()
    return (
        f"it was made at {_format_time(at)}, and the journal has no rows between "
        f"{_format_time(before)} and {_format_time(after)}"
    )


def _format_time(timestamp: float | None) -> str:
    if timestamp is None:
        return "(none)"
    try:
        return datetime.fromtimestamp(timestamp, UTC).isoformat(sep=" ", timespec="milliseconds")
    except (ValueError, OverflowError):
        return "(no time)"
