"""Tables in databases: a URL as SQLAlchemy reads it, and behind ``#`` a query or a table's name."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelbook.errors import DataError
from modelbook.redaction import MASK, redact

if TYPE_CHECKING:
    import pandas as pd

    from modelbook.contract.layout import Layout

URL = re.compile(r"(sqlite|postgresql|mysql|mariadb|mssql|oracle|duckdb|snowflake|bigquery|redshift)(\+\w+)?://")
EXTRAS = {"psycopg": "postgres"}  # the extra that brings a driver
SHAPE = "URL#SELECT ... or URL#table, such as sqlite:///data/shop.db#orders"


class Database:
    """A query to a database, which is read only."""

    def __init__(self, table: str, root: Path) -> None:
        from sqlalchemy.engine import make_url
        from sqlalchemy.exc import ArgumentError

        from modelbook.dataset.source import expanded

        address, _, query = table.partition("#")
        self._shown, self._query = redact(address), query.strip().rstrip(";")
        try:
            url = make_url(address)
        except ArgumentError:
            raise DataError(f"{self._shown} is no URL of a database", expected=SHAPE, next="correct it") from None
        given: dict[str, Any] = {key: expanded(value, table) for key in ("username", "password", "host", "database")
                 if (value := getattr(url, key))}  # fmt: skip
        if url.drivername == "postgresql":  # SQLAlchemy would look for psycopg 2
            given["drivername"] = "postgresql+psycopg"
        self._url, self._secret = url.set(**given), given.get("password", "")
        self._file = self._sqlite(root)
        if not re.match(r"(select|with|values|table)\b", self._query, re.I) and not re.fullmatch(
            r"\w+(\.\w+)?", self._query
        ):
            raise DataError(
                f"{self._shown} comes with {f'{self._query[:60]!r}, which is no query' if query else 'no query'}",
                expected=SHAPE, next="write one behind # (modelbook new: --query)",
            )  # fmt: skip

    def state(self) -> str:
        """The digest of a SQLite file; other databases do not tell that they have changed."""
        if not self._file:
            return hashlib.sha256(f"{self._shown} {self._query}".encode()).hexdigest()
        with self._file.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() + self._query

    def read(self, layout: Layout, missing: list[str], names: list[str] | None) -> pd.DataFrame:
        import pandas as pd
        from sqlalchemy import create_engine
        from sqlalchemy.exc import DBAPIError, NoSuchModuleError, SQLAlchemyError

        try:
            engine = create_engine(self._url, connect_args=self._limits(), execution_options=self._options())
        except (ImportError, NoSuchModuleError) as error:
            driver = self._url.get_driver_name() if isinstance(error, ImportError) else ""
            mend = (
                f"make extras (it installs modelbook[{EXTRAS[driver]}])" if driver in EXTRAS else "install its driver"
            )
            raise DataError(f"{self._shown} needs a driver that is not installed: {error}", next=mend) from None
        try:
            with engine.connect() as connection:
                return pd.read_sql_query(self._asked(engine), connection)
        except (DBAPIError, SQLAlchemyError, pd.errors.DatabaseError) as error:
            raise self._told(error) from None
        finally:
            engine.dispose()

    def _asked(self, engine: Any) -> str:
        if not re.fullmatch(r"\w+(\.\w+)?", self._query):
            return self._query
        quoted = (engine.dialect.identifier_preparer.quote(part) for part in self._query.split("."))
        return f"SELECT * FROM {'.'.join(quoted)}"

    def _limits(self) -> dict[str, Any]:
        return {"connect_timeout": 20} if self._url.get_backend_name() == "postgresql" else {}

    def _options(self) -> dict[str, Any]:
        # no_parameters: a percent sign in a query is a percent sign.
        only_read = {"postgresql_readonly": True} if self._url.get_backend_name() == "postgresql" else {}
        return {"no_parameters": True, **only_read}

    def _sqlite(self, root: Path) -> Path | None:
        if self._url.get_backend_name() != "sqlite":
            return None
        path = root / (self._url.database or "")
        if not path.is_file():  # SQLite would make an empty one
            raise DataError(f"there is no file {path}", expected=SHAPE, next="check the path in the URL")
        self._url = self._url.set(database=f"file:{path}", query={"mode": "ro", "uri": "true"})
        return path

    def _told(self, error: Exception) -> DataError:
        said = str(getattr(error, "orig", None) or error)
        if self._secret:
            said = said.replace(self._secret, MASK)
        said = " ".join(redact(said).split())[:300]
        return DataError(
            f"{self._shown} does not answer the query: {said}",
            expected="a server that can be reached, a user who may read, and a query that it understands",
            next="check host, user and query; the password comes from the environment: user:${PGPASSWORD}@host",
        )
