"""Commands of the champion at work: serve, export, score, stream, keys."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from modelbook.cli.place import Book, located, reported

app = typer.Typer()


@app.command()
def serve(
    host: Annotated[str, typer.Option(help="Address to listen at.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen at.")] = 8000,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Processes that answer.")] = 1,
    book: Book = None,
    origin: Annotated[str, typer.Option("--from", help="Address of an export to serve, without a project.")] = "",
) -> None:
    """Serve the champion of a book over HTTP; the manual is at /docs. Settings: serving.yaml.

    Examples:  modelbook serve  |  modelbook serve --port 9000 --workers 2  |  modelbook serve --from s3://models/9a0c...
    """
    from modelbook.registry import exported
    from modelbook.serving import server

    with reported():
        root, name = (Path.cwd(), exported.find(Path.cwd(), origin).name) if origin else located(book)
        server.run(root, name, host, port, workers, origin)


@app.command()
def export(
    address: Annotated[str, typer.Argument(help="Folder in an object store, such as s3://bucket/models.")],
    version: Annotated[int | None, typer.Option(min=1, help="A version; default: the champion.")] = None,
    book: Book = None,
) -> None:
    """Copy the champion's files to an object store, and print their address, which ends with their digest.

    Examples:  modelbook export s3://bucket/models  |  modelbook export s3://bucket/models --version 3
    """
    from modelbook.registry import exported

    with reported():
        root, name = located(book)
        typer.echo(exported.export(root, name, address, version))


@app.command()
def score(
    source: Annotated[Path, typer.Argument(metavar="IN", help="A .csv or .parquet file, or a folder of .parquet.")],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="The file to write, .csv or .parquet; or the folder.")],
    book: Book = None,
    engine: Annotated[str, typer.Option(help="Who answers a folder: local, dask, spark or ray.")] = "local",
    scheduler: Annotated[str | None, typer.Option(help="Address of the engine; default: this machine.")] = None,
) -> None:
    """Answer rows by the champion; those that break the contract go to OUT's name with .rejects.csv.

    Examples:  modelbook score rows.csv answers.csv  |  modelbook score rows answers --engine dask --scheduler tcp://...
    """
    from modelbook.engine import NAMES
    from modelbook.scoring import batch, partitions
    from modelbook.serving import loaded

    if engine not in NAMES:
        raise typer.BadParameter(f"{engine!r} is none of {', '.join(NAMES)}")
    if (engine != "local" or scheduler) and not source.is_dir():
        raise typer.BadParameter(f"an engine answers a folder of Parquet files, which {source} is not")
    if scheduler and engine == "local":
        raise typer.BadParameter("--scheduler wants --engine, too")

    def tell(rows: int, seconds: float) -> None:
        typer.echo(f"{rows:,} rows, {rows / max(seconds, 1e-9):,.0f} a second", err=True)

    with reported():
        named = loaded.pointed(*located(book))
        load = partial(loaded.load, limit=1)
        if source.is_dir():
            done = partitions.score(source, target, named, load, tell=tell, name=engine, scheduler=scheduler)
        else:
            one = load(named)
            done = batch.score(source, target, one.scorer, one.contract, one.number, tell=tell)
    typer.echo(f"{target}: {done.rows - done.rejected:,} rows answered by version {named.number}")
    if done.rejected:
        typer.echo(f"{done.rejects}: {done.rejected:,} rows break the contract", err=True)


@app.command()
def stream(book: Book = None) -> None:
    """Answer rows of a Redis stream into another, by the champion. Settings: serving.yaml, under stream.

    Examples:  modelbook stream  |  MODELBOOK_SERVE_STREAM__URL=redis://127.0.0.1:6380 modelbook stream --book rand-hie
    """
    from modelbook.serving import stream as worker

    with reported():
        worker.run(*located(book))


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

    with reported():
        typer.echo(Keys(project.find_root()).add(name, scope or ["predict"], days))


@keys.command("list")
def keys_list() -> None:
    """List the keys: names, scopes, and when they end.

    Example:  modelbook keys list
    """
    from modelbook.report import terminal
    from modelbook.serving.keys import Keys
    from modelbook.stage import project

    with reported():
        rows = [one.described() for one in Keys(project.find_root())]
    terminal.table(("name", "scopes", "made", "ends"), rows)


@keys.command("remove")
def keys_remove(name: Annotated[str, typer.Argument(help="The key's name.")]) -> None:
    """Remove a key; running services refuse it within seconds.

    Example:  modelbook keys remove shop
    """
    from modelbook.serving.keys import Keys
    from modelbook.stage import project

    with reported():
        Keys(project.find_root()).remove(name)
