"""Stream worker: at-least-once predictions on Redis, journaled once."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
from servers import free_port, redis_server
from version_store import BOOK, VersionStore, fit_pipeline

from modelbook.errors import ServingError
from modelbook.extras import stream, stream_metrics
from modelbook.registry import store
from modelbook.serving.http_request import RequestError
from modelbook.serving.service import PredictionService

ROW = {"colour": "11", "size": 80.0, "noise": None, "flag": 1}
TEXT = json.dumps(ROW).encode()
CODE = "import sys; from pathlib import Path; from modelbook.extras import stream;"
CODE += f"stream.run_worker(Path(sys.argv[1]), {BOOK!r})"


@pytest.fixture
def version_store(tmp_path: Path, frame, contract) -> VersionStore:
    result = VersionStore(tmp_path)
    result.alias("champion", result.register(fit_pipeline(frame, contract), contract, frame))
    return result


def process_entries(
    version_store: VersionStore, *entries: tuple[str, dict[bytes, bytes]]
) -> list[dict[str, str]]:
    """Process entries in one worker, one after another; returns the output entries."""

    async def process() -> list[dict[str, str]]:
        service = PredictionService(version_store.root, BOOK)
        async with service.lifespan():
            worker = stream.StreamWorker(service)
            return [await worker.process_entry(*entry) for entry in entries]

    return asyncio.run(process())


@pytest.mark.long
def test_entry_is_predicted_with_its_own_or_given_id(version_store: VersionStore) -> None:
    without_id, with_id = process_entries(
        version_store, ("5-0", {b"row": TEXT}), ("6-0", {b"row": TEXT, b"id": b"order-1"})
    )
    assert (without_id["id"], with_id["id"]) == ("5-0", "order-1")
    prediction = json.loads(with_id["prediction"])
    assert (prediction["id"], prediction["model_version"], prediction["variant"]) == (
        "order-1",
        1,
        "champion",
    )
    assert prediction["probabilities"] == json.loads(without_id["prediction"])["probabilities"]


@pytest.mark.long
def test_repeated_id_returns_journaled_prediction(version_store: VersionStore) -> None:
    other_row = json.dumps({**ROW, "size": 1.0}).encode()
    first, second = process_entries(
        version_store,
        ("5-0", {b"row": TEXT, b"id": b"a"}),
        ("6-0", {b"row": other_row, b"id": b"a"}),
    )
    assert second == first
    with closing(sqlite3.connect(version_store.root / "data" / BOOK / "journal.db")) as journal:
        assert journal.execute("select count(*) from predictions").fetchone() == (1,)


@pytest.mark.long
@pytest.mark.parametrize(
    ("fields", "fact"),
    [
        ({}, "JSON"),
        ({b"row": b"{"}, "JSON"),
        ({b"row": b"\xff\xfe"}, "JSON"),
        ({b"row": json.dumps({**ROW, "size": -5}).encode()}, "size.*-5"),
        ({b"row": b"[" + TEXT + b"]"}, "list"),
        ({b"row": TEXT, b"id": b"x" * 65}, "65"),
    ],
)
def test_rejected_entry_has_error_in_output_stream(
    version_store: VersionStore, fields: dict[bytes, bytes], fact: str
) -> None:
    [result] = process_entries(version_store, ("5-0", fields))
    assert re.search(fact, json.loads(result["error"])["error"])


@pytest.mark.long
def test_entry_waits_while_no_version_is_in_service(version_store: VersionStore) -> None:
    version_store.alias("champion", None)
    with pytest.raises(RequestError, match="version"):
        process_entries(version_store, ("5-0", {b"row": TEXT}))


@pytest.mark.long
def test_unreachable_redis_is_reported_without_password(
    version_store: VersionStore, monkeypatch
) -> None:
    monkeypatch.setenv("MODELBOOK_SERVE_STREAM__URL", "redis://:a-long-secret@127.0.0.1:1")
    with pytest.raises(ServingError, match="redis://") as exc_info:
        stream.run_worker(version_store.root, BOOK)
    assert "a-long-secret" not in str(exc_info.value)
    assert "stream.url" in exc_info.value.next


@pytest.mark.long
def test_unusable_metrics_address_raises(version_store: VersionStore) -> None:
    metrics = stream_metrics.StreamMetrics(PredictionService(version_store.root, BOOK))
    assert metrics.describe_readiness()["status"] == "not ready"
    for address in ("127.0.0.1", "127.0.0.1:99999"):
        with (
            pytest.raises(ServingError, match=r"stream\.metrics_address"),
            stream_metrics.serve_metrics(metrics, address),
        ):
            pass


def wait(condition: Callable[[], Any], seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.05)


@pytest.mark.requires("redis")
@pytest.mark.slow
def test_entries_of_killed_worker_are_predicted_by_another_and_journaled_once(
    version_store: VersionStore, frame, contract, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second worker also follows alias moves of any client."""
    with redis_server(version_store.root) as client:
        port = client.connection_pool.connection_kwargs["port"]
        (version_store.root / "serving.yaml").write_text(
            f"stream: {{url: 'redis://127.0.0.1:{port}', claim_seconds: 1}}"
        )
        ids = {f"order-{number}" for number in range(3000)}

        def worker() -> subprocess.Popen:
            return subprocess.Popen(
                [sys.executable, "-c", CODE, str(version_store.root)], stderr=subprocess.DEVNULL
            )

        for name in ids:  # before a worker runs
            client.xadd("modelbook:rows", {"row": TEXT, "id": name})
        client.xadd("modelbook:rows", {"row": "no JSON", "id": "bad"})
        first = worker()
        wait(lambda: client.xlen("modelbook:predictions") > 200)
        first.send_signal(signal.SIGKILL)
        first.wait(30)
        port = free_port()
        monkeypatch.setenv("MODELBOOK_SERVE_STREAM__METRICS_ADDRESS", f"127.0.0.1:{port}")
        second = worker()

        def scraped(path: str) -> str:
            try:
                return urlopen(f"http://127.0.0.1:{port}{path}", timeout=10).read().decode()
            except OSError:  # it is not up, or not ready yet
                return ""

        def read_output() -> dict[str, dict[bytes, bytes]]:
            return {
                fields[b"id"].decode(): fields
                for _, fields in client.xrange("modelbook:predictions")
            }

        try:
            wait(lambda: set(read_output()) == ids | {"bad"})
            wait(lambda: client.xpending("modelbook:rows", "modelbook")["pending"] == 0)
            wait(lambda: "modelbook_stream_waiting 0.0" in scraped("/metrics"))
            assert 'modelbook_stream_entries_total{result="prediction"}' in scraped("/metrics")
            assert "modelbook_predictions_total" in scraped("/metrics")
            assert json.loads(scraped("/health/ready"))["status"] == "ready"
            number = version_store.register(fit_pipeline(frame, contract), contract, frame)
            client_of_store = store.create_client(version_store.root)
            client_of_store.set_registered_model_alias(BOOK, "champion", str(number))
            wait(lambda: f'"model_version": {number}' in scraped("/health/ready"))
            client.xadd("modelbook:rows", {"row": TEXT, "id": "later"})
            wait(lambda: "later" in read_output())
            later = json.loads(read_output()["later"][b"prediction"])
            assert later["model_version"] == number
        finally:
            second.terminate()
            assert second.wait(60) == 0
        assert b"JSON" in read_output()["bad"][b"error"]
    with closing(sqlite3.connect(version_store.root / "data" / BOOK / "journal.db")) as journal:
        journaled_ids = [row[0] for row in journal.execute("select id from predictions")]
    assert sorted(journaled_ids) == sorted(ids | {"later"})
