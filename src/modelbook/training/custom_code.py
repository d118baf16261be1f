"""Custom code of a book: estimators, metrics and transformers in the project's folder ``custom/``.

``ratios.PerRoom`` refers to the transformer ``PerRoom`` in ``custom/ratios.py``; estimators and
metrics are dicts in a file. Checking a name parses the file; loading it executes the file. What is
loaded is pickled by value: a model loads without the project's folder, and keeps the version of
the class that it was trained with.
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

from modelbook.config import NONE, suggest_name
from modelbook.errors import CustomCodeError

CUSTOM_FOLDER = "custom"
DOCS_HINT = "docs/custom.md has an example"


def list_files(root: Path) -> list[Path]:
    """List the Python files of the project's folder ``custom/``."""
    return sorted((root / CUSTOM_FOLDER).rglob("*.py"))


def check_transformers(root: Path, names: Iterable[str]) -> None:
    """Check that each name exists, without executing any code.

    Raises
    ------
    CustomCodeError
        If a file or a name in it is missing, or the file is not valid Python.
    """
    for name in names:
        if name == NONE:
            continue
        module_name, _, attribute_name = name.partition(".")
        path = root / CUSTOM_FOLDER / f"{module_name}.py"
        if not path.is_file():
            module_names = [file.stem for file in list_files(root)]
            raise CustomCodeError(
                f"transformers: {name} refers to {CUSTOM_FOLDER}/{module_name}.py, "
                "which does not exist",
                expected=suggest_name(module_name, module_names)
                if module_names
                else f"a file {CUSTOM_FOLDER}/{module_name}.py in the project's folder",
                next=f"write it, or correct `transformers` in the book's env file; {DOCS_HINT}",
            )
        defined_names = _read_top_level_names(root, path)
        if attribute_name not in defined_names:
            raise CustomCodeError(
                f"transformers: {CUSTOM_FOLDER}/{module_name}.py has no {attribute_name}",
                expected=suggest_name(attribute_name, defined_names)
                if defined_names
                else "a class",
                next=f"correct `transformers` in the book's env file; {DOCS_HINT}",
            )


def load_transformers(root: Path, names: Iterable[str]) -> list[Any]:
    """Load unfitted transformers by name, from the current files.

    Raises
    ------
    CustomCodeError
        If one is missing, its file fails, or it is not a transformer.
    """
    requested_names = [name for name in names if name != NONE]
    check_transformers(root, requested_names)
    if requested_names:
        _reset_package(root)
    return [_instantiate(name) for name in requested_names]


def check_file(root: Path, file: str, name: str) -> None:
    """Check that a file such as ``custom/estimators.py`` defines a name, without executing it.

    Raises
    ------
    CustomCodeError
        If the file is missing, is not valid Python, or does not define the name.
    """
    if file == NONE:
        return
    if not (root / file).is_file():
        raise CustomCodeError(
            f"{name}_file: {file} does not exist",
            expected=f"a Python file that defines the dict {name}",
            next=f"write it, or correct `{name}_file` in the book's env file; {DOCS_HINT}",
        )
    if name not in _read_top_level_names(root, root / file):
        raise CustomCodeError(
            f"{name}_file: {file} does not define {name}",
            expected=f"a dict: {name} = {{...}}",
            next=f"add it to {file}; {DOCS_HINT}",
        )


def load_dict(root: Path, file: str, name: str, *, required: bool = True) -> dict[str, Any]:
    """Load a dict by its name from a file such as ``custom/estimators.py``; empty for ``none``.

    Raises
    ------
    CustomCodeError
        If the file fails, or does not define the dict.
    """
    if file == NONE:
        return {}
    if required:
        check_file(root, file, name)
    _reset_package(root)
    try:
        module = importlib.import_module(file.removesuffix(".py").replace("/", "."))
    except (Exception, SystemExit) as error:  # user code may raise anything
        raise CustomCodeError(
            f"{file} cannot be imported: {describe_error(error)}", next=f"fix {file}; {DOCS_HINT}"
        ) from None
    value = getattr(module, name, {})
    if not isinstance(value, dict):
        raise CustomCodeError(
            f"{file}: {name} is a {type(value).__name__}",
            expected=f"a dict: {name} = {{...}}",
            next=f"correct {file}; {DOCS_HINT}",
        )
    return dict(value)


def _instantiate(name: str) -> Any:
    module_name, _, attribute_name = name.partition(".")
    try:
        attribute = getattr(
            importlib.import_module(f"{CUSTOM_FOLDER}.{module_name}"), attribute_name
        )
        transformer = attribute() if isinstance(attribute, type) else attribute
    except (Exception, SystemExit) as error:  # user code may raise anything
        raise CustomCodeError(
            f"transformers: {name} cannot be created: {describe_error(error)}",
            expected="a class without required arguments, or an object",
            next=f"fix {CUSTOM_FOLDER}/{module_name}.py; {DOCS_HINT}",
        ) from None
    if missing_methods := [
        method for method in ("fit", "transform", "get_params") if not hasattr(transformer, method)
    ]:
        raise CustomCodeError(
            f"transformers: {name} is not a transformer: it has no "
            f"{' and no '.join(missing_methods)}",
            expected="a subclass of sklearn.base.BaseEstimator with fit(X, y=None) and "
            "transform(X)",
            next=f"fix {CUSTOM_FOLDER}/{module_name}.py; {DOCS_HINT}",
        )
    if hasattr(transformer, "set_output"):  # scikit-learn's transformers return arrays by default
        transformer.set_output(transform="pandas")
    return transformer


def list_requirements(root: Path) -> list[str]:
    """List the installed packages that the files import, as ``name==version``.

    Raises
    ------
    CustomCodeError
        If a file is not valid Python.
    """
    nodes = [node for path in list_files(root) for node in ast.walk(_parse_file(root, path))]
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names += [
        node.module
        for node in nodes
        if isinstance(node, ast.ImportFrom) and node.module and not node.level
    ]
    packages_by_module = metadata.packages_distributions()
    packages = {
        package
        for name in names
        for package in packages_by_module.get(name.split(".")[0], [])
        if package != "modelbook"
    }
    return sorted(f"{package}=={metadata.version(package)}" for package in packages)


def describe_error(error: BaseException) -> str:
    """Describe an exception of user code, with the line of the file that raised it."""
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if f"/{CUSTOM_FOLDER}/" in frame.filename
    ]
    location = ""
    if frames:
        file = frames[-1].filename.split(f"/{CUSTOM_FOLDER}/")[-1]
        location = f" ({CUSTOM_FOLDER}/{file}, line {frames[-1].lineno})"
    return f"{type(error).__name__}: {error}{location}"[:500]


def _reset_package(root: Path) -> None:
    """Unload modules of the folder, and register it as a package."""
    import cloudpickle

    for module_name in [
        name
        for name in sys.modules
        if name == CUSTOM_FOLDER or name.startswith(f"{CUSTOM_FOLDER}.")
    ]:
        del sys.modules[module_name]
    package = ModuleType(CUSTOM_FOLDER)
    package.__path__ = [str(root / CUSTOM_FOLDER)]
    sys.modules[CUSTOM_FOLDER] = package
    cloudpickle.register_pickle_by_value(package)
    importlib.invalidate_caches()


def _parse_file(root: Path, path: Path) -> ast.Module:
    try:
        return ast.parse(path.read_text(encoding="utf-8"))
    except (SyntaxError, ValueError) as error:  # ValueError: not UTF-8, or a null byte
        line = f", line {error.lineno}" if isinstance(error, SyntaxError) else ""
        raise CustomCodeError(
            f"{path.relative_to(root).as_posix()}{line} is not valid Python: "
            f"{getattr(error, 'msg', error)}",
            next="fix the file",
        ) from None


def _read_top_level_names(root: Path, path: Path) -> list[str]:
    """Names that a file defines at its top level."""
    names: list[str] = []
    for node in _parse_file(root, path).body:
        if isinstance(node, ast.ClassDef):
            names.append(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names += [(alias.asname or alias.name).split(".")[0] for alias in node.names]
        elif isinstance(node, ast.Assign):
            names += [target.id for target in node.targets if isinstance(target, ast.Name)]
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names.append(node.target.id)
    return names
