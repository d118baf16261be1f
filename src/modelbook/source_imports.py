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

PACKAGE_FOLDER = Path(__file__).resolve().parent
MODULE_PATTERN = re.compile(rf"{PACKAGE_FOLDER.name}(?:\.\w+)*")
QUOTED_MODULE_PATTERN = re.compile(rf"""(["'])({MODULE_PATTERN.pattern})\1""")
# Statements, and the parts of them that contain statements.
STATEMENT_NODES = (ast.stmt, ast.ExceptHandler, ast.match_case)


def has_only_imports(source: str) -> bool:
    """Whether code has no other statements; False if it is not valid Python, such as a magic."""
    try:
        statements = ast.parse(source).body
    except SyntaxError:
        return False
    return all(isinstance(statement, ast.Import | ast.ImportFrom) for statement in statements)


def find_imports(source: str) -> frozenset[str]:
    """Find the dotted names of modules and members that a source imports, and quoted module names.

    Quoted are modules of this package, as in ``python -m``.

    Empty if the source is not valid Python.
    """
    try:
        tree = ast.parse(source)
    except SyntaxError:  # reported when the source runs
        return frozenset()
    module_strings = {name for _, name in QUOTED_MODULE_PATTERN.findall(source)}
    return _find_imported_names(_list_runtime_statements(tree)) | module_strings


def follow_imports(names: Iterable[str]) -> tuple[set[Path], set[str]]:
    """Return the files of this package that the names lead to, and all names that those import."""
    files: set[Path] = set()
    imported_names: set[str] = set()
    module_files = _map_module_files()
    cached_imports = _load_cache(_get_cache_path())
    has_changed = False
    pending_files = _find_module_files(names, module_files)
    while pending_files:
        path = pending_files.pop()
        files.add(path)
        mtime_ns = path.stat().st_mtime_ns
        cached_mtime_ns, imports = cached_imports.get(str(path), (None, []))
        if cached_mtime_ns != mtime_ns:
            imports = sorted(find_imports(path.read_text(encoding="utf-8")))
            cached_imports[str(path)] = [mtime_ns, imports]
            has_changed = True
        imported_names |= set(imports)
        pending_files |= _find_module_files(imports, module_files) - files
    if has_changed and not sys.dont_write_bytecode:
        with suppress(OSError):  # read-only: parsed again by the next process
            write_text(_get_cache_path(), json.dumps(cached_imports))
    return files, imported_names


def _get_cache_path() -> Path:
    """Return where the imports of the modules are cached: next to their bytecode."""
    bytecode = cache_from_source(str(PACKAGE_FOLDER / "__init__.py"))
    return Path(bytecode).with_name("imports.json")


@cache
def _load_cache(path: Path) -> dict[str, list[Any]]:
    """Read the cached time of change and imports by module; changes apply to this process.

    A cache that is older than this module may hold what its former code found.
    """
    try:
        if path.stat().st_mtime_ns < Path(__file__).stat().st_mtime_ns:
            return {}
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
        if isinstance(node, STATEMENT_NODES) and not is_type_checking:
            yield node
            yield from _list_runtime_statements(node)


def _map_module_files() -> dict[str, Path]:
    """Map the modules of this package to their files; packages to their ``__init__.py``."""
    paths = {}
    for path in PACKAGE_FOLDER.rglob("*.py"):
        module_path = path.parent if path.name == "__init__.py" else path.with_suffix("")
        name = ".".join((PACKAGE_FOLDER.name, *module_path.relative_to(PACKAGE_FOLDER).parts))
        paths[name] = path
    return paths


def _find_module_files(names: Iterable[str], module_files: Mapping[str, Path]) -> set[Path]:
    """Find the files of modules, and those of the packages that contain them."""
    dotted_names = [
        name.split(".") for name in names if name.partition(".")[0] == PACKAGE_FOLDER.name
    ]
    parents = {".".join(name[:depth]) for name in dotted_names for depth in range(1, len(name))}
    packages = {module_files[name] for name in parents if name in module_files}
    modules = {module_files[name] for name in map(".".join, dotted_names) if name in module_files}
    return modules | {path for path in packages if path.name == "__init__.py"}
