"""Commands that write the pipeline for a scheduler: dag airflow, dag argo."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from modelbook.cli.place import Book, reported

if TYPE_CHECKING:
    from modelbook.stage.dag import Pipeline

app = typer.Typer()
dag = typer.Typer(no_args_is_help=True, help="Write the stages of pipeline.yaml for a scheduler of your own.")
app.add_typer(dag, name="dag")

Out = Annotated[Path | None, typer.Option(help="A file; default: it is printed.")]


@dag.command()
def airflow(
    image: Annotated[
        str | None, typer.Option(help="Image of the stages, for a pod each; default: the project's own commands.")
    ] = None,
    out: Out = None,
    book: Book = None,
) -> None:
    """Write a DAG for Airflow 3: a task for each stage.

    Examples:  modelbook dag airflow --out dags/book.py  |  modelbook dag airflow --image registry.example.com/stages:1
    """
    from modelbook.stage import airflow as scheduler

    with reported():
        _put(scheduler.render(_read(book), image), out)


@dag.command()
def argo(
    image: Annotated[str | None, typer.Option(help="Image of the stages; default: modelbook-stages.")] = None,
    out: Out = None,
    book: Book = None,
) -> None:
    """Write a Workflow for Argo: a pod for each stage.

    Examples:  modelbook dag argo --out workflow.yaml  |  modelbook dag argo --image registry.example.com/stages:1
    """
    from modelbook.stage import argo as scheduler
    from modelbook.stage.dag import IMAGE

    with reported():
        _put(scheduler.render(_read(book), image or IMAGE), out)


def _read(book: str | None) -> Pipeline:
    from modelbook.stage import project
    from modelbook.stage.dag import read

    return read(project.find_root(), book)


def _put(text: str, out: Path | None) -> None:
    from modelbook.errors import BuildError
    from modelbook.whole import complete

    if out is None:
        typer.echo(text, nl=False)
        return
    try:
        with complete(out) as part:
            part.write_text(text, encoding="utf-8")
    except OSError as error:
        raise BuildError(
            f"{out} cannot be written: {error.strerror}", expected="the path of a file", next="name another place"
        ) from error
    typer.echo(f"wrote {out}")
