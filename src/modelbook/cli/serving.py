"""Commands for serving: serve, export, score, stream, drill, journal, keys."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from modelbook.cli import terminal
from modelbook.cli.options import (
    BookOption,
    JsonOption,
    find_book,
    open_journal,
    print_json,
    report_errors,
)
from modelbook.formatting import format_count
from modelbook.redaction import redact, redact_uri

if TYPE_CHECKING:
    from modelbook.dataset.object_store import RemotePath
    from modelbook.registry.aliases import RegisteredVersion
    from modelbook.scoring.batch import BatchResult

app = typer.Typer()


@app.command()
def serve(
    host: Annotated[str, typer.Option(help="Host to bind.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to bind.")] = 8000,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Number of processes.")] = 1,
    book: BookOption = None,
    export_uri: Annotated[
        str, typer.Option("--from", help="Export to serve without a project: a folder or URI.")
    ] = "",
) -> None:
    """Serve the champion of a book over HTTP; API docs are at /docs. Settings: serving.yaml.

    Examples:  modelbook serve  |  modelbook serve --port 9000 --workers 2
    |  modelbook serve --from s3://models/9a0c...
    """
    from modelbook.registry import exports
    from modelbook.serving import server

    with report_errors():
        root, book_name = (
            (Path.cwd(), exports.open_export(Path.cwd(), export_uri).name)
            if export_uri
            else find_book(book)
        )
        server.run_server(root, book_name, host, port, workers, export_uri)


@app.command()
def export(
    destination: Annotated[
        str, typer.Argument(help="A folder, or a URI such as s3://bucket/models.")
    ],
    version: Annotated[
        int | None, typer.Option(min=1, help="A version; default: the champion.")
    ] = None,
    with_rows: Annotated[
        bool,
        typer.Option("--with-rows", help="Include the holdout rows, which may be personal data."),
    ] = False,
    sign: Annotated[
        Path | None, typer.Option(metavar="KEY", help="Sign with this Ed25519 key, a PEM file.")
    ] = None,
    book: BookOption = None,
    as_json: JsonOption = False,
) -> None:
    """Copy a version with its gate decision and history to a folder, and print the folder's URI.

    Examples:  modelbook export ../exports
    |  modelbook export s3://bucket/models --version 3
    """
    from modelbook.registry import exports, signing
    from modelbook.stage import project

    with report_errors():
        root, name = find_book(book)
        export_uri = exports.export_version(
            root,
            name,
            destination,
            version,
            with_rows=with_rows,
            commit=project.get_commit(root),
            signing_key=signing.load_private_key(sign) if sign else None,
        )
        number = exports.read_manifest(export_uri)["number"]
    export_uri = redact_uri(export_uri)
    if as_json:
        print_json({"book": name, "version": number, "address": export_uri})
    else:
        typer.echo(export_uri)


@app.command()
def score(
    input_path: Annotated[
        str,
        typer.Argument(
            metavar="IN",
            help="File of any format that training reads, folder of .parquet files, or a URI.",
        ),
    ],
    output_path: Annotated[
        str,
        typer.Argument(
            metavar="OUT", help="File (.csv .tsv .parquet .jsonl .xlsx), folder or URI to write."
        ),
    ],
    book: BookOption = None,
    engine: Annotated[
        Literal["local", "dask", "spark", "ray"], typer.Option(help="Engine that scores a folder.")
    ] = "local",
    scheduler: Annotated[
        str | None, typer.Option(help="Address of the engine's scheduler; default: this machine.")
    ] = None,
    model: Annotated[
        str, typer.Option(metavar="MODEL", help="champion, challenger, or the number of a version.")
    ] = "champion",
    to_journal: Annotated[
        bool,
        typer.Option(
            "--journal", help="Journal the predictions; OUT gets the column prediction_id."
        ),
    ] = False,
    report: Annotated[
        Path | None,
        typer.Option(help="JSON file to write: counts of scored and rejected rows, and drift."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Score rows with a version; write rejected rows and reasons to a .rejects.csv next to OUT.

    Examples:  modelbook score rows.csv scored.csv
    |  modelbook score s3://bucket/rows s3://bucket/scored
    |  modelbook score rows.csv scored.csv --model challenger --report report.json
    |  modelbook score s3://bucket/rows s3://bucket/scored --engine dask --scheduler tcp://...
    """
    _check_engine_options(input_path, output_path, engine, scheduler)
    if to_journal and (engine != "local" or model not in ("champion", "challenger")):
        raise typer.BadParameter(
            "--journal requires --engine local, and --model champion or challenger"
        )
    with report_errors(), ExitStack() as stack:
        root, book_name = find_book(book)
        version = _find_version(root, book_name, model)
        record_chunk = (
            _open_batch_journal(root, book_name, version, model, stack) if to_journal else None
        )
        with _open_locations(input_path, output_path, scheduler) as (source, sink):
            result = _score_rows(
                source, sink, version, engine, scheduler, output_path, record_chunk
            )
            if report:
                _write_batch_report(report, root, book, source, result, version)
    _print_batch_result(result, redact(output_path), version.number, as_json)


def _print_batch_result(result: BatchResult, output_path: str, version: int, as_json: bool) -> None:
    from modelbook.dataset import object_store

    scored_rows = result.rows - result.rejected_rows
    rejects = str(result.rejects_path)
    if object_store.is_remote_uri(output_path):
        rejects = f"{output_path.rstrip('/').rpartition('/')[0]}/{result.rejects_path.name}"
    if as_json:
        print_json(
            {
                "out": output_path,
                "version": version,
                "scored_rows": scored_rows,
                "rejected_rows": result.rejected_rows,
                "rejects": rejects if result.rejected_rows else None,
            }
        )
        return
    typer.echo(f"{output_path}: {format_count(scored_rows, 'row')} scored by version {version}")
    if result.rejected_rows:
        typer.echo(
            f"{rejects}: "
            f"{format_count(result.rejected_rows, 'row violates', 'rows violate')} the contract",
            err=True,
        )


def _find_version(root: Path, book: str, alias_or_version: str) -> RegisteredVersion:
    from modelbook.errors import ServingError
    from modelbook.registry import aliases

    if alias_or_version == aliases.CHAMPION:
        return aliases.require_champion(root, book, ServingError)
    if alias_or_version == aliases.CHALLENGER:
        return aliases.require_challenger(root, book, ServingError)
    if not alias_or_version.isdigit():
        raise typer.BadParameter(
            f"{alias_or_version!r} is not a version; give champion, challenger, or a number"
        )
    return aliases.require_version(root, book, int(alias_or_version), ServingError)


def _write_batch_report(
    path: Path,
    root: Path,
    book: str | None,
    source: Path | RemotePath,
    result: BatchResult,
    version: RegisteredVersion,
) -> None:
    """Write a JSON report: row counts, and drift as stage monitor measures it."""
    from modelbook import config, formatting
    from modelbook.atomic import write_text
    from modelbook.extras import score_report
    from modelbook.stage import project

    values = project.read_stage_parameters(root, book, "monitor")
    params: Any = config.validate("monitor", values)
    description = score_report.describe_batch(root, source, result, version, params)
    text = formatting.dump_json({"version": version.number, **description})
    write_text(path, text + "\n")


def _open_batch_journal(
    root: Path, book: str, version: RegisteredVersion, variant: str, stack: ExitStack
) -> Callable[..., Any]:
    """Open the journal until ``stack`` is closed; return the function that records a chunk."""
    from modelbook.serving import served_models, settings
    from modelbook.serving.batch_journal import BatchJournal

    redacted = settings.load_settings(root, book).journal.redacted_columns
    model = served_models.load_model(version)
    journal = BatchJournal(open_journal(root, book), model, variant, redacted)
    stack.enter_context(journal.running())
    return journal.record


def _score_rows(
    source: Path | RemotePath,
    sink: Any,
    version: RegisteredVersion,
    engine: str,
    scheduler: str | None,
    output_path: str,
    record_chunk: Callable[..., Any] | None,
) -> BatchResult:
    """Score a file or a folder; ``record_chunk`` journals a chunk of the output."""
    from modelbook.scoring import batch, partitions
    from modelbook.serving import served_models

    if isinstance(source, Path) and not source.is_dir():
        model = served_models.load_model(version)
        return batch.score_file(
            source,
            sink,
            model.scorer,
            model.contract,
            model.number,
            on_progress=terminal.ProgressLine().show_rate,
            record_chunk=record_chunk and partial(record_chunk, output_path),
        )
    return partitions.score_folder(
        source,
        sink,
        version,
        served_models.load_model,
        on_progress=terminal.ProgressLine().show_rate,
        engine_name=engine,
        scheduler=scheduler,
        record_chunk=record_chunk
        and (
            lambda partition, chunk, rows_before: record_chunk(
                f"{output_path}/{partition}", chunk, rows_before
            )
        ),
    )


def _check_engine_options(
    input_path: str, output_path: str, engine: str, scheduler: str | None
) -> None:
    from modelbook.dataset.object_store import is_remote_uri

    if (engine != "local" or scheduler) and not (
        Path(input_path).is_dir() or is_remote_uri(input_path)
    ):
        raise typer.BadParameter(
            f"--engine and --scheduler need a folder of Parquet files, which {input_path} is not"
        )
    if scheduler and engine == "local":
        raise typer.BadParameter("--scheduler is set, but --engine is local")
    if scheduler and is_remote_uri(input_path) != is_remote_uri(output_path):
        raise typer.BadParameter(
            "with --scheduler, IN and OUT must both be URIs, or both folders on a file system that "
            "the workers share"
        )


@contextmanager
def _open_locations(
    input_path: str, output_path: str, scheduler: str | None
) -> Iterator[tuple[Path | RemotePath, Any]]:
    """Yield the locations to read from and to write to.

    Objects that cannot be read or written in place are copied through temporary files.
    """
    from modelbook.dataset import object_store, parquet_folder

    if object_store.is_remote_uri(input_path) and object_store.is_remote_uri(output_path):
        remote = object_store.RemotePath(input_path)
        names = remote.list_files()
        if names and (scheduler or not parquet_folder.is_delta_table(names)):
            yield remote, object_store.RemotePath(output_path)
            return
        if scheduler:
            raise typer.BadParameter(
                f"--scheduler needs a folder of Parquet files, which {input_path} is not"
            )
    with (
        object_store.open_input(input_path) as source,
        object_store.open_output(output_path, is_folder=source.is_dir()) as sink,
    ):
        yield source, sink


@app.command()
def stream(book: BookOption = None) -> None:
    """Score rows of a Redis stream into another stream. Settings: serving.yaml, under stream.

    Examples:  modelbook stream
    |  MODELBOOK_SERVE_STREAM__URL=redis://127.0.0.1:6380 modelbook stream --book rand-hie
    """
    from modelbook.extras import stream as worker

    with report_errors():
        worker.run_worker(*find_book(book))


@app.command()
def drill(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[DRILLS]", help="Drills to run; default: all.")
    ] = None,
    book: BookOption = None,
    as_json: JsonOption = False,
) -> None:
    """Inject faults into a copy of the service; exit with 1 if one of its guarantees does not hold.

    Examples:  modelbook drill  |  modelbook drill kill-process remove-journal
    """
    from modelbook.extras import drill
    from modelbook.extras.drill.guarantees import GUARANTEES

    if unknown := [name for name in names or [] if name not in GUARANTEES]:
        raise typer.BadParameter(f"{unknown[0]!r} is not one of {', '.join(GUARANTEES)}")

    def print_result(result: drill.GuaranteeResult) -> None:
        numbers = "; ".join(f"{name}: {value}" for name, value in result.numbers.items())
        text = f"{result.verdict:<11} {result.name:<22} {numbers or result.skip_reason}"
        typer.echo(text, err=as_json)
        if result.problem:
            typer.echo(f"{'':<11} {result.problem}", err=True)

    with report_errors():
        root, book_name = find_book(book)
        results = drill.run_drill(root, book_name, names, print_result)
    if as_json:
        print_json([result.to_dict() for result in results])
    else:
        typer.echo(root / "reports" / book_name / "drill.html")
    if any(result.verdict == "broken" for result in results):
        raise typer.Exit(1)


journal_app = typer.Typer(no_args_is_help=True, help="Verify the journal of predictions.")
app.add_typer(journal_app, name="journal")


@journal_app.command("verify")
def verify(
    predictions: Annotated[
        list[str],
        typer.Argument(
            metavar="IDS", help="Prediction ids, each as ID or ID=HASH (row_hash of the response)."
        ),
    ],
    book: BookOption = None,
    as_json: JsonOption = False,
) -> None:
    """Verify that predictions are in the journal, unaltered; exit with 1 if one is not.

    Examples:  modelbook journal verify 01a1fdc02db71261b5fcdae33e74a66c
    |  modelbook journal verify 01a1fdc02db71261b5fcdae33e74a66c=77d0c2f14ae9b0c3d2f1
    """
    from modelbook.journal import hash_chain

    with report_errors():
        row_hashes = dict(_split_hash(text) for text in predictions)
        verifications = hash_chain.verify_predictions(open_journal(*find_book(book)), row_hashes)
    if as_json:
        print_json(
            [
                asdict(verification) | {"is_verified": verification.is_verified}
                for verification in verifications
            ]
        )
    else:
        for verification in verifications:
            text = f"{verification.prediction_id}: {verification.problem or 'verified'}"
            typer.echo(text, err=not verification.is_verified)
    if not all(verification.is_verified for verification in verifications):
        raise typer.Exit(1)


def _split_hash(text: str) -> tuple[str, str | None]:
    prediction_id, _, row_hash = text.partition("=")
    return prediction_id, row_hash or None


keys_app = typer.Typer(no_args_is_help=True, help="Add, list or remove API keys of the service.")
app.add_typer(keys_app, name="keys")


@keys_app.command("add")
def add_key(
    name: Annotated[str, typer.Argument(help="Who will use it.")],
    scope: Annotated[
        list[str] | None, typer.Option(help="predict (default), outcomes or admin; repeatable.")
    ] = None,
    days: Annotated[
        float | None, typer.Option(min=0.001, help="Days until it expires; default: never.")
    ] = None,
) -> None:
    """Create a key and print it once; only its hash is stored. Services accept it within seconds.

    Examples:  modelbook keys add shop
    |  modelbook keys add report --scope predict --scope outcomes --days 90
    """
    from modelbook.serving.access import ApiKeyStore
    from modelbook.stage import project

    with report_errors():
        typer.echo(ApiKeyStore(project.find_root()).add_key(name, scope or ["predict"], days))


@keys_app.command("list")
def list_keys(as_json: JsonOption = False) -> None:
    """List the keys: names, scopes, and expiry.

    Example:  modelbook keys list
    """
    from modelbook.serving.access import ApiKeyStore
    from modelbook.stage import project

    with report_errors():
        rows = [key.describe() for key in ApiKeyStore(project.find_root())]
    headers = ("name", "scopes", "created", "expires")
    if as_json:
        print_json([dict(zip(headers, row, strict=True)) for row in rows])
    else:
        terminal.print_table(headers, rows)


@keys_app.command("remove")
def remove_key(name: Annotated[str, typer.Argument(help="The key's name.")]) -> None:
    """Remove a key; running services reject it within seconds.

    Example:  modelbook keys remove shop
    """
    from modelbook.serving.access import KEYS_FILE, ApiKeyStore
    from modelbook.stage import project

    with report_errors():
        keys = ApiKeyStore(project.find_root())
        keys.remove_key(name)
    if not len(keys):
        typer.echo(
            "That was the last key: services of this project with api_keys: on now reject all "
            "requests that need a key. Create one with modelbook keys add NAME, or delete "
            f"{KEYS_FILE} and restart the services to accept local clients without keys.",
            err=True,
        )
