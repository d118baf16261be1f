"""CPU, memory and latency impact of worst-case requests of at most 1 MB.

Each request is sent to a running service over HTTP; CPU time and memory are those of its process,
and latency that of health checks meanwhile. Exits with 1 if a request exceeds a limit.

    python benchmarks/request_cost.py                   this project's champion
    python benchmarks/request_cost.py PATH --book NAME
"""

from __future__ import annotations

import argparse
import http.client
import itertools
import json
import os
import random
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from project_python import use_project_python

if __name__ == "__main__":
    use_project_python()  # before an import that another environment may lack

import psutil

ROOT = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent
MAX_BYTES, MAX_CPU_MS, MAX_MEMORY_MB, MAX_HEALTH_MS = 1_000_000, 300, 64, 100
MAX_ROWS = 1000  # default of the settings
JSON, CSV = "application/json", "text/csv"
FORM = "application/x-www-form-urlencoded"
MULTIPART = "multipart/form-data; boundary=b"
UPLOAD = "/predict/csv"


@dataclass(frozen=True)
class Case:
    """A request to measure."""

    name: str
    body: bytes
    path: str = "/predict"
    content_type: str = JSON


@dataclass(frozen=True)
class Cost:
    """Response status and resource usage of a request."""

    status: int
    seconds: float
    cpu_ms: float
    memory_mb: float
    health_ms: float


def build_cases(
    schema: dict[str, Any], book: str, max_rows: int, max_upload_rows: int
) -> list[Case]:
    """List the requests, from the JSON schema of a row with an example."""
    row = schema["example"]
    infer = f"/v2/models/{book}/infer"
    name = next(key for key, value in row.items() if isinstance(value, int | float))
    valid = json.dumps(row)
    invalid = json.dumps({**row, name: "wrong"})
    header = ",".join(row)
    csv_row = ",".join("" if v is None else str(v) for v in row.values())
    keys = ",".join(f'"k{i}": 1' for i in range(60_000))
    cases = [
        Case(f"{max_rows:,} valid rows", _repeat_in_list(valid, max_rows)),
        Case(f"{max_rows:,} rows, each with an invalid value", _repeat_in_list(invalid, max_rows)),
        Case(f"{max_rows:,} empty rows", _repeat_in_list("{}", max_rows)),
        Case("30,000 empty rows", _repeat_in_list("{}", 30_000)),
        Case("300,000 empty rows", _repeat_in_list("{}", 300_000)),
        Case("60,000 unknown fields", f"{{{keys}}}".encode()),
        Case(
            "a row that repeats one field 60,000 times",
            f"{{{keys.replace(keys[1:3], 'k')}}}".encode(),
        ),
        Case("a string of 1 MB", json.dumps({**row, name: "x" * 990_000}).encode()),
        Case("a string of escape sequences", ('{"' + "\\u0041" * 160_000 + '": 1}').encode()),
        Case("a number of 990,000 digits", ('{"a": ' + "9" * 990_000 + "}").encode()),
        Case("a fraction of 990,000 digits", ('{"a": 0.' + "9" * 990_000 + "}").encode()),
        Case("1,000,000 brackets", b"[" * MAX_BYTES),
        Case("one nested list", b'{"a": [' + b"1," * 400_000 + b"1]}"),
        Case("unclosed text of quotes", b'["' + b'\\"' * 499_000),
        Case("300,000 outcomes", _repeat_in_list("{}", 300_000), "/outcomes"),
        Case(
            f"{max_rows:,} valid rows as inputs",
            _encode_inputs({name: [value] * max_rows for name, value in row.items()}),
            infer,
        ),
        Case("an input of 200,000 values", _encode_inputs({name: [1] * 200_000}), infer),
        Case("10,000 inputs", _encode_inputs({f"k{i}": [1] for i in range(10_000)}), infer),
        Case(
            "a table of 100,000 columns", b",".join(b"c%d" % i for i in range(100_000)), UPLOAD, CSV
        ),
        Case(
            "a table of equal valid rows",
            _fill_table(header, [csv_row] * max_upload_rows),
            UPLOAD,
            CSV,
        ),
        Case(
            "a table of different valid rows",
            _fill_table(header, _draw_lines(schema, max_upload_rows)),
            UPLOAD,
            CSV,
        ),
        Case(
            "a table with one invalid cell per row",
            _fill_table(header, [csv_row.replace("1", "?")] * max_upload_rows),
            UPLOAD,
            CSV,
        ),
        Case("a table of 500,000 empty lines", header.encode() + b"\n" * 500_000, UPLOAD, CSV),
        Case("a table of one long line", f"{header}\n".encode() + b"1," * 490_000, UPLOAD, CSV),
        Case("a table of 490,000 quotes", f"{header}\n".encode() + b'""' * 490_000, UPLOAD, CSV),
        Case("a form of 100,000 fields", b"a=1&" * 100_000, "/", FORM),
        Case(
            "an upload of 16,000 parts", _encode_multipart(b'name="x"', 16_000), UPLOAD, MULTIPART
        ),
        Case(
            "an upload with invalid multipart boundaries",
            _encode_multipart(b'name="file"; filename="f"', 1, b"\r\n--" * 240_000),
            UPLOAD,
            MULTIPART,
        ),
        Case(
            "an upload with a header of 900 kB",
            _encode_multipart(b'name="file"; x="' + b"y" * 900_000 + b'"', 1),
            UPLOAD,
            MULTIPART,
        ),
    ]
    return [case for case in cases if len(case.body) <= MAX_BYTES]


def _repeat_in_list(text: str, count: int) -> bytes:
    return f"[{','.join([text] * count)}]".encode()


def _encode_inputs(columns: dict[str, list[Any]]) -> bytes:
    """Body of a request of the Open Inference Protocol."""
    inputs = [
        {"name": name, "shape": [len(values)], "data": values} for name, values in columns.items()
    ]
    return json.dumps({"inputs": inputs}).encode()


def _fill_table(header: str, lines: list[str]) -> bytes:
    """CSV table with as many of the lines as fit into ``MAX_BYTES``."""
    sizes = itertools.accumulate([len(header), *[len(line) + 1 for line in lines]])
    n_lines = sum(size <= MAX_BYTES for size in sizes) - 1
    return "\n".join([header, *lines[:n_lines]]).encode()


def _draw_lines(schema: dict[str, Any], n_lines: int) -> list[str]:
    """Valid CSV rows with different numbers in each."""
    rng = random.Random(0)
    return [
        ",".join(
            _draw_cell(value, schema["properties"][name], rng)
            for name, value in schema["example"].items()
        )
        for _ in range(n_lines)
    ]


def _draw_cell(value: Any, schema: dict[str, Any], rng: random.Random) -> str:
    schema = next(
        iter(schema.get("anyOf", [schema]))
    )  # a nullable field has the schemas [type, null]
    low, high = schema.get("minimum"), schema.get("maximum")
    if schema.get("type") != "number" or low is None or high is None:
        return str(value)
    number = rng.uniform(low, high)
    return str(round(number) if schema.get("multipleOf") == 1 else round(number, 4))


def _encode_multipart(disposition: bytes, count: int, content: bytes = b"") -> bytes:
    part = (
        b"--b\r\nContent-Disposition: form-data; " + disposition + b"\r\n\r\n" + content + b"\r\n"
    )
    return part * count + b"--b--\r\n"


@contextmanager
def serve(root: Path, book: str) -> Iterator[tuple[int, psutil.Process]]:
    """Start the service of a built project; yields its port and process."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    command = [str(BIN / "modelbook"), "serve", "--book", book, "--port", str(port)]
    process = subprocess.Popen(command, cwd=root, stderr=subprocess.DEVNULL)
    try:
        for _ in range(1200):
            try:
                if send_request(port, "GET", "/health/ready")[0] == 200:
                    break
            except OSError:
                time.sleep(0.1)
        yield port, psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait(30)


def send_request(
    port: int, method: str, path: str, body: bytes = b"", content_type: str = JSON
) -> tuple[int, bytes]:
    """Send a request; returns status and body."""
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=300)) as connection:
        connection.request(method, path, body or None, {"content-type": content_type})
        response = connection.getresponse()
        return response.status, response.read()


def measure(case: Case, port: int, process: psutil.Process) -> Cost:
    """Send a request while threads poll the health check and the memory of the process."""
    health_seconds = [0.0]
    memory_sizes = [process.memory_info().rss]
    is_done = threading.Event()

    def watch_health() -> None:
        while not is_done.is_set():
            request_start = time.perf_counter()
            send_request(port, "GET", "/health/live")
            health_seconds.append(time.perf_counter() - request_start)
            time.sleep(0.005)

    def watch_memory() -> None:
        while not is_done.is_set():
            memory_sizes.append(process.memory_info().rss)
            time.sleep(0.002)

    threads = [threading.Thread(target=observer) for observer in (watch_health, watch_memory)]
    idle_cpu = _measure_idle_cpu(port, process)
    for thread in threads:
        thread.start()
    cpu_before = sum(process.cpu_times()[:2])
    start_time = time.perf_counter()
    status, _ = send_request(port, "POST", case.path, case.body, case.content_type)
    seconds = time.perf_counter() - start_time
    cpu_seconds = sum(process.cpu_times()[:2]) - cpu_before
    is_done.set()
    for thread in threads:
        thread.join()
    cpu_seconds = max(0.0, cpu_seconds - idle_cpu * (len(health_seconds) - 1))
    return Cost(
        status,
        seconds,
        cpu_seconds * 1000,
        (max(memory_sizes) - memory_sizes[0]) / 1e6,
        max(health_seconds) * 1000,
    )


def _measure_idle_cpu(port: int, process: psutil.Process, count: int = 40) -> float:
    """CPU seconds of one health check."""
    before = sum(process.cpu_times()[:2])
    for _ in range(count):
        send_request(port, "GET", "/health/live")
    return (sum(process.cpu_times()[:2]) - before) / count


def main() -> None:
    """Measure all requests and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("project", nargs="?", type=Path, default=ROOT)
    parser.add_argument("--book", default="rand-hie")
    args = parser.parse_args()
    os.environ["MODELBOOK_SERVE_API_KEYS"] = "off"
    is_within = True
    print(
        "| request | bytes | status | CPU, ms | memory, MB | longest health check, ms |\n"
        "|---|---|---|---|---|---|"
    )
    with serve(args.project.resolve(), args.book) as (port, process):
        openapi = json.loads(send_request(port, "GET", "/openapi.json")[1])
        schema = openapi["components"]["schemas"]["Row"]
        row = schema["example"]
        max_upload_rows = json.loads(send_request(port, "GET", "/model")[1])["max_upload_rows"]
        send_request(
            port, "POST", "/predict", json.dumps([row] * 500).encode()
        )  # whatever the first one loads
        for case in build_cases(schema, args.book, MAX_ROWS, max_upload_rows):
            cost = measure(case, port, process)
            print(
                f"| {case.name} | {len(case.body):,} | {cost.status} | {cost.cpu_ms:.0f} | "
                f"{cost.memory_mb:.0f} | {cost.health_ms:.0f} |",
                flush=True,
            )
            is_within &= cost.status < 500 and cost.cpu_ms <= MAX_CPU_MS
            is_within &= cost.memory_mb <= MAX_MEMORY_MB and cost.health_ms <= MAX_HEALTH_MS
    sys.exit(0 if is_within else 1)


if __name__ == "__main__":
    main()
