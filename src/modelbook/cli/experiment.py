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
        told = judged(*located(book), begun, publish=True)
    if as_json:
        typer.echo(json.dumps(told, indent=1, ensure_ascii=False))
    else:
        lines = [told["word"], *(f"  {line}" for line in told["sentences"]), f"next: {told['next']}", told["page"]]
        typer.echo("\n".join(lines))
    raise typer.Exit(EXITS.get(told["word"], 0))


def judged(root: Path, book: str, since: float | None = None, *, publish: bool = False) -> dict[str, Any]:
    """The A/B as it stands now, and its page beside the book's reports."""
    from modelbook.monitoring import ab as judge
    from modelbook.monitoring import decision, shared
    from modelbook.serving import settings

    traffic = settings.load(root).traffic
    found = shared.read(root, book, journal(root, book), since)
    plan = judge.Plan(traffic.share, traffic.least_users, traffic.least_hours)
    told = decision.story(judge.judge(found.rows, plan), found)
    if publish:
        from modelbook.report import ab as page
        from modelbook.stage import overview

        path = page.write(root / "reports" / book / "ab.html", told, judge.course(found.rows, plan))
        overview.write(root, book)
        told["page"] = path.relative_to(root).as_posix()
    return told
