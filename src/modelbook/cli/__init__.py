"""The command line: parse, call, print."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

import modelbook
from modelbook.cli import experiment, loop, promotion, scheduler, service
from modelbook.cli.place import AsJson, Book, located, reported

app = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode=None, help=modelbook.__doc__)


def _agreed(question: str) -> bool:
    if sys.stdin.isatty():
        return typer.confirm(question)
    typer.echo("nothing was written: where nobody can be asked, --yes writes", err=True)
    return False


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"modelbook {modelbook.__version__}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    pass


@app.command()
def build(book: Book = None, force: Annotated[bool, typer.Option("--force", help="Run every stage.")] = False) -> None:
    """Build a book: `ploomber build`, after a quick look whether anything has changed.

    Examples:  modelbook build  |  modelbook build --book rand-hie-sample
    """
    from modelbook.stage import built, project

    with reported():
        root = project.find_root()
        environment = project.environment(root, book)
        project.parameters(root, environment)  # what is wrong in the env file is told better here than by Ploomber
        if not force and built.fresh(root, environment):
            named = project.parameters(root, environment)["ingest"]["book"]
            built.summarise(root, named, list(project.tasks(root, named)), root / "reports" / "index.html", idle=True)
            return
    command = [str(Path(sys.executable).with_name("ploomber")), "build", *(["--force"] if force else [])]
    os.chdir(root)
    # In this process' place, so that Ctrl-C and signals reach the build itself, which ends its kernels.
    os.execve(command[0], command, {**os.environ, "PLOOMBER_ENV_FILENAME": environment.name})


@app.command()
def check(
    table: Annotated[str, typer.Argument(help="A file, an address, URL#query of a database, or a bundled table.")],
    book: Book = None,
    limit: Annotated[int, typer.Option(min=1, help="How many violations are shown, by row.")] = 100,
    format: Annotated[str, typer.Option(help="How they are shown: table, csv or json.")] = "table",
) -> None:
    """Hold a table against a book's contract; exit with 1 and the list of violations where it breaks it.

    Examples:  modelbook check rand-hie  |  modelbook check new.csv --book rand-hie --format json
    """
    from modelbook import dataset
    from modelbook.contract import Contract
    from modelbook.report import terminal
    from modelbook.stage import project

    if format not in ("table", "csv", "json"):
        raise typer.BadParameter(f"{format!r} is none of table, csv, json")
    with reported():
        root = project.find_root()
        given = project.parameters(root, project.environment(root, book))["ingest"]
        agreed = Contract.load(root / given["contract"])
        found = agreed.violations(dataset.read(table, root, agreed))
    terminal.violations(found.head(limit), format)
    if len(found):
        shown = f"; {limit:,} are shown, --limit shows more" if len(found) > limit else ""
        typer.echo(f"{len(found):,} violations of {given['contract']}{shown}", err=True)
        raise typer.Exit(1)
    typer.echo(f"{table} keeps {given['contract']}", err=format != "table")


@app.command()
def new(
    table: Annotated[str, typer.Argument(help="A file, an address, or the URL of a database.")],
    target: Annotated[str, typer.Option(help="The column that holds the answer.")],
    book: Annotated[str | None, typer.Option(help="Name of the book; default: the table's.")] = None,
    query: Annotated[str | None, typer.Option(help="What a database is asked.")] = None,
    task: Annotated[str | None, typer.Option(help="binary, multiclass or regression; default: by the target.")] = None,
    columns: Annotated[str | None, typer.Option(help="Names for a file without a header, parted by blanks.")] = None,
    missing: Annotated[list[str] | None, typer.Option(help="A text that means a gap; may be given again.")] = None,
    drop: Annotated[list[str] | None, typer.Option(help="A column to leave out; may be given again.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Write without asking.")] = False,
) -> None:
    """Draft a book from a table: show what each column is taken for and why, then write its contract and env file.

    Examples:  modelbook new people.csv --target left  |  modelbook new sqlite:///shop.db --query people --target left
    """
    from modelbook.draft import begin, write
    from modelbook.report import terminal
    from modelbook.stage import project

    with reported():
        root = project.find_root()
        plan = begin.plan(root, table, query, book)
        made = begin.read(plan, target, task=task, columns=columns, missing=missing or [], drop=drop or [])
        terminal.table(("column", "role", "type", "may hold", "why"), made.rows())
        typer.echo("".join(f"\n{line}" for line in [*made.notes, made.summary()]))
        if not (yes or _agreed(f"Write contracts/{plan.book}.yaml and env.{plan.book}.yaml?")):
            raise typer.Exit(1)
        for path in write.write(root, plan.book, plan.table, made, project.asked(root)):
            typer.echo(f"wrote {path.relative_to(root)}")
    typer.echo(f"next: read contracts/{plan.book}.yaml, then {project.command(root, plan.book)}")


@app.command()
def runs(
    book: Book = None,
    limit: Annotated[int, typer.Option(min=1, help="How many are shown, newest first.")] = 20,
    as_json: AsJson = False,
) -> None:
    """List a book's runs: when, what ran, from which commit and data, and what came out.

    Examples:  modelbook runs  |  modelbook runs --book rand-hie-sample --limit 5
    """
    from modelbook.report import terminal
    from modelbook.stage import history

    with reported():
        found = history.runs(*located(book))
    if as_json:
        typer.echo(json.dumps([run.to_dict() for run in found[:limit]], indent=1, ensure_ascii=False))
        return
    terminal.runs(found[:limit])
    if len(found) > limit:
        typer.echo(f"{limit} of {len(found)} runs; all: --limit {len(found)}")


def _run_name(given: str | None) -> str | None:
    from modelbook.stage.history import NAMED

    if given is not None and not NAMED.fullmatch(given):
        raise typer.BadParameter(f"{given!r} is no run; give a number, or last, last-1, ...")
    return given


@app.command()
def diff(
    a: Annotated[str, typer.Argument(callback=_run_name, help="A run's number, or last, last-1, ...")] = "last-1",
    b: Annotated[str, typer.Argument(callback=_run_name, help="The run that is held against it.")] = "last",
    book: Book = None,
    as_json: AsJson = False,
    as_page: Annotated[bool, typer.Option("--html", help="Write the page of the two, and print its path.")] = False,
) -> None:
    """Show what changed from run A to run B: code, data, parameters, stages, verdicts, metrics; and, as a page, charts.

    Examples:  modelbook diff  |  modelbook diff 3 5  |  modelbook diff 3 last --json  |  modelbook diff 3 5 --html
    """
    from modelbook.report import terminal
    from modelbook.stage import archive, history

    with reported():
        place = located(book)
        first, second, changes = history.compare(*place, a, b)
    if as_page:
        typer.echo(str(archive.compare(*place, first, second)))
        return
    if as_json:
        told = {"a": first.to_dict(), "b": second.to_dict(), "changes": [change.to_dict() for change in changes]}
        typer.echo(json.dumps(told, indent=1, ensure_ascii=False))
        return
    terminal.changes(first, second, changes)


@app.command()
def pdf(
    stages: Annotated[list[str] | None, typer.Argument(help="Stages; default: all that have a page.")] = None,
    book: Book = None,
) -> None:
    """Print reports as PDF, each beside its page, by the Chromium or Chrome that is installed.

    Examples:  modelbook pdf  |  modelbook pdf finalize monitor --book rand-hie
    """
    from modelbook.report import pdf as printer

    with reported():
        root, name = located(book)
        pages = printer.pages(root, name, stages or [])
        for place, (_, target) in enumerate(printer.write(pages), 1):
            size = target.stat().st_size / 1000
            typer.echo(f"[{place}/{len(pages)}] {target.relative_to(root)} ({size:,.0f} kB)")


@app.command()
def site(out: Annotated[Path, typer.Argument(help="A folder, or a name that ends in .zip.")] = Path("site")) -> None:
    """Copy the reports of all books, to put on any web host or to mail: all that the index leads to.

    Examples:  modelbook site  |  modelbook site site.zip
    """
    from modelbook.report import site as publisher
    from modelbook.stage import project

    with reported():
        root = project.find_root()
        names = publisher.publish(root / "reports", out)
    size = sum((root / "reports" / name).stat().st_size for name in names) / 1e6
    files = f"{len(names)} file{'s' if len(names) != 1 else ''}"
    typer.echo(f"{files}, {size:.1f} MB: {out if out.suffix == '.zip' else out / 'index.html'}")


@app.command()
def store(
    bring: Annotated[
        bool, typer.Option("--bring", help="Copy what is under models/ to where store.yaml says.")
    ] = False,
) -> None:
    """Create the MLflow store where there is none, and say where it is: under models/, or as store.yaml says.

    Examples:  modelbook store  |  modelbook store --bring
    """
    from modelbook.redaction import redact
    from modelbook.registry.store import prepare, uri
    from modelbook.stage import lock, project

    with reported():
        root = project.find_root()
        if bring:
            from modelbook.registry import moving

            with lock.of_build(root):
                typer.echo(f"brought {moving.bring(root)}; models/ stays as it was", err=True)
        prepare(root)
        typer.echo(redact(uri(root)))


@app.command()
def setup() -> None:
    """Write what JupyterLab and git need: kernel and settings into this environment, filters into this clone's config.

    Example:  modelbook setup
    """
    from modelbook import workbench
    from modelbook.stage import project

    with reported():
        for line in workbench.setup(project.find_root()):
            typer.echo(line)


@app.command()
def doctor(book: Book = None, as_json: AsJson = False) -> None:
    """Look at everything that work on a project needs, and say how to mend it; exit with 1 where something is wrong.

    Examples:  modelbook doctor  |  modelbook doctor --book rand-hie-sample  |  modelbook doctor --json
    """
    from modelbook import workbench
    from modelbook.report import terminal
    from modelbook.stage import project

    with reported():
        parts = workbench.look(project.find_root(), book)
    if as_json:
        typer.echo(json.dumps([asdict(part) for part in parts], indent=1, ensure_ascii=False))
    else:
        rows = [(part.name, "ok" if part.ok else "WRONG", part.state, part.mend) for part in parts]
        terminal.table(("part", "", "state", "to mend"), rows)
    if not all(part.ok for part in parts):
        raise typer.Exit(1)


app.add_typer(service.app)
app.add_typer(loop.app)
app.add_typer(promotion.app)
app.add_typer(experiment.app)
app.add_typer(scheduler.app)
