"""The signature of a version: what it takes, and what it answers with."""

from __future__ import annotations

from typing import Any

from mlflow.models import ModelSignature
from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema, TensorSpec
from mlflow.types.schema import AnyType

from modelbook import tasks
from modelbook.contract import Column, Contract


def signature(contract: Contract, threshold: float | None) -> ModelSignature:
    """The columns that a version takes and answers with, and the threshold that a call may change."""
    inputs: list[ColSpec | TensorSpec] = [
        ColSpec(_asked(contract.columns[name]), name, required=not contract.columns[name].nullable)
        for name in contract.inputs_
    ]
    outputs: list[ColSpec | TensorSpec] = [ColSpec(kind, name) for name, kind in tasks.of(contract).outputs().items()]
    asked: Any = None if threshold is None else ParamSchema([ParamSpec("threshold", "double", threshold)])
    return ModelSignature(Schema(inputs), Schema(outputs), asked)


def _asked(column: Column) -> Any:
    """What MLflow lets through: a value that the contract parses may come as text or parsed."""
    if column.parse or column.type == "date":
        return AnyType()
    # Whole numbers are declared double as well: MLflow refuses an integer column that holds a gap.
    return "string" if column.type == "category" else "double"
