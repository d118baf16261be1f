"""Regression on the logarithm of a skewed target."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, RegressorMixin, clone

MIN_SKEWNESS = 1.0  # minimum skewness of a target whose logarithm is tried


class LogTargetRegressor(RegressorMixin, BaseEstimator):
    """A regressor of log(1 + y), whose predictions have the mean of y on the train rows.

    Without that factor they would be too low: the mean of a logarithm is not the logarithm of the
    mean (Duan 1983, "Smearing estimate").
    """

    def __init__(self, regressor: Any) -> None:
        self.regressor = regressor

    def fit(self, X: Any, y: Any) -> LogTargetRegressor:
        self.regressor_ = clone(self.regressor).fit(X, np.log1p(y))
        self.factor_ = float(np.mean(y) / np.mean(np.expm1(self.regressor_.predict(X))))
        return self

    def predict(self, X: Any) -> np.ndarray:
        return self.factor_ * np.expm1(self.regressor_.predict(X))


def suits_log_target(target: pd.Series) -> bool:
    """Whether a target is without negative values and skewed to the right."""
    return bool(target.min() >= 0 and target.skew() > MIN_SKEWNESS)
