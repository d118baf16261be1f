"""Commands of the loop: monitor and retrain."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict
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
        return sources.since(told)
    except ValueError:
        raise typer.BadParameter(f"{told!r} is no time; give 2026-11-20, 2026-11-20T06:00, 7d, 12h or 30m") from None


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
    if as_json:
        typer.echo(json.dumps(told, indent=1, ensure_ascii=False))
    else:
        typer.echo("\n".join([told["word"], *(f"  {line}" for line in told["sentences"]), f"next: {told['next']}"]))
    raise typer.Exit(EXITS[told["word"]])


def _span(told: str | None) -> float | None:
    from modelbook.config.values import seconds

    try:
        return None if told is None else seconds(told)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


@app.command()
def retrain(
    as_of: Annotated[
        float | None, typer.Option(help="Last period that trains; default: the newest that has outcomes.")
    ] = None,
    batch: Annotated[list[str] | None, typer.Option(help="Labelled rows that join; may be given again.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")] = False,
    cooldown: Annotated[
        str | None, typer.Option(help="Do nothing when the gate's last word is younger: 7d, 12h, 30m.")
    ] = None,
    budget: Annotated[str | None, typer.Option(help="The most that the whole may take: 2h, 30m, 90s.")] = None,
    why: Annotated[str, typer.Option(help="The reason, kept in the history.")] = "",
    book: Book = None,
    as_json: AsJson = False,
) -> None:
    """Rebuild a book on newer labelled rows up to deploy, where the gate lets the challenger in or holds it.

    Exits with 0 also when it was held, or there was nothing to do.

    Examples:  modelbook retrain  |  modelbook retrain --as-of 4 --dry-run  |  modelbook retrain --batch may.csv
    """
    from modelbook.stage import plan, project, retrain

    patience, most = _span(cooldown), _span(budget)
    wish = plan.Wish(as_of, tuple(batch or ()), dry_run=dry_run, cooldown=patience, budget=most, why=why)
    with reported():
        root = project.find_root()
        outcome = retrain.retrain(root, project.environment(root, book), wish, out=sys.stderr if as_json else None)
    if as_json:
        typer.echo(json.dumps(asdict(outcome), indent=1, ensure_ascii=False))
    else:
        typer.echo("\n".join([outcome.word, *(f"  {line}" for line in outcome.sentences), f"next: {outcome.next}"]))


def _judged(root: Path, book: str, batch: str | None, begun: float | None) -> dict[str, Any]:
    """Watch what was named, keep it in the history, and tell the verdict over the newest windows."""
    from modelbook import config
    from modelbook.monitoring import history, sources, verdict, windows
    from modelbook.stage import project

    params: Any = config.validate("monitor", project.parameters(root, project.environment(root, book))["monitor"])
    version = sources.champion(root, book)
    if begun is not None:
        watched = sources.of_journal(_journal(root, book), begun, time.time(), version, params)
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


def _journal(root: Path, book: str) -> Any:
    from modelbook.journal import Journal
    from modelbook.journal.store import default
    from modelbook.serving import settings

    kept = settings.load(root).journal
    found = Journal(kept.url or default(root, book), kept.patience)
    found.create()
    return found
