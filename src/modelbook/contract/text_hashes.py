"""Numbers from texts of many values, such as names and tickets: MinHash of their letters.

Each number is the smallest hash of the text's trigrams under one hash function, scaled to [0, 1).
The probability that two texts have the same number is the Jaccard similarity of their trigrams
(Broder 1997), so trees split by prefixes, titles and words (Cerda & Varoquaux 2020, whose encoder
in skrub needs pandas and scikit-learn). Nothing is learned from the rows: the numbers of a text are
the same in training, files and requests.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

DEFAULT_N_HASHES, MAX_N_HASHES = 8, 64
MAX_HASHED_LENGTH = 200  # letters that are hashed, which bounds the cost of a request
CHUNK_TEXTS = 10_000  # texts hashed per chunk, which limits memory
BLANK = ord(" ")
# SplitMix64 (Steele et al. 2014): its increment, and the shifts and factors of its finalizer.
INCREMENT = 0x9E3779B97F4A7C15
MIXING_ROUNDS = ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB), (31, 1))


@lru_cache(maxsize=20_000)  # requests repeat texts
def hash_text(text: str, n_hashes: int) -> tuple[float, ...]:
    """Return ``n_hashes`` numbers from 0 to 1; capitals and blanks make no difference."""
    return tuple(_hash_chunk([text], n_hashes)[0].tolist())


def hash_texts(texts: pd.Series, n_hashes: int) -> list[pd.Series]:
    """Return a series for each number; NaN for a missing text."""
    import pandas as pd

    positions, distinct_texts = pd.factorize(texts)
    chunks = [
        _hash_chunk(distinct_texts[start : start + CHUNK_TEXTS], n_hashes)
        for start in range(0, len(distinct_texts), CHUNK_TEXTS)
    ]
    table = np.concatenate([*chunks, np.full((1, n_hashes), np.nan)])
    # The position of a missing text is -1, the last row.
    return [pd.Series(column, index=texts.index) for column in table[positions].T]


def _hash_chunk(texts: Sequence[str], n_hashes: int) -> np.ndarray:
    """Hash all trigrams of the texts, and return the smallest hashes of each text."""
    words = [" ".join(text[:MAX_HASHED_LENGTH].lower().split()) or " " for text in texts]
    padded = [f" {text} " for text in words]
    n_trigrams = np.array([len(text) - 2 for text in padded])
    letters = np.frombuffer(" ".join(padded).encode("utf-32-le", "surrogatepass"), dtype="<u4")
    letters = np.append(letters, BLANK).astype("uint64")
    trigrams = letters[:-2] << np.uint64(42) | letters[1:-1] << np.uint64(21) | letters[2:]
    starts = np.append(0, np.cumsum(n_trigrams)[:-1])
    # Three trigrams between two texts belong to neither of them.
    positions = np.arange(n_trigrams.sum()) + 3 * np.repeat(np.arange(len(padded)), n_trigrams)
    hashes = trigrams[positions, None] + np.arange(1, n_hashes + 1, dtype="uint64") * INCREMENT
    for shift, factor in MIXING_ROUNDS:
        hashes = (hashes ^ hashes >> np.uint64(shift)) * np.uint64(factor)
    return np.minimum.reduceat(hashes, starts, axis=0) / 2.0**64
