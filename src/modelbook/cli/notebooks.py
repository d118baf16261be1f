"""Commands on what is done by hand in notebooks: sandbox list, sandbox drop."""

from __future__ import annotations

import json

import typer

from modelbook.cli.options import BookOption, JsonOption, find_book, report_errors

app = typer.Typer()
sandbox_app = typer.Typer(
    no_args_is_help=True, help='Sandboxes of a book, begun by sandbox = "NAME" in a notebook.'
)
app.add_typer(sandbox_app, name="sandbox")


@sandbox_app.command("list")
def list_sandboxes(book: BookOption = None, as_json: JsonOption = False) -> None:
    """List the sandboxes of a book, with the stages that have come to a verdict in each.

    Examples:  modelbook sandbox list  |  modelbook sandbox list --book rand-hie-sample --json
    """
    from modelbook.cli import terminal
    from modelbook.stage import project, sandbox

    with report_errors():
        root, name = find_book(book)
        tasks = project.read_tasks(root, name)
        rows = [
            (view.name, " ".join(stage for stage, task in tasks.items() if view.has_run(task)))
            for view in sandbox.list_sandboxes(root, name)
        ]
    if as_json:
        typer.echo(json.dumps([{"name": name, "stages": text.split()} for name, text in rows]))
    elif rows:
        terminal.print_table(("sandbox", "stages run"), rows)
    else:
        typer.echo(f"{name} has no sandbox.")


@sandbox_app.command()
def drop(name: str, book: BookOption = None) -> None:
    """Throw a sandbox away: its products, versions and runs; the book's own stay.

    Example:  modelbook sandbox drop try
    """
    from modelbook.errors import SandboxError
    from modelbook.registry import removal
    from modelbook.stage import sandbox

    with report_errors():
        root, book_name = find_book(book)
        views = {view.name: view for view in sandbox.list_sandboxes(root, book_name)}
        if name not in views:
            raise SandboxError(
                f"{book_name} has no sandbox {name!r}",
                expected=f"one of {', '.join(views)}" if views else "",
                next="modelbook sandbox list",
            )
        views[name].remove_files()
        removal.remove_versions_and_runs(views[name])
    typer.echo(f"dropped the sandbox {name} of {book_name}")
