"""Commands that export the pipeline for a scheduler: dag airflow, dag argo."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from modelbook.cli.options import BookOption, report_errors

if TYPE_CHECKING:
    from modelbook.extras.schedulers.stage_graph import StageGraph

app = typer.Typer()
dag_app = typer.Typer(
    no_args_is_help=True, help="Export the stages of pipeline.yaml for a scheduler."
)
app.add_typer(dag_app, name="dag")

OutOption = Annotated[Path | None, typer.Option(help="Output file; default: standard output.")]


@dag_app.command()
def airflow(
    image: Annotated[
        str | None,
        typer.Option(help="Image for a pod per stage; default: local commands, without pods."),
    ] = None,
    out: OutOption = None,
    book: BookOption = None,
) -> None:
    """Write a DAG for Airflow 3: a task for each stage.

    Examples:  modelbook dag airflow --out dags/book.py
    |  modelbook dag airflow --image registry.example.com/stages:1
    """
    from modelbook.extras.schedulers import airflow as scheduler

    with report_errors():
        _write_output(scheduler.render_dag(_read_graph(book), image), out)


@dag_app.command()
def argo(
    image: Annotated[
        str | None, typer.Option(help="Image of the stages; default: modelbook-stages.")
    ] = None,
    out: OutOption = None,
    book: BookOption = None,
) -> None:
    """Write a Workflow for Argo: a pod for each stage.

    Examples:  modelbook dag argo --out workflow.yaml
    |  modelbook dag argo --image registry.example.com/stages:1
    """
    from modelbook.extras.schedulers import argo as scheduler
    from modelbook.extras.schedulers.stage_graph import DEFAULT_IMAGE

    with report_errors():
        _write_output(scheduler.render_workflow(_read_graph(book), image or DEFAULT_IMAGE), out)


def _read_graph(book: str | None) -> StageGraph:
    from modelbook.extras.schedulers.stage_graph import read_stage_graph
    from modelbook.stage import project

    return read_stage_graph(project.find_root(), book)


def _write_output(text: str, out: Path | None) -> None:
    from modelbook.atomic import write_text
    from modelbook.errors import BuildError

    if out is None:
        typer.echo(text, nl=False)
        return
    try:
        write_text(out, text)
    except OSError as error:
        raise BuildError(
            f"{out} cannot be written: {error.strerror}",
            expected="the path of a file",
            next="choose another path",
        ) from error
    typer.echo(f"wrote {out}")
