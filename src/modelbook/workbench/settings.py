"""JSON files that others write too: only our keys are looked at and set."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from modelbook.errors import WorkbenchError
from modelbook.whole import complete


def read(path: Path) -> dict[str, Any]:
    """What the file holds; nothing where there is none.

    Raises
    ------
    WorkbenchError
        When it holds something else than a JSON object.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except ValueError as error:
        raise WorkbenchError(f"{path} is not JSON: {error}", next=f"correct it, or remove it: rm {path}") from None
    if not isinstance(found, dict):
        raise WorkbenchError(f"{path} holds {found!r}", expected="a JSON object", next=f"remove it: rm {path}")
    return found


def merge(path: Path, ours: dict[str, Any]) -> bool:
    """Set our keys and keep the others; whether that changed anything."""
    found = read(path)
    if not missing(found, ours):
        return False
    write(path, _merged(found, ours))
    return True


def write(path: Path, content: dict[str, Any]) -> None:
    """Write the file whole or not at all."""
    with complete(path) as part:
        part.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def missing(found: Any, ours: dict[str, Any]) -> list[str]:
    """Names of our keys that are not there or have another value, nested ones with dots."""
    if not isinstance(found, dict):
        return [*ours]
    names = []
    for key, value in ours.items():
        if isinstance(value, dict):
            names += [f"{key}.{name}" for name in missing(found.get(key), value)]
        elif key not in found or found[key] != value:
            names.append(key)
    return names


def _merged(found: dict[str, Any], ours: dict[str, Any]) -> dict[str, Any]:
    merged = dict(found)
    for key, value in ours.items():
        before = found.get(key)
        merged[key] = _merged(before if isinstance(before, dict) else {}, value) if isinstance(value, dict) else value
    return merged
