"""Imports of Python sources, and the modules of this package that they need.

Imports within functions are included, because they run later; those under TYPE_CHECKING are not.
"""

from __future__ import annotations

import ast
import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from functools import cache
from importlib.util import cache_from_source
from pathlib import Path
from typing import Any

from modelbook.atomic import write_text

PACKAGE = Path(__file__).resolve().parent
MODULE_NAME = re.compile(rf"{PACKAGE.name}(?:\.\w+)*")
QUOTED_NAME = re.compile(rf"""(["'])({MODULE_NAME.pattern})\1""")
BLOCKS = (ast.stmt, ast.ExceptHandler, ast.match_case)  # statements that can contain an import


def has_only_imports(source: str) -> bool:
    """Whether code has no other statements; False if it is not valid Python, such as a magic."""
    try:
        statements = ast.parse(source).body
    except SyntaxError:
        return False
    return all(isinstance(statement, ast.Import | ast.ImportFrom) for statement in statements)


def find_imports(source: str) -> frozenset[str]:
    """Find the names that a source imports, and names of this package in quotes.

    Empty if the source is not valid Python.
    """
    try:
        tree = ast.parse(source)
    except SyntaxError:  # reported when the source runs
        return frozenset()
    module_strings = {name for _, name in QUOTED_NAME.findall(source)}  # as in `python -m`
    return _find_imported_names(_list_runtime_statements(tree)) | module_strings


def follow_imports(names: Iterable[str]) -> tuple[set[Path], set[str]]:
    """Return the package's modules behind imported names, and all names that they import."""
    modules: set[Path] = set()
    imported_names: set[str] = set()
    paths = _list_package()
    cached_imports = _load_cache(_cache_path())
    n_changed = 0
    pending_paths = _list_package_files(names, paths)
    while pending_paths:
        path = pending_paths.pop()
        modules.add(path)
        mtime_ns, imports = cached_imports.get(str(path), (None, []))
        if mtime_ns != path.stat().st_mtime_ns:
            mtime_ns = path.stat().st_mtime_ns
            imports = sorted(find_imports(path.read_text(encoding="utf-8")))
            cached_imports[str(path)] = [mtime_ns, imports]
            n_changed += 1
        imported_names |= set(imports)
        pending_paths |= _list_package_files(imports, paths) - modules
    if n_changed and not sys.dont_write_bytecode:
        with suppress(OSError):  # read-only: parsed again by the next process
            write_text(_cache_path(), json.dumps(cached_imports))
    return modules, imported_names


def _cache_path() -> Path:
    """Return where the imports of the modules are cached: next to their bytecode."""
    return Path(cache_from_source(str(PACKAGE / "imports.json"))).with_name("imports.json")


@cache
def _load_cache(path: Path) -> dict[str, list[Any]]:
    """Read the cached time of change and imports by module; changes apply to this process."""
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return {}


def _find_imported_names(statements: Iterable[ast.AST]) -> frozenset[str]:
    names: set[str] = set()
    for node in statements:
        if isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return frozenset(names)


def _list_runtime_statements(tree: ast.AST) -> Iterator[ast.AST]:
    for node in ast.iter_child_nodes(tree):
        is_type_checking = isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        if isinstance(node, BLOCKS) and not is_type_checking:
            yield node
            yield from _list_runtime_statements(node)


def _list_package() -> dict[str, Path]:
    """Return the path of each module of the package; packages have that of their ``__init__``."""
    paths = {}
    for path in PACKAGE.rglob("*.py"):
        module_path = path.parent if path.name == "__init__.py" else path.with_suffix("")
        paths[".".join((PACKAGE.name, *module_path.relative_to(PACKAGE).parts))] = path
    return paths


def _list_package_files(names: Iterable[str], paths: Mapping[str, Path]) -> set[Path]:
    """Return the files of modules, and those of the packages that they are in."""
    dotted_names = [name.split(".") for name in names if name.partition(".")[0] == PACKAGE.name]
    parents = {".".join(name[:depth]) for name in dotted_names for depth in range(1, len(name))}
    packages = {paths[name] for name in parents if name in paths}
    modules = {paths[name] for name in map(".".join, dotted_names) if name in paths}
    return modules | {path for path in packages if path.name == "__init__.py"}
