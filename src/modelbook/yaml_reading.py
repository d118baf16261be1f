"""Read YAML with libyaml, in a ninth of the time that Python takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from modelbook.errors import ModelbookError
from modelbook.redaction import redact

_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # PyYAML may be built without libyaml


def load_yaml(text: str | bytes) -> Any:
    """Parse a YAML document.

    Raises
    ------
    yaml.YAMLError
        If it is not valid; the message shows the line.
    """
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.YAMLError:
        return yaml.safe_load(text)  # libyaml's messages do not show the line


def load_mapping(
    text: str | bytes,
    path: Path,
    error_type: type[ModelbookError],
    *,
    expected: str = "lines `name: value`",
    next: str = "correct its syntax",
) -> dict[str, Any]:
    """Parse a YAML document that is a mapping; an empty one has no values.

    Raises
    ------
    error_type
        If it is not valid YAML, or not a mapping. ``path`` is the file that is named.
    """
    try:
        content = load_yaml(text) or {}
    except yaml.YAMLError as error:
        raise error_type(f"{path} is not valid YAML: {error}", next="correct its syntax") from None
    if not isinstance(content, dict):
        raise error_type(f"{path} holds {redact(repr(content))}", expected=expected, next=next)
    return content
