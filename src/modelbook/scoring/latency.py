"""Measure a version's prediction latency, what a row of a batch costs, and its scorer's size."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from modelbook.contract import Contract
from modelbook.scoring import loading
from modelbook.scoring.loading import GOLDEN_FILE

MAX_SECONDS, MAX_PREDICTIONS = 2.0, 500  # a measurement stops at either limit
BATCH_ROWS, MAX_BATCHES = 500, 5  # rows and batches that the cost of a row is measured with
REFERENCE_STEPS = 5_000  # additions of the reference computation
REFERENCE_MS = 0.16  # time of the reference on an idle core of 2024


def measure_latency_and_size(folder: Path, contract: Contract) -> tuple[float, float] | None:
    """Measure the median latency of single golden rows (ms), and the artifact size (MB).

    A fixed reference computation is timed between the predictions. Where it takes longer than
    ``REFERENCE_MS``, because the machine is busy or slow, the latency is divided by the same
    factor: the gate judges the model, not the load of the machine.

    Returns
    -------
    tuple or None
        None for a version without golden rows of a scorer.
    """
    golden_path = folder / "scorer" / GOLDEN_FILE
    if not golden_path.is_file():
        return None
    scorer = loading.load_scorer(folder, contract)
    scorer_files = (
        [path for path in golden_path.parent.iterdir() if path != golden_path]
        if scorer.is_compiled
        else [folder / "model.pkl"]
    )
    rows = json.loads(golden_path.read_text(encoding="utf-8"))["rows"]
    return _measure_median_latency_ms(scorer, rows), sum(
        path.stat().st_size for path in scorer_files
    ) / 1e6


def measure_batch_row_ms(scorer: Any, rows: list[dict[str, Any]]) -> float:
    """Measure the CPU time of a row in a batch (ms), as the service predicts an upload.

    It is the least of some batches, since CPU time rises when other processes use the caches.
    """
    batch = [rows[index % len(rows)] for index in range(BATCH_ROWS)]
    scorer.predict_many(batch)  # warm-up
    durations: list[float] = []
    deadline = time.perf_counter() + MAX_SECONDS
    while len(durations) < MAX_BATCHES and (not durations or time.perf_counter() < deadline):
        start = time.process_time()
        scorer.predict_many(batch)
        durations.append(1000 * (time.process_time() - start))
    return min(durations) / BATCH_ROWS


def _measure_median_latency_ms(scorer: Any, rows: list[dict[str, Any]]) -> float:
    scorer.predict_one(rows[0])  # warm-up
    durations: list[float] = []
    reference_durations: list[float] = []
    deadline = time.perf_counter() + MAX_SECONDS
    while len(durations) < MAX_PREDICTIONS and (not durations or time.perf_counter() < deadline):
        row = rows[len(durations) % len(rows)]
        durations.append(_time_call_ms(scorer.predict_one, row))
        reference_durations.append(_time_call_ms(_compute_reference))
    return median(durations) / max(1.0, median(reference_durations) / REFERENCE_MS)


def _time_call_ms(function: Callable[..., Any], *arguments: Any) -> float:
    start = time.perf_counter()
    function(*arguments)
    return 1000 * (time.perf_counter() - start)


def _compute_reference() -> float:
    """A computation in plain Python, which slows down as a prediction does."""
    total = 0.0
    for number in range(REFERENCE_STEPS):
        total += number % 7 * 0.5
    return total
