"""Migrate a monitoring history from before 1.0.0, whose findings and metrics had other names."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from modelbook.config.renamed_keys import RENAMED_METRICS
from modelbook.errors import StoreError
from modelbook.monitoring.latest_verdict import DRIFT_PREFIX, EXPECTED_PREFIX, is_empty

RENAMED_FIELDS = {"word": "verdict", "kind": "rule", "grave": "is_severe"}  # of a finding
FINDING_TABLES = ("windows", "verdicts")
RENAMED_MEASURES = {
    f"{prefix}{old}": f"{prefix}{new}"
    for prefix in ("", EXPECTED_PREFIX)
    for old, new in RENAMED_METRICS.items()
}
# Drift was a distance without a reference; now it is a multiple of its threshold.
IS_DISTANCE = f"measure like '{DRIFT_PREFIX}%' and reference is null"


def describe_changes(path: Path) -> list[str]:
    """Describe what migrating a history changes; nothing if it is of this version.

    Raises
    ------
    StoreError
        If the history cannot be read.
    """
    if is_empty(path):
        return []
    with _open(path) as connection:
        old_measures = {
            measure
            for (measure,) in connection.execute("select distinct measure from measures")
            if measure in RENAMED_MEASURES
        }
        [(n_distances,)] = connection.execute(
            f"select count(*) from measures where {IS_DISTANCE}"
        ).fetchall()
        has_old_findings = any(
            connection.execute(
                f"select 1 from {table} where findings like '%\"word\":%'"
            ).fetchone()
            for table in FINDING_TABLES
        )
    changes = [f"finding.{old} -> finding.{new}" for old, new in RENAMED_FIELDS.items()]
    return [
        *(changes if has_old_findings else []),
        *(f"{old} -> {RENAMED_MEASURES[old]}" for old in sorted(old_measures)),
        *([f"- {n_distances:,} distances of columns, in another unit"] if n_distances else []),
    ]


def migrate(path: Path) -> None:
    """Migrate a history in one transaction: all of it, or nothing.

    Raises
    ------
    StoreError
        If the history cannot be read or written.
    """
    with _open(path) as connection, connection:
        connection.execute("begin immediate")
        for table in FINDING_TABLES:
            rows = connection.execute(f"select place, findings from {table}").fetchall()
            connection.executemany(
                f"update {table} set findings = ? where place = ?",
                [(_rename_fields(findings), place) for place, findings in rows],
            )
        connection.executemany(
            "update measures set measure = ? where measure = ?",
            [(new, old) for old, new in RENAMED_MEASURES.items()],
        )
        connection.execute(f"delete from measures where {IS_DISTANCE}")


@contextmanager
def _open(path: Path) -> Iterator[sqlite3.Connection]:
    try:
        with closing(sqlite3.connect(path)) as connection:
            yield connection
    except (sqlite3.Error, ValueError) as error:  # a finding that is no JSON is a ValueError
        raise StoreError(
            f"the history {path} cannot be migrated: {error}",
            expected="a history written by modelbook monitor",
            next="move it away: monitor begins a new one",
        ) from None


def _rename_fields(findings: str) -> str:
    return json.dumps(
        [
            {RENAMED_FIELDS.get(name, name): value for name, value in finding.items()}
            for finding in json.loads(findings)
        ]
    )
