"""What the last retrain has set in the place of an env file's values, kept beside the models: ``retrained.json``.

So the next build goes on with the rows that the champion was made of, whoever starts it, and the env file, which people
write and keep in git, is not edited by a machine. A value counts as long as the env file still says what it said then:
whoever changes it there has the last word.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from modelbook.errors import StageError
from modelbook.stage import files


def path(root: Path, book: str) -> Path:
    """The file of a book."""
    return root / "models" / book / "retrained.json"


def keep(root: Path, book: str, values: Mapping[str, Any], instead_of: Mapping[str, Any]) -> None:
    """Let ``values``, by parameter, hold as long as the env file says ``instead_of``."""
    told = {name: {"value": value, "instead_of": instead_of[name]} for name, value in values.items()}
    files.write(path(root, book), told)


def held(root: Path, book: str, said: Mapping[str, Any]) -> dict[str, Any]:
    """The values that hold; ``said`` are those of the env file.

    Raises
    ------
    StageError
        When the file is damaged.
    """
    kept = _kept(root, book)
    return {name: one["value"] for name, one in kept.items() if name in said and said[name] == one["instead_of"]}


def among(root: Path, book: str, params: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the values that a stage's effective parameters have: Ploomber does not see them."""
    kept = _kept(root, book)
    return {name: one["value"] for name, one in kept.items() if name in params and params[name] == one["value"]}


def _kept(root: Path, book: str) -> dict[str, dict[str, Any]]:
    place = path(root, book)
    if not place.is_file():
        return {}
    try:
        return {
            name: {"value": one["value"], "instead_of": one["instead_of"]} for name, one in files.read(place).items()
        }
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise StageError(
            f"{place.relative_to(root)} cannot be read ({type(error).__name__}: {error})",
            expected="what modelbook retrain wrote", next="remove it: builds then go by the env file again",
        ) from None  # fmt: skip
