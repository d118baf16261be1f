"""Commands on the champion and the challenger: history, promote, rollback, challenge."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from modelbook.cli import ab
from modelbook.cli.options import BookOption, JsonOption, find_book, print_json, report_errors

if TYPE_CHECKING:
    from modelbook.registry.history import HistoryEntry

app = typer.Typer()

ReasonOption = Annotated[str, typer.Option(help="Reason, recorded in the history.")]


@app.command()
def history(
    book: BookOption = None,
    limit: Annotated[
        int, typer.Option(min=1, help="Maximum number of entries shown, newest first.")
    ] = 20,
    as_json: JsonOption = False,
) -> None:
    """List gate decisions and champion moves: time, user, reason and, with --json, evidence.

    Exits with 1 if the history was altered.

    Examples:  modelbook history  |  modelbook history --book rand-hie --limit 5
    |  modelbook history --json
    """
    from modelbook.cli import terminal
    from modelbook.registry import history as registry_history
    from modelbook.stage import project

    with report_errors():
        root, name = find_book(book)
        mismatch = registry_history.settle(root, name, project.get_commit(root))
        entries = registry_history.read_history(root, name)[::-1]
        integrity_errors = registry_history.find_integrity_errors(root, name)
    if as_json:
        print_json([entry.to_dict() for entry in entries[:limit]])
    else:
        terminal.print_history(entries[:limit])
        if len(entries) > limit:
            typer.echo(f"{limit} of {len(entries)} entries; all: --limit {len(entries)}")
    for sentence in [*([mismatch] if mismatch else []), *integrity_errors]:
        typer.echo(sentence, err=True)
    if integrity_errors:
        typer.echo("The history was altered. Compare it with a backup of the store.", err=True)
        raise typer.Exit(1)


@app.command()
def promote(
    version: Annotated[int, typer.Argument(min=1, metavar="V", help="Number of the version.")],
    why: ReasonOption = "",
    override: Annotated[
        str, typer.Option(help="Reason to override the gate, recorded in the history.")
    ] = "",
    require_ab: Annotated[
        bool, typer.Option("--require-ab", help="Only if the current A/B result supports it.")
    ] = False,
    book: BookOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make an approved version the champion, once its golden rows are reproduced; services follow.

    Examples:  modelbook promote 3 --why "ready for the spring"
    |  modelbook promote 3 --require-ab
    """
    from modelbook.registry import promotion
    from modelbook.stage import project

    with report_errors():
        root, name = find_book(book)
        ab_result = ab.evaluate_ab(root, name) if require_ab else None
        move = promotion.promote(
            root,
            name,
            version,
            reason=why,
            override=override,
            commit=project.get_commit(root),
            ab_result=ab_result,
        )
        if move is not None:
            _announce_move(root, name, move, as_json=as_json)
        elif as_json:
            print_json({"moved": False, "model": name, "champion_after": version})
        else:
            typer.echo(f"version {version} of {name} is the champion already; nothing was moved")


@app.command()
def rollback(why: ReasonOption = "", book: BookOption = None, as_json: JsonOption = False) -> None:
    """Make the previous version the champion again, once its golden rows are reproduced.

    Examples:  modelbook rollback
    |  modelbook rollback --why "too many false alarms" --book rand-hie
    """
    from modelbook.registry import promotion
    from modelbook.stage import project

    with report_errors():
        root, name = find_book(book)
        move = promotion.roll_back(root, name, reason=why, commit=project.get_commit(root))
        _announce_move(root, name, move, as_json=as_json)


@app.command()
def challenge(
    version: Annotated[
        int | None, typer.Argument(min=1, metavar="V", help="Number of the version.")
    ] = None,
    end: Annotated[bool, typer.Option("--end", help="End the challenge.")] = False,
    why: ReasonOption = "",
    book: BookOption = None,
    as_json: JsonOption = False,
) -> None:
    """Let a version share the champion's traffic, once its golden rows are reproduced.

    Examples:  modelbook challenge 2 --why "trained on year 4"  |  modelbook challenge --end
    """
    from modelbook.registry import promotion
    from modelbook.stage import project

    if (version is None) != end:
        raise typer.BadParameter("give the number of a version, or --end")
    with report_errors():
        root, name = find_book(book)
        move = promotion.set_challenger(
            root, name, version, reason=why, commit=project.get_commit(root)
        )
        _announce_move(root, name, move, as_json=as_json)


def _announce_move(root: Path, book: str, move: HistoryEntry, *, as_json: bool) -> None:
    """Print the entry of a move, and update the index of reports."""
    from modelbook.build import report_index

    if as_json:
        print_json({"moved": True, **move.to_dict()})
    else:
        typer.echo(move.describe_move())
    report_index.write_index(root, book)
