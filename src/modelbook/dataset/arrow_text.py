"""Read columns of Arrow's texts as numbers: many times as fast as one text at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

# A code with leading zeros, more digits than a float holds, or a month such as 03.2024.
CODE_TEXT = r"0\d+|[-+]?\d{16,}|(?:0[1-9]|1[0-2])\.(?:19|20)\d\d"
NUMBER_TEXT = r"^-?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?$"


def to_numbers(cells: pd.Series, missing_texts: list[str]) -> pd.Series | None:
    """Parse Arrow texts as numbers; None if one of them is not a number, or they are not Arrow's.

    Parameters
    ----------
    missing_texts : list of str
        Texts that mean a missing value.
    """
    import pandas as pd
    import pyarrow as pa
    import pyarrow.compute as pc

    if not isinstance(cells.dtype, pd.StringDtype) or cells.dtype.storage != "pyarrow":
        return None
    texts = pc.utf8_trim_whitespace(pa.chunked_array(cells.array.__arrow_array__()))
    texts = pc.if_else(
        pc.is_in(texts, pa.array(missing_texts)), pa.scalar(None, pa.string()), texts
    )
    if not pc.all(pc.match_substring_regex(texts, NUMBER_TEXT)).as_py():  # None: all are missing
        return None
    if not texts.null_count:
        try:
            return pd.Series(pc.cast(texts, "int64").to_numpy(), cells.index)
        except pa.ArrowInvalid:
            pass
    numbers = pc.cast(texts, "float64").to_numpy()
    return pd.Series(numbers.astype("float64", copy=False), cells.index)


def to_clear_numbers(cells: pd.Series, missing_texts: list[str]) -> pd.Series | None:
    """Read texts as numbers, unless one is a code with leading zeros or has too many digits."""
    numbers = to_numbers(cells, missing_texts)
    if numbers is None or cells.str.strip().str.fullmatch(CODE_TEXT).any():
        return None
    return numbers
