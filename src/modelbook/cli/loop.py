"""Commands of the loop: monitor."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from modelbook.cli.place import AsJson, Book, journal, located, moment, reported

app = typer.Typer()

EXITS = {"healthy": 0, "watch": 10, "retrain": 20}


@app.command()
def monitor(
    batch: Annotated[str | None, typer.Option(help="A file whose rows are one batch.")] = None,
    since: Annotated[
        str | None, typer.Option(help="What was served since then: a time (UTC), or 7d, 12h, 30m.")
    ] = None,
    book: Book = None,
    as_json: AsJson = False,
) -> None:
    """Judge the champion on a build's batches, a file, or what was served; exit 0 healthy, 10 watch, 20 retrain.

    Examples:  modelbook monitor  |  modelbook monitor --batch new.parquet  |  modelbook monitor --since 7d
    """
    if batch is not None and since is not None:
        raise typer.BadParameter("give --batch or --since, not both")
    begun = moment(since)
    with reported():
        told = _judged(*located(book), batch, begun)
    if as_json:
        typer.echo(json.dumps(told, indent=1, ensure_ascii=False))
    else:
        typer.echo("\n".join([told["word"], *(f"  {line}" for line in told["sentences"]), f"next: {told['next']}"]))
    raise typer.Exit(EXITS[told["word"]])


def _judged(root: Path, book: str, batch: str | None, begun: float | None) -> dict[str, Any]:
    """Watch what was named, keep it in the history, and tell the verdict over the newest windows."""
    from modelbook import config
    from modelbook.monitoring import history, sources, verdict, windows
    from modelbook.stage import project

    params: Any = config.validate("monitor", project.parameters(root, project.environment(root, book))["monitor"])
    version = sources.champion(root, book)
    if begun is not None:
        watched = sources.of_journal(journal(root, book), begun, time.time(), version, params)
    elif batch is not None:
        watched = sources.of_file(root, batch, version, params)
    else:
        watched = sources.of_build(root, book, version, params)
    past = history.History(history.path(root, book), version.number)
    past.add(watched, params)
    if begun is not None and not watched:
        nothing = f"Version {version.number} answered nothing since {sources.moment(begun)} UTC."
        return verdict.story([], [], version.number) | {"sentences": [nothing], "next": "See that it is in service."}
    return verdict.story(windows.over(past.windows(), params) if watched else [], watched, version.number)
