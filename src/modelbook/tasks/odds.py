"""Log-odds of probabilities. Without pandas, for a service starts with it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

CLOSE = 1e-6  # how close to 0 and 1 a probability may come


def odds(probability: Any) -> np.ndarray:
    """Log-odds, of probabilities that are kept away from 0 and 1; any shape."""
    kept = np.clip(probability, CLOSE, 1 - CLOSE)
    return np.log(kept / (1 - kept))


def odds_of_one(probability: float) -> float:
    """The same of one probability: a request has a few, for which an array takes four times as long."""
    kept = min(max(probability, CLOSE), 1 - CLOSE)
    return math.log(kept / (1 - kept))
