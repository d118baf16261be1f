"""Serving benchmark: `modelbook serve` compared with MLflow, FastAPI and PyCaret on one champion.

Servers run one at a time and receive single-row requests over 8 connections. Modelbook's service
and an empty endpoint are measured in turn for some rounds, the others once. Numbers are medians;
ratios to the empty endpoint are medians of the ratios per round. CPU time per request is that of
the server's processes: on a busy machine it is more stable than the rate.

    python benchmarks/serving.py                        this project's champion, about four minutes
    python benchmarks/serving.py PATH --book NAME --rounds 4 --seconds 5
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO, Any

from project_python import use_project_python

if __name__ == "__main__":
    use_project_python()  # before imports that another environment may lack

import numpy as np
import pandas as pd
import psutil
import uvloop
from load import load

from modelbook.contract import Contract
from modelbook.registry import aliases
from modelbook.registry.aliases import RegisteredVersion, read_aliases
from modelbook.registry.store import get_tracking_uri
from modelbook.serving import served_models

ROOT = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent
MODELBOOK, EMPTY = "modelbook serve", "empty FastAPI endpoint"
BATCH_ROUNDS = 2


@dataclass
class Server:
    """A server to measure: its command, URL path, request format and measurements."""

    name: str
    command: list[str]
    path: str = "/predict"
    make_payload: Callable[[Any], Any] = lambda row: row
    rates: list[float] = field(default_factory=list)
    p99s: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    starts: list[float] = field(default_factory=list)  # seconds to the first response


def list_servers(book: str, include_competitors: bool) -> list[Server]:
    """The empty endpoint, Modelbook and, optionally, competitors; ``PORT`` stands for the port."""
    uvicorn_command = [
        str(BIN / "uvicorn"),
        "--port",
        "PORT",
        "--no-access-log",
        "--log-level",
        "warning",
        "--factory",
    ]
    mlflow_command = [
        str(BIN / "mlflow"),
        "models",
        "serve",
        "-m",
        f"models:/{book}@champion",
        "--env-manager",
        "local",
        "-p",
        "PORT",
    ]
    servers = [
        Server(EMPTY, [*uvicorn_command, "competitors:make_empty_app"]),
        Server(MODELBOOK, [str(BIN / "modelbook"), "serve", "--book", book, "--port", "PORT"]),
    ]
    if include_competitors:
        servers += [
            Server(
                "mlflow models serve",
                mlflow_command,
                "/invocations",
                lambda row: {"dataframe_records": [row]},
            ),
            Server("predict_proba in FastAPI", [*uvicorn_command, "competitors:make_pipeline_app"]),
            Server(
                "PyCaret's predict_model in FastAPI",
                [*uvicorn_command, "competitors:make_pycaret_app"],
            ),
        ]
    return servers


def measure_server(
    server: Server,
    root: Path,
    row: dict[str, Any],
    environ: dict[str, str],
    seconds: float,
    log: IO[bytes],
) -> None:
    """Start a server, load it for some seconds, and append to its measurements."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [word.replace("PORT", str(port)) for word in server.command]
    start_time = time.monotonic()
    process = subprocess.Popen(
        command, cwd=root, env=environ, stdout=log, stderr=log, start_new_session=True
    )
    url = f"http://127.0.0.1:{port}{server.path}"
    body = json.dumps(server.make_payload(row)).encode()
    try:
        _wait(server.name, url, body, process, log)
        server.starts.append(time.monotonic() - start_time)
        processes = [
            psutil.Process(process.pid),
            *psutil.Process(process.pid).children(recursive=True),
        ]
        before = sum(sum(child.cpu_times()[:2]) for child in processes)
        result = uvloop.run(load(url, body, 8, seconds))
        cpu_seconds = sum(sum(child.cpu_times()[:2]) for child in processes) - before
        if result.failed:
            sys.exit(f"{server.name}: {result.failed} requests failed")
        server.rates.append(result.rate)
        server.p99s.append(result.p99)
        server.cpu.append(cpu_seconds / result.requests * 1e6)
        if server.name in (MODELBOOK, EMPTY):  # at half of its maximum rate
            server.p99s[-1] = uvloop.run(load(url, body, 8, seconds, rate=result.rate / 2)).p99
    finally:
        for child in psutil.Process(process.pid).children(recursive=True):
            child.terminate()
        process.terminate()
        process.wait(30)


def _wait(
    name: str,
    url: str,
    body: bytes,
    process: subprocess.Popen,
    log: IO[bytes],
    seconds: float = 180,
) -> None:
    """Wait for the first response of 200, or exit with the reason and the server's last lines."""
    deadline = time.monotonic() + seconds
    reason = ""
    while time.monotonic() < deadline and process.poll() is None:
        request = urllib.request.Request(url, body, {"content-type": "application/json"})
        try:
            urllib.request.urlopen(request, timeout=60).read()
            return
        except urllib.error.HTTPError as error:
            reason = f"{error}: {error.read(500).decode(errors='replace')}"
        except OSError as error:
            reason = str(error)
        time.sleep(0.02)
    if process.poll() is not None:
        reason = f"the server ended with {process.returncode}"
    log.seek(0)
    lines = log.read().decode(errors="replace").splitlines()[-20:]
    sys.exit("\n".join([f"{name}: {url} does not respond: {reason}", *lines]))


def measure_in_process_latency(
    root: Path, book: str, rounds: int = 3000
) -> tuple[str, dict[str, float]]:
    """Microseconds of parsing, prediction and the kernel alone, on the champion's golden rows."""
    served_model = served_models.load_model(aliases.require_champion(root, book))
    artifact_folder = read_aliases(root, book)["champion"].artifact_folder
    rows = json.loads((artifact_folder / served_models.GOLDEN_FILE).read_text())["rows"]
    encoded = [served_model.scorer.encoder.transform_one(row) for row in rows]
    body = json.dumps(served_model.row_reader.example).encode()
    times = {
        "body to dict": _measure_call_us(
            served_model.row_reader.read_body, [body] * len(rows), rounds
        ),
        "dict to prediction": _measure_call_us(served_model.scorer.predict_one, rows, rounds),
        "kernel": _measure_call_us(served_model.scorer._predict_one, encoded, rounds),
    }
    if (kernel_path := artifact_folder / "scorer" / "kernel.txt").is_file():
        import lightgbm

        predict = partial(lightgbm.Booster(model_file=str(kernel_path)).predict, num_threads=1)
        times["Booster.predict"] = _measure_call_us(
            predict, [np.array([row]) for row in encoded], rounds
        )
    return served_model.scorer.name, times


def _measure_call_us(function: Callable[[Any], Any], arguments: list[Any], rounds: int) -> float:
    times = []
    for _ in range(max(1, rounds // len(arguments))):
        start_cpu = time.process_time()
        for argument in arguments:
            function(argument)
        times.append((time.process_time() - start_cpu) / len(arguments))
    return statistics.median(times) * 1e6


def write_pycaret_pipeline(champion: RegisteredVersion, target: Path) -> None:
    """Write the champion as a PyCaret pipeline: ``predict_model`` accepts no bare ensemble."""
    import cloudpickle
    from pycaret.internal.pipeline import Pipeline
    from sklearn.preprocessing import FunctionTransformer

    model = cloudpickle.loads((champion.artifact_folder / "model.pkl").read_bytes())
    if not hasattr(model, "steps"):
        contract = Contract.load(champion.artifact_folder / "contract.yaml")
        model = Pipeline([("passthrough", FunctionTransformer()), ("ensemble", model)])
        model._feature_names_in = [*contract.feature_names, contract.target]
    target.write_bytes(cloudpickle.dumps(model))


def measure_batch_throughput(
    root: Path, book: str, pickled: Path, rows: int, rounds: int
) -> tuple[float, float]:
    """Median rows per second, Parquet to Parquet: `modelbook score` and PyCaret's predict_model."""
    import cloudpickle
    from pycaret.classification import predict_model

    from modelbook.scoring import batch as scoring

    served_model = served_models.load_model(aliases.require_champion(root, book))
    model = cloudpickle.loads(pickled.read_bytes())
    # Columns known before the outcome.
    columns = dict.fromkeys([*served_model.contract.key, *served_model.contract.input_names])
    reference_rows = pd.read_parquet(
        read_aliases(root, book)["champion"].artifact_folder / "reference.parquet",
        columns=list(columns),
    )
    rates: tuple[list[float], list[float]] = [], []
    for number in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            source, modelbook_target, pycaret_target = (
                Path(folder) / f"{name}.parquet" for name in ("in", "out", "pycaret-out")
            )
            reference_rows.sample(rows, replace=True, random_state=number).to_parquet(
                source, index=False
            )
            score_result = scoring.score_file(
                source,
                modelbook_target,
                served_model.scorer,
                served_model.contract,
                served_model.number,
                on_progress=lambda rows, seconds: None,
            )
            start_time = time.monotonic()
            features = served_model.contract.select_features(pd.read_parquet(source))
            predict_model(model, data=features, raw_score=True, verbose=False).to_parquet(
                pycaret_target
            )
            rates[0].append(score_result.rows / score_result.seconds)
            rates[1].append(rows / (time.monotonic() - start_time))
    return statistics.median(rates[0]), statistics.median(rates[1])


def _print_ratios(
    name: str, modelbook_values: list[float], empty_values: list[float], target: str
) -> None:
    pairs = list(zip(modelbook_values, empty_values))
    ratios = [modelbook_value / empty_value for modelbook_value, empty_value in pairs]
    rounds = ", ".join(f"{value:,.1f} to {empty_value:,.1f}" for value, empty_value in pairs)
    print(f"  {name}: {statistics.median(ratios):.2f} x   target {target}   ({rounds})")


def main() -> None:
    """Measure all servers and print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "project", nargs="?", type=Path, default=ROOT, help="a project that has been built"
    )
    parser.add_argument("--book", default="rand-hie")
    parser.add_argument("--rounds", type=int, default=4, help="of Modelbook and the empty endpoint")
    parser.add_argument("--seconds", type=float, default=5, help="duration of each load")
    parser.add_argument(
        "--rows", type=int, default=1_000_000, help="rows of the batch; 0: no batch"
    )
    parser.add_argument(
        "--alone", action="store_true", help="measure only Modelbook and the empty endpoint"
    )
    args = parser.parse_args()
    root = args.project.resolve()
    champion = read_aliases(root, args.book)["champion"]
    row = json.loads((champion.artifact_folder / served_models.GOLDEN_FILE).read_text())["typical"]
    with tempfile.TemporaryDirectory() as folder:
        example, pipeline = Path(folder) / "row.json", Path(folder) / "pipeline.pkl"
        example.write_text(json.dumps(row))
        if args.rows or not args.alone:
            write_pycaret_pipeline(champion, pipeline)
        environ = {
            **os.environ, "EXAMPLE": str(example), "PICKLE": str(pipeline),
            "PYTHONPATH": f"{Path(__file__).parent}:{os.environ.get('PYTHONPATH', '')}",
            "MODELBOOK_ROOT": str(root), "MLFLOW_TRACKING_URI": get_tracking_uri(root),
            "PYCARET_CUSTOM_LOGGING_PATH": os.devnull, "PATH": f"{BIN}:{os.environ['PATH']}",
        }  # fmt: skip
        servers = list_servers(args.book, not args.alone)
        for round_index in range(args.rounds):
            for server in servers[:2] if round_index else servers:
                with tempfile.TemporaryFile() as log:
                    measure_server(server, root, row, environ, args.seconds, log)
        if args.rows:
            modelbook_rate, pycaret_rate = measure_batch_throughput(
                root, args.book, pipeline, args.rows, min(args.rounds, BATCH_ROUNDS)
            )
    empty_server, modelbook_server = servers[:2]
    modelbook_median = statistics.median(modelbook_server.rates)
    print(
        f"{'one row per request, 8 connections':<38} "
        f"{'per s':>9} {'ratio':>9} {'CPU, µs':>9} {'start, s':>9}"
    )
    for server in servers:
        rate = statistics.median(server.rates)
        cpu, start = statistics.median(server.cpu), statistics.median(server.starts)
        print(
            f"{server.name:<38} {rate:>9,.0f} {modelbook_median / rate:>8,.2f}x "
            f"{cpu:>9,.0f} {start:>9.1f}",
            flush=True,
        )
    print(f"Modelbook relative to the {EMPTY}, by round:")
    _print_ratios("rate", modelbook_server.rates, empty_server.rates, "at least 0.7")
    _print_ratios("CPU, µs", modelbook_server.cpu, empty_server.cpu, "below 1.4")
    _print_ratios(
        "p99 at half of the top rate, ms", modelbook_server.p99s, empty_server.p99s, "at most 2"
    )
    name, times = measure_in_process_latency(root, args.book)
    result = ", ".join(f"{step} {time:.1f} µs" for step, time in times.items())
    print(f"in-process, {name}: {result}")
    if args.rows:
        print(
            f"batch, rows per second: {modelbook_rate:,.0f}; predict_model {pycaret_rate:,.0f}: "
            f"{modelbook_rate / pycaret_rate:.1f} x   target at least 10"
        )


if __name__ == "__main__":
    main()
