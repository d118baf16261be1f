"""Commands for interactive work in notebooks: sandbox list and delete, take, eject."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from modelbook.cli import terminal
from modelbook.cli.options import (
    BookOption,
    JsonOption,
    confirm,
    find_book,
    print_json,
    report_errors,
)

app = typer.Typer()
sandbox_app = typer.Typer(
    no_args_is_help=True,
    help='List or delete sandboxes. Setting sandbox = "NAME" in a notebook creates one.',
)
app.add_typer(sandbox_app, name="sandbox")


@sandbox_app.command("list")
def list_sandboxes(book: BookOption = None, as_json: JsonOption = False) -> None:
    """List the sandboxes of a book, with the finished stages of each.

    Examples:  modelbook sandbox list  |  modelbook sandbox list --book rand-hie-sample --json
    """
    from modelbook.stage import project, sandbox

    with report_errors():
        root, name = find_book(book)
        tasks = project.read_tasks(root, name)
        rows = [
            (entry.name, " ".join(stage for stage, task in tasks.items() if entry.has_run(task)))
            for entry in sandbox.list_sandboxes(root, name)
        ]
    if as_json:
        print_json([{"name": name, "stages": text.split()} for name, text in rows])
    elif rows:
        terminal.print_table(("sandbox", "stages run"), rows)
    else:
        typer.echo(f"{name} has no sandbox.")


@sandbox_app.command("delete")
@sandbox_app.command("drop", hidden=True)  # the name of 1.0.0, accepted until 1.2
def delete_sandbox(name: str, book: BookOption = None) -> None:
    """Delete a sandbox with its files, model versions and MLflow runs; the book is unchanged.

    Example:  modelbook sandbox delete try
    """
    from modelbook.errors import SandboxError
    from modelbook.registry import removal
    from modelbook.stage import sandbox

    with report_errors():
        root, book_name = find_book(book)
        sandboxes = {entry.name: entry for entry in sandbox.list_sandboxes(root, book_name)}
        if name not in sandboxes:
            raise SandboxError(
                f"{book_name} has no sandbox {name!r}",
                expected=f"one of {', '.join(sandboxes)}" if sandboxes else "",
                next="modelbook sandbox list",
            )
        sandboxes[name].claim("modelbook sandbox delete")
        removal.remove_versions_and_runs(sandboxes[name])
        sandboxes[name].remove_files()  # last: a sandbox without files is not found again
    typer.echo(f"deleted the sandbox {name} of {book_name}")


@app.command()
def take(
    notebook: Annotated[Path, typer.Argument(help="A stage's notebook, or any copy of one.")],
    book: Annotated[
        str | None, typer.Option(help="Copy to the notebooks of this book only: notebooks/BOOK/.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Write without confirmation.")] = False,
) -> None:
    """Copy cells that were edited by hand to the pipeline, after a diff and a confirmation.

    Cell outputs, the line `sandbox = "NAME"` and edited parameters are not copied. A notebook in a
    book's folder is for that book.

    Examples:  modelbook take notebooks/02_explore.ipynb --book rand-hie
    |  modelbook take reports/mine.ipynb --yes
    """
    from modelbook import config
    from modelbook.stage import project
    from modelbook.workbench.notebook_copy import plan_copy, render_diff

    with report_errors(), TemporaryDirectory() as folder:
        root = project.find_root()
        plan = plan_copy(root, notebook, book)
        env_file = project.find_env_file(root, plan.book).name
        typer.echo(render_diff(plan, Path(folder)) or "no cell differs")
    for name, value in plan.edited_parameters.items():
        typer.echo(
            f"not taken: {name} = {config.format_value(value)}; a build reads it from {env_file} "
            "or pipeline.yaml"
        )
    destination = plan.destination.relative_to(root)
    if not plan.has_changes:
        typer.echo(f"nothing to do: {destination} already has these cells")
    elif yes or confirm(f"Write {destination}?"):
        plan.write()
        option = f" --book {plan.book}" if plan.book else ""
        typer.echo(f"wrote {destination}; next: modelbook build{option}")
    else:
        raise typer.Exit(1)


@app.command()
def eject(
    version: Annotated[int, typer.Argument(min=1, metavar="V", help="Number of the version.")],
    out: Annotated[
        Path | None, typer.Option(help="The notebook; default: reports/BOOK/version-V.ipynb.")
    ] = None,
    book: BookOption = None,
) -> None:
    """Write a plain notebook that reproduces a version without Modelbook.

    Examples:  modelbook eject 1  |  modelbook eject 1 --book rand-hie --out mine.ipynb
    """
    from modelbook.extras import eject

    with report_errors():
        root, name = find_book(book)
        target = out or root / "reports" / name / f"version-{version}.ipynb"
        typer.echo(f"wrote {eject.eject(root, name, version, target)}")
