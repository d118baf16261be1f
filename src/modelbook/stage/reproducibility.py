"""What the numbers of a run depend on besides code and data: folds, libraries and processor."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from importlib import import_module
from importlib.metadata import version
from typing import Any

import numpy

LIBRARIES = (
    "modelbook", "pycaret", "scikit-learn", "lightgbm", "numpy", "scipy", "pandas", "mlflow",
    "evidently",
)  # fmt: skip
SHOWN = 8  # characters of a digest


def library_versions() -> dict[str, str]:
    """The version of each library that numbers depend on, by its name on PyPI."""
    return {name: version(name) for name in LIBRARIES}


def processor_features() -> list[str]:
    """The vector instructions that NumPy uses here, and the kernels that its BLAS has chosen."""
    from threadpoolctl import threadpool_info

    return sorted(_vector_instructions()) + sorted(
        {pool["architecture"] for pool in threadpool_info() if pool.get("architecture")}
    )


def digests(versions: Mapping[str, str], processor: list[str], folds: str) -> dict[str, str]:
    """A short digest of each; equal digests mean that nothing of it moved between two runs.

    Parameters
    ----------
    folds : str
        Digest of the fold assignment; empty before there are folds.
    """
    return {
        "folds": folds[:SHOWN],
        "libraries": _digest(dict(versions)),
        "processor": _digest(processor),
    }


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:SHOWN]


def _vector_instructions() -> list[str]:
    """NumPy has no public list of them; ``NPY_DISABLE_CPU_FEATURES`` takes some away."""
    package = "numpy._core" if hasattr(numpy, "_core") else "numpy.core"  # NumPy 2, NumPy 1
    features = import_module(f"{package}._multiarray_umath").__cpu_features__
    return [name for name, enabled in features.items() if enabled]
