"""Plan a draft: how the env file refers to the table, and the book's name."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from modelbook import config, dataset
from modelbook.contract.file_layout import FileLayout
from modelbook.contract.parsing import DecimalMark, may_contain_text
from modelbook.dataset import database, excel
from modelbook.draft import writer
from modelbook.draft.book import BookDraft, DraftOptions, draft_book
from modelbook.draft.leaks import ProgressCallback
from modelbook.draft.questions import Question
from modelbook.draft.target import raise_missing_target
from modelbook.errors import DataError
from modelbook.redaction import redact

if TYPE_CHECKING:
    import pandas as pd

MAX_EXAMPLE_ROWS = 10_000  # rows in which words with accents are looked for
UNICODE_ENCODINGS = ("utf-8-sig", "utf-16")


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
        When the book exists already, or the table's URL holds a password.
    ParameterError
        When the name is not valid.
    """
    local_path = Path.cwd() / table
    if "://" not in table and table not in dataset.BUNDLED_TABLES and local_path.exists():
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
            next="export PGPASSWORD=..., and put the URL in single quotes",
        )
    config.validate("ingest", {"book": book_name, "table": table}, {"book": "--book"})
    writer.check_name_is_free(root, book_name)
    return DraftPlan(root, book_name, table)


def draft_from_plan(
    plan: DraftPlan,
    target: str,
    *,
    column_names: str | None = None,
    layout: FileLayout | None = None,
    options: DraftOptions | None = None,
    on_progress: ProgressCallback = lambda text, count, total: None,
) -> BookDraft:
    """Read the table and draft its book.

    Parameters
    ----------
    column_names : str, optional
        Names for a file without a header, separated by blanks or commas.
    on_progress : callable, optional
        See ``draft_book``.
    """
    names = column_names.replace(",", " ").split() if column_names else None
    base_layout = (layout or FileLayout()).model_copy(update={"header": names is None})
    options = options or DraftOptions()
    frame, detected_layout = _read_sheet_with_target(
        plan, target, base_layout, [*options.missing_markers], names
    )
    if len(frame.columns) and target not in frame.columns:
        raise_missing_target(frame, target, detected_layout.skip_rows or 0)
    footer = frame.attrs.pop("footer", [])
    clipped_dates = [
        Question("sentinel_dates", name, {"examples": "dates out of range", "count": count})
        for name, count in frame.attrs.pop("clipped_dates", {}).items()
    ]
    return draft_book(
        frame,
        target,
        title=plan.book.replace("-", " ").capitalize(),
        source=redact(plan.table),
        options=replace(options, decimal=options.decimal or _get_certain_decimal(detected_layout)),
        layout=_merge_layouts(base_layout, detected_layout),
        questions=[
            *_make_file_questions(plan, base_layout, detected_layout, footer),
            *_make_encoding_questions(frame, base_layout, detected_layout),
            *clipped_dates,
        ],
        on_progress=on_progress,
    )


def _read_sheet_with_target(
    plan: DraftPlan,
    target: str,
    layout: FileLayout,
    missing_markers: list[str],
    names: list[str] | None,
) -> tuple[pd.DataFrame, FileLayout]:
    """Read the table; of a workbook, the first sheet that has the target."""
    sheets = _list_other_sheets(plan, layout)
    first = dataset.read_without_contract(plan.table, plan.root, layout, missing_markers, names)
    for sheet in [] if target in first[0] else sheets:
        table = dataset.read_without_contract(
            plan.table,
            plan.root,
            layout.model_copy(update={"sheet": sheet}),
            missing_markers,
            names,
        )
        if target in table[0]:
            return table
    return first


def _list_other_sheets(plan: DraftPlan, layout: FileLayout) -> list[str]:
    path = plan.root / plan.table
    if layout.sheet is not None or path.suffix.lower() != ".xlsx" or not path.is_file():
        return []
    return excel.list_sheets(path)[1:]


def _get_certain_decimal(detected_layout: FileLayout) -> DecimalMark | None:
    """Return the decimal mark where the file leaves no doubt, or None."""
    if detected_layout.delimiter == ",":
        return "."
    return "," if detected_layout.decimal == "," else None


def _merge_layouts(base_layout: FileLayout, detected_layout: FileLayout) -> FileLayout:
    """Return the layout for the contract: a person's decisions, and unusual properties."""
    return base_layout.model_copy(
        update={
            "delimiter": detected_layout.delimiter
            if detected_layout.delimiter != ","
            else base_layout.delimiter,
            "encoding": base_layout.encoding
            if detected_layout.encoding in (*UNICODE_ENCODINGS, None)
            else detected_layout.encoding,
            "decimal": detected_layout.decimal
            if detected_layout.decimal == ","
            else base_layout.decimal,
            "sheet": detected_layout.sheet,
        }
    )


def _make_file_questions(
    plan: DraftPlan, base_layout: FileLayout, detected_layout: FileLayout, footer: list[str]
) -> list[Question]:
    questions: list[Question] = []
    if detected_layout.sheet and not base_layout.sheet:
        sheets = excel.list_sheets(plan.root / plan.table)
        questions.append(
            Question("sheet", "file", {"sheets": sheets, "sheet": detected_layout.sheet})
        )
    if detected_layout.skip_rows and base_layout.skip_rows is None:
        questions.append(Question("preamble", "file", {"count": detected_layout.skip_rows}))
    if footer and base_layout.skip_footer is None:
        questions.append(Question("footer", "file", {"examples": [line[:60] for line in footer]}))
    return questions


def _make_encoding_questions(
    frame: pd.DataFrame, base_layout: FileLayout, detected_layout: FileLayout
) -> list[Question]:
    """Make a question about a guessed encoding, with words that show whether it is right."""
    if detected_layout.encoding in (*UNICODE_ENCODINGS, None) or base_layout.encoding:
        return []
    cells = [frame[name].head(MAX_EXAMPLE_ROWS) for name in frame if may_contain_text(frame[name])]
    texts = [*frame.columns, *(cell for column in cells for cell in column.dropna().unique())]
    examples = [text[:30] for text in texts if isinstance(text, str) and not text.isascii()][:4]
    return [
        Question("encoding", "file", {"encoding": detected_layout.encoding, "examples": examples})
    ]


def _derive_book_name(table: str) -> str:
    location, _, query = table.partition("#")
    if re.fullmatch(r"\w+(\.\w+)?", query):
        stem = query
    else:
        stem = re.split(r"[/\\]", location.split("?")[0].rstrip("/"))[-1].split(".")[0]
    return re.sub(r"[^a-z0-9]+", "-", stem.lower()).strip("-") or "book"
