"""Commands on a whole project: create, upgrade, back up, restore, forget, reset."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import modelbook
from modelbook.cli import terminal
from modelbook.cli.options import (
    BookOption,
    JsonOption,
    confirm,
    find_book,
    find_journal,
    print_json,
    report_errors,
)
from modelbook.formatting import format_count
from modelbook.redaction import redact_uri

if TYPE_CHECKING:
    from modelbook.errors import ModelbookError
    from modelbook.extras.database_upgrade import DatabaseMigration
    from modelbook.extras.erasure import Erasure
    from modelbook.extras.project_template import FileChange
    from modelbook.extras.retention import Retention

app = typer.Typer()


@app.command()
def backup(
    destination: Annotated[
        str, typer.Argument(help="A folder, or a URI such as s3://bucket/backup.")
    ],
    as_json: JsonOption = False,
) -> None:
    """Back up store, journals, contracts, settings and receipts, also while services run.

    Examples:  modelbook backup ../backups  |  modelbook backup s3://bucket/backups
    """
    from modelbook.extras import backup
    from modelbook.stage import project

    with report_errors():
        summary = backup.back_up(project.find_root(), destination)
    if as_json:
        print_json(asdict(summary))
        return
    typer.echo(summary.address)
    typer.echo(f"{format_count(summary.files, 'file')}, {summary.bytes / 1e6:,.1f} MB", err=True)
    for note in summary.notes:
        typer.echo(note, err=True)


@app.command()
def restore(
    uri: Annotated[str, typer.Argument(help="The path or URI that modelbook backup printed.")],
    folder: Annotated[
        Path, typer.Option("--into", help="The project's folder; default: the current one.")
    ] = Path("."),
    as_json: JsonOption = False,
) -> None:
    """Copy a backup into a folder, once all its checksums are verified; no file is replaced.

    Examples:  modelbook restore ../backups/book-20261129T020000Z --into ../restored
    """
    from modelbook.extras import backup

    with report_errors():
        summary = backup.restore(folder.resolve(), uri)
    if as_json:
        print_json(asdict(summary))
        return
    typer.echo(f"restored {format_count(summary.files, 'file')} into {summary.address}")
    for note in summary.notes:
        typer.echo(note, err=True)


@app.command()
def reset(
    project_name: Annotated[
        str | None, typer.Option("--yes", metavar="NAME", help="Name of the project's folder.")
    ] = None,
) -> None:
    """Remove everything that was generated: registry, history, journals, data and reports.

    It lists what it removes, and requires the name of the project's folder. It cannot be undone.

    Examples:  modelbook reset  |  modelbook reset --yes my-project
    """
    from modelbook.extras import reset
    from modelbook.stage import project

    with report_errors():
        root = project.find_root()
        lines = reset.describe_reset(root)
        if not lines:
            typer.echo(f"nothing was generated in {root}")
            return
        typer.echo(f"this removes from {root}:")
        for line in lines:
            typer.echo(f"  {line}")
        if project_name != root.name:
            typer.echo(
                f"nothing was removed; back up first: modelbook backup FOLDER; "
                f"to remove everything listed: modelbook reset --yes {root.name}",
                err=True,
            )
            raise typer.Exit(1)
        reset.reset(root)
        typer.echo("removed")


@app.command()
def init(folder: Annotated[Path, typer.Argument(help="An empty folder, or a new one.")]) -> None:
    """Create a project: notebooks, pipeline, env file, contracts, Makefile and workflow.

    Examples:  modelbook init claims  |  uvx modelbook init claims
    """
    from modelbook.extras import project_template

    with report_errors():
        names = project_template.create_project(folder)
    typer.echo(f"wrote {format_count(len(names), 'file')} into {folder}")
    typer.echo(f"next: cd {folder} && git init && make run")


@app.command()
def upgrade(
    yes: Annotated[bool, typer.Option("--yes", help="Write the changes that are shown.")] = False,
    build: Annotated[
        bool, typer.Option("--build", help="With --yes: build, and compare with the run before.")
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Build an upgraded copy in a second environment, and compare the leaderboards.",
        ),
    ] = False,
    python: Annotated[
        str | None,
        typer.Option(
            help="With --dry-run: its Python, e.g. 3.13 or a path; default: that of make."
        ),
    ] = None,
    environment: Annotated[
        Path | None,
        typer.Option(help="With --dry-run: an existing environment, instead of a new one."),
    ] = None,
    book: BookOption = None,
) -> None:
    """Upgrade a project to this version: files, journals and store; show the changes first.

    Notebooks are merged by cell, YAML files by key, other files by line. Journals and a store of an
    older schema are migrated, and a copy of each is kept.

    Examples:  modelbook upgrade  |  modelbook upgrade --yes --build
    |  modelbook upgrade --dry-run --python 3.13
    """
    if dry_run:
        if yes or build:
            raise typer.BadParameter("--dry-run changes nothing: leave out --yes and --build")
        _compare_environments(book, python, environment)
        return
    if python or environment or book:
        raise typer.BadParameter("--python, --environment and --book are options of --dry-run")
    from modelbook.config.settings_file import substitute_file_texts
    from modelbook.extras import database_upgrade
    from modelbook.stage import project

    with report_errors():
        root = project.find_root()
        changes = _plan_file_changes(root)
        # Plan the migrations with the settings as they are after the upgrade.
        with substitute_file_texts({root / change.name: change.after for change in changes}):
            migrations, problems = database_upgrade.plan_migrations(root)
            has_conflicts = _show_upgrade(changes, migrations, problems)
            if changes or migrations:
                _write_upgrade(root, changes, migrations, yes=yes)
            else:
                typer.echo("nothing to change")
    if has_conflicts or problems:
        raise typer.Exit(1)
    if build and changes:
        _build_and_compare(root)
    elif changes or migrations:
        typer.echo("next: modelbook build && modelbook diff", err=True)


def _plan_file_changes(root: Path) -> list[FileChange]:
    """Merge the template with the project's files; in a clone, which git merges, rename keys."""
    from modelbook.extras import project_template

    if project_template.has_record(root):
        origin = project_template.read_record(root)["modelbook"]
        typer.echo(f"template: {origin} to {modelbook.__version__}", err=True)
        return project_template.plan_upgrade(root)
    typer.echo(
        f"{root} has no {project_template.RECORD_FILE}, as modelbook init writes it: keys are "
        "renamed and databases migrated; git merges the files of a clone",
        err=True,
    )
    return project_template.plan_renames(root)


def _show_upgrade(
    changes: list[FileChange], migrations: list[DatabaseMigration], problems: list[ModelbookError]
) -> bool:
    """Print what an upgrade changes and what it cannot; return whether files have conflicts."""
    for change in changes:
        typer.echo(change.diff())
    for migration in migrations:
        typer.echo("\n  ".join([migration.description, *migration.changes]))
    conflicts = [(change.name, text) for change in changes for text in change.conflicts]
    for name, text in conflicts:
        typer.echo(f"conflict in {name}: {text}", err=True)
    for problem in problems:
        typer.echo(f"{type(problem).__name__}: {problem}", err=True)
    return bool(conflicts)


def _write_upgrade(
    root: Path, changes: list[FileChange], migrations: list[DatabaseMigration], *, yes: bool
) -> None:
    """Migrate databases and write files; without ``yes`` print the command and exit with 1."""
    from modelbook.extras import project_template

    counts = {"file": len(changes), "database": len(migrations)}
    count_text = " and ".join(format_count(n, noun) for noun, n in counts.items() if n)
    if not yes:
        typer.echo(f"to change {count_text}: modelbook upgrade --yes", err=True)
        raise typer.Exit(1)
    if changes:
        project_template.require_committed(root)
    for migration in migrations:
        copies = ", ".join(map(str, migration.apply()))
        typer.echo(f"migrated {migration.description}" + (f"; copy: {copies}" if copies else ""))
    if changes:
        project_template.apply_upgrade(root, changes)
    typer.echo(f"changed {count_text}")


def _compare_environments(book: str | None, python: str | None, environment: Path | None) -> None:
    """Build a copy in a second environment, and print the differences and the page's path."""
    from modelbook.extras import environment_comparison

    if python and environment:
        raise typer.BadParameter("--environment has its own Python: leave out --python")
    with report_errors():
        root, name = find_book(book)
        comparison = environment_comparison.compare_environments(
            root, name, python, environment, lambda text: typer.echo(text, err=True)
        )
    terminal.print_environment_comparison(comparison)
    typer.echo(str(comparison.page))
    typer.echo(f"the copy can be removed: rm -r {comparison.folder}", err=True)


def _build_and_compare(root: Path) -> None:
    """Build with the merged files, and print the differences from an earlier run."""
    from modelbook.runs import history

    def run(*args: str) -> None:
        result = subprocess.run([sys.executable, "-m", "modelbook.cli", *args], cwd=root)
        if result.returncode:
            raise typer.Exit(result.returncode)

    with report_errors():
        _, book = find_book(None)
    earlier_runs = history.list_runs(root, book)
    run("build")
    if not earlier_runs or len(history.list_runs(root, book)) == len(earlier_runs):
        typer.echo("fewer than two runs: nothing to compare", err=True)
        return
    run("diff")
    run("diff", "--html")


@app.command()
def forget(
    entity: Annotated[str, typer.Option(help="The entity, as the contract's column names it.")],
    book: BookOption = None,
    as_json: JsonOption = False,
) -> None:
    """Delete an entity's rows, and list the versions that were fitted on them.

    Rows are removed from tables, journal, versions and exports. The history records it, with a hash
    instead of the entity.

    Examples:  modelbook forget --entity 125024
    """
    from modelbook.contract import Contract
    from modelbook.extras import erasure
    from modelbook.stage import project

    with report_errors():
        root, name = find_book(book)
        parameters = project.read_stage_parameters(root, book, "ingest")
        contract = Contract.load(root / parameters["contract"])
        journal = find_journal(root, name)
        commit = project.get_commit(root)
        report = erasure.forget_entity(root, name, contract, journal, entity, commit)
    if as_json:
        print_json(asdict(report))
        raise typer.Exit(1 if report.unread else 0)
    for location, problem in report.unread.items():
        typer.echo(f"not read: {location}: {problem}", err=True)
    if report.is_empty:
        typer.echo(f"{name} has no rows of {entity!r}")
    else:
        _print_erasure(report, parameters["table"])
    if report.unread:
        raise typer.Exit(1)


def _print_erasure(erasure: Erasure, table: str) -> None:
    """Print what was removed, and the remaining manual steps."""
    for path, count in erasure.table_rows.items():
        typer.echo(f"{format_count(count, 'row')} removed from {path}")
    typer.echo(f"{format_count(erasure.journal_rows, 'prediction')} removed from the journal")
    for number, count in erasure.version_rows.items():
        typer.echo(f"{format_count(count, 'row')} removed from the files of version {number}")
    for export_uri in erasure.exports:
        typer.echo(f"deleted the export {redact_uri(export_uri)}")
    trained = ", ".join(map(str, erasure.trained_versions)) or "none"
    typer.echo(f"versions fitted on its rows: {trained}")
    typer.echo(
        f"next: remove it from the table {table!r}, build again, and delete backups, copies of "
        "exports, and what services on other machines downloaded (models/cache)",
        err=True,
    )


@app.command()
def prune(
    keep: Annotated[int, typer.Option(min=0, help="Number of newest versions to keep.")] = 20,
    older_than: Annotated[
        float,
        typer.Option(min=0, metavar="DAYS", help="Delete only what is older than this, in days."),
    ] = 90.0,
    keep_comparisons: Annotated[
        int, typer.Option(min=0, help="Number of newest comparisons that keep their models.")
    ] = 5,
    book: BookOption = None,
    yes: Annotated[bool, typer.Option("--yes", help="Delete without confirmation.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Delete versions, candidates' models and downloaded files that are no longer needed.

    They are listed first. Versions that an alias names or that have been champion always stay.

    Examples:  modelbook prune  |  modelbook prune --keep 5 --older-than 30 --yes
    """
    from modelbook.extras import retention
    from modelbook.stage import project

    with report_errors():
        root, name = find_book(book)
        plan = retention.plan_retention(root, name, keep, older_than, keep_comparisons)
        if as_json:
            print_json(plan.to_dict())
        else:
            _print_retention(name, plan)
        if plan.is_empty or (as_json and not yes):
            return
        if not (yes or confirm("Delete them?")):
            raise typer.Exit(1)
        retention.apply_retention(root, name, plan, project.get_commit(root))
    typer.echo("deleted", err=True)


def _print_retention(book: str, retention: Retention) -> None:
    for number, reason in retention.kept_for.items():
        typer.echo(f"version {number} of {book} stays: {reason}")
    for number in retention.versions:
        typer.echo(f"version {number} of {book}")
    if retention.candidate_models:
        n_models = len(retention.candidate_models)
        typer.echo(f"{format_count(n_models, 'candidate model')} of old comparisons")
    for folder in retention.cached_folders:
        typer.echo(f"downloaded files in {folder}")
    if retention.is_empty:
        typer.echo(f"nothing to delete in {book}")
    else:
        typer.echo(f"{retention.size_mb:,.1f} MB in total")
