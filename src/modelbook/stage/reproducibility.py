"""Libraries and processor of a run, and short digests of them and of its folds."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy

LIBRARIES = (  # names of distributions, except pycaret: see find_pycaret_distribution
    "modelbook", "pycaret", "scikit-learn", "lightgbm", "numpy", "scipy", "pandas", "mlflow",
    "evidently",
)  # fmt: skip
PYCARET_DISTRIBUTIONS = ("pycaret-core", "pycaret")  # either installs the module pycaret
DIGEST_LENGTH = 8  # characters of a digest


def get_library_versions() -> dict[str, str]:
    """Return the versions of the libraries that affect results, by name."""
    return {
        name: version(find_pycaret_distribution() if name == "pycaret" else name)
        for name in LIBRARIES
    }


def find_pycaret_distribution() -> str:
    """Return the name of the distribution that installs the module ``pycaret``."""
    for name in PYCARET_DISTRIBUTIONS:
        try:
            version(name)
        except PackageNotFoundError:
            continue
        return name
    raise PackageNotFoundError(PYCARET_DISTRIBUTIONS[0])


def get_processor_features() -> list[str]:
    """Return the vector instructions that NumPy uses, and the kernels that its BLAS chose."""
    from threadpoolctl import threadpool_info

    return sorted(_read_vector_instructions()) + sorted(
        {pool["architecture"] for pool in threadpool_info() if pool.get("architecture")}
    )


def compute_digests(
    versions: Mapping[str, str], processor: list[str], folds_digest: str
) -> dict[str, str]:
    """Compute short digests of folds, libraries and processor, to compare runs.

    Parameters
    ----------
    folds_digest : str
        Digest of the fold assignment; empty if the stage has no folds.
    """
    return {
        "folds": folds_digest[:DIGEST_LENGTH],
        "libraries": _compute_digest(dict(versions)),
        "processor": _compute_digest(processor),
    }


def _compute_digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:DIGEST_LENGTH]


def _read_vector_instructions() -> list[str]:
    """Read NumPy's private list; ``NPY_DISABLE_CPU_FEATURES`` disables some instructions."""
    package = "numpy._core" if hasattr(numpy, "_core") else "numpy.core"  # NumPy 2, NumPy 1
    features = import_module(f"{package}._multiarray_umath").__cpu_features__
    return [name for name, enabled in features.items() if enabled]
