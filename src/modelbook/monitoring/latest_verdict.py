"""Read the latest verdict on a version, without importing pandas, which takes seconds."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from modelbook.errors import StoreError

HISTORY_FILE = "monitor.db"
VERDICTS = ("healthy", "watch", "retrain")
DRIFT_PREFIX = "drift:"  # prefix of the measures that hold the columns' drift
# Ordered by insertion, not by time: clocks may be wrong.
SELECT_VERDICT = "select word, at, name from verdicts where version = ? order by place desc limit 1"
SELECT_MEASURES = "select measure, value from measures where version = ? and name = ?"


class LatestVerdict(NamedTuple):
    """A verdict, its time, and how many times its threshold each column's drift is."""

    verdict: str
    timestamp: float
    drifted_importance_share: float
    drift: dict[str, float]


def history_path(root: Path, book: str) -> Path:
    """Return the path of a book's monitoring history."""
    return root / "models" / book / HISTORY_FILE


def read_latest_verdict(path: Path, version: int) -> LatestVerdict | None:
    """Return the latest verdict on a version, or None if there is none.

    Raises
    ------
    StoreError
        If the history cannot be read.
    """
    if not path.is_file():
        return None
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
            verdict_row = connection.execute(SELECT_VERDICT, (version,)).fetchone()
            measure_rows = (
                connection.execute(SELECT_MEASURES, (version, verdict_row[2])).fetchall()
                if verdict_row
                else []
            )
    except sqlite3.Error as error:
        raise StoreError(
            f"the history {path} cannot be read: {error}",
            expected="a history written by modelbook monitor",
        ) from None
    if verdict_row is None:
        return None
    measures = {
        measure: float("nan") if value is None else value for measure, value in measure_rows
    }
    drift = {
        name.removeprefix(DRIFT_PREFIX): value
        for name, value in measures.items()
        if name.startswith(DRIFT_PREFIX)
    }
    verdict, timestamp, _ = verdict_row
    return LatestVerdict(verdict, timestamp, measures.get("drifted_share", float("nan")), drift)
