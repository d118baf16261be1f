"""Commands that hold another version against what is served: ab, replay."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from modelbook.cli.place import AsJson, Book, journal, located, moment, reported

app = typer.Typer()

EXITS = {"void": 10}
QUIET = 2.0  # seconds between lines of progress


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


@app.command()
def replay(
    model: Annotated[int, typer.Option(min=1, metavar="V", help="Number of the version that is asked.")],
    since: Annotated[str, typer.Option(help="Rows answered since a time (UTC), or 7d, 12h, 30m.")],
    out: Annotated[Path | None, typer.Option(help="A .csv file for all rows with both answers.")] = None,
    book: Book = None,
    as_json: AsJson = False,
) -> None:
    """Ask another version what was answered before: how many answers would be others, by how much, and which most.

    Examples:  modelbook replay --model 2 --since 7d  |  modelbook replay --model 2 --since 2026-11-20 --out rows.csv
    """
    begun = moment(since)
    if out is not None and out.suffix != ".csv":
        raise typer.BadParameter(f"{out} does not end in .csv")
    with reported():
        told = _replayed(*located(book), model, begun or 0, out)
    if as_json:
        typer.echo(json.dumps(told, indent=1, ensure_ascii=False))
        return
    from modelbook.report import terminal

    terminal.replayed(told)


def _replayed(root: Path, book: str, number: int, begun: float, out: Path | None) -> dict[str, Any]:
    from modelbook.monitoring import replay as again
    from modelbook.serving import loaded

    one, said = loaded.numbered(root, book, number), [0.0]

    def tell(rows: int, seconds: float) -> None:
        if seconds - said[0] > QUIET:
            said[0] = seconds
            typer.echo(f"{rows:,} rows, {rows / seconds:,.0f} a second", err=True)

    with again.file(out) as keep:
        found = journal(root, book).answered(begun, number)
        told = again.replay(found, one.scorer, one.contract, f"version {number}", tell=tell, keep=keep)
    return {"book": book, "version": number, **told.to_dict(), "out": str(out) if out else None}


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
