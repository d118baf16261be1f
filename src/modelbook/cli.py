"""The command line: parse, call, print."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

import modelbook
from modelbook.errors import ModelbookError

app = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode=None, help=modelbook.__doc__)

Book = Annotated[str | None, typer.Option(help="Name of the book; default: the book of env.yaml.")]


@contextmanager
def _reported() -> Iterator[None]:
    """An error that a user can mend is told without a traceback, and the command exits with 1."""
    try:
        yield
    except ModelbookError as error:
        typer.echo(f"{type(error).__name__}: {error}", err=True)
        raise typer.Exit(1) from None


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"modelbook {modelbook.__version__}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    pass


@app.command()
def build(book: Book = None, force: Annotated[bool, typer.Option("--force", help="Run every stage.")] = False) -> None:
    """Build a book: `ploomber build`, after a quick look whether anything has changed.

    Examples:  modelbook build  |  modelbook build --book rand-hie-sample
    """
    from modelbook.stage import built, project

    with _reported():
        root = project.find_root()
        environment = project.environment(root, book)
        if not force and built.fresh(root, environment):
            named = project.parameters(root, environment)["ingest"]["book"]
            built.summarise(root, named, list(project.tasks(root, named)), root / "reports" / "index.html", idle=True)
            return
    command = [str(Path(sys.executable).with_name("ploomber")), "build", *(["--force"] if force else [])]
    named_env = {**os.environ, "PLOOMBER_ENV_FILENAME": environment.name}
    raise typer.Exit(subprocess.run(command, cwd=root, env=named_env, check=False).returncode)


@app.command()
def check(
    table: Annotated[str, typer.Argument(help="A .csv or .parquet file, or a bundled table.")], book: Book = None
) -> None:
    """Hold a table against a book's contract; exit with 1 and the list of violations where it breaks it.

    Examples:  modelbook check rand-hie  |  modelbook check new.csv --book rand-hie
    """
    from modelbook import dataset
    from modelbook.contract import Contract
    from modelbook.stage import project

    with _reported():
        root = project.find_root()
        given = project.parameters(root, project.environment(root, book))["ingest"]
        found = Contract.load(root / given["contract"]).violations(dataset.read(table, root))
    if len(found):
        typer.echo(found.head(100).to_string(index=False))
        typer.echo(f"{len(found):,} violations of {given['contract']}", err=True)
        raise typer.Exit(1)
    typer.echo(f"{table} keeps {given['contract']}")


@app.command()
def store() -> None:
    """Create the MLflow store under models/ where there is none, and say where it is.

    Example:  modelbook store
    """
    from modelbook.registry.store import prepare, uri
    from modelbook.stage import project

    with _reported():
        root = project.find_root()
        prepare(root)
        typer.echo(uri(root))


if __name__ == "__main__":
    app()
