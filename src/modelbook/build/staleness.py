"""Build state of each stage: detects changes that Ploomber does not track, and no-op builds."""

from __future__ import annotations

import hashlib
import json
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from modelbook import config
from modelbook.build import dependencies
from modelbook.errors import ModelbookError, get_first_line
from modelbook.stage import files, origins, project


def read_build_state(root: Path, book: str) -> dict[str, dict[str, Any]]:
    """Read a book's build state by stage.

    It has digests of its notebook and parameters and of its dependencies, and the times of its
    products; or the message of its failure.
    """
    path = _get_state_path(root, book)
    return files.read(path) if path.is_file() else {}


def record_stage(
    root: Path, stage: str, params: config.Parameters, inputs_digest: str, dependencies_digest: str
) -> None:
    """Record a successful run; both digests were computed before the stage started."""
    products = project.read_tasks(root, params.book)[stage]["product"].values()
    entry = {
        "dependencies_digest": dependencies_digest,
        "inputs_digest": inputs_digest,
        "products": {
            path.relative_to(root).as_posix(): path.stat().st_mtime_ns for path in products
        },
    }
    files.write(
        _get_state_path(root, params.book), {**read_build_state(root, params.book), stage: entry}
    )


def forget_stage(root: Path, book: str, stage: str) -> None:
    """Remove the state of a stage that is about to run: it is outdated until it succeeds."""
    files.write(
        _get_state_path(root, book),
        {name: entry for name, entry in read_build_state(root, book).items() if name != stage},
    )


def record_failure(root: Path, book: str, stage: str, message: str) -> None:
    """Record a failure: the stage stays outdated, even if its cause is reverted."""
    with suppress(OSError):  # full disk: the failure is reported anyway
        files.write(
            _get_state_path(root, book),
            {**read_build_state(root, book), stage: {"failed": message}},
        )


def remove_corrupt_metadata(root: Path) -> None:
    """Remove Ploomber's incompletely written metadata files, which would crash later builds.

    The stages they belong to become outdated and run again.
    """
    for task in project.read_tasks(root, "*").values():
        for product in task["product"].values():
            pattern = product.relative_to(root).with_name(f".{product.name}.metadata")
            for path in root.glob(str(pattern)):
                try:
                    json.loads(path.read_text(encoding="utf-8"))
                except ValueError:
                    path.unlink(missing_ok=True)


def list_failures(root: Path) -> dict[str, dict[str, str]]:
    """Return the error messages of failed stages, by book and stage."""
    books = [path.parent.name for path in (root / "models").glob("*/built.json")]
    failed = {
        book: {
            stage: entry["failed"]
            for stage, entry in read_build_state(root, book).items()
            if "failed" in entry
        }
        for book in books
    }
    return {book: stages for book, stages in failed.items() if stages}


def is_up_to_date(root: Path, env_file: Path) -> bool:
    """Whether nothing has changed since every stage ran; avoids importing Ploomber (seconds)."""
    return not find_outdated(root, env_file)


def find_outdated(root: Path, env_file: Path) -> dict[str, str]:
    """Return the stages that a build would run, with the reason of each; see ``is_up_to_date``."""
    reasons: dict[str, str] = {}
    try:
        parameters = project.read_parameters(root, env_file)
        book = parameters["ingest"]["book"]
        build_state = read_build_state(root, book)
        tasks = project.read_tasks(root, book)
    except (ModelbookError, OSError, KeyError) as error:  # reported by the build itself
        return {"ingest": get_first_line(error)}
    for stage in tasks:
        try:
            reason = _find_change(
                root,
                build_state.get(stage, {}),
                stage,
                _resolve_parameters(root, stage, parameters[stage], env_file),
            )
        except (ModelbookError, OSError, KeyError) as error:
            reason = get_first_line(error)
        upstream = [
            up
            for up in tasks[stage]["upstream"]
            if up in reasons or (not reason and _is_newer(tasks[up], tasks[stage]))
        ]
        if reason:
            reasons[stage] = reason
        elif upstream:
            verb = "is outdated" if upstream[0] in reasons else "has run since"
            reasons[stage] = f"{upstream[0]} {verb}"
    return reasons


def print_summary(
    root: Path, book: str, stages: list[str], page: Path, *, nothing_to_do: bool
) -> None:
    """Print one line per stage with its verdict, and the path of the index."""
    sys.stdout.write("\nNothing to do: every stage is up to date.\n" if nothing_to_do else "\n")
    tasks = project.read_tasks(root, book)
    receipts = {stage: files.read(tasks[stage]["product"]["receipt"]) for stage in stages}
    width = max((len(receipt["status"]) for receipt in receipts.values()), default=0)
    for stage, receipt in receipts.items():
        sys.stdout.write(
            f"  {config.stage_stem(stage):<12} {receipt['status']:<{width}}  "
            f"{receipt['sentences'][0]}\n"
        )
    sys.stdout.write(f"\n{page}\n")


def _find_change(
    root: Path, previous_state: dict[str, Any], stage: str, params: config.Parameters
) -> str:
    """Return what has changed since a stage ran; empty if nothing has."""
    if "failed" in previous_state:
        return f"failed: {previous_state['failed']}"
    if not previous_state:
        return "not built yet"
    if previous_state.get("inputs_digest") != compute_inputs_digest(root, stage, params):
        return "its notebook or its parameters have changed"
    if previous_state.get("dependencies_digest") != dependencies.compute_digest(
        stage, root, params.model_dump()
    ):
        return (
            "its code, templates, custom code, environment variables, retrain parameters, table "
            "or contract have changed"
        )
    products = previous_state["products"].items()
    changed_paths = [path for path, time in products if _read_mtime(root / path) != time]
    return f"{changed_paths[0]} has changed" if changed_paths else ""


def _read_mtime(path: Path) -> int:
    return path.stat().st_mtime_ns if path.is_file() else 0


def _resolve_parameters(
    root: Path, stage: str, pipeline_values: dict[str, Any], env_file: Path
) -> config.Parameters:
    return config.validate(
        stage, *origins.resolve_for_build(root, stage, pipeline_values, env_file)
    )


def compute_inputs_digest(root: Path, stage: str, params: config.Parameters) -> str:
    """Compute the digest of a stage's notebook, without outputs, and of its parameters."""
    notebook = json.loads(
        project.get_notebook_path(root, params.book, stage).read_text(encoding="utf-8")
    )
    # Without outputs: running and saving a notebook does not change it.
    cells = [[cell["cell_type"], "".join(cell["source"])] for cell in notebook["cells"]]
    return hashlib.sha256(
        json.dumps([cells, params.model_dump()], sort_keys=True).encode()
    ).hexdigest()


def _is_newer(task: dict[str, Any], other: dict[str, Any]) -> bool:
    return _read_mtime(task["product"]["receipt"]) > _read_mtime(other["product"]["receipt"])


def _get_state_path(root: Path, book: str) -> Path:
    return root / "models" / book / "built.json"
