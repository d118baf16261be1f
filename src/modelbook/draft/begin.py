"""What is to be drafted: the table as the env file will name it, and the book's name."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from modelbook import config, dataset
from modelbook.contract.layout import Layout
from modelbook.dataset import database
from modelbook.draft import write
from modelbook.draft.book import Draft, draft
from modelbook.errors import DataError
from modelbook.redaction import redact


@dataclass(frozen=True)
class Plan:
    """A book that may be drafted: nothing that a person wrote is in its way."""

    root: Path
    book: str
    table: str


def plan(root: Path, table: str, query: str | None = None, book: str | None = None) -> Plan:
    """Settle how the env file names the table, and what the book is called.

    Raises
    ------
    DataError, ParameterError
        When the name is taken or is none, or when the table's address holds a password.
    """
    here = Path.cwd() / table
    if "://" not in table and table not in dataset.BUNDLED and here.is_file():
        table = here.relative_to(root).as_posix() if here.is_relative_to(root) else str(here)
    if query is not None:
        if not (database.URL.match(table) or table.startswith("${")):
            raise DataError(f"{redact(table)} is no database", expected="a URL, for --query", next="leave --query out")
        table = f"{table.partition('#')[0]}#{query}"
    name = book if book is not None else _named(table)
    if redact(table) != table:
        raise DataError(
            f"{redact(table)} holds a password, and the env file would hold it too",
            expected="the name of an environment variable in its place: user:${PGPASSWORD}@host",
            next="export PGPASSWORD=..., and put the address in single quotes",
        )
    config.validate("ingest", {"book": name, "table": table}, {"book": "--book"})
    write.check(root, name)
    return Plan(root, name, table)


def read(
    plan: Plan, target: str, *, task: str | None = None, columns: str | None = None, missing: Sequence[str] = (),
    drop: Sequence[str] = (),
) -> Draft:  # fmt: skip
    """Read the table and draft its book; ``columns`` are names for a file without a header, parted by blanks."""
    names = columns.replace(",", " ").split() if columns else None
    layout = Layout(header=names is None)
    frame = dataset.load(plan.table, plan.root, layout, [*missing], names)
    title = plan.book.replace("-", " ").capitalize()
    return draft(
        frame, target, title=title, source=redact(plan.table), task=task, missing=missing, drop=drop, layout=layout
    )


def _named(table: str) -> str:
    address, _, query = table.partition("#")
    stem = query if re.fullmatch(r"\w+(\.\w+)?", query) else re.split(r"[/\\]", address.split("?")[0].rstrip("/"))[-1]
    stem = query if stem == query else stem.split(".")[0]
    return re.sub(r"[^a-z0-9]+", "-", stem.lower()).strip("-") or "book"
