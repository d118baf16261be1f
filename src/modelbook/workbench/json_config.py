"""JSON configuration files shared with other programs: only Modelbook's keys are set."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from modelbook.atomic import write_text
from modelbook.errors import WorkbenchError


def read(path: Path) -> dict[str, Any]:
    """Return the content of the file; an empty dict if there is none.

    Raises
    ------
    WorkbenchError
        If the file holds anything but a JSON object.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except ValueError as error:
        raise WorkbenchError(
            f"{path} is not JSON: {error}", next=f"correct it, or remove it: rm {path}"
        ) from None
    if not isinstance(content, dict):
        raise WorkbenchError(
            f"{path} holds {content!r}", expected="a JSON object", next=f"remove it: rm {path}"
        )
    return content


def merge(path: Path, required: dict[str, Any]) -> bool:
    """Set the required keys, and remove those that must be absent (None); keep all others.

    Returns
    -------
    bool
        Whether the file has changed.
    """
    content = read(path)
    if not find_differences(content, required):
        return False
    write(path, _merge_dicts(content, required))
    return True


def write(path: Path, content: dict[str, Any]) -> None:
    """Write the file atomically."""
    write_text(path, json.dumps(content, indent=2) + "\n")


def find_differences(current: Any, required: dict[str, Any]) -> list[str]:
    """Return the required keys that differ, nested ones with dots; None requires their absence."""
    if not isinstance(current, dict):
        return [*required]
    names = []
    for key, value in required.items():
        if isinstance(value, dict):
            names += [f"{key}.{name}" for name in find_differences(current.get(key), value)]
        elif current.get(key) != value:
            names.append(key)
    return names


def _merge_dicts(current: Any, required: dict[str, Any]) -> dict[str, Any]:
    merged = dict(current) if isinstance(current, dict) else {}
    for key, value in required.items():
        if value is None:
            merged.pop(key, None)
        else:
            is_nested = isinstance(value, dict)
            merged[key] = _merge_dicts(merged.get(key), value) if is_nested else value
    return merged
