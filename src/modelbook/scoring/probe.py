"""Probing: ask a fitted preprocessing what it does to each column, and write it down as an encoder.

Nothing is read from inside the steps but the scalers' constants, so whatever is separable by column can be compiled,
a user's own step too. What is not separable, or no straight line in a number, is refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from modelbook.errors import CompileError
from modelbook.scoring.encoder import Block, Encoder, Number, Table
from modelbook.scoring.trials import UNSEEN

if TYPE_CHECKING:
    from modelbook.contract import Contract

POINTS = (0.0, 0.013, 0.11, 0.25, 0.437, 0.5, 0.71, 0.93, 1.0)  # where between its ends a number is asked
EXACT = 1e-12  # a line may miss its column's size by that much; scalers' own constants miss nothing

Ends = dict[str, tuple[float, float]]


def probe(prefix: Any, contract: Contract, ends: Ends) -> Encoder:
    """The encoder that does what ``prefix``, a fitted pipeline without its estimator, does.

    Parameters
    ----------
    ends : dict
        Least and greatest value of each numeric feature.

    Raises
    ------
    CompileError
        When an output column depends on several inputs, or on a number otherwise than along a line.
    """
    texts = categories(prefix, contract)
    base = {name: texts[name][0] if name in texts else _between(contract, name, ends, 0.5) for name in contract.seen}
    asked = {name: _points(contract, name, ends) for name in contract.numeric}
    asked |= {name: [np.nan, UNSEEN, *known] for name, known in texts.items()}
    rows = [base] + [{**base, name: value} for name, values in asked.items() for value in values]
    out = transformed(prefix, contract, pd.DataFrame(rows))
    found, start = {}, 1
    for name, values in asked.items():
        found[name] = out[start : start + len(values)]
        start += len(values)
    owners = _owners(out[0], found)
    numbers, tables, constants = [], [], _constants(prefix, out.shape[1])
    for name in contract.features_:
        places = [place for place, owner in owners.items() if owner == name]
        if name in texts:
            tables.append(_table(name, places, texts[name], found[name]))
        else:
            numbers += [_number(name, place, asked[name], found[name][:, place], constants) for place in places]
    return Encoder(contract.features_, out[0].tolist(), numbers, [one for one in tables if one.places])


def transformed(prefix: Any, contract: Contract, frame: pd.DataFrame) -> np.ndarray:
    """What the prefix makes of rows, as doubles; shape (rows, columns)."""
    out = prefix.transform(contract.features(frame)) if prefix is not None else contract.features(frame)
    return np.asarray(out.toarray() if hasattr(out, "toarray") else out, dtype="float64")


def categories(prefix: Any, contract: Contract) -> dict[str, list[str]]:
    """The categories of each categorical feature; of one that allows unseen ones, those that an encoder was fitted on.

    Raises
    ------
    CompileError
        When nothing tells which those are.
    """
    fitted = dict(_fitted(prefix))
    told = {}
    for name in contract.categorical:
        column = contract.columns[name]
        told[name] = list(dict.fromkeys([*(column.categories or []), *(fitted.get(name, []) if column.unseen else [])]))
        if column.unseen and name not in fitted:
            raise CompileError(f"{name} allows unseen categories, and nothing tells which ones the model knows")
    return told


def _fitted(prefix: Any) -> Iterator[tuple[str, list[str]]]:
    """Columns and what the encoders of category_encoders, inside PyCaret's wrappers, were fitted on."""
    for _, step in getattr(prefix, "steps", []):
        encoder = getattr(step, "transformer", step)
        for one in getattr(getattr(encoder, "ordinal_encoder", encoder), "category_mapping", None) or []:
            yield one["col"], [value for value in getattr(one["mapping"], "index", ()) if isinstance(value, str)]


def _between(contract: Contract, name: str, ends: Ends, share: float) -> float:
    low, high = ends[name]
    value = low + share * (high - low)
    return value if contract.seen[name].type == "number" else float(round(value))


def _points(contract: Contract, name: str, ends: Ends) -> list[Any]:
    """What is asked of a number: the gap first, then everything else."""
    return [np.nan, *dict.fromkeys(_between(contract, name, ends, share) for share in POINTS)]


def _owners(blank: np.ndarray, found: dict[str, np.ndarray]) -> dict[int, str]:
    """Which input each output column follows; one that follows none is left out."""
    owners: dict[int, str] = {}
    for name, out in found.items():
        # A gap that stays a gap is a change as well.
        moved = ~((out == blank) | (np.isnan(out) & np.isnan(blank))).all(axis=0)
        for place in np.flatnonzero(moved):
            if place in owners:
                raise CompileError(f"column {place} after preprocessing depends on {owners[place]} and on {name}")
            owners[int(place)] = name
    return owners


def _table(name: str, places: list[int], known: list[str], out: np.ndarray) -> Table:
    blocks: list[Block] = [row[places].tolist() for row in out]
    return Table(name, places, dict(zip(known, blocks[2:])), missing=blocks[0], unseen=blocks[1])


def _number(name: str, place: int, values: list[float], out: np.ndarray, constants: list[tuple]) -> Number:
    fill, x, y = float(out[0]), np.array(values[1:]), out[1:]
    rise = float((y[-1] - y[0]) / (x[-1] - x[0])) if x[-1] != x[0] else 0.0
    forms = [(float(a[place]), float(b[place]), ratio) for a, b, ratio in constants]
    forms += [(0.0, 1.0, True), (rise, float(y[0] - rise * x[0]), False)]
    fits = [Number(name, place, a, b, fill, ratio) for a, b, ratio in forms]
    size = max(1.0, float(np.abs(y).max()))
    worst = [float(np.abs(one.of(x) - y).max()) / size for one in fits]
    best = int(np.argmin(worst))
    if not worst[best] <= EXACT:
        raise CompileError(f"preprocessing does not move {name} along a straight line")
    return fits[best]


def _constants(prefix: Any, width: int) -> list[tuple[np.ndarray, np.ndarray, bool]]:
    """Center and scale, or slope and offset, of the last scaler: with them the arithmetic is the scaler's own."""
    for _, step in reversed(list(getattr(prefix, "steps", []))):
        scaler = getattr(step, "transformer", step)  # PyCaret wraps each step
        middle = next((m for m in (getattr(scaler, a, None) for a in ("mean_", "center_")) if m is not None), None)
        scale, low = getattr(scaler, "scale_", None), getattr(scaler, "min_", None)
        if scale is not None and np.shape(scale) == (width,):
            if low is not None:
                return [(scale, low, False)]
            return [(np.zeros(width) if middle is None else middle, scale, True)]
    return []
