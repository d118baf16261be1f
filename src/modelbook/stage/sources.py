"""What a stage depends on beside its notebook, parameters and upstream: modules, and for ingest the table and contract.

Ploomber re-runs a stage when its notebook, its parameters or its upstream change. It does not see these. So each
build notes their digests after a stage has run, and a stage whose digest has changed is outdated.
"""

from __future__ import annotations

import ast
import hashlib
import json
import re
from functools import cache
from pathlib import Path
from typing import Any

from modelbook import config, dataset
from modelbook.config import NONE
from modelbook.errors import ModelbookError
from modelbook.stage import origins, retrained
from modelbook.training import own

PACKAGE = Path(__file__).resolve().parents[1]
CONFIG = PACKAGE / "config" / "stages.py"
MODULE = re.compile(r"modelbook(\.\w+)*")


def digest(stage: str, root: Path, params: dict[str, Any]) -> str:
    """Digest of everything that a stage depends on and Ploomber does not see; ``params`` are those that hold."""
    notebook = root / "notebooks" / f"{config.stem(stage)}.ipynb"
    found = modules(notebook)
    parts = [f"{path.relative_to(PACKAGE)} {_hash(path)}" for path in sorted(found - {CONFIG})]
    parts += [_declared(stage)] if CONFIG in found else []
    parts += [f"environment {name} = {value}" for name, value in sorted(origins.named(stage).items())]
    parts += [
        f"retrain {name} = {value}" for name, value in retrained.among(root, params.get("book", ""), params).items()
    ]
    if stage == "ingest":
        parts += [_table(params, root), _hash(root / params["contract"])]
    if params.get("transformers") not in (None, NONE, [NONE]):
        parts += [f"{path.relative_to(root)} {_hash(path)}" for path in own.files(root)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def modules(notebook: Path) -> set[Path]:
    """The package's modules that a notebook reaches, directly or through others, read from their source."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    found: set[Path] = set()
    todo = _named("\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"))
    while todo:
        path = todo.pop()
        if path not in found:
            found.add(path)
            todo |= _reached(path, path.stat().st_mtime_ns)
    return found


@cache
def _reached(path: Path, _: int) -> frozenset[Path]:
    return frozenset(_named(path.read_text(encoding="utf-8")))


def _named(source: str) -> set[Path]:
    try:
        tree = ast.parse(source)
    except SyntaxError:  # the stage itself will say so
        return set()
    names: set[str] = set()
    for node in _at_run_time(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            names.add(node.value)  # a module that is run by its name, as in `python -m`
    return {path for name in names if MODULE.fullmatch(name) for path in _files(name)}


def _at_run_time(tree: ast.AST) -> list[ast.AST]:
    nodes: list[ast.AST] = []
    for node in ast.iter_child_nodes(tree):
        if not (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"):
            nodes += [node, *_at_run_time(node)]
    return nodes


def _files(name: str) -> set[Path]:
    parts = name.split(".")[1:]
    inits = {PACKAGE.joinpath(*parts[:depth], "__init__.py") for depth in range(len(parts) + 1)}
    return {path for path in {*inits, PACKAGE.joinpath(*parts).with_suffix(".py")} if path.is_file()}


def _declared(stage: str) -> str:
    """Source of config/stages.py without the other stages' models of parameters: theirs may change, or be added."""
    source = CONFIG.read_text(encoding="utf-8")
    others = {model.__name__ for name, model in config.STAGES.items() if name != stage}
    lines: list[str | None] = list(source.splitlines())
    for node in ast.parse(source).body:
        if isinstance(node, ast.ClassDef) and node.name in others:
            last = node.end_lineno or node.lineno
            lines[node.lineno - 1 : last] = [None] * (last - node.lineno + 1)
    return "\n".join(line for line in lines if line)


def _table(params: dict[str, Any], root: Path) -> str:
    try:
        return dataset.state(params["table"], root)
    except ModelbookError:
        return "absent"


def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "absent"
