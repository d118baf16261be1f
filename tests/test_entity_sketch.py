"""Entity sketches: estimated overlap of two holdouts."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from modelbook.dataset.entity_sketch import SKETCH_SIZE, estimate_overlap, sketch_entities


def make_sketch(first: int, last: int) -> str:
    return sketch_entities(pd.Series(np.arange(first, last)))


def test_sketch_ignores_row_order_and_repeats() -> None:
    rows = pd.Series(np.arange(3000)).sample(frac=1, random_state=0)
    assert sketch_entities(pd.concat([rows, rows.head(100)])) == make_sketch(0, 3000)
    assert len(make_sketch(0, 3000).split()) == SKETCH_SIZE
    assert len(make_sketch(0, 3000)) < 8000, "the longest tag of a run"


@pytest.mark.parametrize(
    ("other_range", "share"),
    [((0, 4000), 1), ((2000, 6000), 0.5), ((4000, 8000), 0), ((0, 40_000), 1)],
)
def test_shared_entities_are_estimated(other_range: tuple[int, int], share: float) -> None:
    result = estimate_overlap(make_sketch(0, 4000), make_sketch(*other_range))
    assert result == pytest.approx(share, abs=0.1 if share == 0.5 else 1e-9)


def test_small_sets_are_compared_exactly() -> None:
    assert estimate_overlap(make_sketch(0, 20), make_sketch(15, 100)) == 5 / 20
    assert estimate_overlap("", make_sketch(0, 20)) == 0
