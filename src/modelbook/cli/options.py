"""Shared options of the commands, error reporting, and access to project and journal."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from modelbook import disk, formatting
from modelbook.errors import ModelbookError

if TYPE_CHECKING:
    from modelbook.journal import Journal

JOURNAL_TIMEOUT = 60.0  # seconds; longer than the service waits

BookOption = Annotated[
    str | None, typer.Option(help="Name of the book; default: the book of env.yaml.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@contextmanager
def report_errors() -> Iterator[None]:
    """Print an error of Modelbook without a traceback, and exit with 1."""
    try:
        with disk.translate_disk_full():
            yield
    except ModelbookError as error:
        typer.echo(f"{type(error).__name__}: {error}", err=True)
        raise typer.Exit(1) from None


def confirm(question: str) -> bool:
    """Prompt for confirmation on a terminal; elsewhere return False, and name ``--yes``."""
    if sys.stdin.isatty():
        return typer.confirm(question)
    typer.echo("nothing was changed: this is not a terminal; --yes skips the question", err=True)
    return False


def print_json(value: Any) -> None:
    """Print a value as JSON."""
    typer.echo(formatting.dump_json(value))


def print_verdict(verdict: Mapping[str, Any], as_json: bool) -> None:
    """Print a verdict's status, its sentences and what to do next; or everything as JSON."""
    if as_json:
        print_json(verdict)
        return
    sentences = (f"  {sentence}" for sentence in verdict["sentences"])
    typer.echo("\n".join([verdict["status"], *sentences, f"next: {verdict['next']}"]))


def find_book(book: str | None) -> tuple[Path, str]:
    """Return the project's root and the book; a book with archived runs needs no env file."""
    from modelbook.stage import project

    root = project.find_root()
    if book is None or not (root / "reports" / book / "runs").is_dir():
        parameters = project.read_parameters(root, project.find_env_file(root, book))
        return root, next(iter(parameters.values()))["book"]
    return root, book


def parse_time(text: str | None) -> float | None:
    """Parse a time on the command line to seconds since 1970, or raise a usage error."""
    if text is None:
        return None
    from modelbook.monitoring import batch_sources

    try:
        timestamp = batch_sources.parse_since(text)
        now = time.time()
    except (ValueError, OverflowError):
        raise typer.BadParameter(
            f"{text!r} is not a time; give 2026-11-20, 2026-11-20T06:00, 7d, 12h or 30m"
        ) from None
    if timestamp > now:
        raise typer.BadParameter(
            f"{text!r} is in the future; now it is {batch_sources.format_timestamp(now)} UTC"
        )
    return timestamp


def open_journal(root: Path, book: str) -> Journal:
    """Open the journal of a book, and create it if it does not exist."""
    from modelbook.journal import Journal

    journal = Journal(_find_journal_url(root, book), book, JOURNAL_TIMEOUT)
    journal.create_tables()
    return journal


def find_journal(root: Path, book: str) -> Journal | None:
    """Open the journal of a book, unless it is a file that does not exist."""
    from modelbook.journal.database import get_default_path, get_default_url

    is_file = _find_journal_url(root, book) == get_default_url(root, book)
    if is_file and not get_default_path(root, book).is_file():
        return None
    return open_journal(root, book)


def _find_journal_url(root: Path, book: str) -> str:
    from modelbook.journal.database import get_default_url
    from modelbook.serving import settings

    return settings.load_settings(root, book).journal.url or get_default_url(root, book)
