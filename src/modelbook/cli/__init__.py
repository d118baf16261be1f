"""Command-line interface: one function for each command."""

from __future__ import annotations

import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import typer

import modelbook
from modelbook.cli import ab, dag, lifecycle, monitoring, notebooks, promotion, serving, terminal
from modelbook.cli.options import (
    BookOption,
    JsonOption,
    confirm,
    find_book,
    print_json,
    report_errors,
)
from modelbook.errors import StageError
from modelbook.formatting import format_count

app = typer.Typer(
    no_args_is_help=True, add_completion=False, rich_markup_mode=None, help=modelbook.__doc__
)


def _print_version(requested: bool) -> None:
    if requested:
        typer.echo(f"modelbook {modelbook.__version__}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    pass


@app.command()
def build(
    book: BookOption = None,
    force: Annotated[bool, typer.Option("--force", help="Run every stage.")] = False,
) -> None:
    """Build a book with Ploomber, unless nothing has changed.

    Examples:  modelbook build  |  modelbook build --book rand-hie-sample
    """
    from modelbook.build import staleness
    from modelbook.stage import project

    with report_errors():
        root = project.find_root()
        environment = project.find_env_file(root, book)
        parameters = project.read_parameters(root, environment)  # better errors than Ploomber's
        if not force and staleness.is_up_to_date(root, environment):
            book_name = parameters["ingest"]["book"]
            staleness.print_summary(
                root,
                book_name,
                list(project.read_tasks(root, book_name)),
                root / "reports" / "index.html",
                nothing_to_do=True,
            )
            return
    _run_ploomber(root, environment, *(["--force"] if force else []))


def _run_ploomber(root: Path, environment: Path, *options: str, **variables: str) -> None:
    """Replace this process, so that Ctrl-C and signals reach the build, which stops its kernels."""
    command = [str(Path(sys.executable).with_name("ploomber")), "build", *options]
    variables |= {"PLOOMBER_ENV_FILENAME": environment.name}
    os.chdir(root)
    os.execve(command[0], command, {**os.environ, **variables})


@app.command()
def finalize(
    candidate: Annotated[
        str, typer.Option(help="Its name in the leaderboard, or its MLflow run id.")
    ],
    book: BookOption = None,
) -> None:
    """Finalize a candidate other than the leader, without tuning, and evaluate the gate.

    Examples:  modelbook finalize --candidate lr  |  modelbook finalize --candidate RUN_ID
    """
    from modelbook.registry import candidate_runs
    from modelbook.stage import files, project

    with report_errors():
        root, name = find_book(book)
        environment = project.find_env_file(root, book)
        receipt_path = project.read_tasks(root, name)["compare"]["product"]["receipt"]
        if not receipt_path.is_file():
            raise StageError(
                f"{name} has no comparison yet: {receipt_path.relative_to(root)} does not exist",
                next=project.build_command(root, name),
            )
        run_id = files.read(receipt_path)["details"]["run_id"]
        run = candidate_runs.find_candidate_run(root, candidate, run_id)
    typer.echo(f"candidate: {run.data.tags['mlflow.runName']}, run {run.info.run_id}")
    typer.echo("later builds use the strategy again, unless pipeline.yaml sets this candidate")
    _run_ploomber(root, environment, MODELBOOK_CANDIDATE=candidate)


@app.command()
def check(
    table: Annotated[
        str, typer.Argument(help="A file, a URL, URL#query of a database, or a bundled table.")
    ],
    book: BookOption = None,
    limit: Annotated[
        int, typer.Option(min=1, help="Maximum number of violations shown, by row.")
    ] = 100,
    format: Annotated[
        Literal["table", "csv", "json"], typer.Option(help="Output format.")
    ] = "table",
) -> None:
    """Validate a table against a book's contract; on violations list them and exit with 1.

    Examples:  modelbook check rand-hie  |  modelbook check new.csv --book rand-hie --format json
    """
    from modelbook import dataset
    from modelbook.contract import Contract
    from modelbook.stage import project

    with report_errors():
        root = project.find_root()
        parameters = project.read_stage_parameters(root, book, "ingest")
        contract = Contract.load(root / parameters["contract"])
        violations = contract.find_violations(dataset.read_table(table, root, contract))
    terminal.print_violations(violations.head(limit), format)
    if len(violations):
        limit_note = f"; {limit:,} shown, --limit shows more" if len(violations) > limit else ""
        typer.echo(
            f"{format_count(len(violations), 'violation')} of {parameters['contract']}{limit_note}",
            err=True,
        )
        raise typer.Exit(1)
    typer.echo(f"{table} meets {parameters['contract']}", err=format != "table")


@app.command()
def new(
    table: Annotated[
        str, typer.Argument(help="A file, a folder of Parquet, a URL, or a database's URL.")
    ],
    target: Annotated[str, typer.Option(help="The target column.")],
    book: Annotated[
        str | None, typer.Option(help="Name of the book; default: the table's name.")
    ] = None,
    query: Annotated[str | None, typer.Option(help="Query or table name, for a database.")] = None,
    task: Annotated[
        Literal["binary", "multiclass", "regression"] | None,
        typer.Option(help="Task; default: inferred from the target."),
    ] = None,
    columns: Annotated[
        str | None,
        typer.Option(help="Column names of a file without a header, separated by spaces."),
    ] = None,
    missing: Annotated[
        list[str] | None, typer.Option(help="Text that marks a missing value; may be repeated.")
    ] = None,
    drop: Annotated[list[str] | None, typer.Option(help="Column to drop; may be repeated.")] = None,
    role: Annotated[
        list[str] | None,
        typer.Option(metavar="COLUMN=ROLE", help="Role of a column; may be repeated."),
    ] = None,
    date_order: Annotated[
        Literal["day-first", "month-first"] | None,
        typer.Option(help="Order of day and month in 01/02/2024; default: inferred."),
    ] = None,
    rare_classes: Annotated[
        Literal["exclude", "join"],
        typer.Option(help="Classes with a single row: exclude them, or merge them into one."),
    ] = "exclude",
    delimiter: Annotated[str | None, typer.Option(help="Character between fields.")] = None,
    encoding: Annotated[str | None, typer.Option(help="Encoding of a text file.")] = None,
    decimal: Annotated[str | None, typer.Option(help="Decimal mark: . or ,")] = None,
    comment: Annotated[str | None, typer.Option(help="Character that begins a comment.")] = None,
    skip_rows: Annotated[
        int | None, typer.Option(min=0, help="Lines before the header; default: detected.")
    ] = None,
    skip_footer: Annotated[
        int | None, typer.Option(min=0, help="Lines after the last row; default: detected.")
    ] = None,
    sheet: Annotated[str | None, typer.Option(help="Sheet of an Excel file.")] = None,
    member: Annotated[
        str | None, typer.Option(help="File to read from a zip archive with several files.")
    ] = None,
    yes: Annotated[
        bool,
        typer.Option(
            "--yes", help="Write without confirmation; open questions remain in the contract."
        ),
    ] = False,
) -> None:
    """Draft a book from a table: show roles and open questions, then write it.

    Examples:  modelbook new people.csv --target left
    |  modelbook new sqlite:///shop.db --query people --target left
    """
    from modelbook.cli import drafting
    from modelbook.contract.file_layout import parse_layout
    from modelbook.draft import planning, writer
    from modelbook.stage import project

    with report_errors():
        root = project.find_root()
        layout = parse_layout(
            delimiter=delimiter,
            encoding=encoding,
            decimal=decimal,
            comment=comment,
            skip_rows=skip_rows,
            skip_footer=skip_footer,
            sheet=sheet,
            member=member,
        )
        options = drafting.parse_options(
            task, missing, drop, role, date_order, decimal, rare_classes
        )
        plan = planning.plan_draft(root, table, query, book)
        draft = drafting.draft_and_check_readers(plan, target, columns, layout, options)
        drafting.show_draft(draft)
        if not (yes or confirm(f"Write contracts/{plan.book}.yaml and env.{plan.book}.yaml?")):
            raise typer.Exit(1)
        env_keys = project.list_env_keys(root)
        for path in writer.write_draft(root, plan.book, plan.table, draft, env_keys):
            typer.echo(f"wrote {path.relative_to(root)}")
    typer.echo(
        f"next: read contracts/{plan.book}.yaml, then {project.build_command(root, plan.book)}"
    )


@app.command()
def runs(
    book: BookOption = None,
    limit: Annotated[int, typer.Option(min=1, help="Maximum number shown, newest first.")] = 20,
    as_json: JsonOption = False,
) -> None:
    """List a book's runs: time, status, stages, commit, data and result.

    Examples:  modelbook runs  |  modelbook runs --book rand-hie-sample --limit 5
    """
    from modelbook.runs import history

    with report_errors():
        all_runs = history.list_runs(*find_book(book))
    if as_json:
        print_json([run.to_dict() for run in all_runs[:limit]])
        return
    terminal.print_runs(all_runs[:limit])
    if len(all_runs) > limit:
        typer.echo(f"{limit} of {len(all_runs)} runs; all: --limit {len(all_runs)}")


def _check_run_name(name: str | None) -> str | None:
    from modelbook.runs.history import RUN_NAME

    if name is not None and not RUN_NAME.fullmatch(name):
        raise typer.BadParameter(f"{name!r} is not a run; give a number, or last, last-1, ...")
    return name


@app.command()
def diff(
    a: Annotated[
        str, typer.Argument(callback=_check_run_name, help="A run's number, or last, last-1, ...")
    ] = "last-1",
    b: Annotated[
        str, typer.Argument(callback=_check_run_name, help="The run to compare with.")
    ] = "last",
    book: BookOption = None,
    as_json: JsonOption = False,
    as_page: Annotated[
        bool, typer.Option("--html", help="Write the comparison page, and print its path.")
    ] = False,
) -> None:
    """Show what changed from run A to run B: code, data, parameters, stages, verdicts, metrics.

    Examples:  modelbook diff  |  modelbook diff 3 5  |  modelbook diff 3 last --json
    |  modelbook diff 3 5 --html
    """
    from modelbook.pages import run_archive
    from modelbook.runs import history

    with report_errors():
        root_and_book = find_book(book)
        first, second, changes = history.compare_runs(*root_and_book, a, b)
    if as_page:
        typer.echo(str(run_archive.write_comparison(*root_and_book, first, second)))
        return
    if as_json:
        rows = [change.to_dict() for change in changes]
        print_json({"a": first.to_dict(), "b": second.to_dict(), "changes": rows})
        return
    terminal.print_changes(first, second, changes)


@app.command()
def pdf(
    stages: Annotated[
        list[str] | None, typer.Argument(help="Stages; default: all that have a page.")
    ] = None,
    book: BookOption = None,
) -> None:
    """Print reports to PDF files next to their pages, with an installed Chromium or Chrome.

    Examples:  modelbook pdf  |  modelbook pdf finalize monitor --book rand-hie
    """
    from modelbook.extras import pdf

    with report_errors():
        root, name = find_book(book)
        pages = pdf.find_report_pages(root, name, stages or [])
        for position, (_, target) in enumerate(pdf.print_pages(pages), 1):
            size = target.stat().st_size / 1000
            typer.echo(f"[{position}/{len(pages)}] {target.relative_to(root)} ({size:,.0f} kB)")


@app.command()
def site(
    out: Annotated[Path, typer.Argument(help="A folder, or a name that ends in .zip.")] = Path(
        "site"
    ),
) -> None:
    """Copy all reports reachable from the index, for any web host or for mail.

    Examples:  modelbook site  |  modelbook site site.zip
    """
    from modelbook.extras import static_site
    from modelbook.stage import project

    with report_errors():
        root = project.find_root()
        names = static_site.publish(root / "reports", out)
    size = sum((root / "reports" / name).stat().st_size for name in names) / 1e6
    files = format_count(len(names), "file")
    typer.echo(f"{files}, {size:.1f} MB: {out if out.suffix == '.zip' else out / 'index.html'}")


@app.command()
def store() -> None:
    """Create the MLflow store if there is none, and print its URI (models/ or store.yaml).

    Example:  modelbook store
    """
    from modelbook.redaction import redact
    from modelbook.registry.location import get_tracking_uri
    from modelbook.registry.store import ensure_store
    from modelbook.stage import project

    with report_errors():
        root = project.find_root()
        ensure_store(root)
        typer.echo(redact(get_tracking_uri(root)))


@app.command()
def setup() -> None:
    """Set up JupyterLab and git: kernel, settings, and this clone's notebook filters.

    Example:  modelbook setup
    """
    from modelbook import workbench
    from modelbook.stage import project

    with report_errors():
        for line in workbench.setup(project.find_root()):
            typer.echo(line)


@app.command()
def doctor(book: BookOption = None, as_json: JsonOption = False) -> None:
    """Check environment and project, and show how to fix problems; exit with 1 if there are any.

    Examples:  modelbook doctor  |  modelbook doctor --book rand-hie-sample
    |  modelbook doctor --json
    """
    from modelbook import workbench
    from modelbook.stage import project

    with report_errors():
        results = workbench.run_checks(project.find_root(), book)
    if as_json:
        print_json([asdict(result) for result in results])
    else:
        rows = [
            (result.name, "ok" if result.ok else "FAILED", result.state, result.fix)
            for result in results
        ]
        terminal.print_table(("check", "", "state", "fix"), rows)
    if not all(result.ok for result in results):
        raise typer.Exit(1)


app.add_typer(serving.app)
app.add_typer(monitoring.app)
app.add_typer(promotion.app)
app.add_typer(ab.app)
app.add_typer(lifecycle.app)
app.add_typer(dag.app)
app.add_typer(notebooks.app)
