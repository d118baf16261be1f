"""Clients of the service that send requests over HTTP."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import cycle
from typing import Any

import httpx
import pandas as pd

CONCURRENCY = 4  # parallel clients
OUTCOMES_PER_REQUEST = 500
PAUSE_SECONDS = 0.02  # between two requests of steady traffic
REQUEST_TIMEOUT = 30  # seconds


@dataclass(frozen=True)
class Responses:
    """The responses to requests: a prediction each, or None if the request failed."""

    predictions: list[dict[str, Any] | None]
    seconds: float

    @property
    def failed(self) -> int:
        """Number of requests that failed."""
        return self.predictions.count(None)

    @property
    def succeeded(self) -> int:
        """Number of requests that were served."""
        return len(self.predictions) - self.failed

    def describe(self) -> str:
        """Summarize the responses as text."""
        rate = len(self.predictions) / self.seconds
        return f"{self.succeeded:,} requests served, {self.failed} failed, {rate:,.0f} per second"


def to_records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the rows of a table as the service accepts them."""
    return json.loads(frame.to_json(orient="records"))


def request_predictions(
    address: str, records: Sequence[dict[str, Any]], users: Sequence[Any]
) -> Responses:
    """Send one request per row, on behalf of its user."""
    start_time = time.perf_counter()
    with (
        httpx.Client(base_url=address, timeout=REQUEST_TIMEOUT) as client,
        ThreadPoolExecutor(CONCURRENCY) as pool,
    ):
        predictions = list(
            pool.map(
                lambda pair: _request_prediction(client, *pair), zip(records, users, strict=True)
            )
        )
    return Responses(predictions, time.perf_counter() - start_time)


def post_outcomes(address: str, responses: Responses, outcomes: Sequence[Any]) -> int:
    """Post the outcomes of the predictions; return how many were recorded."""
    pairs = zip(responses.predictions, outcomes, strict=True)
    records = [
        {"id": prediction["id"], "outcome": outcome} for prediction, outcome in pairs if prediction
    ]
    n_recorded = 0
    with httpx.Client(base_url=address, timeout=REQUEST_TIMEOUT) as client:
        for start in range(0, len(records), OUTCOMES_PER_REQUEST):
            response = client.post(
                "/outcomes", json=records[start : start + OUTCOMES_PER_REQUEST]
            ).raise_for_status()
            n_recorded += response.json()["recorded"]
    return n_recorded


class SteadyTraffic:
    """Sends requests in a background thread; a context manager."""

    def __init__(self, address: str, records: Sequence[dict[str, Any]]) -> None:
        self.succeeded, self.failed = 0, 0
        self.versions: list[int] = []  # ordered by first response
        self._address = address
        self._records = records
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._send_requests, daemon=True)

    def __enter__(self) -> SteadyTraffic:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(REQUEST_TIMEOUT)

    def keep_running(self) -> None:
        """Keep sending for a second."""
        self._stop.wait(1)

    def _send_requests(self) -> None:
        with httpx.Client(base_url=self._address, timeout=REQUEST_TIMEOUT) as client:
            for row in cycle(self._records):
                if self._stop.wait(PAUSE_SECONDS):
                    return
                prediction = _request_prediction(client, row, "steady")
                self.succeeded += prediction is not None
                self.failed += prediction is None
                if prediction and self.versions[-1:] != [prediction["model_version"]]:
                    self.versions.append(prediction["model_version"])


def _request_prediction(
    client: httpx.Client, row: dict[str, Any], user: Any
) -> dict[str, Any] | None:
    """Return the prediction, or None if the request failed."""
    try:
        response = client.post("/predict", json=row, headers={"X-User-Id": str(user)})
    except httpx.HTTPError:
        return None
    return response.json() if response.status_code == httpx.codes.OK else None
