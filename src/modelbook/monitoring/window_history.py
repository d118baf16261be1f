"""Monitoring history: all evaluated windows of a book, in one SQLite file.

Table ``windows`` has a row for each window of a version, ``metrics`` its numbers, ``verdicts`` the
verdicts over the windows at that time. A window that is evaluated again replaces its old row.
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
from modelbook.monitoring.batch_evaluation import BatchEvaluation
from modelbook.monitoring.latest_verdict import (
    DRIFT_PREFIX,
    EXPECTED_PREFIX,
    SCHEMA_VERSION,
    is_empty,
    require_current_schema,
)
from modelbook.monitoring.rules import Finding, find_worst_verdict
from modelbook.monitoring.windows import Window, combine_windows, evaluate_window
from modelbook.scoring.drift_measure import RELATIVE_DRIFT_THRESHOLD

CREATE_TABLES = f"""
begin immediate;
create table if not exists windows (
  id integer primary key, version integer not null, name text not null, at real not null,
  rows integer not null, has_outcomes integer not null, verdict text not null,
  findings text not null, unique (version, name));
create table if not exists metrics (
  version integer not null, name text not null, metric text not null, value real, low real,
  high real, reference real, primary key (version, name, metric));
create table if not exists verdicts (
  id integer primary key, version integer not null, name text not null, at real not null,
  verdict text not null, findings text not null);
pragma user_version = {SCHEMA_VERSION};
commit;
"""  # at once: a service may be reading the file
RECORD_WINDOW = """
insert into windows (version, name, at, rows, has_outcomes, verdict, findings)
values (?,?,?,?,?,?,?)
on conflict (version, name) do update set
  at = excluded.at, rows = excluded.rows, has_outcomes = excluded.has_outcomes,
  verdict = excluded.verdict, findings = excluded.findings
"""
LOCK_TIMEOUT_SECONDS = 10.0  # to wait for another process that writes


class WindowHistory:
    """History of one version's windows; the file is created if it does not exist.

    Raises
    ------
    StoreError
        If the file cannot be read or written.
    """

    def __init__(self, file: Path, version: int) -> None:
        self.path = file
        self.version = version

    @contextmanager
    def _connect(self) -> Iterator[sqlite3.Connection]:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with (
                closing(sqlite3.connect(self.path, timeout=LOCK_TIMEOUT_SECONDS)) as connection,
                connection,
            ):
                if is_empty(self.path):
                    connection.executescript(CREATE_TABLES)
                require_current_schema(connection, self.path)
                yield connection
        except sqlite3.Error as error:
            raise StoreError(
                f"the history {self.path} cannot be used: {error}",
                expected="an SQLite file that this process may write",
                next=(
                    "wait for the other process to end, or move the file away to start a new "
                    "history"
                ),
            ) from None

    def merge_windows(self, evaluations: list[BatchEvaluation], params: Monitor) -> list[Window]:
        """Return the version's windows after adding these, oldest first, without storing them."""
        new_windows = {
            evaluation.batch: evaluate_window(evaluation, params) for evaluation in evaluations
        }
        recorded_windows = [new_windows.pop(window.name, window) for window in self.read_windows()]
        return [*recorded_windows, *new_windows.values()]

    def record_windows(self, evaluations: list[BatchEvaluation], params: Monitor) -> None:
        """Store the windows with their findings, and the verdict over the newest ones."""
        if not evaluations:
            return
        recorded_at = time.time()
        with self._connect() as connection:
            for evaluation in evaluations:
                window = evaluate_window(evaluation, params)
                self._record_window(connection, window, recorded_at, list_metrics(evaluation))
            findings = combine_windows(self._select_windows(connection), params)
            connection.execute(
                "insert into verdicts (version, name, at, verdict, findings) values (?,?,?,?,?)",
                (
                    self.version,
                    evaluations[-1].batch,
                    recorded_at,
                    find_worst_verdict(findings),
                    _serialize_findings(findings),
                ),
            )

    def _record_window(
        self,
        connection: sqlite3.Connection,
        window: Window,
        recorded_at: float,
        metrics: list[tuple[Any, ...]],
    ) -> None:
        """Store a window and its metrics in place of those of before."""
        connection.execute(
            RECORD_WINDOW,
            (
                self.version,
                window.name,
                recorded_at,
                window.rows,
                window.has_outcomes,
                find_worst_verdict(list(window.findings)),
                _serialize_findings(window.findings),
            ),
        )
        connection.execute(
            "delete from metrics where version = ? and name = ?", (self.version, window.name)
        )
        connection.executemany(
            "insert into metrics values (?,?,?,?,?,?,?)",
            [(self.version, window.name, *metric) for metric in metrics],
        )

    def read_windows(self) -> list[Window]:
        """Return all windows of the version, oldest first."""
        with self._connect() as connection:
            return self._select_windows(connection)

    def _select_windows(self, connection: sqlite3.Connection) -> list[Window]:
        rows = connection.execute(
            "select name, rows, has_outcomes, findings from windows where version = ? order by id",
            (self.version,),
        ).fetchall()
        return [
            Window(name, count, bool(has_outcomes), _parse_findings(findings))
            for name, count, has_outcomes, findings in rows
        ]

    def make_metrics_table(self) -> pd.DataFrame:
        """Return all metrics, oldest window first.

        Columns ``batch, verdict, metric, value, low, high, reference``.
        """
        with self._connect() as connection:
            return pd.read_sql_query(
                "select w.name as batch, w.verdict, m.metric, m.value, m.low, m.high, m.reference "
                "from windows w join metrics m on m.version = w.version and m.name = w.name "
                "where w.version = ? order by w.id, m.rowid",
                connection,
                params=(self.version,),
            )


def list_metrics(evaluation: BatchEvaluation) -> list[tuple[Any, ...]]:
    """List a window's numbers as ``metric, value, low, high, reference``.

    The drift of a column is a multiple of its threshold, as in the report and in Evidently's.
    """
    numbers = {
        **evaluation.summarize_rows(),
        "score_distance": evaluation.measure_output_distance("score").distance,
        "outcome_distance": evaluation.measure_output_distance("outcome").distance,
    }
    highs = {"duplicate_share": evaluation.duplicates.expected_max}
    metrics: list[tuple[Any, ...]] = [
        (name, number, None, highs.get(name), None) for name, number in numbers.items()
    ]
    if estimate := evaluation.estimated_metric:
        metrics.append((f"{EXPECTED_PREFIX}{estimate['metric']}", *_get_interval_values(estimate)))
    metrics += [
        (row["metric"], *_get_interval_values(row)) for row in evaluation.metrics.to_dict("records")
    ]
    return metrics + [
        (f"{DRIFT_PREFIX}{row.column}", row.relative_drift, None, None, RELATIVE_DRIFT_THRESHOLD)
        for row in evaluation.feature_drift.itertuples()
    ]


def _parse_findings(findings: str) -> tuple[Finding, ...]:
    return tuple(Finding(**finding) for finding in json.loads(findings))


def _serialize_findings(findings: Iterable[Finding]) -> str:
    return json.dumps([asdict(finding) for finding in findings])


def _get_interval_values(row: dict[str, Any]) -> tuple[float, ...]:
    return tuple(float(row[name]) for name in ("value", "low", "high", "reference"))
