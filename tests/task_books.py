"""Small regression and multiclass books, next to the binary one of conftest."""

from __future__ import annotations

import numpy as np
import pandas as pd

from modelbook.contract import Contract

ABOUT = {"question": "How much, or which?", "source": "a seeded generator", "licence": "none"}
INTENDED_USE = {
    "use": "To try things.",
    "not_for": ["Anything else."],
    "limits": ["It was drawn."],
    "contact": "The seed.",
}
FEATURES = {
    "size": {
        "role": "feature",
        "type": "number",
        "min": 0,
        "max": 100,
        "meaning": "decides",
        "label": "Size",
        "no_leak_reason": "the target was drawn from it",
    },
    "colour": {
        "role": "feature",
        "type": "category",
        "categories": ["1", "2", "11"],
        "meaning": "decides a little",
    },
    "noise": {
        "role": "feature",
        "type": "number",
        "nullable": True,
        "meaning": "decides nothing, has gaps",
    },
    "group": {"role": "sensitive", "type": "boolean", "meaning": "never a feature"},
}
NUMBER = {
    **ABOUT, **INTENDED_USE, "title": "A number", "task": "regression", "key": ["who", "year"], "slices": ["group", "colour"],
    "columns": {
        "who": {"role": "entity", "type": "integer", "meaning": "number of the entity", "label": "member"},
        "year": {"role": "time", "type": "integer", "meaning": "period"},
        **FEATURES,
        "amount": {"role": "target", "type": "number", "meaning": "what was spent, pounds"},
    },
}  # fmt: skip
CLASSES = {
    **ABOUT, **INTENDED_USE, "title": "Three classes", "task": "multiclass", "slices": ["group"],
    "columns": {
        **FEATURES,
        "kind": {"role": "target", "type": "category", "categories": ["low", "middle", "high"], "meaning": "which"},
    },
}  # fmt: skip


def make_regression_rows(
    seed: int = 0, entities: int = 300, years: tuple[int, ...] = (1, 2, 3), offset: float = 0.0
) -> pd.DataFrame:
    """``amount`` is 1,000 + 20 a unit of ``size``, 100 more for colour 11; ``offset`` is added to all amounts."""
    random, rows = np.random.default_rng(seed), entities * len(years)
    table = _features(random, rows)
    table.insert(0, "year", np.tile(years, entities))
    table.insert(0, "who", np.repeat(np.arange(entities), len(years)))
    recorded = 1000 + 20 * table["size"] + 100 * (table["colour"] == "11")
    return table.assign(amount=recorded + random.normal(0, 250, rows) + offset)


def make_multiclass_rows(seed: int = 0, rows: int = 700) -> pd.DataFrame:
    """``kind`` follows from ``size``, blurred."""
    random = np.random.default_rng(seed)
    table = _features(random, rows)
    blurred = table["size"] + random.normal(0, 15, rows)
    return table.assign(kind=np.select([blurred < 40, blurred < 75], ["low", "middle"], "high"))


def _features(random: np.random.Generator, rows: int) -> pd.DataFrame:
    return pd.DataFrame({
        "size": random.uniform(0, 100, rows), "colour": random.choice(["1", "2", "11"], rows),
        "noise": np.where(random.uniform(size=rows) < 0.2, np.nan, random.normal(size=rows)),
        "group": random.integers(0, 2, rows),
    })  # fmt: skip


def make_regression_contract() -> Contract:
    return Contract.model_validate(NUMBER)


def make_multiclass_contract() -> Contract:
    return Contract.model_validate(CLASSES)
