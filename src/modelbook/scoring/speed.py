"""What an answer costs: its time, and the size of what gives it."""

from __future__ import annotations

import json
import time
from pathlib import Path
from statistics import median
from typing import Any

from modelbook.contract import Contract
from modelbook.scoring import registered
from modelbook.scoring.compile import GOLDEN

SECONDS, MOST = 2.0, 500  # a measurement ends after either


def measure(folder: Path, contract: Contract) -> tuple[float, float] | None:
    """Milliseconds that half of the golden rows are answered within, one at a time, and megabytes of what answers.

    Parameters
    ----------
    folder : Path
        The parts of a version.

    Returns
    -------
    tuple or None
        None for a version that was registered before there was a scorer.
    """
    kept = folder / "scorer" / GOLDEN
    if not kept.is_file():
        return None
    scorer = registered.load(folder, contract)
    answers = [path for path in kept.parent.iterdir() if path != kept] if scorer.compiled else [folder / "model.pkl"]
    rows = json.loads(kept.read_text(encoding="utf-8"))["rows"]
    return _milliseconds(scorer, rows), sum(path.stat().st_size for path in answers) / 1e6


def _milliseconds(scorer: Any, rows: list[dict[str, Any]]) -> float:
    scorer.one(rows[0])  # what is loaded at the first answer does not count
    taken: list[float] = []
    until = time.perf_counter() + SECONDS
    while len(taken) < MOST and (not taken or time.perf_counter() < until):
        begun = time.perf_counter()
        scorer.one(rows[len(taken) % len(rows)])
        taken.append(time.perf_counter() - begun)
    return 1000 * median(taken)
