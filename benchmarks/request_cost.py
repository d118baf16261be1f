"""What the worst requests of at most 1 MB cost: CPU time, memory, and the wait of a health check meanwhile.

Each case goes to a service of its own book over HTTP; CPU time and memory are those of its process. Exits
with 1 if a case costs more than the limits.

    python benchmarks/request_cost.py                   the project's own champion
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

ROOT, BIN = Path(__file__).resolve().parents[1], Path(sys.executable).parent
MAX_BYTES, MAX_CPU_MS, MAX_MEMORY_MB, MAX_HEALTH_MS = 1_000_000, 300, 64, 100
MAX_ROWS = 1000  # default of the settings
JSON, CSV = "application/json", "text/csv"
FORM = "application/x-www-form-urlencoded"
MULTIPART = "multipart/form-data; boundary=b"


@dataclass(frozen=True)
class Case:
    """One request."""

    name: str
    path: str
    content_type: str
    body: bytes


@dataclass(frozen=True)
class Cost:
    """Status of the answer, and what it cost the service."""

    status: int
    seconds: float
    cpu_ms: float
    memory_mb: float
    health_ms: float


def build_cases(
    schema: dict[str, Any], book: str, max_rows: int, max_upload_rows: int
) -> list[Case]:
    """The cases, from the JSON schema of a row with a legal example."""
    row = schema["example"]
    infer = f"/v2/models/{book}/infer"
    name = next(key for key, value in row.items() if isinstance(value, int | float))
    legal, wrong = json.dumps(row), json.dumps({**row, name: "wrong"})
    header, line = ",".join(row), ",".join("" if v is None else str(v) for v in row.values())
    keys = ",".join(f'"k{i}": 1' for i in range(60_000))
    list_of = lambda text, count: f"[{','.join([text] * count)}]".encode()  # noqa: E731
    cases = [
        Case(f"{max_rows:,} valid rows", "/predict", JSON, list_of(legal, max_rows)),
        Case(f"{max_rows:,} rows, each with an invalid value", "/predict", JSON, list_of(wrong, max_rows)),
        Case(f"{max_rows:,} empty rows", "/predict", JSON, list_of("{}", max_rows)),
        Case("30,000 empty rows", "/predict", JSON, list_of("{}", 30_000)),
        Case("300,000 empty rows", "/predict", JSON, list_of("{}", 300_000)),
        Case("60,000 unknown fields", "/predict", JSON, f"{{{keys}}}".encode()),
        Case("a row that repeats one field 60,000 times", "/predict", JSON, f"{{{keys.replace(keys[1:3], 'k')}}}".encode()),
        Case("a string of 1 MB", "/predict", JSON, json.dumps({**row, name: "x" * 990_000}).encode()),
        Case("a string of escape sequences", "/predict", JSON, ('{"' + "\\u0041" * 160_000 + '": 1}').encode()),
        Case("a number of 990,000 digits", "/predict", JSON, ('{"a": ' + "9" * 990_000 + "}").encode()),
        Case("a fraction of 990,000 digits", "/predict", JSON, ('{"a": 0.' + "9" * 990_000 + "}").encode()),
        Case("1,000,000 brackets", "/predict", JSON, b"[" * MAX_BYTES),
        Case("one nested list", "/predict", JSON, b'{"a": [' + b"1," * 400_000 + b"1]}"),
        Case("unclosed text of quotes", "/predict", JSON, b'["' + b'\\"' * 499_000),
        Case("300,000 outcomes", "/outcomes", JSON, list_of("{}", 300_000)),
        Case(f"{max_rows:,} valid rows as inputs", infer, JSON, _inputs({name: [value] * max_rows for name, value in row.items()})),
        Case("an input of 200,000 values", infer, JSON, _inputs({name: [1] * 200_000})),
        Case("10,000 inputs", infer, JSON, _inputs({f"k{i}": [1] for i in range(10_000)})),
        Case("a table of 100,000 columns", "/predict/csv", CSV, b",".join(b"c%d" % i for i in range(100_000))),
        Case("a table of equal valid rows", "/predict/csv", CSV, _fill_table(header, [line] * max_upload_rows)),
        Case("a table of different valid rows", "/predict/csv", CSV, _fill_table(header, _draw_lines(schema, max_upload_rows))),
        Case("a table with one invalid cell per row", "/predict/csv", CSV, _fill_table(header, [line.replace("1", "?")] * max_upload_rows)),
        Case("a table of 500,000 empty lines", "/predict/csv", CSV, header.encode() + b"\n" * 500_000),
        Case("a table of one long line", "/predict/csv", CSV, f"{header}\n".encode() + b"1," * 490_000),
        Case("a table of 490,000 quotes", "/predict/csv", CSV, f"{header}\n".encode() + b'""' * 490_000),
        Case("a form of 100,000 fields", "/", FORM, b"a=1&" * 100_000),
        Case("an upload of 16,000 parts", "/predict/csv", MULTIPART, _multipart(b'name="x"', 16_000)),
        Case("an upload with invalid multipart boundaries", "/predict/csv", MULTIPART, _multipart(b'name="file"; filename="f"', 1, b"\r\n--" * 240_000)),
        Case("an upload with a header of 900 kB", "/predict/csv", MULTIPART, _multipart(b'name="file"; x="' + b"y" * 900_000 + b'"', 1)),
    ]  # fmt: skip
    return [case for case in cases if len(case.body) <= MAX_BYTES]


def _inputs(columns: dict[str, list[Any]]) -> bytes:
    """A request of the Open Inference Protocol."""
    inputs = [
        {"name": name, "shape": [len(values)], "data": values} for name, values in columns.items()
    ]
    return json.dumps({"inputs": inputs}).encode()


def _fill_table(header: str, lines: list[str]) -> bytes:
    """A table of as many of the lines as a request of ``MAX_BYTES`` holds."""
    sizes = itertools.accumulate([len(header), *[len(line) + 1 for line in lines]])
    count = sum(size <= MAX_BYTES for size in sizes) - 1
    return "\n".join([header, *lines[:count]]).encode()


def _draw_lines(schema: dict[str, Any], count: int) -> list[str]:
    """Legal lines with other numbers in each of them."""
    generator = random.Random(0)
    return [
        ",".join(
            _draw_cell(value, schema["properties"][name], generator)
            for name, value in schema["example"].items()
        )
        for _ in range(count)
    ]


def _draw_cell(value: Any, schema: dict[str, Any], generator: random.Random) -> str:
    schema = next(iter(schema.get("anyOf", [schema])))  # the other one of two is null
    low, high = schema.get("minimum"), schema.get("maximum")
    if schema.get("type") != "number" or low is None or high is None:
        return str(value)
    number = generator.uniform(low, high)
    return str(round(number) if schema.get("multipleOf") == 1 else round(number, 4))


def _multipart(disposition: bytes, count: int, content: bytes = b"") -> bytes:
    part = (
        b"--b\r\nContent-Disposition: form-data; " + disposition + b"\r\n\r\n" + content + b"\r\n"
    )
    return part * count + b"--b--\r\n"


@contextmanager
def serve(root: Path, book: str) -> Iterator[tuple[int, psutil.Process]]:
    """A service of a built project; gives its port and process."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    command = [str(BIN / "modelbook"), "serve", "--book", book, "--port", str(port)]
    process = subprocess.Popen(command, cwd=root, stderr=subprocess.DEVNULL)
    try:
        for _ in range(1200):
            try:
                if ask(port, "GET", "/health/ready")[0] == 200:
                    break
            except OSError:
                time.sleep(0.1)
        yield port, psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait(30)


def ask(
    port: int, method: str, path: str, body: bytes = b"", content_type: str = JSON
) -> tuple[int, bytes]:
    """Send a request; returns status and body."""
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=300)) as connection:
        connection.request(method, path, body or None, {"content-type": content_type})
        answer = connection.getresponse()
        return answer.status, answer.read()


def measure(case: Case, port: int, process: psutil.Process) -> Cost:
    """Send a case's request while health is asked all the time."""
    waits, sizes, is_done = [0.0], [process.memory_info().rss], threading.Event()

    def watch_health() -> None:
        while not is_done.is_set():
            began = time.perf_counter()
            ask(port, "GET", "/health/live")
            waits.append(time.perf_counter() - began)
            time.sleep(0.005)

    def watch_memory() -> None:
        while not is_done.is_set():
            sizes.append(process.memory_info().rss)
            time.sleep(0.002)

    threads = [threading.Thread(target=observer) for observer in (watch_health, watch_memory)]
    idle_cpu = _measure_idle_cpu(port, process)
    for thread in threads:
        thread.start()
    before, began = sum(process.cpu_times()[:2]), time.perf_counter()
    status, _ = ask(port, "POST", case.path, case.body, case.content_type)
    seconds, used = time.perf_counter() - began, sum(process.cpu_times()[:2]) - before
    is_done.set()
    for thread in threads:
        thread.join()
    used = max(0.0, used - idle_cpu * (len(waits) - 1))
    return Cost(status, seconds, used * 1000, (max(sizes) - sizes[0]) / 1e6, max(waits) * 1000)


def _measure_idle_cpu(port: int, process: psutil.Process, count: int = 40) -> float:
    """CPU seconds of one health check."""
    before = sum(process.cpu_times()[:2])
    for _ in range(count):
        ask(port, "GET", "/health/live")
    return (sum(process.cpu_times()[:2]) - before) / count


def main() -> None:
    """Parse, measure, print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("project", nargs="?", type=Path, default=ROOT)
    parser.add_argument("--book", default="rand-hie")
    inputs = parser.parse_args()
    os.environ["MODELBOOK_SERVE_API_KEYS"] = "off"
    is_within = True
    print(
        "| request | bytes | status | CPU, ms | memory, MB | longest health check, ms |\n|---|---|---|---|---|---|"
    )
    with serve(inputs.project.resolve(), inputs.book) as (port, process):
        document = json.loads(ask(port, "GET", "/openapi.json")[1])
        schema = document["components"]["schemas"]["Row"]
        row, max_upload_rows = (
            schema["example"],
            json.loads(ask(port, "GET", "/model")[1])["max_upload_rows"],
        )
        ask(
            port, "POST", "/predict", json.dumps([row] * 500).encode()
        )  # whatever the first one loads
        for case in build_cases(schema, inputs.book, MAX_ROWS, max_upload_rows):
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
