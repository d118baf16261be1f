"""Search spaces of the main families: starting points, and ranges of random trials.

Other families use PyCaret's. Ranges are narrow, since most values outside of them cost time without
a gain. The number of iterations of a booster is not searched: the ensemble search finds it by early
stopping, unless rows are resampled or a starting point sets it; ``tune`` keeps the default.
"""

from __future__ import annotations

from typing import Any

LIGHTGBM_SAMPLING = {"subsample": 0.8, "subsample_freq": 1, "colsample_bytree": 0.8}
FOREST_PARAMETERS = {"n_estimators": 120, "max_features": 0.5}

STARTING_POINTS: dict[str, list[dict[str, Any]]] = {  # other families start from their defaults
    "lightgbm": [
        {"learning_rate": 0.05, "num_leaves": 12, "min_child_samples": 10, "subsample": 0.8,
         "subsample_freq": 1, "colsample_bytree": 0.6, "reg_lambda": 3.0},
        {"learning_rate": 0.05, "num_leaves": 31, **LIGHTGBM_SAMPLING},
        {"learning_rate": 0.05, "num_leaves": 31, "extra_trees": True, "colsample_bytree": 0.8},
    ],
    "catboost": [
        {"learning_rate": 0.06, "depth": 4, "l2_leaf_reg": 6.0},
        {"learning_rate": 0.06, "depth": 6},
        {"iterations": 1000},  # CatBoost's defaults: a learning rate by the number of rows
    ],
    "hgb": [
        {"learning_rate": 0.06, "l2_regularization": 1.0},
        {"learning_rate": 0.06, "max_leaf_nodes": 12, "l2_regularization": 10.0},
    ],
    "xgboost": [
        {"learning_rate": 0.06, "max_depth": 4, "subsample": 0.8, "colsample_bytree": 0.8,
         "reg_lambda": 3.0},
        {"learning_rate": 0.06, "max_depth": 6, "min_child_weight": 5, "subsample": 0.8,
         "colsample_bytree": 0.6},
    ],
    # Leaves of one row are best where classes are well separated, large ones for a noisy target.
    "et": [{**FOREST_PARAMETERS, "min_samples_leaf": rows} for rows in (3, 1, 12)],
    "rf": [{**FOREST_PARAMETERS, "min_samples_leaf": rows} for rows in (3, 12)],
    "lr": [{}],
    "rbfsvm": [{}, {"C": 8.0}],
}  # fmt: skip
RANGES: dict[str, dict[str, Any]] = {  # (low, high), log-uniform where wide; [values]
    "lightgbm": {
        "learning_rate": (0.02, 0.12), "num_leaves": (6, 100), "min_child_samples": (5, 80),
        "subsample": (0.6, 1.0), "subsample_freq": [1], "colsample_bytree": (0.4, 1.0),
        "reg_lambda": (0.1, 30.0),
    },
    "catboost": {
        "learning_rate": (0.03, 0.12), "depth": (4, 8), "l2_leaf_reg": (1.0, 20.0),
    },
    "hgb": {
        "learning_rate": (0.03, 0.12), "max_leaf_nodes": (6, 63), "min_samples_leaf": (5, 60),
        "l2_regularization": (0.1, 30.0),
    },
    "xgboost": {
        "learning_rate": (0.03, 0.12), "max_depth": (3, 8), "min_child_weight": (1, 20),
        "subsample": (0.6, 1.0), "colsample_bytree": (0.4, 1.0), "reg_lambda": (0.1, 30.0),
    },
    "et": {"min_samples_leaf": (1, 30), "max_features": (0.2, 1.0), "n_estimators": [120]},
    "rf": {"min_samples_leaf": (1, 30), "max_features": (0.2, 1.0), "n_estimators": [120]},
    "mlp": {"alpha": (0.03, 10.0), "learning_rate_init": (0.001, 0.01)},
    "rbfsvm": {"C": (0.2, 30.0)},
}  # fmt: skip
