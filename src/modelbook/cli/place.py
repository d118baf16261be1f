"""Where a command works, and how it tells of what goes wrong."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from modelbook import disk
from modelbook.errors import ModelbookError

if TYPE_CHECKING:
    from modelbook.journal import Journal

PATIENCE = 60.0  # seconds that a command waits for the journal, which nobody's answer waits for meanwhile

Book = Annotated[str | None, typer.Option(help="Name of the book; default: the book of env.yaml.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@contextmanager
def reported() -> Iterator[None]:
    """An error that a user can mend is told without a traceback, and the command exits with 1."""
    try:
        with disk.told():
            yield
    except ModelbookError as error:
        typer.echo(f"{type(error).__name__}: {error}", err=True)
        raise typer.Exit(1) from None


def located(book: str | None) -> tuple[Path, str]:
    """The project, and the book that is meant: one that has products needs no env file any more."""
    from modelbook.stage import project

    root = project.find_root()
    if book is None or not (root / "reports" / book / "runs").is_dir():
        given = project.parameters(root, project.environment(root, book))
        return root, next(iter(given.values()))["book"]
    return root, book


def moment(told: str | None) -> float | None:
    """Seconds since 1970 of a time on the command line; wrong usage where it is none."""
    if told is None:
        return None
    from modelbook.monitoring import sources

    try:
        found, now = sources.since(told), time.time()
    except (ValueError, OverflowError):
        raise typer.BadParameter(f"{told!r} is no time; give 2026-11-20, 2026-11-20T06:00, 7d, 12h or 30m") from None
    if found > now:
        raise typer.BadParameter(f"{told!r} is still to come; now it is {sources.moment(now)} UTC")
    return found


def journal(root: Path, book: str) -> Journal:
    """The journal of a book, made where there is none."""
    from modelbook.journal import Journal
    from modelbook.journal.store import default
    from modelbook.serving import settings

    found = Journal(settings.load(root).journal.url or default(root, book), PATIENCE)
    found.create()
    return found
