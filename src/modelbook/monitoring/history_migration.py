"""Migrate a monitoring history from before 1.0.0, whose tables and metrics had other names."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from modelbook.config.renamed_keys import RENAMED_METRICS
from modelbook.errors import StoreError
from modelbook.monitoring.latest_verdict import (
    DRIFT_PREFIX,
    EXPECTED_PREFIX,
    SCHEMA_VERSION,
    is_empty,
    require_current_schema,
)

RENAMED_COLUMNS = {
    "windows": {"place": "id", "performed": "has_outcomes", "word": "verdict"},
    "verdicts": {"place": "id", "word": "verdict"},
    "metrics": {"measure": "metric"},  # the table was `measures`
}
FINDING_TABLES = ("windows", "verdicts")
RENAMED_FIELDS = {"word": "verdict", "kind": "rule", "grave": "is_severe"}  # fields of a finding
RENAMED_RULES = {"copies": "duplicates"}
RENAMED_WINDOW_METRICS = {"copies": "duplicate_share", "drawn_from": "sampled_from"} | {
    f"{prefix}{old}": f"{prefix}{new}"
    for prefix in ("", EXPECTED_PREFIX)
    for old, new in RENAMED_METRICS.items()
}
# Drift was a distance without a reference; now it is a multiple of its threshold.
IS_DISTANCE = f"metric like '{DRIFT_PREFIX}%' and reference is null"


def describe_changes(path: Path) -> list[str]:
    """Describe what migrating a history changes; nothing if it is of this version.

    Raises
    ------
    StoreError
        If the history cannot be read, or is of a newer version.
    """
    if is_empty(path):
        return []
    with _open(path) as connection:
        [version] = connection.execute("pragma user_version").fetchone()
        if version:
            require_current_schema(connection, path)
            return []
        metrics = connection.execute("select measure, reference from measures").fetchall()
        has_old_findings = any(
            connection.execute(
                f"select 1 from {table} where findings like '%\"word\":%'"
            ).fetchone()
            for table in FINDING_TABLES
        )
    names = {name for name, _ in metrics}
    n_distances = sum(
        name.startswith(DRIFT_PREFIX) and reference is None for name, reference in metrics
    )
    return [
        "measures -> metrics",
        *(
            f"{table}.{old} -> {table}.{new}"
            for table, columns in RENAMED_COLUMNS.items()
            for old, new in columns.items()
        ),
        *(
            f"finding.{old} -> finding.{new}"
            for old, new in RENAMED_FIELDS.items()
            if has_old_findings
        ),
        *(
            f"{old} -> {RENAMED_WINDOW_METRICS[old]}"
            for old in sorted(names & RENAMED_WINDOW_METRICS.keys())
        ),
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
        connection.execute("alter table measures rename to metrics")
        for table, columns in RENAMED_COLUMNS.items():
            for old, new in columns.items():
                connection.execute(f"alter table {table} rename column {old} to {new}")
        for table in FINDING_TABLES:
            rows = connection.execute(f"select id, findings from {table}").fetchall()
            connection.executemany(
                f"update {table} set findings = ? where id = ?",
                [(_rename_fields(findings), row_id) for row_id, findings in rows],
            )
        connection.executemany(
            "update metrics set metric = ? where metric = ?",
            [(new, old) for old, new in RENAMED_WINDOW_METRICS.items()],
        )
        connection.execute(f"delete from metrics where {IS_DISTANCE}")
        connection.execute(f"pragma user_version = {SCHEMA_VERSION}")


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
    renamed = [
        {RENAMED_FIELDS.get(name, name): value for name, value in finding.items()}
        for finding in json.loads(findings)
    ]
    return json.dumps(
        [
            finding | {"rule": RENAMED_RULES.get(finding["rule"], finding["rule"])}
            for finding in renamed
        ]
    )
