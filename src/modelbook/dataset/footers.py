"""Footers: totals, sources and remarks below the last row of a file, recognised in each file.

A footer is recognised by keywords. Other lines of fewer fields at the end may be rows of a file
that was cut off, and are rejected.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import takewhile

MAX_FOOTER_LINES = 20
TOTAL = (
    r"(grand |sub)?totals?|sum|average|mean|median|count|summe|gesamt|mittelwert|somme|totale?|suma"
)
REMARK = (
    r"sources?|quellen?|fuente|notes?|remarks?|legend|generated|created|exported|printed|retrieved"
    r"|copyright|©|end of|data from|last updated|updated|as of|[\d.,]+ (rows|records|lines)"
)
TOTAL_PATTERN = re.compile(rf"(?i)\W*({TOTAL})\b.{{0,40}}", re.DOTALL)
FOOTER_PATTERN = re.compile(rf"(?i)\W*({TOTAL}|{REMARK})\b.*|\W*[*†#].*", re.DOTALL)


def is_footer(lines: Sequence[str]) -> bool:
    """Whether lines of fewer fields than the header are a footer, by their first word."""
    return 0 < len(lines) <= MAX_FOOTER_LINES and bool(FOOTER_PATTERN.fullmatch(lines[0].strip()))


def may_be_total(cell: str) -> bool:
    """Whether a row that begins with this cell may hold totals, or nothing."""
    return not cell.strip() or bool(TOTAL_PATTERN.fullmatch(cell.strip()))


def count_total_rows(last_rows: Sequence[Sequence[str]]) -> int:
    """Count the rows at the end that are empty, or totals: named so, with missing values."""
    totals = takewhile(_is_total_row, reversed(last_rows))
    return len(list(totals))


def has_value_in_each_cell(cells: Sequence[str]) -> bool:
    """Whether a row has a value in each cell, as no footer has."""
    return all(cell.strip() for cell in cells)


def _is_total_row(cells: Sequence[str]) -> bool:
    if not any(cell.strip() for cell in cells):
        return True
    return bool(TOTAL_PATTERN.fullmatch(cells[0].strip())) and not has_value_in_each_cell(cells)
