"""Read the latest verdict on a version, without importing pandas, which takes seconds."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from modelbook.errors import StoreError

HISTORY_FILE = "monitor.db"
VERDICTS = ("healthy", "watch", "retrain")
DRIFT_PREFIX = "drift:"  # prefix of the metrics that hold the columns' drift
EXPECTED_PREFIX = "expected_"  # prefix of the metrics that were estimated without outcomes
SCHEMA_VERSION = 2  # the file's `pragma user_version`; 0 before 1.0.0
# Ordered by insertion, not by time: clocks may be wrong.
SELECT_VERDICT = "select verdict, at, name from verdicts where version = ? order by id desc limit 1"
SELECT_METRICS = "select metric, value, reference from metrics where version = ? and name = ?"


class LatestVerdict(NamedTuple):
    """A verdict, its time, each column's drift, and the metrics of the newest window.

    ``drift`` is in multiples of the threshold. ``quality`` has metrics by name and source: ``live``
    with outcomes, ``expected`` without them, and ``holdout``, with which both are compared.
    """

    verdict: str
    timestamp: float
    drifted_importance_share: float
    drift: dict[str, float]
    quality: dict[tuple[str, str], float]


def get_history_path(root: Path, book: str) -> Path:
    """Return the path of a book's monitoring history."""
    return root / "models" / book / HISTORY_FILE


def is_empty(path: Path) -> bool:
    """Return whether a history does not exist yet, or another process is just creating it."""
    return not path.is_file() or not path.stat().st_size


def require_current_schema(connection: sqlite3.Connection, path: Path) -> None:
    """Require that a history has the tables of this version.

    Raises
    ------
    StoreError
        If its schema is older or newer.
    """
    [version] = connection.execute("pragma user_version").fetchone()
    if version != SCHEMA_VERSION:
        raise StoreError(
            f"the history {path} has schema {version}",
            expected=f"schema {SCHEMA_VERSION}",
            next="modelbook upgrade shows how it is migrated, modelbook upgrade --yes migrates it; "
            "or move the file away to start a new history",
        )


def read_latest_verdict(path: Path, version: int) -> LatestVerdict | None:
    """Return the latest verdict on a version, or None if there is none.

    Raises
    ------
    StoreError
        If the history cannot be read.
    """
    if is_empty(path):
        return None
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
            require_current_schema(connection, path)
            verdict_row = connection.execute(SELECT_VERDICT, (version,)).fetchone()
            metric_rows = (
                connection.execute(SELECT_METRICS, (version, verdict_row[2])).fetchall()
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
    metrics = {metric: float("nan") if value is None else value for metric, value, _ in metric_rows}
    drift = {
        name.removeprefix(DRIFT_PREFIX): value
        for name, value in metrics.items()
        if name.startswith(DRIFT_PREFIX)
    }
    references = {
        name: reference
        for name, _, reference in metric_rows
        if reference is not None and not name.startswith(DRIFT_PREFIX)
    }
    verdict, timestamp, _ = verdict_row
    return LatestVerdict(
        verdict,
        timestamp,
        metrics.get("drifted_share", float("nan")),
        drift,
        _collect_quality(metrics, references),
    )


def _collect_quality(
    metrics: dict[str, float], references: dict[str, float]
) -> dict[tuple[str, str], float]:
    """Return the metrics that have a value on the holdout, and this value."""
    quality: dict[tuple[str, str], float] = {}
    for name, reference in references.items():
        metric = name.removeprefix(EXPECTED_PREFIX)
        source = "live" if metric == name else "expected"
        quality |= {(metric, source): metrics[name], (metric, "holdout"): reference}
    return quality
