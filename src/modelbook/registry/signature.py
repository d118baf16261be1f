"""The signature of a version: what it takes, and what it answers with."""

from __future__ import annotations

from typing import Any

from mlflow.models import ModelSignature
from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema, TensorSpec

from modelbook import tasks
from modelbook.contract import Contract


def signature(contract: Contract, threshold: float | None) -> ModelSignature:
    """The columns that a version takes and answers with, and the threshold that a call may change."""
    # Whole numbers are declared double as well: MLflow refuses an integer column that holds a gap.
    inputs: list[ColSpec | TensorSpec] = [
        ColSpec(
            "string" if name in contract.categorical else "double", name, required=not contract.columns[name].nullable
        )
        for name in contract.features_
    ]
    outputs: list[ColSpec | TensorSpec] = [ColSpec(kind, name) for name, kind in tasks.of(contract).outputs().items()]
    asked: Any = None if threshold is None else ParamSchema([ParamSpec("threshold", "double", threshold)])
    return ModelSignature(Schema(inputs), Schema(outputs), asked)
