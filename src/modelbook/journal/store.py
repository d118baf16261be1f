"""The tables of a journal, and what is read from them or written to them one request at a time.

Predictions are written by ``writer.Writer``; here is everything else: outcomes, windows for monitoring, retention.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

from modelbook.errors import JournalError
from modelbook.redaction import redact

TABLES = sa.MetaData()
PREDICTIONS = sa.Table(
    "predictions", TABLES,
    sa.Column("id", sa.String(64), primary_key=True, comment="as answered"),
    sa.Column("variant", sa.String(16), primary_key=True, comment="champion or challenger"),
    sa.Column("at", sa.Float, nullable=False, index=True, comment="seconds since 1970"),
    sa.Column("version", sa.Integer, nullable=False, comment="of the model"),
    sa.Column("answered", sa.Boolean, nullable=False, comment="false for one that ran in shadow"),
    sa.Column("inputs", sa.Text, nullable=False, comment="JSON; redacted columns are left out"),
    sa.Column("prediction", sa.Text, nullable=False, comment="JSON"),
    sa.Column("probabilities", sa.Text, comment="JSON; none for a regression"),
    sa.Column("milliseconds", sa.Float, nullable=False, comment="from the request's last byte to the answer"),
)  # fmt: skip
OUTCOMES = sa.Table(
    "outcomes", TABLES,
    sa.Column("id", sa.String(64), primary_key=True, comment="of the prediction"),
    sa.Column("at", sa.Float, nullable=False, index=True, comment="seconds since 1970"),
    sa.Column("outcome", sa.Text, nullable=False, comment="JSON"),
)  # fmt: skip
LOG = 16_384  # pages of the write-ahead log, 64 MB, from which it is begun anew
MOMENT = 50  # milliseconds that writers may wait for that
MANY = 400  # ids in one question: SQLite takes a bounded number of variables


def default(root: Path, book: str) -> str:
    """URL of the SQLite file that a book's journal is unless the settings name another."""
    return f"sqlite:///{root / 'data' / book / 'journal.db'}"


class Journal:
    """A journal, created where there is none.

    Parameters
    ----------
    url : str
        SQLAlchemy URL of an SQLite file or a PostgreSQL database.
    patience : float
        Seconds to wait for a lock or a connection.

    Raises
    ------
    JournalError
        When the database is of another kind, or its driver is not installed.
    """

    def __init__(self, url: str, patience: float = 1.0) -> None:
        self.url, self.patience = url, patience
        try:
            self.engine = self._engine(sa.make_url(url))
        except (sa.exc.ArgumentError, sa.exc.NoSuchModuleError, ModuleNotFoundError) as error:
            raise JournalError(
                f"journal {redact(url)!r}: {error}", expected="sqlite:///file.db or postgresql+psycopg://...",
                next="correct the setting journal.url; PostgreSQL wants the extra: pip install 'modelbook[postgres]'",
            ) from None  # fmt: skip

    def _engine(self, url: sa.URL) -> sa.Engine:
        kind = url.get_backend_name()
        if kind == "sqlite":
            if url.database:
                Path(url.database).parent.mkdir(parents=True, exist_ok=True)
            # A connection for each use: they come from several threads, and opening a file costs little.
            engine = sa.create_engine(url, connect_args={"timeout": self.patience}, poolclass=NullPool)
            sa.event.listen(engine, "connect", _prepare)
            return engine
        if kind == "postgresql":
            limit = f"-c statement_timeout={int(self.patience * 1000)}"
            wait = max(2, int(self.patience + 0.999))
            return sa.create_engine(url, pool_pre_ping=True, connect_args={"options": limit, "connect_timeout": wait})
        raise sa.exc.ArgumentError(f"no {kind}")

    def create(self) -> None:
        """Make the tables that are not there.

        Raises
        ------
        JournalError
            When the database cannot be reached.
        """
        try:
            TABLES.create_all(self.engine)
        except SQLAlchemyError as error:
            if not self._there():  # another process may have made them just now
                raise self.failed(error) from None

    def _there(self) -> bool:
        try:
            return {*TABLES.tables} <= set(sa.inspect(self.engine).get_table_names())
        except SQLAlchemyError:
            return False

    def failed(self, error: Exception) -> JournalError:
        """An error of the database, without its secrets."""
        told = str(getattr(error, "orig", None) or error).splitlines()[0]
        return JournalError(
            f"journal {redact(self.url)}: {redact(told)}", next="see that the database is up, and journal.url names it"
        )

    def insert(self) -> Any:
        """The statement that adds predictions, and passes over those that are there already."""
        dialect = sqlite if self.engine.dialect.name == "sqlite" else postgresql
        return dialect.insert(PREDICTIONS).on_conflict_do_nothing()

    def outcomes(self, given: Mapping[str, Any]) -> dict[str, int]:
        """Join what happened to predictions by their ids: all of them, or none.

        Parameters
        ----------
        given : dict
            Id to outcome.

        Returns
        -------
        dict
            ``recorded`` just now, and ``repeated``: known before, and the same.

        Raises
        ------
        UnknownPredictions
            When an id was never given, or its prediction is no longer kept.
        OtherOutcomes
            When another outcome was recorded before.
        JournalError
            When the database cannot be reached.
        """
        now, told = time.time(), {name: json.dumps(value) for name, value in given.items()}
        try:
            with self.engine.begin() as connection:
                if unknown := set(told) - set(_values(connection, PREDICTIONS.c.id, PREDICTIONS.c.id, told)):
                    raise UnknownPredictions(sorted(unknown))
                before = _values(connection, OUTCOMES.c.id, OUTCOMES.c.outcome, told)
                if other := sorted(name for name, value in before.items() if value != told[name]):
                    raise OtherOutcomes(other)
                fresh = [{"id": name, "at": now, "outcome": v} for name, v in told.items() if name not in before]
                if fresh:
                    connection.execute(OUTCOMES.insert(), fresh)
        except sa.exc.IntegrityError:  # another request was a moment faster
            return self.outcomes(given)
        except SQLAlchemyError as error:
            raise self.failed(error) from None
        return {"recorded": len(fresh), "repeated": len(before)}

    def answer(self, identity: str) -> dict[str, Any] | None:
        """What was answered to an id, as it was told; None for one that is not known.

        Raises
        ------
        JournalError
            When the database cannot be reached.
        """
        asked = sa.select(PREDICTIONS).where(PREDICTIONS.c.id == identity, PREDICTIONS.c.answered)
        try:
            with self.engine.connect() as connection:
                row = connection.execute(asked).mappings().first()
        except SQLAlchemyError as error:
            raise self.failed(error) from None
        if row is None:
            return None
        told = {"id": identity, "prediction": json.loads(row["prediction"]), "model_version": row["version"]}
        sure = {"probabilities": json.loads(row["probabilities"])} if row["probabilities"] else {}
        return {**told, "variant": row["variant"], **sure}

    def window(self, since: float, until: float | None = None, variant: str = "champion") -> list[dict[str, Any]]:
        """Predictions of a variant in a span of time, oldest first, each with its ``outcome`` or None."""
        asked = (
            sa.select(PREDICTIONS, OUTCOMES.c.outcome)
            .join(OUTCOMES, OUTCOMES.c.id == PREDICTIONS.c.id, isouter=True)
            .where(PREDICTIONS.c.at >= since, PREDICTIONS.c.variant == variant).order_by(PREDICTIONS.c.at)
        )  # fmt: skip
        asked = asked if until is None else asked.where(PREDICTIONS.c.at < until)
        try:
            with self.engine.connect() as connection:
                return [_plain(dict(row)) for row in connection.execute(asked).mappings()]
        except SQLAlchemyError as error:
            raise self.failed(error) from None

    def settle(self) -> None:
        """Move what an SQLite journal has gathered in its write-ahead log into the file, while others go on writing.

        Under a steady load there is always a little left, and the log would grow for ever. So a long one is begun
        anew, for which writers wait a moment; where somebody reads or writes right now, the next time.
        """
        if self.engine.dialect.name == "sqlite":
            try:
                with self.engine.connect() as connection:
                    settled = connection.exec_driver_sql("pragma wal_checkpoint(passive)").one()
                    if settled.log > LOG:
                        connection.exec_driver_sql(f"pragma busy_timeout={MOMENT}")
                        connection.exec_driver_sql("pragma wal_checkpoint(restart)")
            except SQLAlchemyError as error:
                raise self.failed(error) from None

    def forget(self, before: float) -> int:
        """Remove predictions older than a time, with their outcomes; returns how many predictions went."""
        old = sa.select(PREDICTIONS.c.id).where(PREDICTIONS.c.at < before)
        try:
            with self.engine.begin() as connection:
                connection.execute(OUTCOMES.delete().where(OUTCOMES.c.id.in_(old)))
                return connection.execute(PREDICTIONS.delete().where(PREDICTIONS.c.at < before)).rowcount
        except SQLAlchemyError as error:
            raise self.failed(error) from None


class UnknownPredictions(JournalError):
    """Ids that no kept prediction has."""

    def __init__(self, ids: list[str]) -> None:
        super().__init__(f"no prediction has the id {_few(ids)}", expected="ids of answers whose predictions are kept")


class OtherOutcomes(JournalError):
    """Ids whose outcome was recorded before, and was another."""

    def __init__(self, ids: list[str]) -> None:
        super().__init__(f"another outcome was recorded for {_few(ids)}", expected="an outcome once, or the same again")


def _prepare(connection: Any, _: Any) -> None:
    # With WAL a commit is in the file before it returns: a killed process loses nothing, a power failure might.
    connection.execute("pragma journal_mode=wal")
    connection.execute("pragma synchronous=normal")
    connection.execute("pragma wal_autocheckpoint=0")  # it waits for the disk, and answers wait for it: see settle


def _values(connection: sa.Connection, key: sa.Column, value: sa.Column, ids: Mapping[str, Any]) -> dict[str, Any]:
    names, found = list(ids), {}
    for start in range(0, len(names), MANY):
        rows = connection.execute(sa.select(key, value).where(key.in_(names[start : start + MANY])).distinct())
        found.update({row[0]: row[1] for row in rows})
    return found


def _plain(row: Mapping[str, Any]) -> dict[str, Any]:
    parsed = {name: json.loads(row[name]) for name in ("inputs", "prediction", "probabilities", "outcome") if row[name]}
    return {**row, **parsed}


def _few(ids: list[str]) -> str:
    return ", ".join(map(repr, ids[:5])) + (f" and {len(ids) - 5:,} more" if len(ids) > 5 else "")
