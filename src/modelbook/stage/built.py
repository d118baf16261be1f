"""What has been built, noted stage by stage: a build sees what Ploomber does not, and a no-op is told at once."""

from __future__ import annotations

import hashlib
import json
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from modelbook import config
from modelbook.errors import ModelbookError
from modelbook.stage import files, origins, project, sources


def notes(root: Path, book: str) -> dict[str, dict[str, Any]]:
    """Notes of a book's last runs by stage: digests of ``code`` and what was ``given``, times of ``products``."""
    path = _path(root, book)
    return files.read(path) if path.is_file() else {}


def note(root: Path, stage: str, params: config.Parameters, code: str) -> None:
    """Note that a stage has just run; ``code`` is its digest from before it began."""
    products = project.tasks(root, params.book)[stage]["product"].values()
    entry = {
        "code": code,
        "given": _given(root, stage, params),
        "products": {path.relative_to(root).as_posix(): path.stat().st_mtime_ns for path in products},
    }
    files.write(_path(root, params.book), {**notes(root, params.book), stage: entry})


def forget(root: Path, book: str, stage: str) -> None:
    """Forget a stage that is about to run: it is outdated until it has ended well, also when it is killed."""
    files.write(_path(root, book), {name: kept for name, kept in notes(root, book).items() if name != stage})


def note_failure(root: Path, book: str, stage: str, message: str) -> None:
    """Note that a stage has failed: it is outdated from now on, even when its cause is taken back."""
    with suppress(OSError):  # a full disk: what ended the stage is told, whether it can be noted or not
        files.write(_path(root, book), {**notes(root, book), stage: {"failed": message}})


def drop_torn(root: Path) -> None:
    """Remove what Ploomber keeps of a product where writing it broke off: it would end each later build by a traceback.

    Its stage is outdated then, and runs again.
    """
    for task in project.tasks(root, "*").values():
        for product in task["product"].values():
            kept = product.relative_to(root).with_name(f".{product.name}.metadata")
            for path in root.glob(str(kept)):
                try:
                    json.loads(path.read_text(encoding="utf-8"))
                except ValueError:
                    path.unlink(missing_ok=True)


def failures(root: Path) -> dict[str, dict[str, str]]:
    """Messages of the stages whose last run failed, by book and stage."""
    books = [path.parent.name for path in (root / "models").glob("*/built.json")]
    failed = {book: {s: n["failed"] for s, n in notes(root, book).items() if "failed" in n} for book in books}
    return {book: stages for book, stages in failed.items() if stages}


def fresh(root: Path, environment: Path) -> bool:
    """Whether nothing at all has changed since every stage ran: no need to ask Ploomber, whose import takes seconds."""
    try:
        given = project.parameters(root, environment)
        book = given["ingest"]["book"]
        known, tasks = notes(root, book), project.tasks(root, book)
        return all(
            _stands(root, known.get(stage, {}), stage, _effective(root, stage, given[stage], environment))
            and all(_when(tasks[up]) <= _when(tasks[stage]) for up in tasks[stage]["upstream"])
            for stage in tasks
        )
    except (ModelbookError, OSError, KeyError):
        return False  # the build itself says what is wrong


def summarise(root: Path, book: str, stages: list[str], page: Path, *, idle: bool) -> None:
    """Print each stage's verdict in a line, and where the index is."""
    sys.stdout.write("\nNothing to do: every stage is up to date.\n" if idle else "\n")
    for stage in stages:
        told = files.read(project.tasks(root, book)[stage]["product"]["receipt"])
        sys.stdout.write(f"  {config.stem(stage):<12} {told['word']:<15} {told['sentences'][0]}\n")
    sys.stdout.write(f"\n{page}\n")


def _stands(root: Path, known: dict[str, Any], stage: str, params: config.Parameters) -> bool:
    return (
        known.get("given") == _given(root, stage, params)  # not there after a failure
        and known["code"] == sources.digest(stage, root, params.model_dump())
        and all((root / path).stat().st_mtime_ns == when for path, when in known["products"].items())
    )


def _effective(root: Path, stage: str, given: dict[str, Any], environment: Path) -> config.Parameters:
    return config.validate(stage, *origins.in_pipeline(root, stage, given, environment))


def _given(root: Path, stage: str, params: config.Parameters) -> str:
    notebook = json.loads((root / "notebooks" / f"{config.stem(stage)}.ipynb").read_text(encoding="utf-8"))
    # Not the outputs: a notebook that was run by hand and saved is the same notebook.
    cells = [[cell["cell_type"], "".join(cell["source"])] for cell in notebook["cells"]]
    return hashlib.sha256(json.dumps([cells, params.model_dump()], sort_keys=True).encode()).hexdigest()


def _when(task: dict[str, Any]) -> int:
    return task["product"]["receipt"].stat().st_mtime_ns


def _path(root: Path, book: str) -> Path:
    return root / "models" / book / "built.json"
