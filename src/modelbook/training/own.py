"""A book's own transformers: classes and objects in the project's folder ``features/``, found and loaded by name.

``ratios.PerRoom`` is what ``features/ratios.py`` calls ``PerRoom``. Looking it up reads the file; loading runs it.
"""

from __future__ import annotations

import ast
import importlib
import sys
import traceback
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

from modelbook.config import NONE, nearest
from modelbook.errors import TransformerError

FOLDER = "features"
PAGE = "docs/features.md shows a whole one"


def files(root: Path) -> list[Path]:
    """The Python files that hold a project's own transformers, and what these import of each other."""
    return sorted((root / FOLDER).rglob("*.py"))


def check(root: Path, names: Iterable[str]) -> None:
    """Look each name up without running anything.

    Raises
    ------
    TransformerError
        When a file or a name in it is absent, or the file is no Python.
    """
    for name in names:
        if name == NONE:
            continue
        module, _, wanted = name.partition(".")
        path = root / FOLDER / f"{module}.py"
        if not path.is_file():
            there = [one.stem for one in files(root)]
            raise TransformerError(
                f"transformers: {name} asks for {FOLDER}/{module}.py, which is not there",
                expected=nearest(module, there) if there else f"a file {FOLDER}/{module}.py in the project's folder",
                next=f"write it, or correct `transformers` in the book's env file; {PAGE}",
            )
        try:
            known = _assigned(ast.parse(path.read_text(encoding="utf-8")))
        except (SyntaxError, UnicodeDecodeError, ValueError) as error:
            line = f", line {error.lineno}" if isinstance(error, SyntaxError) else ""
            raise TransformerError(
                f"{FOLDER}/{module}.py{line} is no Python: {getattr(error, 'msg', error)}", next="mend the file"
            ) from None
        if wanted not in known:
            raise TransformerError(
                f"transformers: {FOLDER}/{module}.py has no {wanted}",
                expected=nearest(wanted, known) if known else "a class",
                next=f"correct `transformers` in the book's env file; {PAGE}",
            )


def load(root: Path, names: Iterable[str]) -> list[Any]:
    """Unfitted transformers by their names, from the files as they stand now.

    They are pickled by value from then on: a model that holds them loads where the project's folder is not, and two
    models that hold two states of one class are two.

    Raises
    ------
    TransformerError
        When one is absent, its file fails, or it is no transformer.
    """
    asked = [name for name in names if name != NONE]
    check(root, asked)
    if asked:
        _begin(root)
    return [_made(name) for name in asked]


def _made(name: str) -> Any:
    module, _, wanted = name.partition(".")
    try:
        found = getattr(importlib.import_module(f"{FOLDER}.{module}"), wanted)
        made = found() if isinstance(found, type) else found
    except Exception as error:  # a person's code may fail in any way
        raise TransformerError(
            f"transformers: {name} cannot be made: {told(error)}",
            expected="a class that needs no arguments, or an object", next=f"mend {FOLDER}/{module}.py; {PAGE}",
        ) from None  # fmt: skip
    if lacking := [method for method in ("fit", "transform", "get_params") if not hasattr(made, method)]:
        raise TransformerError(
            f"transformers: {name} is no transformer: it has no {' and no '.join(lacking)}",
            expected="fit(X, y=None) and transform(X), on top of sklearn.base.BaseEstimator",
            next=f"mend {FOLDER}/{module}.py; {PAGE}",
        )
    if hasattr(made, "set_output"):  # scikit-learn's own would give an array otherwise
        made.set_output(transform="pandas")
    return made


def packages(root: Path) -> list[str]:
    """Installed packages that the files import, as ``name==version``."""
    trees = [ast.walk(ast.parse(path.read_text(encoding="utf-8"))) for path in files(root)]
    nodes = [node for tree in trees for node in tree]
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module and not node.level]
    homes = metadata.packages_distributions()
    found = {home for name in names for home in homes.get(name.split(".")[0], []) if home != "modelbook"}
    return sorted(f"{home}=={metadata.version(home)}" for home in found)


def told(error: Exception) -> str:
    """An error of a person's own code, with the line of their file where it was raised."""
    lines = [at for at in traceback.extract_tb(error.__traceback__) if f"/{FOLDER}/" in at.filename]
    where = f" ({FOLDER}/{lines[-1].filename.split(f'/{FOLDER}/')[-1]}, line {lines[-1].lineno})" if lines else ""
    return f"{type(error).__name__}: {error}{where}"[:500]


def _begin(root: Path) -> None:
    """Forget files that were run before, and make the folder a package whose modules can import each other."""
    import cloudpickle

    for known in [name for name in sys.modules if name == FOLDER or name.startswith(f"{FOLDER}.")]:
        del sys.modules[known]
    package = ModuleType(FOLDER)
    package.__path__ = [str(root / FOLDER)]
    sys.modules[FOLDER] = package
    cloudpickle.register_pickle_by_value(package)
    importlib.invalidate_caches()


def _assigned(tree: ast.Module) -> list[str]:
    """Names that a file gives at its top level."""
    names: list[str] = []
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            names.append(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names += [(alias.asname or alias.name).split(".")[0] for alias in node.names]
        elif isinstance(node, ast.Assign):
            names += [target.id for target in node.targets if isinstance(target, ast.Name)]
    return names
