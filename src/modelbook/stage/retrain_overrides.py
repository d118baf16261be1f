"""Parameter overrides of the last retrain, stored next to the models in ``retrained.json``.

With them, the next build uses the same rows as the champion, without edits to the env file, which
people maintain in git. An override applies only while the env file still has the value that it
replaced; a later edit of the env file takes precedence.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from modelbook.errors import StageError
from modelbook.stage import files


def get_overrides_path(root: Path, book: str) -> Path:
    """Return the path of a book's overrides."""
    return root / "models" / book / "retrained.json"


def save_overrides(
    root: Path, book: str, values: Mapping[str, Any], env_values: Mapping[str, Any]
) -> None:
    """Save overrides that apply as long as the env file has ``env_values``."""
    overrides = {
        name: {"value": value, "instead_of": env_values[name]} for name, value in values.items()
    }
    files.write(get_overrides_path(root, book), overrides)


def load_active_overrides(root: Path, book: str, env_values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the overrides that apply, given the current values of the env file.

    Raises
    ------
    StageError
        If the file is damaged.
    """
    overrides = _read_overrides(root, book)
    return {
        name: override["value"]
        for name, override in overrides.items()
        if name in env_values and env_values[name] == override["instead_of"]
    }


def find_applied_overrides(root: Path, book: str, params: Mapping[str, Any]) -> dict[str, Any]:
    """Return the overrides that a stage's parameters use; Ploomber does not track them."""
    overrides = _read_overrides(root, book)
    return {
        name: override["value"]
        for name, override in overrides.items()
        if name in params and params[name] == override["value"]
    }


def _read_overrides(root: Path, book: str) -> dict[str, dict[str, Any]]:
    path = get_overrides_path(root, book)
    if not path.is_file():
        return {}
    try:
        return {
            name: {"value": override["value"], "instead_of": override["instead_of"]}
            for name, override in files.read(path).items()
        }
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise StageError(
            f"{path.relative_to(root)} cannot be read ({type(error).__name__}: {error})",
            expected="a file written by modelbook retrain",
            next="remove it; builds then use the env file's values again",
        ) from None
