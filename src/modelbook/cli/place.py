"""Where a command works, and how it tells of what goes wrong."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from modelbook.errors import ModelbookError

Book = Annotated[str | None, typer.Option(help="Name of the book; default: the book of env.yaml.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@contextmanager
def reported() -> Iterator[None]:
    """An error that a user can mend is told without a traceback, and the command exits with 1."""
    try:
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
