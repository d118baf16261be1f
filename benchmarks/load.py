"""A load on one address: so many connections, each with one request after the other, and what came of it.

python benchmarks/load.py http://127.0.0.1:8000/predict body.json --connections 8 --seconds 5 [--rate 1000]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import urlparse


@dataclass
class Load:
    """Requests a second, latencies in milliseconds, and answers that were not 200."""

    requests: int
    failed: int
    rate: float
    p50: float
    p99: float


class Client(asyncio.Protocol):
    """One connection that is kept open. Written for speed: answers must tell their length."""

    def __init__(self, request: bytes, until: float, pause: float, done: asyncio.Future) -> None:
        self._request, self._until, self._pause, self._done = request, until, pause, done
        self.latencies: list[float] = []
        self.failed, self._buffer, self._next = 0, b"", time.perf_counter()

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
            # With a rate, time counts from when the request was due, so that a stall is not forgotten.
            self._began = self._next if self._pause else now
            self._next += self._pause
            self._transport.write(self._request)  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head = self._buffer.find(b"\r\n\r\n")
        if head < 0:
            return
        at = self._buffer.lower().find(b"content-length:") + 15
        if len(self._buffer) < head + 4 + int(self._buffer[at : self._buffer.index(b"\r\n", at)]):
            return
        self.failed += self._buffer[9:12] != b"200"
        self.latencies.append(time.perf_counter() - self._began)
        self._buffer = b""
        self._send()

    def connection_lost(self, error: Exception | None) -> None:
        if error is not None or self._buffer:
            self.failed += 1
        if not self._done.done():
            self._done.set_result(None)


async def load(
    url: str, body: bytes, connections: int, seconds: float, rate: float = 0, more: str = ""
) -> Load:
    """Ask an address from several connections; ``rate`` is requests a second of all together, 0 for what goes."""
    pieces, loop = urlparse(url), asyncio.get_running_loop()
    head = f"POST {pieces.path} HTTP/1.1\r\nHost: {pieces.netloc}\r\nContent-Type: application/json\r\n{more}"
    request = f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
    began = time.perf_counter()
    clients, ends = [], []
    for _ in range(connections):
        ends.append(loop.create_future())
        pause = connections / rate if rate else 0
        make = Client(request, began + seconds, pause, ends[-1])
        await loop.create_connection(lambda make=make: make, pieces.hostname, pieces.port)  # type: ignore[misc]
        clients.append(make)
    await asyncio.gather(*ends)
    took = time.perf_counter() - began
    latencies = sorted(item for client in clients for item in client.latencies) or [float("nan")]
    failed = sum(client.failed for client in clients)
    share = [latencies[int(len(latencies) * part)] * 1000 for part in (0.5, 0.99)]
    return Load(len(latencies), failed, len(latencies) / took, *share)


def main() -> None:
    """Parse, load, print as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("body", type=Path)
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--rate", type=float, default=0)
    inputs = parser.parse_args()
    import uvloop

    result = uvloop.run(
        load(inputs.url, inputs.body.read_bytes(), inputs.connections, inputs.seconds, inputs.rate)
    )
    print(json.dumps(asdict(result)))


if __name__ == "__main__":
    main()
