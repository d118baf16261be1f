"""Copies: rows of a window that say in every feature what another row says, beyond what the table lets expect.

Two rows of the reference agree in every feature with some probability (Simpson's index of its rows). That, and the
number of rows, says how many would agree by chance in a window: none to speak of where features are measured finely,
many where they are a few codes. Sent twice, a file has half of its rows as copies.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from modelbook.contract import Contract


class Copies(NamedTuple):
    """Share of a window's rows that repeat an earlier row, and the largest that the reference lets expect."""

    share: float = 0.0
    allowed: float = 1.0


NONE = Copies()  # of a window that was not judged


def copies(batch: pd.DataFrame, reference: pd.DataFrame, contract: Contract) -> Copies:
    """How many rows of a window are copies in every feature; both sides have rows."""
    names = contract.inputs_
    often, before = (_often(side[names]) for side in (batch, reference))
    known, rows = len(reference), len(batch)
    pairs = _pairs(before)
    most = (pairs + 3 * np.sqrt(pairs) + 5) / max(known * (known - 1) / 2, 1)  # beyond Poisson's 99.8 %
    return Copies(1 - len(often) / rows, float(min(1.0, most * (rows - 1) / 2)))


def _often(rows: pd.DataFrame) -> np.ndarray:
    """How often each different row occurs."""
    return np.unique(pd.util.hash_pandas_object(rows, index=False), return_counts=True)[1]


def _pairs(often: np.ndarray) -> float:
    return float((often * (often - 1) / 2).sum())
