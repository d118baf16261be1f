"""Logit function. Without pandas, so that the server starts fast."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

EPSILON = 1e-6  # probabilities are clipped to [EPSILON, 1 - EPSILON]


def logit(probability: Any) -> np.ndarray:
    """Log-odds of clipped probabilities, of any shape."""
    clipped = np.clip(probability, EPSILON, 1 - EPSILON)
    return np.log(clipped / (1 - clipped))


def logit_scalar(probability: float) -> float:
    """``logit`` of one probability, four times as fast as with an array."""
    clipped = min(max(probability, EPSILON), 1 - EPSILON)
    return math.log(clipped / (1 - clipped))
