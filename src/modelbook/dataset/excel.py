"""Excel files: choose the sheet, find its header, and keep text cells unchanged."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelbook.contract.text_layout import clean_column_names, name_columns_without_header
from modelbook.dataset import footers
from modelbook.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

    from modelbook.contract.file_layout import FileLayout


MAX_FORMULA_ROWS = 50  # first rows in which formulas are looked for


def list_sheets(path: Path) -> list[str]:
    """List the names of a workbook's sheets."""
    import pandas as pd

    with pd.ExcelFile(path, engine="openpyxl") as book:
        return [str(name) for name in book.sheet_names]


def read_sheet(
    path: Path, display_name: str, layout: FileLayout, column_names: list[str] | None
) -> tuple[pd.DataFrame, FileLayout]:
    """Read a sheet; returns it with the layout that was found.

    A workbook of one sheet is read whatever the sheet is called.
    """
    import pandas as pd

    with pd.ExcelFile(path, engine="openpyxl") as book:
        names = [str(name) for name in book.sheet_names]
        sheet = layout.sheet if layout.sheet in names or len(names) > 1 else None
        if sheet is not None and sheet not in names:
            raise DataError(
                f"{display_name} has no sheet {sheet!r}",
                expected=f"one of {', '.join(names)}",
                next="name the sheet: --sheet (in a contract, file: {sheet: ...})",
            )
        # dtype=object: pandas would make numbers of text cells, and lose their leading zeros.
        cells = book.parse(sheet or 0, header=None, dtype=object)
    skip_rows = _count_title_rows(cells) if layout.skip_rows is None else layout.skip_rows
    cells = cells.iloc[skip_rows:]
    n_footer = _count_footer_rows(cells) if layout.skip_footer is None else layout.skip_footer
    last_rows = cells.tail(n_footer).dropna(how="all").iterrows()
    footer = [" ".join(row.dropna().astype(str)) for _, row in last_rows]
    cells = cells.iloc[: len(cells) - n_footer]
    if cells.empty:
        return pd.DataFrame(), layout
    body = cells.iloc[1:] if layout.header else cells
    frame = body.reset_index(drop=True).infer_objects()
    frame.attrs["footer"] = footer
    if layout.header:
        header = cells.iloc[0].map(lambda value: "" if pd.isna(value) else value)
        frame.columns = pd.Index(clean_column_names(header))
    else:
        frame.columns = pd.Index(
            name_columns_without_header(frame.shape[1], column_names, display_name)
        )
    _check_formulas_have_values(path, sheet or names[0], frame, display_name)
    layout_updates: dict[str, Any] = {"skip_rows": skip_rows}
    if len(names) > 1:
        layout_updates["sheet"] = sheet or names[0]
    return frame, layout.model_copy(update=layout_updates)


def _check_formulas_have_values(
    path: Path, sheet: str, frame: pd.DataFrame, display_name: str
) -> None:
    """Raise for a column of formulas that no program has computed: all its cells read as empty."""
    is_empty = frame.isna().all().to_numpy()
    if not len(frame) or not is_empty.any():
        return
    import openpyxl

    book = openpyxl.load_workbook(path, read_only=True)
    try:
        for row in book[sheet].iter_rows(max_row=MAX_FORMULA_ROWS, values_only=True):
            for position, value in enumerate(row[: len(is_empty)]):
                if is_empty[position] and isinstance(value, str) and value.startswith("="):
                    raise DataError(
                        f"the column {str(frame.columns[position])!r} of {display_name} has "
                        f"formulas without computed values, such as {value[:60]}",
                        expected="values",
                        next="open the file in Excel or LibreOffice, and save it",
                    )
    finally:
        book.close()


def _count_footer_rows(cells: pd.DataFrame) -> int:
    """Count the rows of a footer: totals with missing values, and rows with a remark only."""
    last_rows = cells.tail(footers.MAX_FOOTER_LINES).astype(object)
    texts = last_rows.where(last_rows.notna(), "").astype(str).to_numpy().tolist()
    for start, row in enumerate(texts):
        texts_below = texts[start:]
        is_remark = [sum(bool(cell) for cell in row) == 1 < len(row) for row in texts_below]
        if footers.is_footer([row[0]]) and all(is_remark):
            return len(texts_below) + footers.count_total_rows(texts[:start])
    return footers.count_total_rows(texts)


def _count_title_rows(cells: pd.DataFrame) -> int:
    """Count the rows above the header, which fill fewer cells than the rows of the table."""
    filled_counts: Sequence[int] = cells.notna().sum(axis=1).tolist()
    if not filled_counts:
        return 0
    counts = Counter(filled_counts)
    common = max(counts, key=lambda count: (counts[count], count))
    if common < 3:
        return 0
    return next(row for row, count in enumerate(filled_counts) if count > common / 2)
