"""Extract an encoder from fitted preprocessing by probing it with values of each column.

Only scalers' constants, and categories that the contract does not list, are read from the steps, so
any preprocessing that treats columns separately can be compiled, custom steps included.
Preprocessing that combines columns, or is not linear in a number, is rejected.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from modelbook.errors import CompileError
from modelbook.scoring.encoder import CategoryEncoding, Encoder, NumericEncoding
from modelbook.scoring.parity_cases import UNSEEN_CATEGORY

if TYPE_CHECKING:
    from modelbook.contract import Contract

PROBE_FRACTIONS = (0.0, 0.013, 0.11, 0.25, 0.437, 0.5, 0.71, 0.93, 1.0)  # within a range
LINEARITY_TOLERANCE = 1e-12  # largest relative error of a linear fit

FeatureRanges = dict[str, tuple[float, float]]


def extract_encoder(preprocessing: Any, contract: Contract, ranges: FeatureRanges) -> Encoder:
    """Extract an encoder that is equivalent to ``preprocessing``.

    Raises
    ------
    CompileError
        When an output column depends on several inputs, or is not linear in a number.
    """
    categories = find_categories(preprocessing, contract)
    base_row = {
        name: categories[name][0]
        if name in categories
        else _interpolate(contract, name, ranges, 0.5)
        for name in contract.model_features
    }
    probes = {name: _probe_values(contract, name, ranges) for name in contract.numeric_features} | {
        name: [np.nan, UNSEEN_CATEGORY, *texts] for name, texts in categories.items()
    }
    base_output, outputs = _transform_probes(preprocessing, contract, base_row, probes)
    feature_by_output = _map_outputs_to_features(base_output, outputs)
    constants = _get_scaler_constants(preprocessing, len(base_output))
    numeric_encodings: list[NumericEncoding] = []
    category_encodings: list[CategoryEncoding] = []
    for name in contract.feature_names:
        indices = [index for index, feature in feature_by_output.items() if feature == name]
        if name not in categories:
            numeric_encodings += [
                _fit_numeric_encoding(name, index, probes[name], outputs[name][:, index], constants)
                for index in indices
            ]
        elif indices:
            category_encodings.append(
                _build_category_encoding(name, indices, categories[name], outputs[name])
            )
    return Encoder(
        contract.feature_names, base_output.tolist(), numeric_encodings, category_encodings
    )


def _transform_probes(
    preprocessing: Any, contract: Contract, base_row: dict[str, Any], probes: dict[str, list[Any]]
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Transform the base row, and the base row with each value of each feature."""
    rows = [base_row] + [
        {**base_row, name: value} for name, values in probes.items() for value in values
    ]
    base_output, *probe_outputs = transform_rows(preprocessing, contract, pd.DataFrame(rows))
    remaining = iter(probe_outputs)
    return base_output, {
        name: np.array(list(islice(remaining, len(values)))) for name, values in probes.items()
    }


def transform_rows(preprocessing: Any, contract: Contract, rows: pd.DataFrame) -> np.ndarray:
    """Apply the preprocessing to rows; return float64 of shape (rows, columns)."""
    features = contract.select_features(rows)
    encoded = features if preprocessing is None else preprocessing.transform(features)
    return np.asarray(
        encoded.toarray() if hasattr(encoded, "toarray") else encoded, dtype="float64"
    )


def find_categories(preprocessing: Any, contract: Contract) -> dict[str, list[str]]:
    """Return each categorical feature's categories, with the fitted ones if it allows unseen ones.

    Raises
    ------
    CompileError
        When a feature allows unseen categories, and its fitted ones cannot be found.
    """
    categories_by_name = dict(_get_fitted_categories(preprocessing))
    categories = {}
    for name in contract.categorical_features:
        column = contract.columns[name]
        fitted_categories = categories_by_name.get(name, []) if column.allow_unseen else []
        categories[name] = list(dict.fromkeys([*(column.categories or []), *fitted_categories]))
        if column.allow_unseen and name not in categories_by_name:
            raise CompileError(
                f"{name} allows unseen categories, and its fitted categories cannot be found"
            )
    return categories


def _get_fitted_categories(preprocessing: Any) -> Iterator[tuple[str, list[str]]]:
    """Yield columns and fitted categories, of CategoryCodes and of PyCaret's encoders."""
    for _, step in getattr(preprocessing, "steps", []):
        encoder = getattr(step, "transformer", step)
        for column, codes in getattr(encoder, "codes_", {}).items():
            yield column, list(codes)
        ordinal_encoder = getattr(encoder, "ordinal_encoder", encoder)
        for mapping in getattr(ordinal_encoder, "category_mapping", None) or []:
            values = getattr(mapping["mapping"], "index", ())
            yield mapping["col"], [value for value in values if isinstance(value, str)]


def _interpolate(contract: Contract, name: str, ranges: FeatureRanges, fraction: float) -> float:
    low, high = ranges[name]
    value = low + fraction * (high - low)
    return value if contract.model_features[name].type == "number" else float(round(value))


def _probe_values(contract: Contract, name: str, ranges: FeatureRanges) -> list[Any]:
    """Return probe values of a number: NaN first, then values across its range."""
    values = (_interpolate(contract, name, ranges, share) for share in PROBE_FRACTIONS)
    return [np.nan, *dict.fromkeys(values)]


def _map_outputs_to_features(
    base_output: np.ndarray, outputs_by_feature: dict[str, np.ndarray]
) -> dict[int, str]:
    """Map output columns to the feature that they depend on; constant columns are left out."""
    feature_by_output: dict[int, str] = {}
    for name, outputs in outputs_by_feature.items():
        # Columns that are NaN in both rows are unchanged.
        has_changed = ~((outputs == base_output) | (np.isnan(outputs) & np.isnan(base_output))).all(
            axis=0
        )
        for output_index in np.flatnonzero(has_changed).tolist():
            if output_index in feature_by_output:
                raise CompileError(
                    f"column {output_index} after preprocessing depends on "
                    f"{feature_by_output[output_index]} and on {name}"
                )
            feature_by_output[output_index] = name
    return feature_by_output


def _build_category_encoding(
    name: str, output_indices: list[int], categories: list[str], outputs: np.ndarray
) -> CategoryEncoding:
    missing_outputs, unseen_outputs, *category_outputs = outputs[:, output_indices].tolist()
    return CategoryEncoding(
        name,
        output_indices,
        dict(zip(categories, category_outputs)),
        missing_outputs,
        unseen_outputs,
    )


def _fit_numeric_encoding(
    name: str,
    output_index: int,
    values: list[float],
    outputs: np.ndarray,
    scaler_constants: list[tuple],
) -> NumericEncoding:
    missing_output = float(outputs[0])
    x = np.array(values[1:])
    y = outputs[1:]
    slope = float((y[-1] - y[0]) / (x[-1] - x[0])) if x[-1] != x[0] else 0.0
    candidates = [
        (float(centers_or_slopes[output_index]), float(scales_or_offsets[output_index]), is_scaled)
        for centers_or_slopes, scales_or_offsets, is_scaled in scaler_constants
    ]
    candidates += [(0.0, 1.0, True), (slope, float(y[0] - slope * x[0]), False)]
    encodings = [
        NumericEncoding(
            name, output_index, center_or_slope, scale_or_offset, missing_output, is_scaled
        )
        for center_or_slope, scale_or_offset, is_scaled in candidates
    ]
    output_size = max(1.0, float(np.abs(y).max()))
    errors = [float(np.abs(encoding.encode(x) - y).max()) / output_size for encoding in encodings]
    best = int(np.argmin(errors))
    if not errors[best] <= LINEARITY_TOLERANCE:
        raise CompileError(f"preprocessing of {name} is not linear")
    return encodings[best]


def _get_scaler_constants(
    preprocessing: Any, width: int
) -> list[tuple[np.ndarray, np.ndarray, bool]]:
    """Return the last scaler's constants, to reproduce its arithmetic exactly."""
    for _, step in reversed(list(getattr(preprocessing, "steps", []))):
        scaler = getattr(step, "transformer", step)  # PyCaret wraps each step
        means, centers = getattr(scaler, "mean_", None), getattr(scaler, "center_", None)
        center = centers if means is None else means
        scale, offset = getattr(scaler, "scale_", None), getattr(scaler, "min_", None)
        if scale is not None and np.shape(scale) == (width,):
            if offset is not None:
                return [(scale, offset, False)]
            return [(np.zeros(width) if center is None else center, scale, True)]
    return []
