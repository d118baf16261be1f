"""Commands of the loop: monitor."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from modelbook.cli.place import AsJson, Book, located, reported

app = typer.Typer()

EXITS = {"healthy": 0, "watch": 10, "retrain": 20}


def _since(told: str | None) -> float | None:
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
    begun = _since(since)
    with reported():
        told = _judged(*located(book), batch, begun)
    _send(told)
    if as_json:
        typer.echo(json.dumps(told, indent=1, ensure_ascii=False))
    else:
        typer.echo("\n".join([told["word"], *(f"  {line}" for line in told["sentences"]), f"next: {told['next']}"]))
    raise typer.Exit(EXITS[told["word"]])


def _judged(root: Path, book: str, batch: str | None, begun: float | None) -> dict[str, Any]:
    """Watch what was named, keep it in the history, and tell the verdict over the newest windows."""
    from modelbook import config
    from modelbook.monitoring import history, latest, sources, verdict, windows
    from modelbook.stage import project

    params: Any = config.validate("monitor", project.parameters(root, project.environment(root, book))["monitor"])
    version = sources.champion(root, book)
    known = {"book": book, "version": version.number, "at": sources.moment(time.time())}
    if begun is not None:
        watched = sources.of_journal(_journal(root, book), begun, time.time(), version, params)
    elif batch is not None:
        watched = sources.of_file(root, batch, version, params)
    else:
        watched = sources.of_build(root, book, version, params)
    past = history.History(latest.path(root, book), version.number)
    past.add(watched, params)
    if begun is not None and not watched:
        nothing = f"Version {version.number} answered nothing since {sources.moment(begun)} UTC."
        silent = {"sentences": [nothing], "next": "See that it is in service."}
        return known | verdict.story([], [], version.number) | silent
    found = windows.over(past.windows(), params) if watched else []
    _log(root, book, version.number, watched, params, verdict.overall(found))
    return known | verdict.story(found, watched, version.number)


def _log(root: Path, book: str, version: int, watched: list[Any], params: Any, word: str) -> None:
    """A run of the stage in MLflow; a verdict stands without one."""
    from modelbook.monitoring import watch
    from modelbook.registry import runs
    from modelbook.stage import project

    tags = {"commit": project.commit(root), "version": version, "verdict": word}
    try:
        with runs.Run(root, book, "monitor", tags | {"batches": ", ".join(one.batch for one in watched)}) as run:
            run.log(watch.logged(watched), params.model_dump())
    except Exception as error:  # whatever the store says: the history has it, and nobody waits for this
        typer.echo(f"not in MLflow: {type(error).__name__}: {str(error).splitlines()[0]}", err=True)


def _send(told: dict[str, Any]) -> None:
    """The verdict to the webhook, where there is one; it stands, whether that works or not."""
    from modelbook.monitoring import webhook

    if url := webhook.address():
        text = f"{told['book']}: {told['word']}. {' '.join(told['sentences'])} Next: {told['next']}"
        if failed := webhook.send(url, {"text": text, **told}):
            typer.echo(f"the webhook was not told: {failed}", err=True)


def _journal(root: Path, book: str) -> Any:
    from modelbook.journal import Journal
    from modelbook.journal.store import default
    from modelbook.serving import settings

    kept = settings.load(root).journal
    found = Journal(kept.url or default(root, book), kept.patience)
    found.create()
    return found
