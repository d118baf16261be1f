"""Plan a draft: how the env file refers to the table, and the book's name."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from modelbook import config, dataset
from modelbook.contract.file_layout import FileLayout
from modelbook.dataset import database
from modelbook.draft import writer
from modelbook.draft.book import BookDraft, draft_book
from modelbook.errors import DataError
from modelbook.redaction import redact

DEFAULT_ENCODING = "utf-8-sig"


@dataclass(frozen=True)
class DraftPlan:
    """A book that can be drafted without overwriting an edited file."""

    root: Path
    book: str
    table: str


def plan_draft(
    root: Path, table: str, query: str | None = None, book: str | None = None
) -> DraftPlan:
    """Determine how the env file refers to the table, and the book's name.

    Raises
    ------
    DataError
        When the book exists already, or the table's address holds a password.
    ParameterError
        When the name is not valid.
    """
    local_path = Path.cwd() / table
    if "://" not in table and table not in dataset.BUNDLED_TABLES and local_path.is_file():
        table = (
            local_path.relative_to(root).as_posix()
            if local_path.is_relative_to(root)
            else str(local_path)
        )
    if query is not None:
        if not (database.DATABASE_URL.match(table) or table.startswith("${")):
            raise DataError(
                f"{redact(table)} is not a database",
                expected="a database URL, for --query",
                next="omit --query",
            )
        table = f"{table.partition('#')[0]}#{query}"
    book_name = book if book is not None else _derive_book_name(table)
    if redact(table) != table:
        raise DataError(
            f"{redact(table)} contains a password, which would be written to the env file",
            expected="an environment variable instead: user:${PGPASSWORD}@host",
            next="export PGPASSWORD=..., and put the address in single quotes",
        )
    config.validate("ingest", {"book": book_name, "table": table}, {"book": "--book"})
    writer.check_overwritable(root, book_name)
    return DraftPlan(root, book_name, table)


def draft_from_plan(
    plan: DraftPlan,
    target: str,
    *,
    task: str | None = None,
    column_names: str | None = None,
    missing_markers: Sequence[str] = (),
    dropped_columns: Sequence[str] = (),
) -> BookDraft:
    """Read the table and draft its book.

    Parameters
    ----------
    column_names : str, optional
        Names for a file without a header, separated by blanks or commas.
    """
    names = column_names.replace(",", " ").split() if column_names else None
    layout = FileLayout(header=names is None)
    frame = dataset.read_without_contract(plan.table, plan.root, layout, [*missing_markers], names)
    title = plan.book.replace("-", " ").capitalize()
    encoding = frame.attrs.pop("encoding", DEFAULT_ENCODING)
    draft = draft_book(
        frame,
        target,
        title=title,
        source=redact(plan.table),
        task=task,
        missing_markers=missing_markers,
        dropped_columns=dropped_columns,
        layout=layout,
    )
    if encoding not in (DEFAULT_ENCODING, "utf-16"):
        draft.notes.insert(
            0,
            f"The file is not UTF-8; it was read as {encoding}, the detected encoding. If "
            "letters are "
            "wrong, save it as UTF-8.",
        )
    return draft


def _derive_book_name(table: str) -> str:
    address, _, query = table.partition("#")
    stem = (
        query
        if re.fullmatch(r"\w+(\.\w+)?", query)
        else re.split(r"[/\\]", address.split("?")[0].rstrip("/"))[-1]
    )
    stem = query if stem == query else stem.split(".")[0]
    return re.sub(r"[^a-z0-9]+", "-", stem.lower()).strip("-") or "book"
