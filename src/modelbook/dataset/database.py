"""Tables in databases: an SQLAlchemy URL followed by ``#`` and a query or a table name."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelbook.errors import DataError
from modelbook.redaction import MASK, redact

if TYPE_CHECKING:
    import pandas as pd

    from modelbook.contract.file_layout import FileLayout

DATABASE_URL = re.compile(
    r"(sqlite|postgresql|mysql|mariadb|mssql|oracle|duckdb|snowflake|bigquery|redshift)(\+\w+)?://"
)
DRIVER_EXTRAS = {"psycopg": "postgres"}  # the extra that installs a driver
EXPECTED_FORMAT = "URL#SELECT ... or URL#table, such as sqlite:///data/shop.db#orders"


class DatabaseSource:
    """A read-only query to a database."""

    def __init__(self, table: str, root: Path) -> None:
        from sqlalchemy.engine import make_url
        from sqlalchemy.exc import ArgumentError

        from modelbook.dataset.source import expand_environment

        url_text, _, query = table.partition("#")
        self._redacted_url = redact(url_text)
        self._query = query.strip().rstrip(";")
        try:
            url = make_url(url_text)
        except ArgumentError:
            raise DataError(
                f"{self._redacted_url} is not a valid database URL",
                expected=EXPECTED_FORMAT,
                next="correct it",
            ) from None
        url_fields: dict[str, Any] = {
            key: expand_environment(value, table)
            for key in ("username", "password", "host", "database")
            if (value := getattr(url, key))
        }
        if url.drivername == "postgresql":  # SQLAlchemy defaults to psycopg 2
            url_fields["drivername"] = "postgresql+psycopg"
        self._url = url.set(**url_fields)
        self._password = url_fields.get("password", "")
        self._sqlite_file = self._resolve_sqlite_file(root)
        if not re.match(r"(select|with|values|table)\b", self._query, re.I) and not re.fullmatch(
            r"\w+(\.\w+)?", self._query
        ):
            raise DataError(
                f"{self._redacted_url} has "
                f"{f'{self._query[:60]!r}, which is not a query' if query else 'no query'}",
                expected=EXPECTED_FORMAT,
                next="append one after # (modelbook new: --query)",
            )

    def compute_source_digest(self) -> str:
        """SHA-256 of a SQLite file, followed by the query.

        Of other databases it is that of URL and query: changes of their data are not noticed.
        """
        if not self._sqlite_file:
            return hashlib.sha256(f"{self._redacted_url} {self._query}".encode()).hexdigest()
        with self._sqlite_file.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() + self._query

    def read(
        self, layout: FileLayout, column_names: list[str] | None
    ) -> tuple[pd.DataFrame, FileLayout]:
        import pandas as pd
        from sqlalchemy import create_engine
        from sqlalchemy.exc import DBAPIError, NoSuchModuleError, SQLAlchemyError

        try:
            engine = create_engine(self._url, **self._make_engine_options())
        except (ImportError, NoSuchModuleError) as error:
            driver = self._url.get_driver_name() if isinstance(error, ImportError) else ""
            install_hint = (
                f"make extras (it installs modelbook[{DRIVER_EXTRAS[driver]}])"
                if driver in DRIVER_EXTRAS
                else "install its driver"
            )
            raise DataError(
                f"{self._redacted_url} needs a driver that is not installed: {error}",
                next=install_hint,
            ) from None
        try:
            with engine.connect() as connection:
                return pd.read_sql_query(self._select_statement(engine), connection), layout
        except (DBAPIError, SQLAlchemyError, pd.errors.DatabaseError) as error:
            raise self._to_data_error(error) from None
        finally:
            engine.dispose()

    def _select_statement(self, engine: Any) -> str:
        if not re.fullmatch(r"\w+(\.\w+)?", self._query):
            return self._query
        quoted_names = (
            engine.dialect.identifier_preparer.quote(name) for name in self._query.split(".")
        )
        return f"SELECT * FROM {'.'.join(quoted_names)}"

    def _make_engine_options(self) -> dict[str, Any]:
        options: dict[str, Any] = {"no_parameters": True}  # a percent sign in a query is literal
        if self._url.get_backend_name() != "postgresql":
            return {"execution_options": options}
        return {
            "execution_options": options | {"postgresql_readonly": True},
            "connect_args": {"connect_timeout": 20},
        }

    def _resolve_sqlite_file(self, root: Path) -> Path | None:
        if self._url.get_backend_name() != "sqlite":
            return None
        path = root / (self._url.database or "")
        if not path.is_file():  # a clearer error than SQLite's
            raise DataError(
                f"there is no file {path}",
                expected=EXPECTED_FORMAT,
                next="check the path in the URL",
            )
        self._url = self._url.set(database=f"file:{path}", query={"mode": "ro", "uri": "true"})
        return path

    def _to_data_error(self, error: Exception) -> DataError:
        message = str(getattr(error, "orig", None) or error)
        if self._password:
            message = message.replace(self._password, MASK)
        message = " ".join(redact(message).split())[:300]
        return DataError(
            f"the query to {self._redacted_url} failed: {message}",
            expected="a reachable server, a user with read access, and a valid query",
            next="check host, user and query; the password comes from the environment: "
            "user:${PGPASSWORD}@host",
        )
