"""The MLflow signature of a version: its inputs, outputs and parameters."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema, TensorSpec
from mlflow.types.schema import AnyType
from pandas.api.types import is_numeric_dtype

from modelbook import tasks
from modelbook.contract import Column, Contract
from modelbook.tasks.base import Task


def build_signature(contract: Contract, threshold: float | None) -> ModelSignature:
    """Build the signature: input and output columns, and the threshold as a parameter."""
    inputs: list[ColSpec | TensorSpec] = [
        ColSpec(
            _get_input_type(contract.columns[name]),
            name,
            required=not contract.columns[name].nullable,
        )
        for name in contract.input_names
    ]
    outputs: list[ColSpec | TensorSpec] = [
        ColSpec(column_type, name)
        for name, column_type in tasks.get_task(contract).prediction_columns().items()
    ]
    params_schema: Any = (
        None if threshold is None else ParamSchema([ParamSpec("threshold", "double", threshold)])
    )
    return ModelSignature(Schema(inputs), Schema(outputs), params_schema)


def build_pipeline_signature(features: pd.DataFrame, task: Task) -> ModelSignature:
    """Build the signature of a bare pipeline: from features to its response method's output."""
    inputs: list[ColSpec | TensorSpec] = [
        ColSpec("double" if is_numeric_dtype(features[name]) else "string", name, required=False)
        for name in features
    ]
    shape = (-1, len(task.classes)) if task.classes else (-1,)
    outputs: list[ColSpec | TensorSpec] = [TensorSpec(np.dtype("float64"), shape)]
    return ModelSignature(Schema(inputs), Schema(outputs))


def _get_input_type(column: Column) -> Any:
    """Return the MLflow type of a column; values that the contract parses may also be text."""
    if column.number_format or column.type == "date":
        return AnyType()
    # Integers are declared double: MLflow refuses missing values in integer columns.
    return "string" if column.type in ("category", "text") else "double"
