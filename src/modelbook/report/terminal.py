"""Tables: on a terminal drawn and wrapped to its width; elsewhere plain aligned text, with nothing cut off."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

    from modelbook.registry.history import Entry
    from modelbook.stage.difference import Change
    from modelbook.stage.record import Run

NONE = "–"
LONGEST = 200  # signs of a cell
WIDE = ("commit", "data", "command")  # columns that a narrow terminal leaves out


def runs(found: Sequence[Run]) -> None:
    """Print a row for each run."""
    headers = ("run", "started (UTC)", "took", "ended", "ran", "commit", "data", "came out", "command")
    table(headers, [_run(run) for run in found])


def changes(a: Run, b: Run, found: Sequence[Change]) -> None:
    """Print two runs, and what differs between them."""
    runs([a, b])
    sys.stdout.write("\n")
    if found:
        headers = ("what", "name", f"run {a.number}", f"run {b.number}", "difference", "note")
        table(headers, [_change(change) for change in found])
    # Metrics that are always listed may be equal.
    if not any(change.a != change.b for change in found):
        sys.stdout.write("Nothing differs.\n")


def history(found: Sequence[Entry]) -> None:
    """Print a row for each decision and move."""
    headers = ("entry", "at (UTC)", "what", "version", "champion", "by", "why")
    if found:
        table(headers, [_entry(entry) for entry in found])
    else:
        sys.stdout.write("Nothing was decided or moved yet.\n")


def violations(found: pd.DataFrame, format: str) -> None:
    """Print places that break a contract: as a ``table``, as ``csv``, or as ``json``, a list of objects."""
    if format == "json":
        sys.stdout.write(found.to_json(orient="records", force_ascii=False, indent=1, date_format="iso") + "\n")
    elif format == "csv":
        found.to_csv(sys.stdout, index=False)
    elif len(found):
        cells = found.astype(object).where(found.notna(), NONE).astype(str)
        table(tuple(found.columns), [[cell[:LONGEST] for cell in row] for row in cells.itertuples(index=False)])


def replayed(told: dict[str, Any]) -> None:
    """Print what came of a replay: how many, by how much, where, and which most."""
    sys.stdout.write(
        f"Version {told['version']} would answer {told['otherwise']:,} of {told['rows']:,} rows otherwise "
        f"({told['share']:.1%}).\nThe {told['moving']} changes by {told['mean_size']:.3g}, up or down, and by "
        f"{told['mean']:+.3g} on average. Quantiles of the change:\n\n"
    )
    table([f"{float(level):.0%}" for level in told["quantiles"]], [[f"{v:+.3g}" for v in told["quantiles"].values()]])
    if told["slices"]:
        rows = [[one["slice"], one["value"], f"{one['rows']:,}", f"{one['otherwise'] / one['rows']:.1%}",
                 f"{one['mean']:+.3g}"] for one in told["slices"]]  # fmt: skip
        sys.stdout.write("\n")
        table(("slice", "value", "rows", "answered otherwise", "change on average"), rows)
    sys.stdout.write("\nChanged most:\n")
    table(("id", "before", "after", "change", "inputs"), [_moved(one) for one in told["most"]])


def _moved(one: dict[str, Any]) -> list[str]:
    inputs = " ".join(f"{name}={f'{v:g}' if isinstance(v, float) else v}" for name, v in one["inputs"].items())
    return [one["id"], as_text(one["before"]), as_text(one["after"]), f"{one['change']:+.3g}", inputs[:LONGEST]]


def table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows below headers."""
    if sys.stdout.isatty():
        _boxed(headers, rows)
        return
    lines = [headers, *rows]
    widths = [max(len(line[place]) for line in lines) for place in range(len(headers))]
    for line in lines:
        cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        sys.stdout.write("  ".join(cells).rstrip() + "\n")


def _boxed(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    left_out = _left_out(headers, rows, console.width)
    shown = [place for place, header in enumerate(headers) if header not in left_out]
    drawn = Table(box=box.SIMPLE, pad_edge=False)
    for place in shown:
        drawn.add_column(headers[place], overflow="fold")
    for row in rows:
        drawn.add_row(*(Text(row[place]) for place in shown))  # Text: a bracket in a cell is no markup
    console.print(drawn)
    if left_out:
        console.print(f"In a wider window, or with --json: {', '.join(left_out)}.")


def _left_out(headers: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> list[str]:
    """Columns that would crowd the others out; a table that is a third too wide still reads well when wrapped."""
    # A long reason or command wraps well anyhow: it counts as 30 characters at most.
    full = sum(max(min(len(line[place]), 30) for line in [headers, *rows]) + 3 for place in range(len(headers)))
    return [header for header in headers if header in WIDE] if full > width * 4 / 3 else []


def _run(run: Run) -> list[str]:
    if run.problem:
        return [str(run.number), *[NONE] * 6, run.problem, NONE]
    failed = run.that("failed")
    ended = f"failed at {' '.join(failed)}" if failed else run.ended
    ran = run.that("ran")
    stages = f"all {len(ran)}" if len(ran) == len(run.stages) > 4 else " ".join(ran)
    command = run.command if run.environment in ("", "env.yaml") else f"{run.command} ({run.environment})"
    return [
        str(run.number), _when(run.started), _took(run.seconds), ended, stages or NONE, run.commit,
        run.fingerprint[:8] or NONE, ", ".join(run.headline) or NONE, command,
    ]  # fmt: skip


def _entry(entry: Entry) -> list[str]:
    what = f"gate: {entry.word}" if entry.kind == "decision" else entry.word
    if entry.kind == "decision" and entry.evidence.get("gate") == "dry_run":
        what += " (dry run)"
    if entry.evidence.get("override"):
        what += " (override)"
    before, after = (NONE if one is None else str(one) for one in (entry.before, entry.after))
    champion = after if before == after else f"{before} → {after}"
    version = NONE if entry.version is None else str(entry.version)
    return [str(entry.number), _when(entry.at), what, version, champion, entry.by, entry.why]


def _when(started: str) -> str:
    return datetime.fromisoformat(started).astimezone(UTC).strftime("%Y-%m-%d %H:%M")


def _took(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def _change(change: Change) -> list[str]:
    short = 10 if change.name == "fingerprint" else None
    difference = "" if change.difference is None else signed(change.difference)
    return [change.about, change.name, as_text(change.a)[:short], as_text(change.b)[:short], difference, change.note]


def as_text(value: Any) -> str:
    """A value as it is compared: fractions with four decimals, gaps as a dash."""
    if value is None or value == "":
        return NONE
    return f"{value:.4f}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)


def signed(value: float) -> str:
    """A difference with its sign."""
    if float(value).is_integer():
        return f"{value:+,.0f}"
    return f"{value:+.4f}".rstrip("0") if abs(value) >= 0.0001 else f"{value:+.0e}"
