"""Metrics for Prometheus. Labels come from closed sets, so that nobody's input can make new series."""

from __future__ import annotations

import os
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from modelbook.monitoring.latest import WORDS

PATHS = {
    "/predict": "predict", "/predict/csv": "csv", "/outcomes": "outcomes", "/model": "model", "/metrics": "metrics",
    "/health/live": "health", "/health/ready": "health",
}  # fmt: skip
REASONS = {
    400: "unreadable", 401: "no key", 403: "scope", 404: "not found", 405: "method", 406: "not found", 408: "slow body",
    409: "conflict", 413: "too large", 415: "content type", 422: "contract", 429: "rate", 500: "error",
    503: "unavailable",
}  # fmt: skip
SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5)
SHARED = "PROMETHEUS_MULTIPROC_DIR"  # where workers of one service add up


class Metrics:
    """All metrics of one worker; with several workers, any of them tells of all."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        several = SHARED in os.environ
        if several:
            MultiProcessCollector(self._registry)
        kept: dict[str, Any] = {"registry": None if several else self._registry}
        add: dict[str, Any] = {**kept, "multiprocess_mode": "livesum"}
        self._answers = Counter("modelbook_predictions", "Answered rows", ["variant"], **kept)
        self._refused = Counter("modelbook_rejected", "Requests without an answer", ["reason"], **kept)
        self._seconds = Histogram(
            "modelbook_request_seconds", "Time of a request", ["path"], buckets=SECONDS, **kept
        )  # fmt: skip
        self.in_flight = Gauge("modelbook_in_flight", "Requests at work", **add)
        self.journal_waiting = Gauge("modelbook_journal_waiting", "Requests that wait for the journal", **add)
        self.journal_up = Gauge("modelbook_journal_up", "Workers whose journal is up", **add)
        self.journal_lost = Counter("modelbook_journal_lost", "Predictions that are not in the journal", **kept)
        newest: dict[str, Any] = {**kept, "multiprocess_mode": "livemostrecent"}
        self._version = Gauge("modelbook_model_version", "Version in service, by alias", ["alias"], **newest)
        self._drift = Gauge(
            "modelbook_drift", "Distance of recent inputs to the reference, 0 to 1", ["feature"],
            **{**kept, "multiprocess_mode": "livemax"},
        )  # fmt: skip
        self._verdict = Gauge(
            "modelbook_monitor_verdict", "1 for what monitor said last of the champion", ["verdict"], **newest
        )
        self._judged = Gauge(
            "modelbook_monitor_timestamp_seconds", "When monitor said it, seconds since 1970; 0: never", **newest
        )
        self._share = Gauge(
            "modelbook_monitor_drifted_share", "Share of the model's importance that had drifted then, 0 to 1", **newest
        )
        self._moved = Gauge(
            "modelbook_monitor_drift", "Distance of the last window that monitor judged to the reference, 0 to 0.83",
            ["feature"], **newest,
        )  # fmt: skip
        self._shown: set[str] = set()
        self._path = {name: self._seconds.labels(name).observe for name in {*PATHS.values(), "other"}}
        self._variant = {name: self._answers.labels(name).inc for name in ("champion", "challenger", "shadow")}
        self._lost = 0

    def answered(self, variant: str, rows: int = 1) -> None:
        """Rows were answered by a variant."""
        self._variant[variant](rows)

    def took(self, path: str, seconds: float) -> None:
        """A request came to its end."""
        self._path[PATHS.get(path, "other")](seconds)

    def refused(self, status: int) -> None:
        """A request got no answer."""
        self._refused.labels(REASONS.get(status, "other")).inc()

    def lost(self, so_far: int) -> None:
        """The journal has lost that many predictions since the worker began."""
        self.journal_lost.inc(so_far - self._lost)
        self._lost = so_far

    def versions(self, numbers: dict[str, int]) -> None:
        """Version in service by alias, 0 for none."""
        for alias, number in numbers.items():
            self._version.labels(alias).set(number)

    def drifted(self, distances: dict[str, float]) -> None:
        """Distance of each feature; features that are no more are dropped."""
        for feature, distance in distances.items():
            self._drift.labels(feature).set(distance)

    def judged(self, verdict: str, at: float, share: float, distances: dict[str, float]) -> None:
        """What monitor said last, ``""`` for nothing; features that it tells no more have no value."""
        for word in WORDS:
            self._verdict.labels(word).set(word == verdict)
        self._judged.set(at)
        self._share.set(share)
        for feature in self._shown | distances.keys():
            self._moved.labels(feature).set(distances.get(feature, float("nan")))
        self._shown |= distances.keys()

    def text(self) -> bytes:
        """What Prometheus scrapes."""
        return generate_latest(self._registry)
