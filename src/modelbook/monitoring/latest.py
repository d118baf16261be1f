"""The newest verdict on a version, as a service shows it: read without pandas, whose import takes seconds."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from modelbook.errors import StoreError

FILE = "monitor.db"
WORDS = ("healthy", "watch", "retrain")
DRIFT = "drift:"  # begins the measure of a column's distance
VERDICT = "select word, at, name from verdicts where version = ? order by place desc limit 1"  # clocks go wrong
MEASURES = "select measure, value from measures where version = ? and name = ?"


class Latest(NamedTuple):
    """A verdict over windows, when it was given, and how far the columns of the window judged last have moved."""

    word: str
    at: float
    drifted_share: float
    distances: dict[str, float]


def path(root: Path, book: str) -> Path:
    """Where a book's history is."""
    return root / "models" / book / FILE


def latest(file: Path, version: int) -> Latest | None:
    """The newest verdict on a version; None where it was never judged.

    Raises
    ------
    StoreError
        When the history cannot be read.
    """
    if not file.is_file():
        return None
    try:
        with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as connection:
            told = connection.execute(VERDICT, (version,)).fetchone()
            rows = connection.execute(MEASURES, (version, told[2])).fetchall() if told else []
    except sqlite3.Error as error:
        raise StoreError(f"the history {file}: {error}", expected="a history that modelbook monitor wrote") from None
    if told is None:
        return None
    found = {measure: float("nan") if value is None else value for measure, value in rows}
    moved = {name.removeprefix(DRIFT): value for name, value in found.items() if name.startswith(DRIFT)}
    word, at, _ = told
    return Latest(word, at, found.get("drifted_share", float("nan")), moved)
