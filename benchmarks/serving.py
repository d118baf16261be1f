"""What a prediction costs: our service beside the usual ways to serve the same champion, all in one run.

Each server runs alone, and is asked one row a request by 8 connections: ours and an empty endpoint in some rounds in
turn, the others once. Numbers are medians, those of ours relative to the empty endpoint are medians of the rounds'
ratios. CPU time a request is what the server's process used: on a busy machine it is steadier than the rate.

    python benchmarks/serving.py                        the project's own champion, in about four minutes
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
from modelbook.registry.aliases import RegisteredVersion, read_aliases
from modelbook.registry.store import tracking_uri
from modelbook.serving import served_models

ROOT, BIN = Path(__file__).resolve().parents[1], Path(sys.executable).parent
OURS, EMPTY = "modelbook serve", "empty FastAPI endpoint"
BATCH_ROUNDS = 2


@dataclass
class Way:
    """One way to serve: its command, where to ask, what to send, and what was found."""

    name: str
    command: list[str]
    path: str = "/predict"
    wrap: Callable[[Any], Any] = lambda row: row
    rates: list[float] = field(default_factory=list)
    p99s: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    starts: list[float] = field(default_factory=list)  # seconds to the first answer


def ways(book: str, rivals: bool) -> list[Way]:
    """Ours and the others; ``PORT`` stands for the port."""
    uvicorn = [
        str(BIN / "uvicorn"),
        "--port",
        "PORT",
        "--no-access-log",
        "--log-level",
        "warning",
        "--factory",
    ]
    mlflow = [
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
    result = [
        Way(EMPTY, [*uvicorn, "rivals:empty"]),
        Way(OURS, [str(BIN / "modelbook"), "serve", "--book", book, "--port", "PORT"]),
    ]
    if rivals:
        result += [
            Way(
                "mlflow models serve",
                mlflow,
                "/invocations",
                lambda row: {"dataframe_records": [row]},
            ),
            Way("predict_proba in FastAPI", [*uvicorn, "rivals:pipeline"]),
            Way("PyCaret's predict_model in FastAPI", [*uvicorn, "rivals:pycaret"]),
        ]
    return result


def measure(
    way: Way,
    root: Path,
    row: dict[str, Any],
    environ: dict[str, str],
    seconds: float,
    log: IO[bytes],
) -> None:
    """One round of one way."""
    with socket.socket() as item:
        item.bind(("127.0.0.1", 0))
        port = item.getsockname()[1]
    command = [word.replace("PORT", str(port)) for word in way.command]
    began = time.monotonic()
    process = subprocess.Popen(
        command, cwd=root, env=environ, stdout=log, stderr=log, start_new_session=True
    )
    url, body = f"http://127.0.0.1:{port}{way.path}", json.dumps(way.wrap(row)).encode()
    try:
        _wait(way.name, url, body, process, log)
        way.starts.append(time.monotonic() - began)
        server = [
            psutil.Process(process.pid),
            *psutil.Process(process.pid).children(recursive=True),
        ]
        before = sum(sum(item.cpu_times()[:2]) for item in server)
        result = uvloop.run(load(url, body, 8, seconds))
        used = sum(sum(item.cpu_times()[:2]) for item in server) - before
        if result.failed:
            sys.exit(f"{way.name}: {result.failed} requests failed")
        way.rates.append(result.rate)
        way.p99s.append(result.p99)
        way.cpu.append(used / result.requests * 1e6)
        if way.name in (OURS, EMPTY):  # each at half of its own rate
            way.p99s[-1] = uvloop.run(load(url, body, 8, seconds, rate=result.rate / 2)).p99
    finally:
        for item in psutil.Process(process.pid).children(recursive=True):
            item.terminate()
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
    """Wait for the first response of 200; without one, end with the reason and the server's log."""
    until, reason = time.monotonic() + seconds, ""
    while time.monotonic() < until and process.poll() is None:
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
    sys.exit("\n".join([f"{name}: {url} does not answer: {reason}", *lines]))


def inside(root: Path, book: str, rounds: int = 3000) -> tuple[str, dict[str, float]]:
    """Microseconds of one dict to one answer on the champion's golden rows, and of what stands below it alone."""
    item, folder = (
        served_models.load_champion(root, book),
        read_aliases(root, book)["champion"].artifact_folder,
    )
    rows = json.loads((folder / served_models.GOLDEN_FILE).read_text())["rows"]
    encoded = [item.scorer.encoder.transform_one(row) for row in rows]
    body = json.dumps(item.row_reader.example).encode()
    times = {
        "body to dict": _each(item.row_reader.read_body, [body] * len(rows), rounds),
        "dict to answer": _each(item.scorer.predict_one, rows, rounds),
        "kernel": _each(item.scorer._predict_one, encoded, rounds),
    }
    if (retained := folder / "scorer" / "kernel.txt").is_file():
        import lightgbm

        predict = partial(lightgbm.Booster(model_file=str(retained)).predict, num_threads=1)
        times["Booster.predict"] = _each(predict, [np.array([row]) for row in encoded], rounds)
    return item.scorer.name, times


def _each(call: Callable[[Any], Any], given: list[Any], rounds: int) -> float:
    times = []
    for _ in range(max(1, rounds // len(given))):
        began = time.process_time()
        for item in given:
            call(item)
        times.append((time.process_time() - began) / len(given))
    return statistics.median(times) * 1e6


def write_pycaret_pipeline(champion: RegisteredVersion, target: Path) -> None:
    """Write the champion as a pipeline of PyCaret's: ``predict_model`` takes no ensemble as it is."""
    import cloudpickle
    from pycaret.internal.pipeline import Pipeline
    from sklearn.preprocessing import FunctionTransformer

    model = cloudpickle.loads((champion.artifact_folder / "model.pkl").read_bytes())
    if not hasattr(model, "steps"):
        contract = Contract.load(champion.artifact_folder / "contract.yaml")
        model = Pipeline([("rows as they are", FunctionTransformer()), ("ensemble", model)])
        model._feature_names_in = [*contract.feature_names, contract.target]
    target.write_bytes(cloudpickle.dumps(model))


def batch(root: Path, book: str, pickled: Path, rows: int, rounds: int) -> tuple[float, float]:
    """Rows a second from Parquet to Parquet, medians: of `modelbook score`, and of PyCaret's predict_model."""
    import cloudpickle
    from pycaret.classification import predict_model

    from modelbook.scoring import batch as scoring

    item, model = served_models.load_champion(root, book), cloudpickle.loads(pickled.read_bytes())
    columns = dict.fromkeys(
        [*item.contract.key, *item.contract.input_names]
    )  # what is known before the outcome
    held = pd.read_parquet(
        read_aliases(root, book)["champion"].artifact_folder / "reference.parquet",
        columns=list(columns),
    )
    rates: tuple[list[float], list[float]] = [], []
    for number in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            source, target, slow = (
                Path(folder) / f"{name}.parquet" for name in ("in", "out", "slow")
            )
            held.sample(rows, replace=True, random_state=number).to_parquet(source, index=False)
            done = scoring.score_file(
                source,
                target,
                item.scorer,
                item.contract,
                item.number,
                on_progress=lambda rows, seconds: None,
            )
            began = time.monotonic()
            inputs = item.contract.select_features(pd.read_parquet(source))
            predict_model(model, data=inputs, raw_score=True, verbose=False).to_parquet(slow)
            rates[0].append(done.rows / done.seconds)
            rates[1].append(rows / (time.monotonic() - began))
    return statistics.median(rates[0]), statistics.median(rates[1])


def _print_ratios(what: str, ours: list[float], empty: list[float], target: str) -> None:
    ratios = [one / other for one, other in zip(ours, empty)]
    rounds = ", ".join(f"{one:,.1f} to {other:,.1f}" for one, other in zip(ours, empty))
    print(f"  {what}: {statistics.median(ratios):.2f} x   target {target}   ({rounds})")


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "project", nargs="?", type=Path, default=ROOT, help="a project that has been built"
    )
    parser.add_argument("--book", default="rand-hie")
    parser.add_argument("--rounds", type=int, default=4, help="of ours and the empty endpoint")
    parser.add_argument("--seconds", type=float, default=5, help="of each load")
    parser.add_argument("--rows", type=int, default=1_000_000, help="of the batch; 0: none")
    parser.add_argument("--alone", action="store_true", help="ours beside the empty endpoint only")
    inputs = parser.parse_args()
    root = inputs.project.resolve()
    champion = read_aliases(root, inputs.book)["champion"]
    row = json.loads((champion.artifact_folder / served_models.GOLDEN_FILE).read_text())["typical"]
    with tempfile.TemporaryDirectory() as folder:
        example, pipeline = Path(folder) / "row.json", Path(folder) / "pipeline.pkl"
        example.write_text(json.dumps(row))
        if inputs.rows or not inputs.alone:
            write_pycaret_pipeline(champion, pipeline)
        environ = {
            **os.environ, "EXAMPLE": str(example), "PICKLE": str(pipeline),
            "PYTHONPATH": f"{Path(__file__).parent}:{os.environ.get('PYTHONPATH', '')}",
            "MODELBOOK_ROOT": str(root), "MLFLOW_TRACKING_URI": tracking_uri(root),
            "PYCARET_CUSTOM_LOGGING_PATH": os.devnull, "PATH": f"{BIN}:{os.environ['PATH']}",
        }  # fmt: skip
        match = ways(inputs.book, not inputs.alone)
        for number in range(inputs.rounds):
            for way in match[:2] if number else match:
                with tempfile.TemporaryFile() as log:
                    measure(way, root, row, environ, inputs.seconds, log)
        if inputs.rows:
            fast, slow = batch(
                root, inputs.book, pipeline, inputs.rows, min(inputs.rounds, BATCH_ROUNDS)
            )
    ours = statistics.median(next(way for way in match if way.name == OURS).rates)
    print(
        f"{'one row a request, 8 connections':<38} {'a second':>9} {'ours is':>9} {'CPU, µs':>9} {'start, s':>9}"
    )
    for way in match:
        rate = statistics.median(way.rates)
        cpu, start = statistics.median(way.cpu), statistics.median(way.starts)
        print(
            f"{way.name:<38} {rate:>9,.0f} {ours / rate:>8,.2f}x {cpu:>9,.0f} {start:>9.1f}",
            flush=True,
        )
    empty, served = match[:2]
    print(f"of ours to the {EMPTY}, by round:")
    _print_ratios("rate", served.rates, empty.rates, "at least 0.7")
    _print_ratios("CPU, µs", served.cpu, empty.cpu, "below 1.4")
    _print_ratios("p99 at half of the top rate, ms", served.p99s, empty.p99s, "at most 2")
    name, times = inside(root, inputs.book)
    result = ", ".join(f"{what} {time:.1f} µs" for what, time in times.items())
    print(f"in-process, {name}: {result}")
    if inputs.rows:
        print(
            f"batch, rows a second: {fast:,.0f}; predict_model {slow:,.0f}: {fast / slow:.1f} x   target at least 10"
        )


if __name__ == "__main__":
    main()
