"""Commands of the loop: monitor and retrain."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from modelbook.cli.place import AsJson, Book, journal, located, moment, reported

app = typer.Typer()

EXITS = {"healthy": 0, "watch": 10, "retrain": 20}


@app.command()
def monitor(
    batch: Annotated[
        str | None, typer.Option(help="A file, or a folder of .parquet, whose rows are one batch.")
    ] = None,
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
    _send(told)
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
    from modelbook.monitoring import history, latest, sources, verdict, windows
    from modelbook.stage import project

    params: Any = config.validate("monitor", project.parameters(root, project.environment(root, book))["monitor"])
    version = sources.champion(root, book)
    known = {"book": book, "version": version.number, "at": sources.moment(time.time())}
    if begun is not None:
        watched = sources.of_journal(journal(root, book), begun, time.time(), version, params)
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


@app.command()
def demo() -> None:
    """Tell the whole loop on one screen, with a small book in the folder demo/: nothing of the project is touched.

    Build, serve, a year of live requests, outcomes, monitor, retrain, gate, promotion under load, A/B, rollback. A few
    minutes.

    Example:  modelbook demo
    """
    from modelbook.demo.place import Place
    from modelbook.demo.screen import Screen
    from modelbook.demo.story import Story
    from modelbook.stage import project

    with reported(), Screen() as screen:
        root = project.find_root()
        index = Story(Place(root, root / "demo", screen.tell), screen.say).tell()
    typer.echo(f"the same, told by its reports: {index}")
