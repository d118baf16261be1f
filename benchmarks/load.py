"""HTTP load generator: several connections, each with one request at a time.

Prints throughput, latencies and the number of failed requests as JSON.

    python benchmarks/load.py http://127.0.0.1:8000/predict body.json --connections 8 --seconds 5
    python benchmarks/load.py http://127.0.0.1:8000/predict body.json --seconds 600 --rate 1000
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from urllib.parse import urlparse


@dataclass
class Load:
    """Number of requests and of failures, requests per second, and latencies in milliseconds."""

    requests: int
    failed: int
    rate: float
    p50: float
    p99: float


class Client(asyncio.Protocol):
    """A keep-alive connection. Its minimal parser needs responses with a Content-Length header."""

    def __init__(self, request: bytes, until: float, pause: float, closed: asyncio.Future) -> None:
        self._request = request
        self._until = until
        self._pause = pause
        self._closed = closed
        self.latencies: list[float] = []
        self.failed = 0
        self._buffer = b""
        self._next = time.perf_counter()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._send()

    def _send(self) -> None:
        now = time.perf_counter()
        if now >= self._until:
            self._transport.close()
        elif self._pause and now < self._next:
            asyncio.get_running_loop().call_later(self._next - now, self._send)
        else:
            # With a rate, latency starts at the scheduled time, to avoid coordinated omission.
            self._start_time = self._next if self._pause else now
            self._next += self._pause
            self._transport.write(self._request)  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        header_end = self._buffer.find(b"\r\n\r\n")
        if header_end < 0:
            return
        value_start = self._buffer.lower().find(b"content-length:") + 15
        if len(self._buffer) < header_end + 4 + int(
            self._buffer[value_start : self._buffer.index(b"\r\n", value_start)]
        ):
            return
        self.failed += self._buffer[9:12] != b"200"
        self.latencies.append(time.perf_counter() - self._start_time)
        self._buffer = b""
        self._send()

    def connection_lost(self, error: Exception | None) -> None:
        if error is not None or self._buffer:
            self.failed += 1
        if not self._closed.done():
            self._closed.set_result(None)


async def load(
    url: str,
    body: bytes,
    connections: int,
    seconds: float,
    rate: float = 0,
    extra_headers: str = "",
) -> Load:
    """Send requests over several connections for some seconds.

    ``rate`` is the total number of requests per second, 0 for as many as possible.
    """
    parsed_url = urlparse(url)
    loop = asyncio.get_running_loop()
    headers = (
        f"POST {parsed_url.path} HTTP/1.1\r\nHost: {parsed_url.netloc}\r\n"
        f"Content-Type: application/json\r\n{extra_headers}"
    )
    request = f"{headers}Content-Length: {len(body)}\r\n\r\n".encode() + body
    start_time = time.perf_counter()
    pause = connections / rate if rate else 0
    clients, closed_futures = [], []
    for _ in range(connections):
        closed_futures.append(loop.create_future())
        connect = partial(Client, request, start_time + seconds, pause, closed_futures[-1])
        _, client = await loop.create_connection(
            connect, parsed_url.hostname or "", parsed_url.port or 80
        )
        clients.append(client)
    await asyncio.gather(*closed_futures)
    elapsed = time.perf_counter() - start_time
    latencies = sorted(latency for client in clients for latency in client.latencies)
    latencies = latencies or [float("nan")]
    failed = sum(client.failed for client in clients)
    percentiles_ms = [latencies[int(len(latencies) * quantile)] * 1000 for quantile in (0.5, 0.99)]
    return Load(len(latencies), failed, len(latencies) / elapsed, *percentiles_ms)


def main() -> None:
    """Run a load and print its result as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("body", type=Path)
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--rate", type=float, default=0)
    args = parser.parse_args()
    import uvloop

    result = uvloop.run(
        load(args.url, args.body.read_bytes(), args.connections, args.seconds, args.rate)
    )
    print(json.dumps(asdict(result)))


if __name__ == "__main__":
    main()
