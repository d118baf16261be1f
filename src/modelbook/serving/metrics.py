"""Prometheus metrics. Label values come from fixed sets, so requests cannot create new series."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from operator import add
from pathlib import Path
from typing import Any

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Metric,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from modelbook.config import Monitor
from modelbook.errors import StoreError
from modelbook.monitoring import latest_verdict
from modelbook.monitoring.latest_verdict import VERDICTS
from modelbook.scoring.drift_reference import DriftReference, RecentCounts
from modelbook.serving.access import read_file_state
from modelbook.serving.served_models import ServedModel
from modelbook.stage import project

LOG = logging.getLogger("modelbook.serving")
PATH_LABELS = {
    "/predict": "predict",
    "/predict/csv": "csv",
    "/outcomes": "outcomes",
    "/model": "model",
    "/metrics": "metrics",
    "/health/live": "health",
    "/health/ready": "health",
    "/v2/health/live": "health",
    "/v2/health/ready": "health",
}
STATUS_REASONS = {
    400: "unreadable",
    401: "no key",
    403: "scope",
    404: "not found",
    405: "method",
    406: "not found",
    408: "slow body",
    409: "conflict",
    413: "too large",
    415: "content type",
    422: "contract",
    429: "rate",
    500: "error",
    503: "unavailable",
}
HOUR, DAY = 3600, 86_400
OUTCOME_DELAY_BUCKETS = (60, HOUR, 6 * HOUR, DAY, 3 * DAY, 7 * DAY, 14 * DAY, 30 * DAY, 90 * DAY)
DURATION_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5)
JOURNAL_TOTALS = {
    "lost": "Returned predictions that are not in the journal",
    "replaced": "Times that the journal's file was removed or replaced while it was open",
    "orphaned": "Predictions written to journal files that were then removed or replaced",
}
PAUSE_SECONDS = 0.005  # between the drift of two features, each of which takes less than 1 ms
MAX_MONITORED_FEATURES = 100  # features with a series of monitor's drift, in the contract's order
MULTIPROCESS_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"  # folder in which workers share their metrics


class MetricFactory:
    """Creates the metrics of a process; the workers of a service share them in a folder."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        folder = os.environ.get(MULTIPROCESS_VARIABLE)
        if folder is None:
            ProcessCollector(registry=self.registry)
        else:
            self.registry.register(WorkersCollector(folder))
            self.registry.register(WorkerProcessCollector(folder))
        # The collectors read the metrics of all workers, so none registers its own.
        self._target = self.registry if folder is None else None

    def counter(self, name: str, text: str, *labels: str) -> Counter:
        """Create a counter; its name gets the suffix ``_total``."""
        return Counter(name, text, labels, registry=self._target)

    def gauge(self, name: str, text: str, *labels: str, merge: str = "livemostrecent") -> Gauge:
        """Create a gauge; ``merge`` is the ``multiprocess_mode`` that combines the workers'."""
        return Gauge(
            name,
            text,
            labels,
            registry=self._target,
            multiprocess_mode=merge,  # type: ignore[arg-type]
        )

    def histogram(self, name: str, text: str, *labels: str, buckets: Sequence[float]) -> Histogram:
        """Create a histogram with these upper bounds."""
        return Histogram(name, text, labels, registry=self._target, buckets=buckets)


class ServiceMetrics:
    """Metrics of a worker; with several workers, each exports those of all of them."""

    def __init__(self, book: str) -> None:
        self._book = book
        self.factory = MetricFactory()
        self._create_request_metrics()
        self._create_model_metrics()
        self._create_monitor_metrics()
        self.factory.gauge(
            "modelbook_service_info", "1 for the book that is served", "book"
        ).labels(book).set(1)
        self.factory.gauge("modelbook_workers", "Workers that are running", merge="livesum").set(1)
        self._labels_by_gauge: dict[Gauge, set[tuple[str, ...]]] = {}
        self._observe_by_request: dict[tuple[str, int], Callable[[float], None]] = {}
        self._last_totals = dict.fromkeys(JOURNAL_TOTALS, 0)

    def _create_request_metrics(self) -> None:
        predictions = self.factory.counter("modelbook_predictions", "Predicted rows", "variant")
        self._count_by_variant = {
            name: predictions.labels(name).inc for name in ("champion", "challenger", "shadow")
        }
        self._request_errors = self.factory.counter(
            "modelbook_rejected", "Rejected or failed requests", "reason"
        )
        for reason in STATUS_REASONS.values():  # start at 0, so that rate() sees the first
            self._request_errors.labels(reason)
        self._request_duration = self.factory.histogram(
            "modelbook_request_seconds",
            "Duration of a request in seconds",
            "path",
            "status",
            buckets=DURATION_BUCKETS,
        )
        self.outcome_delay = self.factory.histogram(
            "modelbook_outcome_delay_seconds",
            "Time from a prediction to its outcome",
            buckets=OUTCOME_DELAY_BUCKETS,
        )
        self.in_flight = self.factory.gauge(
            "modelbook_in_flight", "Requests in progress", merge="livesum"
        )
        self.journal_waiting_requests = self.factory.gauge(
            "modelbook_journal_waiting", "Requests waiting for the journal", merge="livesum"
        )
        self.journal_up = self.factory.gauge(
            "modelbook_journal_up", "Workers with a working journal", merge="livesum"
        )
        self._journal_totals = {
            name: self.factory.counter(f"modelbook_journal_{name}", text)
            for name, text in JOURNAL_TOTALS.items()
        }

    def _create_model_metrics(self) -> None:
        self.canary_rolled_back = self.factory.gauge(
            "modelbook_canary_rolled_back", "Workers that rolled back a canary", merge="livesum"
        )
        self._model_version = self.factory.gauge(
            "modelbook_model_version", "Version that is served, by alias", "alias"
        )
        self._alias_version = self.factory.gauge(
            "modelbook_alias_version", "Version that the alias names", "alias"
        )
        self._version_refused = self.factory.gauge(
            "modelbook_version_refused",
            "Workers in which the version that the alias names failed to load",
            "alias",
            merge="livesum",
        )
        self._workers_behind = self.factory.gauge(
            "modelbook_workers_behind",
            "Workers that do not serve the version that the alias names",
            "alias",
            merge="livesum",
        )
        self._input_drift = self.factory.gauge(
            "modelbook_drift",
            "Drift of recent inputs in multiples of its threshold; drifted if >= 1",
            "feature",
            merge="livemax",
        )
        self._unseen_share = self.factory.gauge(
            "modelbook_unseen_share",
            "Share of recent rows with a category that the reference does not have",
            "feature",
            merge="livemax",
        )

    def _create_monitor_metrics(self) -> None:
        self._verdict = self.factory.gauge(
            "modelbook_monitor_verdict",
            "1 for the latest monitoring verdict on the champion",
            "verdict",
        )
        self._verdict_timestamp = self.factory.gauge(
            "modelbook_monitor_timestamp_seconds", "Unix timestamp of the latest verdict; 0: none"
        )
        self._drifted_importance_share = self.factory.gauge(
            "modelbook_monitor_drifted_share",
            "Importance-weighted share of drifted features at the latest verdict, 0 to 1",
        )
        self._monitored_drift = self.factory.gauge(
            "modelbook_monitor_drift",
            "Drift of the latest monitored window in multiples of its threshold; drifted if >= 1",
            "feature",
        )
        self._quality = self.factory.gauge(
            "modelbook_monitor_quality",
            "Metrics of the latest monitored window: live with outcomes, expected without them, "
            "and those of the holdout",
            "book",
            "metric",
            "source",
        )

    def count_predictions(self, variant: str, rows: int = 1) -> None:
        """Count rows that a variant predicted."""
        self._count_by_variant[variant](rows)

    def observe_request(self, path: str, status: int, seconds: float) -> None:
        """Record the duration of a finished request."""
        label = PATH_LABELS.get(path) or ("infer" if path.endswith("/infer") else "other")
        observe = self._observe_by_request.get((label, status))
        if observe is None:
            observe = self._request_duration.labels(label, status).observe
            self._observe_by_request[label, status] = observe
        observe(seconds)

    def count_error(self, status: int) -> None:
        """Count a rejected or failed request."""
        self._request_errors.labels(STATUS_REASONS.get(status, "other")).inc()

    def set_journal_totals(self, **totals: int) -> None:
        """Set the counts of ``JOURNAL_TOTALS`` since the worker started."""
        for name, total in totals.items():
            self._journal_totals[name].inc(total - self._last_totals[name])
            self._last_totals[name] = total

    def set_versions(
        self, served: dict[str, int], aliased: dict[str, int], failed_attempts: dict[str, int]
    ) -> None:
        """Set by alias the served version, the one that the alias names, and failures to load it.

        The number of a version is 0 for none.
        """
        for alias, number in aliased.items():
            self._model_version.labels(alias).set(served[alias])
            self._alias_version.labels(alias).set(number)
            self._version_refused.labels(alias).set(failed_attempts[alias] > 0)
            self._workers_behind.labels(alias).set(number not in (0, served[alias]))

    def set_input_drift(self, drift: dict[str, float], unseen_shares: dict[str, float]) -> None:
        """Set each feature's drift and share of rows with an unseen category."""
        self._set_by_feature(self._input_drift, drift)
        self._set_by_feature(self._unseen_share, unseen_shares)

    def set_verdict(
        self,
        verdict: str,
        timestamp: float,
        drifted_importance_share: float,
        drift: dict[str, float],
        quality: dict[tuple[str, str], float],
    ) -> None:
        """Set the latest monitoring verdict, ``""`` for none."""
        for name in VERDICTS:
            self._verdict.labels(name).set(name == verdict)
        self._verdict_timestamp.set(timestamp)
        self._drifted_importance_share.set(drifted_importance_share)
        self._set_by_feature(self._monitored_drift, drift)
        self._set_by_labels(
            self._quality, {(self._book, *labels): value for labels, value in quality.items()}
        )

    def _set_by_feature(self, gauge: Gauge, values: dict[str, float]) -> None:
        self._set_by_labels(gauge, {(name,): value for name, value in values.items()})

    def _set_by_labels(self, gauge: Gauge, values: dict[tuple[str, ...], float]) -> None:
        """Set a gauge by its labels; labels that no longer have a value become NaN."""
        all_labels = self._labels_by_gauge.setdefault(gauge, set())
        all_labels.update(values)
        for labels in all_labels:
            gauge.labels(*labels).set(values.get(labels, float("nan")))

    def render(self) -> bytes:
        """Return the metrics in the Prometheus text format."""
        return generate_latest(self.factory.registry)


class WorkersCollector(Collector):
    """Merges the metrics of all workers.

    It skips empty files, at which ``MultiProcessCollector`` fails: a starting worker creates them.
    """

    def __init__(self, metrics_folder: str) -> None:
        self._folder = Path(metrics_folder)

    def collect(self) -> Iterable[Metric]:
        """Return each metric with its samples of all workers."""
        with os.scandir(self._folder) as entries:
            files = [entry.path for entry in entries if entry.name.endswith(".db")]
        nonempty_files = [path for path in files if _is_not_empty(path)]
        return MultiProcessCollector.merge(nonempty_files, accumulate=True)


def _is_not_empty(path: str) -> bool:
    try:
        return os.path.getsize(path) > 0
    except FileNotFoundError:  # the worker has ended
        return False


class WorkerProcessCollector(Collector):
    """Sums the ``process_*`` metrics of all workers; the start time is the earliest one."""

    def __init__(self, metrics_folder: str) -> None:
        self._folder = Path(metrics_folder)

    def collect(self) -> Iterator[Metric]:
        """Yield each metric of the workers that are running."""
        pids = {path.stem.rpartition("_")[2] for path in self._folder.glob("gauge_livesum_*.db")}
        metrics: dict[str, Metric] = {}
        for pid in sorted(pids):
            for metric in ProcessCollector(pid=partial(int, pid), registry=None).collect():
                if metric.name not in metrics:
                    metrics[metric.name] = metric
                    continue
                total = metrics[metric.name]
                combine = min if metric.name == "process_start_time_seconds" else add
                total.samples = [
                    sample._replace(value=combine(sample.value, other.value))
                    for sample, other in zip(total.samples, metric.samples)
                ]
        yield from metrics.values()


async def measure_input_drift(
    reference: DriftReference, rows: list[dict[str, Any]], params: Monitor
) -> dict[str, float]:
    """Return the drift of each feature, as monitor measures it; NaN for fewer rows than it needs.

    Requests are served between two features. A thread would delay them more, because it competes
    with them for the interpreter.
    """
    if len(rows) < params.min_rows:
        return dict.fromkeys(reference.features, float("nan"))
    counts = {}
    for name, feature in reference.features.items():
        counts[name] = feature.count_values([row.get(name) for row in rows])
        await asyncio.sleep(PAUSE_SECONDS)
    recent = RecentCounts(
        counts, reference.find_strata(rows), reference.compute_effective_fraction(rows)
    )
    drift = {}
    for name, value in reference.measure_drift(recent, params):
        drift[name] = value
        await asyncio.sleep(0)
    return drift


def read_monitor_parameters(root: Path, book: str) -> Monitor:
    """Read monitor's parameters; the defaults where a project has no pipeline."""
    if (root / "pipeline.yaml").is_file():
        try:
            return Monitor.model_validate(project.read_stage_parameters(root, book, "monitor"))
        except Exception as error:  # the pipeline's files must not keep the service from starting
            LOG.warning(
                "the parameters of monitor cannot be read; drift is measured with the defaults",
                extra={"reason": f"{type(error).__name__}: {error}"},
            )
    return Monitor.model_validate({})


def compute_unseen_shares(
    reference: DriftReference, rows: list[dict[str, Any]]
) -> dict[str, float]:
    """Return the share of rows whose category the reference does not have, by feature."""
    return {
        name: sum(
            row.get(name) is not None and str(row[name]) not in feature.categories for row in rows
        )
        / len(rows)
        for name, feature in reference.features.items()
        if feature.boundaries is None
    }


class VerdictMetrics:
    """Exports the latest monitoring verdict as metrics."""

    def __init__(self, root: Path, book: str, metrics: ServiceMetrics) -> None:
        self._history_path = latest_verdict.get_history_path(root, book)
        self._metrics = metrics
        self._last_state: object = None

    def refresh(self, champion: ServedModel | None) -> None:
        """Update the verdict metrics if the monitoring history or the champion has changed."""
        if champion is None:
            return
        state = (champion.number, read_file_state(self._history_path))
        if state == self._last_state:
            return
        self._last_state = state
        try:
            latest = latest_verdict.read_latest_verdict(self._history_path, champion.number)
        except StoreError as error:  # keep serving with the last known values
            LOG.error("the monitoring history cannot be read", extra={"reason": error.problem})
            return
        if latest is None:
            self._metrics.set_verdict("", 0, float("nan"), {}, {})
            return
        features = champion.contract.feature_names[:MAX_MONITORED_FEATURES]
        drift = {name: latest.drift[name] for name in features if name in latest.drift}
        self._metrics.set_verdict(
            latest.verdict, latest.timestamp, latest.drifted_importance_share, drift, latest.quality
        )
