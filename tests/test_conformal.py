"""Conformal intervals of a regression: they cover rows of new entities as often as they say."""

from __future__ import annotations

import numpy as np
import pytest

from modelbook.evaluation.conformal import conformal_halfwidth, measure_prediction_interval
from modelbook.tasks.scored_rows import ScoredRows


def draw(rng: np.random.Generator, entities: int, first: int = 0) -> ScoredRows:
    """Skewed errors, of which those of one entity resemble one another; 1 to 9 rows of each."""
    rows = rng.integers(1, 10, entities)
    entity = np.repeat(np.arange(first, first + entities), rows)
    scale = np.repeat(rng.exponential(size=entities), rows)
    errors = scale * rng.standard_normal(len(entity)) + scale
    return ScoredRows.from_arrays(errors, np.zeros(len(entity)), entity)


def test_a_row_of_a_new_entity_is_covered_as_often_as_stated() -> None:
    rng, covered = np.random.default_rng(0), []
    for _ in range(400):
        halfwidth = conformal_halfwidth(draw(rng, 40))
        covered.append(np.abs(draw(rng, 1).outcome[0]) <= halfwidth)
    assert 0.86 <= np.mean(covered) <= 0.95


def test_each_entity_has_the_same_weight() -> None:
    errors = np.r_[np.full(1000, 100.0), np.arange(1, 100)]
    entity = np.r_[np.zeros(1000), np.arange(1, 100)]
    scored = ScoredRows.from_arrays(errors, np.zeros(len(errors)), entity)
    assert conformal_halfwidth(scored, 0.9) == 91


def test_few_entities_have_no_bound() -> None:
    assert conformal_halfwidth(draw(np.random.default_rng(0), 8)) == float("inf")


def test_coverage_of_the_holdout_is_measured_with_its_interval() -> None:
    rng = np.random.default_rng(1)
    found = measure_prediction_interval(draw(rng, 200), draw(rng, 100, first=200), seed=0)
    assert found.low < found.coverage < found.high
    assert found.coverage == pytest.approx(0.9, abs=0.1)
    assert found.describe().count("%") >= 4
