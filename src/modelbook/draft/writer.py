"""Write a draft: ``contracts/<book>.yaml`` and ``env.<book>.yaml``, both or neither.

Edited files are never overwritten.
"""

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
from modelbook.atomic import atomic_write
from modelbook.contract import Contract
from modelbook.draft.book import BookDraft
from modelbook.draft.column_guess import UNDESCRIBED, ColumnGuess
from modelbook.errors import DataError
from modelbook.yaml_reading import load_yaml

DIGEST_HEADER = "# Drafted by modelbook new; digest of what follows: "
CONTRACT_HEADER = f"""\
# Review it, correct it, and describe each column (meaning: {UNDESCRIBED}). docs/contract.md
# explains the keys. modelbook new does not overwrite this file once it is edited.
"""
REASONS_HEADER = "# The reason for each guess is at the end of its line.\n"
QUESTIONS_HEADER = """
# Default decisions, open until a person confirms them: delete the lines that you agree with.
questions:
"""


def get_draft_paths(root: Path, book: str) -> tuple[Path, Path]:
    """Return the paths of the contract and the env file."""
    return root / "contracts" / f"{book}.yaml", root / f"env.{book}.yaml"


def check_name_is_free(root: Path, book: str) -> None:
    """Check that no edited file would be overwritten, and that no other env file has the book.

    Raises
    ------
    DataError
        When a file of the book was edited, or another env file has a book of that name.
    """
    for path in get_draft_paths(root, book):
        if path.is_file() and is_edited(path):
            raise DataError(
                f"{path.relative_to(root)} was edited, or written by hand",
                expected="an unedited draft",
                next="give the new book another name (--book), or delete "
                f"{path.relative_to(root)} first",
            )
    for env_path in sorted(root.glob("env*.yaml")):
        if env_path != get_draft_paths(root, book)[1] and re.search(
            rf"^book:\s*(['\"]?){re.escape(book)}\1\s*(#|$)", env_path.read_text(), re.M
        ):
            raise DataError(
                f"the book {book!r} is defined in {env_path.name} already",
                expected="a unique name for each book",
                next="give the new book another name (--book)",
            )


def is_edited(path: Path) -> bool:
    """Return whether a file differs from what ``write_draft`` wrote."""
    first_line, _, body = path.read_text(encoding="utf-8", errors="replace").partition("\n")
    return first_line != DIGEST_HEADER + _compute_digest(body)


def write_draft(
    root: Path, book: str, table: str, draft: BookDraft, env_keys: Iterable[str]
) -> tuple[Path, Path]:
    """Write both files.

    Parameters
    ----------
    table : str
        The table, as the env file refers to it.
    env_keys : iterable of str
        Parameters that ``pipeline.yaml`` takes from the env file.
    """
    check_name_is_free(root, book)
    contract_path, env_path = get_draft_paths(root, book)
    texts = {
        contract_path: render_contract(draft),
        env_path: render_env(book, table, draft.train_until, env_keys),
    }
    try:
        with ExitStack() as stack:  # both files are complete before either is renamed into place
            for path, text in texts.items():
                temporary_path = stack.enter_context(atomic_write(path))
                temporary_path.write_text(
                    f"{DIGEST_HEADER}{_compute_digest(text)}\n{text}", encoding="utf-8"
                )
    except OSError as error:
        raise DataError(
            f"the draft of book {book!r} cannot be written: {error}",
            next="free disk space, or get write permission for the folder",
        ) from None
    return contract_path, env_path


def render_contract(draft: BookDraft) -> str:
    """Render the contract as YAML with one line for each column, and the reason as a comment."""
    contract_data = draft.contract.model_dump(exclude_defaults=True)
    columns = contract_data.pop("columns")
    questions = contract_data.pop("questions", [])
    text = (
        CONTRACT_HEADER
        + REASONS_HEADER
        + "".join(f"{key}: {_dump_inline(value)}\n" for key, value in contract_data.items())
    )
    if questions:
        text += QUESTIONS_HEADER + "".join(f"  - {_dump_inline(entry)}\n" for entry in questions)
    text += "\ncolumns:\n" + "".join(
        _render_column(guess, columns[guess.name]) for guess in draft.guesses
    )
    try:
        round_trips = Contract.model_validate(load_yaml(text)) == draft.contract
    except (yaml.YAMLError, ValueError):
        round_trips = False
    # With unusual characters, the inline YAML may not read back as the same contract.
    return text if round_trips else CONTRACT_HEADER + draft.contract.to_yaml()


def render_env(book: str, table: str, train_until: int | None, env_keys: Iterable[str]) -> str:
    """Render the env file: the book's values first, then the other keys at their defaults."""
    book_values = {
        "book": book,
        "table": table,
        "contract": f"contracts/{book}.yaml",
        "train_until": train_until,
    }
    fields = {
        name: field
        for model in config.STAGES.values()
        for name, field in model.model_fields.items()
    }
    lines = []
    for name in dict.fromkeys([*book_values, *env_keys]):
        if name not in fields:
            continue
        value = book_values[name] if name in book_values else fields[name].default
        value_text = _dump_inline(" ".join(value) if isinstance(value, list) else value)
        lines.append(f"{name}: {value_text}  # {fields[name].description}\n")
    header = (
        "# The parameters that pipeline.yaml takes from this file.  "
        f"PLOOMBER_ENV_FILENAME=env.{book}.yaml ploomber build\n"
    )
    return (
        header
        + "# All parameters with their meanings and ranges: docs/parameters.md\n\n"
        + "".join(lines)
    )


def _render_column(guess: ColumnGuess, column_keys: dict[str, Any]) -> str:
    """Render a column's line, its meaning last and the reason for the guess as a comment."""
    trailing_keys = {
        key: column_keys.pop(key) for key in ("meaning", "reason") if key in column_keys
    }
    integer_bounds = {
        key: int(column_keys[key])
        for key in ("min", "max")
        if key in column_keys and float(column_keys[key]).is_integer()
    }
    comment = "" if guess.role == "dropped" else f"  # {' '.join(guess.reason.split())}"
    return (
        f"  {_quote_key(guess.name)}: "
        f"{_dump_inline({**column_keys, **integer_bounds, **trailing_keys})}{comment}\n"
    )


def _dump_inline(value: Any) -> str:
    text = yaml.safe_dump(
        value, default_flow_style=True, sort_keys=False, allow_unicode=True, width=1 << 20
    )
    return text.removesuffix("...\n").strip()


def _quote_key(name: str) -> str:
    if re.fullmatch(r"[A-Za-z_]\w*", name) and load_yaml(name) == name:
        return name
    return json.dumps(name, ensure_ascii=False)


def _compute_digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
