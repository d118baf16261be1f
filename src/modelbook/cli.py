"""The command line: parse, call, print."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

import modelbook
from modelbook.errors import ModelbookError

app = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode=None, help=modelbook.__doc__)

Book = Annotated[str | None, typer.Option(help="Name of the book; default: the book of env.yaml.")]

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@contextmanager
def _reported() -> Iterator[None]:
    """An error that a user can mend is told without a traceback, and the command exits with 1."""
    try:
        yield
    except ModelbookError as error:
        typer.echo(f"{type(error).__name__}: {error}", err=True)
        raise typer.Exit(1) from None


def _place(book: str | None) -> tuple[Path, str]:
    """The project, and the book that is meant: one that has products needs no env file any more."""
    from modelbook.stage import project

    root = project.find_root()
    if book is None or not (root / "reports" / book / "runs").is_dir():
        given = project.parameters(root, project.environment(root, book))
        return root, next(iter(given.values()))["book"]
    return root, book


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
        project.parameters(root, environment)  # what is wrong in the env file is told better here than by Ploomber
        if not force and built.fresh(root, environment):
            named = project.parameters(root, environment)["ingest"]["book"]
            built.summarise(root, named, list(project.tasks(root, named)), root / "reports" / "index.html", idle=True)
            return
    command = [str(Path(sys.executable).with_name("ploomber")), "build", *(["--force"] if force else [])]
    os.chdir(root)
    # In this process' place, so that Ctrl-C and signals reach the build itself, which ends its kernels.
    os.execve(command[0], command, {**os.environ, "PLOOMBER_ENV_FILENAME": environment.name})


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
def runs(
    book: Book = None,
    limit: Annotated[int, typer.Option(min=1, help="How many are shown, newest first.")] = 20,
    as_json: AsJson = False,
) -> None:
    """List a book's runs: when, what ran, from which commit and data, and what came out.

    Examples:  modelbook runs  |  modelbook runs --book rand-hie-sample --limit 5
    """
    from modelbook.report import terminal
    from modelbook.stage import history

    with _reported():
        found = history.runs(*_place(book))
    if as_json:
        typer.echo(json.dumps([run.to_dict() for run in found[:limit]], indent=1, ensure_ascii=False))
        return
    terminal.runs(found[:limit])
    if len(found) > limit:
        typer.echo(f"{limit} of {len(found)} runs; all: --limit {len(found)}")


def _run_name(given: str | None) -> str | None:
    from modelbook.stage.history import NAMED

    if given is not None and not NAMED.fullmatch(given):
        raise typer.BadParameter(f"{given!r} is no run; give a number, or last, last-1, ...")
    return given


@app.command()
def diff(
    a: Annotated[str, typer.Argument(callback=_run_name, help="A run's number, or last, last-1, ...")] = "last-1",
    b: Annotated[str, typer.Argument(callback=_run_name, help="The run that is held against it.")] = "last",
    book: Book = None,
    as_json: AsJson = False,
    as_page: Annotated[bool, typer.Option("--html", help="Write the page of the two, and print its path.")] = False,
) -> None:
    """Show what changed from run A to run B: code, data, parameters, stages, verdicts, metrics; and, as a page, charts.

    Examples:  modelbook diff  |  modelbook diff 3 5  |  modelbook diff 3 last --json  |  modelbook diff 3 5 --html
    """
    from modelbook.report import terminal
    from modelbook.stage import archive, history

    with _reported():
        place = _place(book)
        first, second, changes = history.compare(*place, a, b)
    if as_page:
        typer.echo(str(archive.compare(*place, first, second)))
        return
    if as_json:
        told = {"a": first.to_dict(), "b": second.to_dict(), "changes": [change.to_dict() for change in changes]}
        typer.echo(json.dumps(told, indent=1, ensure_ascii=False))
        return
    terminal.changes(first, second, changes)


@app.command()
def pdf(
    stages: Annotated[list[str] | None, typer.Argument(help="Stages; default: all that have a page.")] = None,
    book: Book = None,
) -> None:
    """Print reports as PDF, each beside its page, by the Chromium or Chrome that is installed.

    Examples:  modelbook pdf  |  modelbook pdf finalize monitor --book rand-hie
    """
    from modelbook.report import pdf as printer

    with _reported():
        root, name = _place(book)
        pages = printer.pages(root, name, stages or [])
        for place, (_, target) in enumerate(printer.write(pages), 1):
            size = target.stat().st_size / 1000
            typer.echo(f"[{place}/{len(pages)}] {target.relative_to(root)} ({size:,.0f} kB)")


@app.command()
def site(out: Annotated[Path, typer.Argument(help="A folder, or a name that ends in .zip.")] = Path("site")) -> None:
    """Copy the reports of all books, to put on any web host or to mail: all that the index leads to.

    Examples:  modelbook site  |  modelbook site site.zip
    """
    from modelbook.report import site as publisher
    from modelbook.stage import project

    with _reported():
        root = project.find_root()
        names = publisher.publish(root / "reports", out)
    size = sum((root / "reports" / name).stat().st_size for name in names) / 1e6
    files = f"{len(names)} file{'s' if len(names) != 1 else ''}"
    typer.echo(f"{files}, {size:.1f} MB: {out if out.suffix == '.zip' else out / 'index.html'}")


@app.command()
def serve(
    host: Annotated[str, typer.Option(help="Address to listen at.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen at.")] = 8000,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Processes that answer.")] = 1,
    book: Book = None,
) -> None:
    """Serve the champion of a book over HTTP; the manual is at /docs. Settings: serving.yaml.

    Examples:  modelbook serve  |  modelbook serve --port 9000 --workers 2  |  modelbook serve --book rand-hie
    """
    from modelbook.serving import server

    with _reported():
        root, name = _place(book)
        server.run(root, name, host, port, workers)


@app.command()
def score(
    source: Annotated[Path, typer.Argument(metavar="IN", help="A .csv or .parquet file.")],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="The file to write, .csv or .parquet.")],
    book: Book = None,
) -> None:
    """Answer the rows of a file by the champion; rows that break the contract go to OUT's name with .rejects.csv.

    Examples:  modelbook score rows.parquet answers.parquet  |  modelbook score rows.csv answers.csv --book rand-hie
    """
    from modelbook.scoring import batch
    from modelbook.serving import loaded

    def tell(rows: int, seconds: float) -> None:
        typer.echo(f"{rows:,} rows, {rows / max(seconds, 1e-9):,.0f} a second", err=True)

    with _reported():
        one = loaded.champion(*_place(book))
        done = batch.score(source, target, one.scorer, one.contract, one.number, tell=tell)
    typer.echo(f"{target}: {done.rows - done.rejected:,} rows answered by version {one.number}")
    if done.rejected:
        typer.echo(f"{done.rejects}: {done.rejected:,} rows break the contract", err=True)


keys = typer.Typer(no_args_is_help=True, help="API keys of the service: add, list, remove.")
app.add_typer(keys, name="keys")


@keys.command("add")
def keys_add(
    name: Annotated[str, typer.Argument(help="Who will use it.")],
    scope: Annotated[
        list[str] | None, typer.Option(help="predict, outcomes or admin; may be given several times.")
    ] = None,
    days: Annotated[float | None, typer.Option(min=0.001, help="Days until it ends; default: it does not.")] = None,
) -> None:
    """Make a key and print it, once; only its hash is kept. Running services take it within seconds.

    Examples:  modelbook keys add shop  |  modelbook keys add report --scope predict --scope outcomes --days 90
    """
    from modelbook.serving.keys import Keys
    from modelbook.stage import project

    with _reported():
        typer.echo(Keys(project.find_root()).add(name, scope or ["predict"], days))


@keys.command("list")
def keys_list() -> None:
    """List the keys: names, scopes, and when they end.

    Example:  modelbook keys list
    """
    from modelbook.report import terminal
    from modelbook.serving.keys import Keys
    from modelbook.stage import project

    with _reported():
        rows = [one.described() for one in Keys(project.find_root())]
    terminal.table(("name", "scopes", "made", "ends"), rows)


@keys.command("remove")
def keys_remove(name: Annotated[str, typer.Argument(help="The key's name.")]) -> None:
    """Remove a key; running services refuse it within seconds.

    Example:  modelbook keys remove shop
    """
    from modelbook.serving.keys import Keys
    from modelbook.stage import project

    with _reported():
        Keys(project.find_root()).remove(name)


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


@app.command()
def setup() -> None:
    """Write what JupyterLab and git need: kernel and settings into this environment, filters into this clone's config.

    Example:  modelbook setup
    """
    from modelbook import workbench
    from modelbook.stage import project

    with _reported():
        for line in workbench.setup(project.find_root()):
            typer.echo(line)


@app.command()
def doctor(book: Book = None, as_json: AsJson = False) -> None:
    """Look at everything that work on a project needs, and say how to mend it; exit with 1 where something is wrong.

    Examples:  modelbook doctor  |  modelbook doctor --book rand-hie-sample  |  modelbook doctor --json
    """
    from modelbook import workbench
    from modelbook.report import terminal
    from modelbook.stage import project

    with _reported():
        parts = workbench.look(project.find_root(), book)
    if as_json:
        typer.echo(json.dumps([asdict(part) for part in parts], indent=1, ensure_ascii=False))
    else:
        rows = [(part.name, "ok" if part.ok else "WRONG", part.state, part.mend) for part in parts]
        terminal.table(("part", "", "state", "to mend"), rows)
    if not all(part.ok for part in parts):
        raise typer.Exit(1)


if __name__ == "__main__":
    app()
