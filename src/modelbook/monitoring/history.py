"""Monitor's history: every window that was judged, in one SQLite file beside the book's receipts, to be asked later.

Table ``windows`` has a row for each window of a version, ``measures`` its numbers, ``verdicts`` what was said of all
windows then. A window that is judged again takes the place it had.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from modelbook.config import Monitor
from modelbook.errors import StoreError
from modelbook.monitoring import windows as spans
from modelbook.monitoring.latest import DRIFT
from modelbook.monitoring.verdict import Finding, overall
from modelbook.monitoring.watch import Watched
from modelbook.monitoring.windows import Window

TABLES = """
create table if not exists windows (
  place integer primary key, version integer not null, name text not null, at real not null, rows integer not null,
  performed integer not null, word text not null, findings text not null, unique (version, name));
create table if not exists measures (
  version integer not null, name text not null, measure text not null, value real, low real, high real, reference real,
  primary key (version, name, measure));
create table if not exists verdicts (
  place integer primary key, version integer not null, name text not null, at real not null, word text not null,
  findings text not null);
"""
PATIENCE = 10.0  # seconds to wait for another process that writes


class History:
    """The history of one version's windows; the file is made where there is none.

    Raises
    ------
    StoreError
        When the file cannot be read or written.
    """

    def __init__(self, file: Path, version: int) -> None:
        self.file, self.version = file, version

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        self.file.parent.mkdir(parents=True, exist_ok=True)
        try:
            with closing(sqlite3.connect(self.file, timeout=PATIENCE)) as connection, connection:
                connection.executescript(TABLES)
                yield connection
        except sqlite3.Error as error:
            raise StoreError(
                f"the history {self.file}: {error}", expected="an SQLite file that this process may write",
                next="let the other process end; or move the file away, and monitor begins a new one",
            ) from None  # fmt: skip

    def joined(self, watched: list[Watched], params: Monitor) -> list[Window]:
        """All windows of the version with these among them, oldest first, as ``add`` will leave them."""
        now = {one.batch: spans.judged(one, params) for one in watched}
        before = [now.pop(window.name, window) for window in self.windows()]
        return [*before, *now.values()]

    def add(self, watched: list[Watched], params: Monitor) -> None:
        """Judge windows and keep them, with the verdict over the newest ones; nothing happens where there are none."""
        if not watched:
            return
        now = time.time()
        with self._open() as connection:
            for one in watched:
                window = spans.judged(one, params)
                connection.execute(
                    "insert into windows (version, name, at, rows, performed, word, findings) values (?,?,?,?,?,?,?) "
                    "on conflict (version, name) do update set at = excluded.at, rows = excluded.rows, "
                    "performed = excluded.performed, word = excluded.word, findings = excluded.findings",
                    (self.version, window.name, now, window.rows, window.performed,
                     overall(list(window.findings)), _text(window.findings)),
                )  # fmt: skip
                connection.execute("delete from measures where version = ? and name = ?", (self.version, window.name))
                connection.executemany(
                    "insert into measures values (?,?,?,?,?,?,?)",
                    [(self.version, window.name, *row) for row in measures(one)],
                )
            found = spans.over(self._windows(connection), params)
            connection.execute(
                "insert into verdicts (version, name, at, word, findings) values (?,?,?,?,?)",
                (self.version, watched[-1].batch, now, overall(found), _text(found)),
            )

    def windows(self) -> list[Window]:
        """All windows of the version, oldest first."""
        with self._open() as connection:
            return self._windows(connection)

    def _windows(self, connection: sqlite3.Connection) -> list[Window]:
        rows = connection.execute(
            "select name, rows, performed, findings from windows where version = ? order by place", (self.version,)
        ).fetchall()
        return [
            Window(name, count, bool(performed), tuple(Finding(**one) for one in json.loads(findings)))
            for name, count, performed, findings in rows
        ]

    def table(self) -> pd.DataFrame:
        """All measures; columns ``batch, word, measure, value, low, high, reference``, oldest window first."""
        with self._open() as connection:
            return pd.read_sql_query(
                "select w.name as batch, w.word, m.measure, m.value, m.low, m.high, m.reference "
                "from windows w join measures m on m.version = w.version and m.name = w.name "
                "where w.version = ? order by w.place, m.rowid", connection, params=(self.version,),
            )  # fmt: skip


def measures(one: Watched) -> list[tuple[Any, ...]]:
    """The numbers of a window: ``measure, value, low, high, reference``; of a column's drift, high is by chance."""
    told: list[tuple[Any, ...]] = [
        ("rows", one.rows, None, None, None), ("violations", len(one.violations), None, None, None),
        ("copies", one.copies.share, None, one.copies.allowed, None),
        ("drifted_share", one.drifted_share, None, None, None),
        ("score_distance", one.moved("score").score, None, None, None),
        ("outcome_distance", one.moved("outcome").score, None, None, None),
    ]  # fmt: skip
    if one.drawn_from:
        told.append(("drawn_from", one.drawn_from, None, None, None))
    if one.expected:
        told.append((f"expected_{one.expected['metric']}", *_numbers(one.expected)))
    told += [(row["metric"], *_numbers(row)) for row in one.metrics.to_dict("records")]
    return told + [(f"{DRIFT}{row.column}", row.score, None, row.chance, None) for row in one.columns.itertuples()]


def _text(findings: Iterable[Finding]) -> str:
    return json.dumps([asdict(finding) for finding in findings])


def _numbers(row: dict[str, Any]) -> tuple[float, ...]:
    return tuple(float(row[name]) for name in ("value", "low", "high", "reference"))
