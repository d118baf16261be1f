"""CatBoost on category codes: it accepts categories as integers or text, never as floats."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from catboost import CatBoostClassifier, CatBoostRegressor

MISSING_CODE = -1


class CategoryCodesMixin:
    """Takes the columns ``cat_features`` as codes among floats, with NaN for missing values."""

    def __sklearn_clone__(self) -> Any:
        """A copy with the same parameters; CatBoost copies lists, which ``clone`` refuses."""
        return type(self)(**self.get_params())  # type: ignore[attr-defined]

    def fit(self, X: Any, y: Any = None, **options: Any) -> Any:
        if options.get("eval_set") is not None:
            rows, target = options["eval_set"]
            options["eval_set"] = (self.to_whole_codes(rows), target)
        return super().fit(self.to_whole_codes(X), y, **options)  # type: ignore[misc]

    def predict(self, X: Any, *args: Any, **options: Any) -> np.ndarray:
        parent: Any = super()
        prediction = parent.predict(self.to_whole_codes(X), *args, **options)
        return np.asarray(prediction).ravel()  # CatBoost returns a column for several classes

    def predict_proba(self, X: Any, *args: Any, **options: Any) -> np.ndarray:
        parent: Any = super()
        return parent.predict_proba(self.to_whole_codes(X), *args, **options)

    def to_whole_codes(self, X: Any) -> pd.DataFrame:
        """Features as CatBoost takes them: whole codes, -1 for a missing category."""
        columns = self.get_params().get("cat_features") or []  # type: ignore[attr-defined]
        frame = pd.DataFrame(np.asarray(X, dtype="float64"))
        for column in columns:
            frame[column] = frame[column].fillna(MISSING_CODE).astype("int64")
        return frame


class CategoricalCatBoostClassifier(CategoryCodesMixin, CatBoostClassifier):
    """A classifier of CatBoost's with columns of category codes."""

    def decision_function(self, X: Any) -> np.ndarray:
        """Log-odds, one column for each of several classes."""
        rows = self.to_whole_codes(X)
        return np.asarray(CatBoostClassifier.predict(self, rows, "RawFormulaVal"))


class CategoricalCatBoostRegressor(CategoryCodesMixin, CatBoostRegressor):
    """A regressor of CatBoost's with columns of category codes."""
