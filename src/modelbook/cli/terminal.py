"""Print tables and progress.

On a terminal, tables are wrapped to its width, and a narrow one leaves out ``OPTIONAL_COLUMNS``;
elsewhere they are plain text with all columns.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import typer

from modelbook.formatting import (
    MISSING,
    format_cell,
    format_count,
    format_difference,
    format_duration,
    format_share,
)

if TYPE_CHECKING:
    import pandas as pd

    from modelbook.extras.environment_comparison import EnvironmentComparison
    from modelbook.registry.history import HistoryEntry
    from modelbook.runs.diff import Change
    from modelbook.runs.record import BuildRun

MAX_CELL_CHARS = 200  # of a violating row's values, and of a replayed row's inputs
RUN_HEADERS = [
    "run",
    "started (UTC)",
    "duration",
    "status",
    "stages",
    "commit",
    "data",
    "result",
    "command",
]
OPTIONAL_COLUMNS = ("commit", "data", "command")  # columns that a narrow terminal leaves out
PROGRESS_SECONDS = 2.0  # between lines of progress


class ProgressLine:
    """Prints progress to the standard error stream, a line every two seconds."""

    def __init__(self) -> None:
        self._last_shown = time.monotonic()

    def show_count(self, text: str, count: int, total: int) -> None:
        """Show how many of all items are done."""
        self._show(f"{text}: {count:,} of {total:,}")

    def show_rate(self, rows: int, seconds: float) -> None:
        """Show the rows so far, and their rate."""
        self._show(f"{format_count(rows, 'row')}, {rows / max(seconds, 1e-9):,.0f} per second")

    def _show(self, text: str) -> None:
        if time.monotonic() - self._last_shown >= PROGRESS_SECONDS:
            self._last_shown = time.monotonic()
            typer.echo(text, err=True)


def print_runs(runs: Sequence[BuildRun]) -> None:
    """Print a row for each run."""
    print_table(RUN_HEADERS, [_format_run(run) for run in runs])


def print_changes(a: BuildRun, b: BuildRun, changes: Sequence[Change]) -> None:
    """Print two runs and their differences."""
    print_runs([a, b])
    sys.stdout.write("\n")
    if changes:
        headers = ("kind", "name", f"run {a.number}", f"run {b.number}", "difference", "note")
        print_table(headers, [_format_change(change) for change in changes])
    # Headline metrics are always listed, even if equal.
    if not any(change.a != change.b for change in changes):
        sys.stdout.write("Nothing differs.\n")


def print_environment_comparison(comparison: EnvironmentComparison) -> None:
    """Print versions, folds and leaderboards of two environments, and the largest difference."""
    current_run, new_run = comparison.runs
    rows = [
        ["library", name, *(version or MISSING for version in pair), ""]
        for name, pair in comparison.versions.items()
    ]
    rows.append(
        [
            "folds",
            "digest",
            *comparison.fold_digests,
            "" if comparison.has_same_folds else "different folds",
        ]
    )
    rows += [
        [
            comparison.metric,
            score.candidate,
            format_cell(score.current),
            format_cell(score.new),
            format_difference(score.difference),
        ]
        for score in comparison.leaderboard
    ]
    print_table(
        ("kind", "name", f"run {current_run.number}", f"run {new_run.number}", "difference"), rows
    )
    largest_difference = comparison.largest_difference
    if largest_difference is None:
        sys.stdout.write("No candidate has a score in both runs.\n")
    else:
        difference = format_difference(largest_difference.difference)
        sys.stdout.write(
            f"Largest difference in {comparison.metric}: {difference} "
            f"({largest_difference.candidate})\n"
        )


def print_history(entries: Sequence[HistoryEntry]) -> None:
    """Print a row for each decision and alias change."""
    headers = ("entry", "at (UTC)", "event", "version", "champion", "user", "reason")
    if entries:
        print_table(headers, [_format_entry(entry) for entry in entries])
    else:
        sys.stdout.write("No decisions or alias changes yet.\n")


def print_violations(violations: pd.DataFrame, output_format: str) -> None:
    """Print contract violations as ``table``, ``csv``, or ``json`` (a list of objects)."""
    if output_format == "json":
        sys.stdout.write(
            violations.to_json(orient="records", force_ascii=False, indent=1, date_format="iso")
            + "\n"
        )
    elif output_format == "csv":
        violations.to_csv(sys.stdout, index=False)
    elif len(violations):
        cells = violations.astype(object).where(violations.notna(), MISSING).astype(str)
        print_table(
            tuple(violations.columns),
            [[cell[:MAX_CELL_CHARS] for cell in row] for row in cells.itertuples(index=False)],
        )


def print_replay(result: dict[str, Any]) -> None:
    """Print the result of a replay: how many predictions change, by how much, and where."""
    sys.stdout.write(
        f"Version {result['version']} changes {result['changed_rows']:,} of {result['rows']:,} "
        f"predictions ({format_share(result['share'], 1)}).\nThe {result['changed_quantity']} "
        f"changes by {result['mean_absolute_change']:.3g} in absolute value, and by "
        f"{result['mean_change']:+.3g} on average. Quantiles of the change:\n\n"
    )
    print_table(
        [f"{float(level):.0%}" for level in result["quantiles"]],
        [[f"{v:+.3g}" for v in result["quantiles"].values()]],
    )
    if result["slices"]:
        sys.stdout.write("\n")
        headers = ("slice", "value", "rows", "changed", "mean change")
        print_table(headers, [_format_slice(entry) for entry in result["slices"]])
    sys.stdout.write("\nChanged most:\n")
    print_table(
        ("id", "before", "after", "change", "inputs"),
        [_format_prediction(entry) for entry in result["largest_changes"]],
    )


def _format_slice(entry: dict[str, Any]) -> list[str]:
    changed_share = format_share(entry["changed_rows"] / entry["rows"], 1)
    mean_change = f"{entry['mean_change']:+.3g}"
    return [entry["slice"], entry["value"], f"{entry['rows']:,}", changed_share, mean_change]


def _format_prediction(prediction: dict[str, Any]) -> list[str]:
    inputs = " ".join(
        f"{name}={f'{v:g}' if isinstance(v, float) else v}"
        for name, v in prediction["inputs"].items()
    )
    return [
        prediction["id"],
        format_cell(prediction["before"]),
        format_cell(prediction["after"]),
        f"{prediction['change']:+.3g}",
        inputs[:MAX_CELL_CHARS],
    ]


def print_table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows below headers."""
    if sys.stdout.isatty():
        _print_boxed(headers, rows)
        return
    lines = [headers, *rows]
    widths = [max(len(line[position]) for line in lines) for position in range(len(headers))]
    for line in lines:
        cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        sys.stdout.write("  ".join(cells).rstrip() + "\n")


def _print_boxed(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    dropped_columns = _select_dropped_columns(headers, rows, console.width)
    shown_positions = [
        position for position, header in enumerate(headers) if header not in dropped_columns
    ]
    table = Table(box=box.SIMPLE, pad_edge=False)
    for position in shown_positions:
        table.add_column(headers[position], overflow="fold")
    for row in rows:
        table.add_row(*(Text(row[position]) for position in shown_positions))  # Text: no markup
    console.print(table)
    if dropped_columns:
        console.print(f"In a wider window, or with --json: {', '.join(dropped_columns)}.")


def _select_dropped_columns(
    headers: Sequence[str], rows: Sequence[Sequence[str]], width: int
) -> list[str]:
    """Return the columns to drop if the table is more than a third wider than the terminal."""
    # Long texts wrap well: a cell counts as at most 30 characters.
    full_width = sum(
        max(min(len(line[position]), 30) for line in [headers, *rows]) + 3
        for position in range(len(headers))
    )
    if full_width > width * 4 / 3:
        return [header for header in headers if header in OPTIONAL_COLUMNS]
    return []


def _format_run(run: BuildRun) -> list[str]:
    if run.read_error:
        return [str(run.number), *[MISSING] * 6, run.read_error, MISSING]
    failed = run.stages_in_state("failed")
    status = f"failed at {' '.join(failed)}" if failed else run.status
    ran = run.stages_in_state("ran")
    stages = f"all {len(ran)}" if len(ran) == len(run.stages) > 4 else " ".join(ran)
    command = run.command if run.env_file in ("", "env.yaml") else f"{run.command} ({run.env_file})"
    return [
        str(run.number),
        _format_time(run.started),
        format_duration(run.seconds),
        status,
        stages or MISSING,
        run.commit,
        run.fingerprint[:8] or MISSING,
        ", ".join(run.headline) or MISSING,
        command,
    ]


def _format_entry(entry: HistoryEntry) -> list[str]:
    event = f"gate: {entry.action}" if entry.kind == "decision" else entry.action
    if entry.kind == "decision" and entry.evidence.get("gate") == "dry_run":
        event += " (dry run)"
    if entry.evidence.get("override"):
        event += " (override)"
    before, after = (
        MISSING if number is None else str(number)
        for number in (entry.champion_before, entry.champion_after)
    )
    champion = after if before == after else f"{before} → {after}"
    version = MISSING if entry.version is None else str(entry.version)
    return [
        str(entry.number),
        _format_time(entry.timestamp),
        event,
        version,
        champion,
        entry.user,
        entry.reason,
    ]


def _format_time(started: str) -> str:
    return datetime.fromisoformat(started).astimezone(UTC).strftime("%Y-%m-%d %H:%M")


def _format_change(change: Change) -> list[str]:
    max_chars = 10 if change.name == "fingerprint" else None
    return [
        change.kind,
        change.name,
        format_cell(change.a, change.unit)[:max_chars],
        format_cell(change.b, change.unit)[:max_chars],
        format_difference(change.difference, change.unit),
        change.note,
    ]
