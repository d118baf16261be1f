"""State of the panel in JupyterLab: books, sandboxes, stages with verdict and state, a build."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from modelbook import config
from modelbook.build import staleness
from modelbook.stage import pipeline_spec, project, sandbox
from modelbook.stage.progress import format_progress

LOG_TAIL_LINES = 30


def list_books(root: Path) -> dict[str, Path]:
    """Return the env file of each book, the one of ``env.yaml`` first."""
    files = sorted(root.glob("env*.yaml"), key=lambda path: (path.name != "env.yaml", path.name))
    return {project.read_book(path): path for path in files}


def resolve_book(root: Path, book: str) -> str:
    """Return a book of the project: the requested one, or the first if it is empty.

    Raises
    ------
    StageError
        If no env file names the book, or there is none.
    """
    if not book and (books := list_books(root)):
        return next(iter(books))
    return project.read_book(project.find_env_file(root, book or None))


def collect_state(
    root: Path, book: str, sandbox_name: str, build: dict[str, Any]
) -> dict[str, Any]:
    """Collect the state of a book, or of a sandbox of it, as plain data.

    Parameters
    ----------
    sandbox_name : str
        Name of a sandbox; empty for what the build has made.
    build : dict
        The build that the panel has started: ``book, is_running, log``.
    """
    env_files = list_books(root)
    outdated = {name: staleness.find_outdated(root, path) for name, path in env_files.items()}
    sandboxes = {entry.name: entry for entry in sandbox.list_sandboxes(root, book)}
    opened_sandbox = sandboxes.get(sandbox_name)
    tasks = project.read_tasks(root, book)
    is_running = build["is_running"] and build["book"] == book
    stages = [
        _describe_stage(root, book, name, tasks[name], opened_sandbox, is_running)
        for name in pipeline_spec.list_stages(root)
    ]
    for stage in stages:
        stage["outdated"] = "" if opened_sandbox else outdated.get(book, {}).get(stage["name"], "")
    log_lines = _read_lines(Path(build["log"])) if build["log"] else []
    return {
        "books": [
            {"name": name, "outdated": outdated[name], "env_file": path.name}
            for name, path in env_files.items()
        ],
        "book": book,
        "sandboxes": list(sandboxes),
        "sandbox": opened_sandbox.name if opened_sandbox else "",
        "stages": stages,
        "build": build | {"tail": "\n".join(log_lines[-LOG_TAIL_LINES:])},
    }


def _describe_stage(
    root: Path,
    book: str,
    name: str,
    task: dict[str, Any],
    opened_sandbox: sandbox.Sandbox | None,
    is_running: bool,
) -> dict[str, Any]:
    products = (
        {key: opened_sandbox.resolve_path(path) for key, path in task["product"].items()}
        if opened_sandbox
        else task["product"]
    )
    receipt = _read_json(products["receipt"])
    report = products["report"]
    return {
        "name": name,
        "stem": config.stage_stem(name),
        "notebook": project.get_notebook_path(root, book, name).relative_to(root).as_posix(),
        "report": report.relative_to(root).as_posix() if report.is_file() else "",
        "status": receipt.get("status", ""),
        "level": receipt.get("level", ""),
        "progress": _read_progress(root, book, name) if is_running else {},
    }


def _read_progress(root: Path, book: str, stage: str) -> dict[str, Any]:
    """Return the last line of a stage's progress log."""
    lines = _read_lines(project.get_progress_log_path(root, book, stage))
    try:
        entry = json.loads(lines[-1]) if lines else {}
    except ValueError:  # being written
        return {}
    if not entry:
        return {}
    text = format_progress(entry["text"], entry["done"], entry["total"], entry["detail"])
    return {"text": text, "done": entry["done"], "total": entry["total"]}


def _read_lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return content
    except (OSError, ValueError):
        return {}
