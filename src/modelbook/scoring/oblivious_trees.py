"""CatBoost's oblivious trees as arrays: predicted without CatBoost, whose package is large.

All nodes of a level share a split, so that a leaf's number has a bit for each split. Numbers go to
the right above a border, as float32; category codes where they equal the split's code.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from modelbook.errors import CompileError
from modelbook.scoring.encoder import EncodedRows
from modelbook.scoring.predictors import Predictor, apply_link

MISSING_CODE = -1  # of a category
MAX_CODES = 256  # of a category, whose hashes are looked up
CHUNK_ROWS = 512  # rows per chunk: some megabytes of comparisons


class ObliviousTreePredictor(Predictor):
    """Oblivious trees; ``arrays`` as ``extract_oblivious_trees`` returns them."""

    name = "oblivious trees"

    def __init__(self, arrays: dict[str, np.ndarray], link: str) -> None:
        self._columns, self._borders = arrays["columns"], arrays["borders"]
        self._is_code, self._leaf_values = arrays["is_code"], arrays["leaf_values"]
        self._code_columns, self._high_columns = arrays["code_columns"], arrays["high_columns"]
        self._bias, self._link = arrays["bias"], link
        self._powers = 1 << np.arange(self._columns.shape[1])
        self._trees = np.arange(len(self._columns))

    def predict_one(self, values: Sequence[float]) -> Sequence[float]:
        return self._predict_rows(np.array([values]))[0].tolist()

    def predict_many(self, rows: EncodedRows) -> np.ndarray:
        dense = rows.dense
        starts = range(0, len(dense), CHUNK_ROWS)
        chunks = [self._predict_rows(dense[start : start + CHUNK_ROWS]) for start in starts]
        return np.vstack(chunks) if chunks else self._predict_rows(dense)

    def _predict_rows(self, rows: np.ndarray) -> np.ndarray:
        with np.errstate(over="ignore"):
            numbers = rows.astype("float32")
        for columns, missing in ((self._code_columns, MISSING_CODE), (self._high_columns, np.inf)):
            part = numbers[:, columns]
            numbers[:, columns] = np.where(np.isnan(part), missing, part)
        compared = numbers[:, self._columns]
        goes_right = np.where(self._is_code, compared == self._borders, compared > self._borders)
        leaves = goes_right @ self._powers
        sums = self._leaf_values[self._trees, leaves].sum(axis=1) + self._bias
        return apply_link(sums, self._link)

    @classmethod
    def load(cls, folder: Path, stem: str, parameters: dict[str, Any]) -> ObliviousTreePredictor:
        with np.load(folder / f"{stem}.npz") as archive:
            return cls(dict(archive), parameters["link"])


def extract_oblivious_trees(estimator: Any, width: int) -> dict[str, np.ndarray]:
    """Extract the trees of a fitted CatBoost estimator as arrays.

    Raises
    ------
    CompileError
        When a tree has a split that is neither a border of a number nor a category.
    """
    model = _export_model(estimator, width)
    if "oblivious_trees" not in model:
        raise CompileError("CatBoost's trees are not oblivious")
    features = model["features_info"]
    number_columns = {
        entry["feature_index"]: entry["flat_feature_index"] for entry in features["float_features"]
    }
    code_columns = {
        entry["feature_index"]: entry["flat_feature_index"]
        for entry in features.get("categorical_features", [])
    }
    codes = {entry["hash"]: int(entry["value"]) for entry in features.get("cat_features_hash", [])}
    trees = model["oblivious_trees"]
    depth = max(1, *(len(tree["splits"] or []) for tree in trees))
    scale, bias = model["scale_and_bias"]
    shape = (len(trees), depth)
    columns, borders, is_code = np.zeros(shape, int), np.full(shape, np.inf), np.zeros(shape, bool)
    leaf_values = np.zeros((len(trees), 1 << depth, len(bias)))
    for number, tree in enumerate(trees):
        for level, split in enumerate(tree["splits"] or []):
            if split["split_type"] == "FloatFeature":
                columns[number, level] = number_columns[split["float_feature_index"]]
                borders[number, level] = split["border"]
            elif split["split_type"] == "OneHotFeature":
                columns[number, level] = code_columns[split["cat_feature_index"]]
                borders[number, level] = codes[split["value"] % (1 << 32)]
                is_code[number, level] = True
            else:
                raise CompileError(f"a CatBoost split is of the type {split['split_type']}")
        values = np.reshape(tree["leaf_values"], (-1, len(bias)))
        leaf_values[number, : len(values)] = scale * values
    high_columns = [
        entry["flat_feature_index"]
        for entry in features["float_features"]
        if entry["nan_value_treatment"] == "AsTrue"
    ]
    return {
        "columns": columns, "borders": borders.astype("float32"), "is_code": is_code,
        "leaf_values": leaf_values, "bias": np.array(bias, dtype="float64"),
        "code_columns": np.array(sorted(code_columns.values()), dtype=int),
        "high_columns": np.array(high_columns, dtype=int),
    }  # fmt: skip


def _export_model(estimator: Any, width: int) -> dict[str, Any]:
    """CatBoost's model as JSON, with the hashes of all codes of categories."""
    from catboost import Pool

    categories = estimator.get_params().get("cat_features") or []
    codes = np.arange(MISSING_CODE, MAX_CODES)
    rows = np.zeros((len(codes), width), dtype=object)
    rows[:, categories] = codes[:, None]
    with TemporaryDirectory() as folder:
        path = Path(folder) / "model.json"
        estimator.save_model(str(path), format="json", pool=Pool(rows, cat_features=categories))
        return json.loads(path.read_text(encoding="utf-8"))
