"""Commands that compare another version with the champion: ab, replay."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from modelbook.cli import options, terminal
from modelbook.cli.options import BookOption, JsonOption, find_book, report_errors

app = typer.Typer()

EXIT_CODES = {"invalid": 10}


@app.command()
def ab(
    since: Annotated[
        str | None,
        typer.Option(
            help="Predictions since a time (UTC), or 7d, 12h, 30m; "
            "default: since the challenge began."
        ),
    ] = None,
    book: BookOption = None,
    as_json: JsonOption = False,
) -> None:
    """Evaluate the A/B test of champion and challenger, at any time; exit with 10 if invalid.

    Examples:  modelbook ab  |  modelbook ab --since 7d  |  modelbook ab --json --book rand-hie
    """
    start = options.parse_time(since)
    with report_errors():
        result = evaluate_ab(*find_book(book), start, publish=True)
    options.print_verdict(result, as_json)
    if not as_json:
        typer.echo(result["page"])
    raise typer.Exit(EXIT_CODES.get(result["status"], 0))


@app.command()
def replay(
    model: Annotated[
        int,
        typer.Option(min=1, metavar="V", help="Number of the version that scores the rows again."),
    ],
    since: Annotated[str, typer.Option(help="Predictions since a time (UTC), or 7d, 12h, 30m.")],
    out: Annotated[
        Path | None, typer.Option(help="CSV file to write, with both predictions of all rows.")
    ] = None,
    book: BookOption = None,
    as_json: JsonOption = False,
) -> None:
    """Score past requests with another version, and show which predictions change, and how much.

    Examples:  modelbook replay --model 2 --since 7d
    |  modelbook replay --model 2 --since 2026-11-20 --out rows.csv
    """
    start = options.parse_time(since)
    if out is not None and out.suffix != ".csv":
        raise typer.BadParameter(f"{out} does not end in .csv")
    with report_errors():
        result = _run_replay(*find_book(book), model, start or 0, out)
    if as_json:
        options.print_json(result)
        return
    terminal.print_replay(result)


def _run_replay(
    root: Path, book: str, number: int, start: float, out: Path | None
) -> dict[str, Any]:
    from modelbook.ab import replay as replay_module
    from modelbook.errors import ServingError
    from modelbook.registry import aliases
    from modelbook.serving import served_models

    version = aliases.require_version(root, book, number, ServingError)
    served_model = served_models.load_model(version)
    with replay_module.open_csv(out) as save_chunk:
        predictions = options.open_journal(root, book).read_predictions_excluding(start, number)
        replay_result = replay_module.replay_predictions(
            predictions,
            served_model.scorer,
            served_model.contract,
            f"version {number}",
            on_progress=terminal.ProgressLine().show_rate,
            on_chunk=save_chunk,
        )
    return {
        "book": book,
        "version": number,
        **replay_result.to_dict(),
        "out": str(out) if out else None,
    }


def evaluate_ab(
    root: Path, book: str, since: float | None = None, *, publish: bool = False
) -> dict[str, Any]:
    """Evaluate the A/B test on the traffic so far and optionally publish its report."""
    from modelbook.ab import analysis, split_traffic, summary
    from modelbook.serving import settings

    traffic = settings.load_settings(root, book).traffic
    shared_traffic = split_traffic.read_split_traffic(
        root, book, options.open_journal(root, book), since
    )
    plan = analysis.ABPlan(
        traffic.challenger_share, traffic.min_users, traffic.min_hours, shared_traffic.loss_bound
    )
    result = summary.summarize_ab(analysis.analyze_ab(shared_traffic.rows, plan), shared_traffic)
    if publish:
        from modelbook.build import report_index
        from modelbook.pages import ab_report as page

        path = page.write(
            root / "reports" / book / "ab.html",
            result,
            analysis.compute_difference_history(shared_traffic.rows, plan),
        )
        report_index.write_index(root, book)
        result["page"] = path.relative_to(root).as_posix()
    return result
