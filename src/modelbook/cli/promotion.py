"""Commands that move the champion and tell how it moved: history, promote, rollback, challenge."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from modelbook.cli import experiment
from modelbook.cli.place import AsJson, Book, located, reported

app = typer.Typer()

Why = Annotated[str, typer.Option(help="The reason, kept in the history.")]


@app.command()
def history(
    book: Book = None,
    limit: Annotated[int, typer.Option(min=1, help="How many entries are shown, newest first.")] = 20,
    as_json: AsJson = False,
) -> None:
    """List what the gate decided and how the champion changed: when, by whom, why, and with --json on what evidence.

    Exits with 1 when the history was tampered with.

    Examples:  modelbook history  |  modelbook history --book rand-hie --limit 5  |  modelbook history --json
    """
    from modelbook.registry import history as kept
    from modelbook.report import terminal

    with reported():
        root, name = located(book)
        entries, breaks = kept.read(root, name)[::-1], kept.breaks(root)
        strayed = kept.strayed(root, name)
    if as_json:
        typer.echo(json.dumps([entry.to_dict() for entry in entries[:limit]], indent=1, ensure_ascii=False))
    else:
        terminal.history(entries[:limit])
    if len(entries) > limit and not as_json:
        typer.echo(f"{limit} of {len(entries)} entries; all: --limit {len(entries)}")
    for sentence in [*([strayed] if strayed else []), *breaks]:
        typer.echo(sentence, err=True)
    if breaks:
        typer.echo("The history is not as it was written. Compare it with a backup of models/mlflow.db.", err=True)
        raise typer.Exit(1)


@app.command()
def promote(
    version: Annotated[int, typer.Argument(min=1, metavar="V", help="Number of the version.")],
    why: Why = "",
    override: Annotated[str, typer.Option(help="Why the gate's word does not count; kept in the history.")] = "",
    require_ab: Annotated[bool, typer.Option("--require-ab", help="Only if the A/B of now says so.")] = False,
    book: Book = None,
) -> None:
    """Make a version the champion, when the gate let it through and it proves itself; a running service follows.

    Examples:  modelbook promote 3 --why "wanted for the spring"  |  modelbook promote 3 --require-ab
    """
    from modelbook.registry import promotion
    from modelbook.stage import project

    with reported():
        root, name = located(book)
        tried = experiment.judged(root, name) if require_ab else None
        made = promotion.promote(
            root, name, version, why=why, override=override, commit=project.commit(root), tried=tried
        )
        if made is None:
            typer.echo(f"version {version} of {name} is the champion already; nothing was moved")
            return
        _tell(root, name, made.moved())


@app.command()
def rollback(why: Why = "", book: Book = None) -> None:
    """Give the champion's place back to the version before, which proves itself first; a running service follows.

    Examples:  modelbook rollback  |  modelbook rollback --why "too many false alarms" --book rand-hie
    """
    from modelbook.registry import promotion
    from modelbook.stage import project

    with reported():
        root, name = located(book)
        made = promotion.roll_back(root, name, why=why, commit=project.commit(root))
        _tell(root, name, made.moved())


@app.command()
def challenge(
    version: Annotated[int | None, typer.Argument(min=1, metavar="V", help="Number of the version.")] = None,
    end: Annotated[bool, typer.Option("--end", help="The challenger takes no more part.")] = False,
    why: Why = "",
    book: Book = None,
) -> None:
    """Let a version share the champion's traffic, as serving.yaml says, when it proves itself.

    Examples:  modelbook challenge 2 --why "trained on year 4"  |  modelbook challenge --end
    """
    from modelbook.registry import promotion
    from modelbook.stage import project

    if (version is None) != end:
        raise typer.BadParameter("give the number of a version, or --end")
    with reported():
        root, name = located(book)
        made = promotion.challenge(root, name, version, why=why, commit=project.commit(root))
        _tell(root, name, f"{made.word}: version {made.version} of {name}; entry {made.number} in history")


def _tell(root: Path, book: str, moved: str) -> None:
    """Say what has moved, and write it into the index of reports."""
    from modelbook.stage import overview

    typer.echo(moved)
    overview.write(root, book)
