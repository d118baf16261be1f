"""Ranking by a single feature: what could be done with the table alone, without any model."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from modelbook.tasks.base import Task


@dataclass(frozen=True)
class FeatureRanking:
    """A numeric feature by which rows are ranked, with its direction.

    Attributes
    ----------
    is_higher_first : bool
        Whether rows with high values rank first.
    fill : float
        The median of the train rows, which stands for missing values.
    """

    feature: str
    is_higher_first: bool
    fill: float

    def score_rows(self, task: Task, rows: pd.DataFrame) -> np.ndarray:
        """Scores of the rows: the values, negative where low values rank first."""
        values = task.contract.select_features(rows)[self.feature].astype(float).fillna(self.fill)
        return (values if self.is_higher_first else -values).to_numpy()


def find_best_ranking(
    task: Task, features: pd.DataFrame, target: pd.Series
) -> FeatureRanking | None:
    """Find the numeric feature that ranks the train rows best; None if none beats chance."""
    best_score = task.univariate_chance_level
    best = None
    for name in task.contract.numeric_features:
        values = features[name].astype(float)
        fill = float(values.median())
        if np.isnan(fill):
            continue
        score, direction = task.univariate_score(values.fillna(fill), False, target)
        if score > best_score:
            best_score = score
            best = FeatureRanking(name, direction == "higher", fill)
    return best
