"""Run the cells of a stage's notebook in this process, without starting a kernel."""

from __future__ import annotations

import ast
import contextlib
import io
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from modelbook import config
from modelbook.registry import golden_check, promotion, store
from modelbook.stage import build_token, project


@contextlib.contextmanager
def inside_build(root: Path) -> Iterator[None]:
    """Run this process as a stage of a build of the project."""
    with (
        build_token.issue_token(root) as token,
        mock.patch.dict(os.environ, {build_token.VARIABLE: token}),
    ):
        yield


def verify_in_process(patch: pytest.MonkeyPatch) -> None:
    """Verify golden rows in this process, because a clean process imports all modules again."""

    def verify(root: Path, model_uri: str) -> int:
        store.configure_mlflow(root)
        rows, difference = golden_check.compare_golden_rows(model_uri)
        assert difference == 0
        return rows

    patch.setattr(promotion, "verify_golden_rows", verify)


def run_cells(
    root: Path,
    stage: str,
    values: dict[str, Any],
    *,
    wired: bool = False,
    opened: Callable[[Any], None] | None = None,
) -> tuple[Any, dict[str, Any]]:
    """Execute a notebook's cells with parameters; ``wired`` passes products as the pipeline does.

    ``opened`` is called with the stage's context when it is opened. Returns the context, and the output of each cell.
    """
    cells = json.loads(
        (root / f"notebooks/{config.stage_stem(stage)}.ipynb").read_text(encoding="utf-8")
    )["cells"]
    namespace: dict[str, Any] = {}
    result = {}
    with inside_build(root) if wired else contextlib.nullcontext():
        for cell in (cell for cell in cells if cell["cell_type"] == "code"):
            source = "".join(cell["source"])
            last = _run(source, namespace)
            if last is not None:
                result[cell["id"]] = last
            if cell["id"] == "open" and opened:
                opened(namespace["context"])
            if "parameters" in cell["metadata"].get("tags", []):
                edits = "\n".join(f"{name} = {value!r}" for name, value in values.items())
                namespace.update({**values, "In": [f"{source}\n{edits}"]})
                if wired:
                    namespace.update(_wiring(root, stage, values["book"]))
    return namespace["context"], result


def _run(source: str, namespace: dict[str, Any]) -> Any:
    """Run a cell; returns the value of its last line, as a notebook displays it."""
    body = ast.parse(source).body
    last = body.pop() if isinstance(body[-1], ast.Expr) else None
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        exec(compile(ast.Module(body, []), "<cell>", "exec"), namespace)
        return (
            eval(compile(ast.Expression(last.value), "<cell>", "eval"), namespace) if last else None
        )


def _wiring(root: Path, stage: str, book: str) -> dict[str, Any]:
    tasks = project.read_tasks(root, book)
    return {
        "product": tasks[stage]["product"],
        "upstream": {up: tasks[up]["product"] for up in tasks[stage]["upstream"]},
    }
