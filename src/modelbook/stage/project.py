"""The project on disk: root, env files, tasks of the pipeline, product paths and commit."""

from __future__ import annotations

import json
import os
import re
import subprocess
from functools import lru_cache
from pathlib import Path
from typing import Any

from modelbook import config
from modelbook.config.renamed_keys import RENAMED_KEYS
from modelbook.errors import ParameterError, PipelineSpecError, StageError
from modelbook.redaction import redact
from modelbook.yaml_reading import load_mapping

BY_HAND = "by-hand"  # folder of products, and suffix of models, of runs by hand
PLACEHOLDER = re.compile(r"\{\{\s*(\w+)\s*\}\}")  # of a value of the env file
COMMIT_VARIABLE = "MODELBOOK_COMMIT"  # commit from which an image was built
NO_COMMIT = "none"  # of code outside version control


def find_root(folder: Path | None = None) -> Path:
    """Find the folder of ``pipeline.yaml``.

    ``MODELBOOK_ROOT`` if set, else the folder (by default the working directory) or one of its
    parents, else the folder of the package's source.

    Raises
    ------
    StageError
        If there is no ``pipeline.yaml``.
    """
    current_folder = folder or Path.cwd()
    configured_root = os.environ.get("MODELBOOK_ROOT")
    candidates = (
        [Path(configured_root)]
        if configured_root
        else [current_folder, *current_folder.parents, Path(__file__).resolve().parents[3]]
    )
    for candidate in candidates:
        if (candidate / "pipeline.yaml").is_file():
            return candidate
    raise StageError(
        f"no pipeline.yaml in {configured_root or f'{current_folder} or above it'}",
        expected="the root of a Modelbook project",
        next="change to the project's folder, or name it in the environment: "
        "MODELBOOK_ROOT=/path/to/project",
    )


def find_env_file(root: Path, book: str | None = None) -> Path:
    """Find the env file that names a book; without a book, the one that Ploomber uses.

    Ploomber uses ``PLOOMBER_ENV_FILENAME``, by default ``env.yaml``.

    Raises
    ------
    StageError
        If there is no such file, or no env file names the book.
    """
    if book is None:
        path = root / os.environ.get("PLOOMBER_ENV_FILENAME", "env.yaml")
        if not path.is_file():
            raise StageError(f"there is no {path}", next="create it with the same keys as env.yaml")
        return path
    books = {_read_yaml(path).get("book"): path for path in sorted(root.glob("env*.yaml"))}
    if book not in books:
        raise StageError(
            f"no env file names the book {book!r}",
            expected=f"one of {', '.join(map(str, books))}",
            next=f"copy env.yaml to env.{book}.yaml and change its values",
        )
    return books[book]


def read_book(env_file: Path) -> str:
    """Return the name of the book of an env file."""
    return str(_read_yaml(env_file).get("book"))


def get_notebook_path(root: Path, book: str, stage: str) -> Path:
    """Return a stage's notebook: that of ``notebooks/<book>/``, or else the shared one."""
    name = f"{config.stage_stem(stage)}.ipynb"
    book_path = root / "notebooks" / book / name
    return book_path if book_path.is_file() else root / "notebooks" / name


def read_code_cells(notebook: Path) -> list[str]:
    """Return the source of each code cell of a notebook."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


def build_command(root: Path, book: str) -> str:
    """Return the shell command that builds a book."""
    try:
        name = find_env_file(root, book).name
    except StageError:
        return "ploomber build"
    return (
        "ploomber build" if name == "env.yaml" else f"PLOOMBER_ENV_FILENAME={name} ploomber build"
    )


def read_parameters(root: Path, env_file: Path) -> dict[str, dict]:
    """Read the parameters of each stage from ``pipeline.yaml`` and an env file.

    Raises
    ------
    ParameterError
        If the env file lacks a value, or has one that ``pipeline.yaml`` does not use.
    """
    values = _read_yaml(env_file)
    names = list_env_keys(root)
    for name in values:
        if name not in names:
            raise ParameterError(
                f"{env_file.name} sets {name} = {redact(repr(values[name]))}, which "
                "pipeline.yaml does not use",
                expected=config.suggest_name(name, names),
                next=_suggest_key(name, env_file.name),
            )
    return {
        stage: {
            name: _fill_placeholder(value, values, env_file.name) for name, value in params.items()
        }
        for stage, params in read_pipeline_params(root).items()
    }


def read_stage_parameters(root: Path, book: str | None, stage: str) -> dict[str, Any]:
    """Read the parameters of a book's stage.

    Raises
    ------
    ParameterError
        As ``read_parameters``.
    PipelineSpecError
        If ``pipeline.yaml`` has no such stage.
    """
    stages = read_parameters(root, find_env_file(root, book))
    if stage not in stages:
        raise PipelineSpecError(
            f"pipeline.yaml has no stage {stage!r}",
            expected=f"a task {stage}; the tasks are {', '.join(stages)}",
            next=f"add the task {stage} of Modelbook's pipeline.yaml again",
        )
    return stages[stage]


def _suggest_key(name: str, file_name: str) -> str:
    if name in RENAMED_KEYS:
        return (
            f"it is {RENAMED_KEYS[name]} now: rename it in {file_name}; modelbook upgrade renames "
            "all such keys"
        )
    return f"correct the name in {file_name}, or remove it"


def list_env_keys(root: Path) -> list[str]:
    """Return the names of the placeholders in ``pipeline.yaml``."""
    keys = PLACEHOLDER.findall((root / "pipeline.yaml").read_text(encoding="utf-8"))
    return list(dict.fromkeys(keys))


def read_pipeline_params(root: Path) -> dict[str, dict]:
    """Read the parameters of each stage from ``pipeline.yaml``, with placeholders unfilled."""
    return {
        task["name"]: dict(task["params"]) for task in _read_yaml(root / "pipeline.yaml")["tasks"]
    }


def parse_placeholder(value: object) -> str:
    """Return the name in ``{{name}}``; empty for anything else."""
    match = PLACEHOLDER.fullmatch(value) if isinstance(value, str) else None
    return match[1] if match else ""


def read_tasks(root: Path, book: str) -> dict[str, dict]:
    """Read the tasks of ``pipeline.yaml``, with a book's absolute product paths and upstream."""
    return {
        task["name"]: {
            "product": {
                key: root / path.replace("{{book}}", book) for key, path in task["product"].items()
            },
            "upstream": list(task.get("upstream") or []),
        }
        for task in _read_yaml(root / "pipeline.yaml")["tasks"]
    }


def get_by_hand_path(path: Path, root: Path, folder: str = BY_HAND) -> Path:
    """Return a product's path in a run by hand.

    ``data/<book>/by-hand/train.parquet`` for ``data/<book>/train.parquet``.
    """
    top, book, *rest = path.relative_to(root).parts
    return root / top / book / folder / Path(*rest)


def get_progress_log_path(root: Path, book: str, stage: str) -> Path:
    """Return the path of a stage's progress log."""
    return root / "reports" / book / "logs" / f"{config.stage_stem(stage)}.log"


def get_commit(root: Path) -> str:
    """Return the short commit hash, with ``+`` for uncommitted changes.

    Outside git it is the commit from which an image was built, ``MODELBOOK_COMMIT``; else ``none``.
    """
    try:
        head = run_git(root, "rev-parse", "--short=10", "HEAD")
        return head + (
            "+" if run_git(root, "status", "--porcelain", "--untracked-files=no") else ""
        )
    except (OSError, subprocess.CalledProcessError):
        return os.environ.get(COMMIT_VARIABLE) or NO_COMMIT


def _read_yaml(path: Path) -> dict:
    error_type = PipelineSpecError if path.name == "pipeline.yaml" else ParameterError
    return _load_cached_mapping(path.read_bytes(), path, error_type)


# Each stage reads two files several times; do not modify the result.
_load_cached_mapping = lru_cache(maxsize=32)(load_mapping)


def _fill_placeholder(value: object, values: dict, file: str) -> object:
    name = parse_placeholder(value)
    if name and name not in values:
        raise ParameterError(
            f"{file} has no value for {name}, which pipeline.yaml uses",
            expected=config.suggest_name(name, values),
            next=f"add it to {file}; docs/parameters.md lists its range",
        )
    return values[name] if name else value


def run_git(folder: Path, *arguments: str) -> str:
    """Run a git command in a folder; return what it prints."""
    return subprocess.run(
        ["git", "-C", str(folder), *arguments], capture_output=True, encoding="utf-8", check=True
    ).stdout.strip()
