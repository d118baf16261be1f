"""Commands that monitor, retrain and demonstrate: monitor, retrain, demo."""

from __future__ import annotations

import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from modelbook.cli import options
from modelbook.cli.options import BookOption, JsonOption, find_book, report_errors
from modelbook.errors import get_first_line

app = typer.Typer()

EXIT_CODES = {"healthy": 0, "watch": 10, "retrain": 20}


@app.command()
def monitor(
    batch: Annotated[
        str | None,
        typer.Option(help="A file, or a folder of .parquet files, with the rows of one batch."),
    ] = None,
    since: Annotated[
        str | None, typer.Option(help="Predictions since a time (UTC), or 7d, 12h, 30m.")
    ] = None,
    book: BookOption = None,
    as_json: JsonOption = False,
) -> None:
    """Evaluate the champion on new rows; exit with 0 (healthy), 10 (watch) or 20 (retrain).

    Examples:  modelbook monitor  |  modelbook monitor --batch new.parquet
    |  modelbook monitor --since 7d
    """
    if batch is not None and since is not None:
        raise typer.BadParameter("give --batch or --since, not both")
    start = options.parse_time(since)
    with report_errors():
        verdict = _run_monitor(*find_book(book), batch, start)
    _notify_webhook(verdict)
    options.print_verdict(verdict, as_json)
    raise typer.Exit(EXIT_CODES[verdict["status"]])


def _parse_duration(text: str | None) -> float | None:
    from modelbook.config.values import parse_duration

    try:
        return None if text is None else parse_duration(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


@app.command()
def retrain(
    as_of: Annotated[
        float | None,
        typer.Option(help="Last period for training; default: the newest with outcomes."),
    ] = None,
    batch: Annotated[
        list[str] | None, typer.Option(help="File of labelled rows to add; may be repeated.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only show what would be done.")
    ] = False,
    cooldown: Annotated[
        str | None,
        typer.Option(
            help="Do nothing within this time after a decision or alias change: 7d, 12h, 30m."
        ),
    ] = None,
    budget: Annotated[str | None, typer.Option(help="Maximum duration: 2h, 30m, 90s.")] = None,
    reason: Annotated[str, typer.Option("--why", help="Reason, recorded in the history.")] = "",
    book: BookOption = None,
    as_json: JsonOption = False,
) -> None:
    """Retrain a book on newer labelled rows; the gate promotes the new version or holds it.

    Exits with 0 also if the version is held, or if there is nothing to do.

    Examples:  modelbook retrain  |  modelbook retrain --as-of 4 --dry-run
    |  modelbook retrain --batch may.csv
    """
    from modelbook.build import retrain, retrain_plan
    from modelbook.stage import project

    cooldown_seconds, max_seconds = _parse_duration(cooldown), _parse_duration(budget)
    request = retrain_plan.RetrainRequest(
        as_of,
        tuple(batch or ()),
        dry_run=dry_run,
        cooldown=cooldown_seconds,
        budget=max_seconds,
        reason=reason,
    )
    with report_errors():
        root = project.find_root()
        result = retrain.retrain(
            root, project.find_env_file(root, book), request, out=sys.stderr if as_json else None
        )
    options.print_verdict(asdict(result), as_json)


def _run_monitor(root: Path, book: str, batch: str | None, start: float | None) -> dict[str, Any]:
    """Evaluate the batches, record them in the history, and return the verdict."""
    from modelbook import config
    from modelbook.monitoring import batch_sources, latest_verdict, rules, window_history, windows
    from modelbook.stage import project

    params: Any = config.validate("monitor", project.read_stage_parameters(root, book, "monitor"))
    version = batch_sources.require_champion(root, book)
    context = {
        "book": book,
        "version": version.number,
        "at": batch_sources.format_timestamp(time.time()),
    }
    if start is not None:
        evaluations = batch_sources.evaluate_journal(
            options.open_journal(root, book), start, time.time(), version, params
        )
    elif batch is not None:
        evaluations = batch_sources.evaluate_file(root, batch, version, params)
    else:
        evaluations = batch_sources.evaluate_build_batches(root, book, version, params)
    history = window_history.WindowHistory(
        latest_verdict.get_history_path(root, book), version.number
    )
    history.record_windows(evaluations, params)
    if start is not None and not evaluations:
        sentence = (
            f"Version {version.number} served no rows since "
            f"{batch_sources.format_timestamp(start)} UTC."
        )
        no_rows_result = {
            "sentences": [sentence],
            "next": "Check that the service runs: modelbook serve.",
        }
        summary = rules.summarize_verdict([], [], version.number, version.contract)
        return context | summary | no_rows_result
    findings = windows.combine_windows(history.read_windows(), params) if evaluations else []
    _log_to_mlflow(
        root, book, version.number, evaluations, params, rules.find_worst_verdict(findings)
    )
    return context | rules.summarize_verdict(
        findings, evaluations, version.number, version.contract
    )


def _log_to_mlflow(
    root: Path, book: str, version: int, evaluations: list[Any], params: Any, verdict: str
) -> None:
    """Log a monitoring run to MLflow; a failure to log does not change the verdict."""
    from modelbook.monitoring import evaluation_tables
    from modelbook.registry import tracking
    from modelbook.stage import project

    tags = {"commit": project.get_commit(root), "version": version, "verdict": verdict}
    try:
        with tracking.StageRun(
            root,
            book,
            "monitor",
            tags | {"batches": ", ".join(evaluation.batch for evaluation in evaluations)},
        ) as run:
            run.log(evaluation_tables.collect_run_metrics(evaluations), params.model_dump())
    except Exception as error:  # any error of the store: the history has the windows already
        typer.echo(
            f"not logged to MLflow: {type(error).__name__}: {get_first_line(error)}", err=True
        )


def _notify_webhook(verdict: dict[str, Any]) -> None:
    """Post the verdict to the webhook, if one is configured; a failure is only reported."""
    from modelbook.monitoring import webhook

    if url := webhook.find_configured_url():
        text = (
            f"{verdict['book']}: {verdict['status']}. {' '.join(verdict['sentences'])} Next: "
            f"{verdict['next']}"
        )
        if problem := webhook.post_json(url, {"text": text, **verdict}):
            typer.echo(f"the webhook failed: {problem}", err=True)


@app.command()
def demo() -> None:
    """Show the monitor-retrain cycle with a small book in demo/; the project is not changed.

    Build, serve, damaged live rows, monitor (exit 20), retrain, promotion under load, A/B, an
    injected fault, monitor (exit 20), rollback. Takes a few minutes. Exits with 1 if a step has
    another result.

    Example:  modelbook demo
    """
    from modelbook.build.kernel_forking import share_fork_server
    from modelbook.extras.demo.sandbox import Sandbox
    from modelbook.extras.demo.scenario import Scenario
    from modelbook.extras.demo.screen import DemoScreen
    from modelbook.stage import project

    with report_errors(), DemoScreen() as screen:
        root = project.find_root()
        with share_fork_server():
            sandbox = Sandbox(root, root / "demo", screen.show_progress)
            result = Scenario(sandbox, screen.show_step).run()
    typer.echo(f"reports: {sandbox.root / 'reports' / 'index.html'}")
    typer.echo(f"shown: {result}")
