"""Commands that hold another version against the champion: ab."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from modelbook.cli.place import AsJson, Book, journal, located, moment, reported

app = typer.Typer()

EXITS = {"void": 10}


@app.command()
def ab(
    since: Annotated[
        str | None,
        typer.Option(help="Rows since a time (UTC), or 7d, 12h, 30m; default: since the challenge began."),
    ] = None,
    book: Book = None,
    as_json: AsJson = False,
) -> None:
    """Judge champion and challenger by the traffic they share, at any time and as often as wanted; exit 10: void.

    Examples:  modelbook ab  |  modelbook ab --since 7d  |  modelbook ab --json --book rand-hie
    """
    begun = moment(since)
    with reported():
        told = judged(*located(book), begun)
    if as_json:
        typer.echo(json.dumps(told, indent=1, ensure_ascii=False))
    else:
        typer.echo("\n".join([told["word"], *(f"  {line}" for line in told["sentences"]), f"next: {told['next']}"]))
    raise typer.Exit(EXITS.get(told["word"], 0))


def judged(root: Path, book: str, since: float | None = None) -> dict[str, Any]:
    """The A/B as it stands now."""
    from modelbook.monitoring import ab as judge
    from modelbook.monitoring import decision, shared
    from modelbook.serving import settings

    traffic = settings.load(root).traffic
    found = shared.read(root, book, journal(root, book), since)
    plan = judge.Plan(traffic.share, traffic.least_users, traffic.least_hours)
    return decision.story(judge.judge(found.rows, plan), found)
