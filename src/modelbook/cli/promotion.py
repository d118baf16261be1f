"""Commands for champion and challenger: history, promote, import, rollback, challenge."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from modelbook.cli import ab, terminal
from modelbook.cli.options import (
    BookOption,
    JsonOption,
    find_book,
    find_journal,
    print_json,
    report_errors,
)

if TYPE_CHECKING:
    from modelbook.extras.import_gate import ImportDecision
    from modelbook.registry.history import HistoryEntry
    from modelbook.registry.imports import ImportResult

app = typer.Typer()

ReasonOption = Annotated[str, typer.Option("--why", help="Reason, recorded in the history.")]


@app.command()
def history(
    book: BookOption = None,
    limit: Annotated[
        int, typer.Option(min=1, help="Maximum number of entries shown, newest first.")
    ] = 20,
    as_json: JsonOption = False,
) -> None:
    """List gate decisions and alias changes: time, user, reason and, with --json, evidence.

    Exits with 1 if the history was altered.

    Examples:  modelbook history  |  modelbook history --book rand-hie --limit 5
    |  modelbook history --json
    """
    from modelbook.registry import history as registry_history
    from modelbook.stage import project

    with report_errors():
        root, name = find_book(book)
        mismatch = registry_history.reconcile(root, name, project.get_commit(root))
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
    reason: ReasonOption = "",
    override: Annotated[
        str, typer.Option(help="Reason to override the gate, recorded in the history.")
    ] = "",
    require_ab: Annotated[
        bool, typer.Option("--require-ab", help="Only if the current A/B result supports it.")
    ] = False,
    book: BookOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make an approved version the champion; services reload after its golden rows are verified.

    Examples:  modelbook promote 3 --why "ready for the spring"
    |  modelbook promote 3 --require-ab
    """
    from modelbook.registry import promotion
    from modelbook.stage import project

    with report_errors():
        root, name = find_book(book)
        ab_result = ab.evaluate_ab(root, name) if require_ab else None
        alias_change = promotion.promote(
            root,
            name,
            version,
            reason=reason,
            override=override,
            commit=project.get_commit(root),
            ab_result=ab_result,
        )
        if alias_change is not None:
            _report_alias_change(root, name, alias_change, as_json=as_json)
        elif as_json:
            print_json({"moved": False, "model": name, "champion_after": version})
        else:
            typer.echo(f"version {version} of {name} is the champion already; nothing was moved")


@app.command("import")
def import_version(
    uri: Annotated[str, typer.Argument(help="The path or URI that modelbook export printed.")],
    verify: Annotated[
        Path | None,
        typer.Option(metavar="KEY", help="Public key whose owner must have signed the export."),
    ] = None,
    promote: Annotated[
        bool, typer.Option("--promote", help="Make it the champion, if the gate approves it.")
    ] = False,
    override: Annotated[
        str, typer.Option(help="Reason to make it the champion against the gate's decision.")
    ] = "",
    book: BookOption = None,
    as_json: JsonOption = False,
) -> None:
    """Register an exported version in this store, and apply the gate on this project's rows.

    Files, history and golden rows are verified first. The gate compares it with the champion where
    this project has rows that neither was fitted on; the history records its decision.

    Examples:  modelbook import s3://bucket/models/9a0c...
    |  modelbook import s3://bucket/models/9a0c... --promote
    """
    from modelbook.registry import promotion
    from modelbook.stage import project

    alias_change = None
    with report_errors():
        root, name = find_book(book)
        commit = project.get_commit(root)
        imported, gate_result = _import_and_decide(root, name, uri, verify, book, commit)
        if not as_json:
            _print_import(name, imported, gate_result)
        if promote or override:
            alias_change = promotion.promote(
                root, name, imported.version, reason="", override=override, commit=commit
            )
        if alias_change is not None and not as_json:
            _report_alias_change(root, name, alias_change, as_json=False)
    if as_json:
        print_json(
            {
                "book": name,
                "version": imported.version,
                "is_new": imported.is_new,
                "entry": imported.entry.to_dict(),
                "gate": gate_result.to_dict(),
                "move": alias_change.to_dict() if alias_change else None,
            }
        )
    elif not (promote or override):
        hint = '--override "REASON"' if gate_result.is_hold else "--why REASON"
        typer.echo(f"next: modelbook promote {imported.version} {hint}", err=True)


def _import_and_decide(
    root: Path, name: str, uri: str, verify: Path | None, book: str | None, commit: str
) -> tuple[ImportResult, ImportDecision]:
    """Register an exported version, and apply this project's gate to it."""
    from modelbook import config
    from modelbook.extras import import_gate
    from modelbook.registry import imports, signing
    from modelbook.stage import project

    params: Any = config.validate("deploy", project.read_stage_parameters(root, book, "deploy"))
    # Before the import: if it cannot be opened, nothing is registered.
    journal = find_journal(root, name)
    public_key = signing.load_public_key(verify) if verify else None
    result = imports.import_version(root, name, uri, commit, public_key)
    return result, import_gate.evaluate_import(root, result.entry, params, journal, commit)


def _print_import(book: str, imported: ImportResult, gate_result: ImportDecision) -> None:
    state = "registered" if imported.is_new else "registered already"
    typer.echo(
        f"version {imported.version} of {book} {state}; entry {imported.entry.number} in history"
    )
    if gate_result.decision is None or gate_result.entry is None:
        typer.echo(gate_result.selection)
        return
    typer.echo(f"gate: {gate_result.decision.action}; entry {gate_result.entry.number} in history")
    for sentence in [*gate_result.decision.reasons, gate_result.selection]:
        typer.echo(f"  {sentence}")


@app.command()
def rollback(
    reason: ReasonOption = "", book: BookOption = None, as_json: JsonOption = False
) -> None:
    """Make the previous version the champion again, after its golden rows are verified.

    Examples:  modelbook rollback
    |  modelbook rollback --why "too many false alarms" --book rand-hie
    """
    from modelbook.registry import promotion
    from modelbook.stage import project

    with report_errors():
        root, name = find_book(book)
        alias_change = promotion.roll_back(
            root, name, reason=reason, commit=project.get_commit(root)
        )
        _report_alias_change(root, name, alias_change, as_json=as_json)


@app.command()
def challenge(
    version: Annotated[
        int | None, typer.Argument(min=1, metavar="V", help="Number of the version.")
    ] = None,
    end: Annotated[bool, typer.Option("--end", help="End the challenge.")] = False,
    reason: ReasonOption = "",
    book: BookOption = None,
    as_json: JsonOption = False,
) -> None:
    """Split traffic between the champion and a version, after its golden rows are verified.

    Examples:  modelbook challenge 2 --why "trained on year 4"  |  modelbook challenge --end
    """
    from modelbook.registry import promotion
    from modelbook.stage import project

    if (version is None) != end:
        raise typer.BadParameter("give the number of a version, or --end")
    with report_errors():
        root, name = find_book(book)
        alias_change = promotion.set_challenger(
            root, name, version, reason=reason, commit=project.get_commit(root)
        )
        _report_alias_change(root, name, alias_change, as_json=as_json)


def _report_alias_change(
    root: Path, book: str, alias_change: HistoryEntry, *, as_json: bool
) -> None:
    """Print the history entry of an alias change, and update the index of reports."""
    from modelbook.build import report_index

    if as_json:
        print_json({"moved": True, **alias_change.to_dict()})
    else:
        typer.echo(alias_change.describe())
    report_index.write_index(root, book)
