"""The code in a version: the modules of this package that loading and predicting need.

A version loads where the package is not installed. The whole package would be some 400 files, and
MLflow uploads each of them to a server by one request.
"""

from __future__ import annotations

import pickletools
import shutil
from collections.abc import Iterable
from pathlib import Path

from modelbook.source_imports import MODULE_PATTERN, PACKAGE_FOLDER, find_imports, follow_imports

MODEL_MODULE = "modelbook.registry.pyfunc_model"  # its import would set a model in MLflow


def find_model_file() -> Path:
    """Find the file that MLflow runs when it loads a version."""
    return PACKAGE_FOLDER.joinpath(*MODEL_MODULE.split(".")[1:]).with_suffix(".py")


def copy_modules(folder: Path, pickles: Iterable[Path]) -> Path:
    """Copy the package's modules that the model and its pickles need; return their folder."""
    names = find_imports(find_model_file().read_text(encoding="utf-8"))
    pickled = {name for path in pickles for name in _find_modules(path.read_bytes())}
    modules, _ = follow_imports(names | pickled)
    target = folder / PACKAGE_FOLDER.name
    for module in modules:
        copy = target / module.relative_to(PACKAGE_FOLDER)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(module, copy)
    return target


def _find_modules(pickled: bytes) -> set[str]:
    """Find the package's modules that a pickle names.

    They include those that functions, which cloudpickle stores by value, import when they are
    called.
    """
    texts = (argument for _, argument, _ in pickletools.genops(pickled))
    return {text for text in texts if isinstance(text, str) and MODULE_PATTERN.fullmatch(text)}
