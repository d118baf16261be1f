"""Keys of contracts renamed since 1.0.0; contracts stored with its versions have the old names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

RENAMED_KEYS = {"target_gaps": "missing_target", "left_out_classes": "excluded_classes"}
RENAMED_COLUMN_KEYS = {
    "joined": "replacements",
    "parts": "date_parts",
    "hashes": "n_hashes",
    "unseen": "allow_unseen",
    "parse": "number_format",
    "confirmed": "no_leak_reason",
}
RENAMED_VALUES = {"missing_target": {"leave_out": "exclude"}}


def rename_keys(data: Any, new_names: Mapping[str, str]) -> Any:
    """Rename keys of a mapping; with both names it keeps both, and validation rejects it."""
    if not isinstance(data, dict):
        return data
    return {
        key if new_names.get(key, key) in data else new_names[key]: value
        for key, value in data.items()
    }
