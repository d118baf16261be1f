"""The project on disk: its root, the pipeline's products, and the commit it stands at."""

from __future__ import annotations

import os
import re
import subprocess
from functools import lru_cache
from pathlib import Path

import yaml

from modelbook import config
from modelbook.errors import ParameterError, StageError
from modelbook.redaction import redact

BY_HAND = "by-hand"


def find_root() -> Path:
    """The folder of ``pipeline.yaml``: ``MODELBOOK_ROOT``, else upwards from here, else around the package's source.

    Raises
    ------
    StageError
        When there is none.
    """
    here = Path.cwd()
    named = os.environ.get("MODELBOOK_ROOT")
    places = [Path(named)] if named else [here, *here.parents, Path(__file__).resolve().parents[3]]
    for place in places:
        if (place / "pipeline.yaml").is_file():
            return place
    raise StageError(
        f"no pipeline.yaml in {named or f'{here} or above it'}",
        expected="the root of a Modelbook project",
        next="change to the project's folder, or name it in the environment: MODELBOOK_ROOT=/path/to/project",
    )


def environment(root: Path, book: str | None = None) -> Path:
    """The env file of a book: the one that names it, else ``PLOOMBER_ENV_FILENAME``, else ``env.yaml``.

    Raises
    ------
    StageError
        When there is no such file, or none names the book.
    """
    if book is None:
        path = root / os.environ.get("PLOOMBER_ENV_FILENAME", "env.yaml")
        if not path.is_file():
            raise StageError(f"there is no {path}", next="write it after the pattern of env.yaml")
        return path
    books = {_values(path).get("book"): path for path in sorted(root.glob("env*.yaml"))}
    if book not in books:
        raise StageError(
            f"no env file names the book {book!r}", expected=f"one of {', '.join(map(str, books))}",
            next=f"copy env.yaml to env.{book}.yaml and change its values",
        )  # fmt: skip
    return books[book]


def command(root: Path, book: str) -> str:
    """The command that builds a book, as a person types it."""
    try:
        name = environment(root, book).name
    except StageError:
        return "ploomber build"
    return "ploomber build" if name == "env.yaml" else f"PLOOMBER_ENV_FILENAME={name} ploomber build"


def parameters(root: Path, environment: Path) -> dict[str, dict]:
    """Each stage's parameters as ``pipeline.yaml`` and an env file give them.

    Raises
    ------
    ParameterError
        When the env file lacks a value, or has one that nothing asks for.
    """
    values = _values(environment)
    names = asked(root)
    for name in values:
        if name not in names:
            raise ParameterError(
                f"{environment.name} sets {name} = {redact(repr(values[name]))}, which pipeline.yaml does not ask for",
                expected=config.nearest(name, names),
                next=f"correct the name in {environment.name}, or take it out",
            )
    return {
        stage: {name: _filled(value, values, environment.name) for name, value in params.items()}
        for stage, params in written(root).items()
    }


def asked(root: Path) -> list[str]:
    """Names of the values that ``pipeline.yaml`` asks an env file for."""
    found = re.findall(r"\{\{\s*(\w+)\s*\}\}", (root / "pipeline.yaml").read_text(encoding="utf-8"))
    return list(dict.fromkeys(found))


def written(root: Path) -> dict[str, dict]:
    """Each stage's parameters as they stand in ``pipeline.yaml``, placeholders and all."""
    return {task["name"]: dict(task["params"]) for task in _values(root / "pipeline.yaml")["tasks"]}


def placeholder(value: object) -> str:
    """The name within ``{{name}}``; empty for anything else."""
    named = re.fullmatch(r"\{\{\s*(\w+)\s*\}\}", value) if isinstance(value, str) else None
    return named[1] if named else ""


def tasks(root: Path, book: str) -> dict[str, dict]:
    """The tasks of ``pipeline.yaml`` by name: products as absolute paths of a book, upstream as a list of names."""
    return {
        task["name"]: {
            "product": {key: root / path.replace("{{book}}", book) for key, path in task["product"].items()},
            "upstream": list(task.get("upstream") or []),
        }
        for task in _values(root / "pipeline.yaml")["tasks"]
    }


def aside(path: Path, root: Path) -> Path:
    """Where a run by hand writes instead: ``data/<book>/by-hand/train.parquet`` for ``data/<book>/train.parquet``."""
    top, book, *rest = path.relative_to(root).parts
    return root / top / book / BY_HAND / Path(*rest)


def log(root: Path, book: str, stage: str) -> Path:
    """The file that holds a stage's progress lines."""
    return root / "reports" / book / "logs" / f"{config.stem(stage)}.log"


def commit(root: Path) -> str:
    """Short hash of the commit, with ``+`` when tracked files have changed since; ``none`` outside git."""
    try:
        head = _git(root, "rev-parse", "--short=10", "HEAD")
        return head + ("+" if _git(root, "status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return "none"


def _values(path: Path) -> dict:
    return _parsed(path.read_text(encoding="utf-8"))


@lru_cache(maxsize=32)  # each stage asks for the same two files several times; nobody changes what is returned
def _parsed(text: str) -> dict:
    return yaml.safe_load(text) or {}


def _filled(value: object, values: dict, file: str) -> object:
    name = placeholder(value)
    if name and name not in values:
        raise ParameterError(
            f"{file} has no value for {name}, which pipeline.yaml asks for",
            expected=config.nearest(name, values), next=f"write it into {file}; docs/parameters.md tells its range",
        )  # fmt: skip
    return values[name] if name else value


def _git(root: Path, *words: str) -> str:
    return subprocess.run(["git", "-C", str(root), *words], capture_output=True, text=True, check=True).stdout.strip()
