"""LightGBM with categories: their columns are a parameter of the estimator, not of its ``fit``."""

from __future__ import annotations

import warnings
from typing import Any

from lightgbm import LGBMClassifier, LGBMRegressor


class CategoricalFeatureMixin:
    """Takes ``categorical_feature`` as a parameter, which LightGBM does with a false warning."""

    def fit(self, X: Any, y: Any, **options: Any) -> Any:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "categorical_feature keyword", UserWarning)
            return super().fit(X, y, **options)  # type: ignore[misc]


class CategoricalLGBMClassifier(CategoricalFeatureMixin, LGBMClassifier):  # type: ignore[misc]
    """A classifier of LightGBM's with columns of category codes."""


class CategoricalLGBMRegressor(CategoricalFeatureMixin, LGBMRegressor):  # type: ignore[misc]
    """A regressor of LightGBM's with columns of category codes."""
