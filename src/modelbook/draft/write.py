"""A draft as files: ``contracts/<book>.yaml`` and ``env.<book>.yaml``, both or neither, never over an edited one."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import yaml

from modelbook import config
from modelbook.contract import Contract
from modelbook.draft.book import Draft
from modelbook.draft.guess import UNDESCRIBED, Guess
from modelbook.errors import DataError
from modelbook.whole import complete

SIGN = "# Drafted by modelbook new; digest of what follows: "
HEAD = f"""\
# Read it, correct it, and say what each column means (meaning: {UNDESCRIBED}). The reason for each guess stands behind
# its line; docs/contract.md explains each key. Once edited, this file is yours: modelbook new does not overwrite it.
"""


def files(root: Path, book: str) -> tuple[Path, Path]:
    """The contract's and the env file's place."""
    return root / "contracts" / f"{book}.yaml", root / f"env.{book}.yaml"


def check(root: Path, book: str) -> None:
    """Raise where the book's files are not a draft any more, or another env file has a book of that name.

    Raises
    ------
    DataError
    """
    for path in files(root, book):
        if path.is_file() and edited(path):
            raise DataError(
                f"{path.relative_to(root)} was edited, or written by hand", expected="a draft that nobody touched",
                next=f"give the new book another name (--book), or delete {path.relative_to(root)} first",
            )  # fmt: skip
    for other in sorted(root.glob("env*.yaml")):
        if other != files(root, book)[1] and re.search(rf"^book:\s*{re.escape(book)}\s*(#|$)", other.read_text(), re.M):
            raise DataError(
                f"the book {book!r} stands in {other.name} already", expected="a name of its own for each book",
                next="give the new book another name (--book)",
            )  # fmt: skip


def edited(path: Path) -> bool:
    """Whether a file is anything else than what ``write`` left."""
    first, _, rest = path.read_text(encoding="utf-8", errors="replace").partition("\n")
    return first != SIGN + _digest(rest)


def write(root: Path, book: str, table: str, draft: Draft, asked: Iterable[str]) -> tuple[Path, Path]:
    """Write both files.

    Parameters
    ----------
    table : str
        As the env file names it.
    asked : iterable of str
        Values that ``pipeline.yaml`` asks an env file for.
    """
    check(root, book)
    contract, environment = files(root, book)
    texts = {contract: contract_text(draft), environment: env_text(book, table, draft.train_until, asked)}
    try:
        with ExitStack() as both:  # neither takes its name before both are written
            for path, text in texts.items():
                part = both.enter_context(complete(path))
                part.write_text(f"{SIGN}{_digest(text)}\n{text}", encoding="utf-8")
    except OSError as error:
        raise DataError(f"the book cannot be written: {error}", next="make room, or ask for leave to write") from None
    return contract, environment


def contract_text(draft: Draft) -> str:
    """The contract as a person would lay it out: a line for each column, the reason behind it."""
    plain = draft.contract.model_dump(exclude_defaults=True)
    columns = plain.pop("columns")
    text = HEAD + "".join(f"{key}: {_flow(value)}\n" for key, value in plain.items())
    text += "\ncolumns:\n" + "".join(_line(some, columns[some.name]) for some in draft.guesses)
    try:
        same = Contract.model_validate(yaml.safe_load(text)) == draft.contract
    except (yaml.YAMLError, ValueError):
        same = False
    return text if same else HEAD + draft.contract.dump()  # odd signs in names or reasons


def env_text(book: str, table: str, train_until: int | None, asked: Iterable[str]) -> str:
    """The env file: the book's own values first, then what every env file holds, at its defaults."""
    given = {"book": book, "table": table, "contract": f"contracts/{book}.yaml", "train_until": train_until}
    known = {name: field for model in config.STAGES.values() for name, field in model.model_fields.items()}
    lines = []
    for name in dict.fromkeys([*given, *asked]):
        if name not in known:
            continue
        value = given[name] if name in given else known[name].default
        shown = _flow(" ".join(value) if isinstance(value, list) else value)
        lines.append(f"{name}: {shown}  # {known[name].description}\n")
    head = f"# The values that people change for this book.  PLOOMBER_ENV_FILENAME=env.{book}.yaml ploomber build\n"
    return head + "# All parameters with their meanings and ranges: docs/parameters.md\n\n" + "".join(lines)


def _line(some: Guess, keys: dict[str, Any]) -> str:
    """A column's line: what it means last, and the reason for the guess behind, where the line does not say it."""
    last = {key: keys.pop(key) for key in ("meaning", "reason") if key in keys}
    numbers = {key: int(keys[key]) for key in ("min", "max") if key in keys and float(keys[key]).is_integer()}
    why = "" if some.role == "dropped" else f"  # {' '.join(some.why.split())}"
    return f"  {_key(some.name)}: {_flow({**keys, **numbers, **last})}{why}\n"


def _flow(value: Any) -> str:
    text = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, allow_unicode=True, width=1 << 20)
    return text.removesuffix("...\n").strip()


def _key(name: str) -> str:
    return (
        name
        if re.fullmatch(r"[A-Za-z_]\w*", name) and yaml.safe_load(name) == name
        else json.dumps(name, ensure_ascii=False)
    )


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
