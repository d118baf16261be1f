"""Merge three versions of a YAML file by key: the user's comments, order and values stay.

Changes of the template alone are applied: values, comments, new keys, removed keys. Where both have
changed a value, the user's stays, and the conflict is reported by its key. The name of a list item
identifies it: the ``name`` of a mapping, or a package without its version.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from io import StringIO
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import YAMLError
from ruamel.yaml.util import load_yaml_guess_indent

WIDTH = 1_000_000  # no line of the user's is folded
_ABSENT: Any = object()


def merge_yaml(base: str, current: str, template: str) -> tuple[str, list[str]] | None:
    """Merge the changes from base to template into the user's file.

    Returns
    -------
    tuple of str and list of str, or None
        The merged text, and a sentence for each conflict. None when a text is not a YAML mapping.
    """
    try:
        old, merged, new = (_load(text) for text in (base, current, template))
    except YAMLError:
        return None
    if not all(isinstance(document, CommentedMap) for document in (old, merged, new)):
        return None
    before = _dump(merged, current)
    conflicts = _merge_maps(old, merged, new, ())
    after = _dump(merged, current)
    return (current if after == before else after), conflicts


def rename_keys(
    text: str,
    new_names: Mapping[str, str],
    new_values: Mapping[str, Mapping[str, str]] | None = None,
) -> str:
    """Rename keys of a YAML file, unless it has the new name too; all else stays as it is.

    Parameters
    ----------
    new_names : dict
        By the old name, with its group: ``{"traffic.share": "challenger_share"}``. The group ``*``
        stands for each key of a mapping, or each item of a list.
    new_values : dict, optional
        By the new name of a key, new names of its values.
    """
    try:
        document = _load(text)
    except YAMLError:
        return text
    renames = []  # row and column of a name, the name and its new one
    for path, new in new_names.items():
        *groups, old = path.split(".")
        for mapping in _find_groups(document, groups):
            if old in mapping and new not in mapping:
                renames.append((*mapping.lc.key(old), old, new))
    for key, values in (new_values or {}).items():
        for name in [key, *(old for old, new in new_names.items() if new == key)]:
            if isinstance(document, CommentedMap) and document.get(name) in [*values]:
                old = document[name]
                renames.append((*document.lc.value(name), old, values[old]))
    lines = [*StringIO(text, newline="")]  # YAML's lines: str.splitlines also splits at U+2028
    for row, column, old, new in sorted(renames, reverse=True):
        line = lines[row]
        lines[row] = line[:column] + line[column:].replace(old, new, 1)
    return "".join(lines)


def _find_groups(document: Any, groups: Sequence[str]) -> Iterator[CommentedMap]:
    if isinstance(document, CommentedSeq) and groups[:1] == ["*"]:
        for item in document:
            yield from _find_groups(item, groups[1:])
    if not isinstance(document, CommentedMap):
        return
    if not groups:
        yield document
        return
    for name in document if groups[0] == "*" else groups[:1]:
        yield from _find_groups(document.get(name), groups[1:])


def _load(text: str) -> Any:
    yaml = YAML()
    yaml.preserve_quotes = True
    return yaml.load(text)


def _dump(document: Any, style: str) -> str:
    """Write a document with the indentation of a text."""
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = WIDTH
    _, indent, offset = load_yaml_guess_indent(style)
    yaml.indent(mapping=2, sequence=(indent or 2), offset=(offset or 0))
    stream = StringIO()
    yaml.dump(document, stream)
    return stream.getvalue()


def _merge_maps(
    base: CommentedMap, current: CommentedMap, template: CommentedMap, path: tuple[str, ...]
) -> list[str]:
    conflicts: list[str] = []
    for key in list(dict.fromkeys([*base, *template])):
        values = [document.get(key, _ABSENT) for document in (base, current, template)]
        merged, new_conflicts = _merge_values(values, (*path, str(key)))
        conflicts += new_conflicts
        if merged is _ABSENT:
            current.pop(key, None)
        elif key in current:
            current[key] = merged
            _update_comment(key, base, current, template)
        else:
            position = _find_position(key, list(current), list(template))
            current.insert(position, key, deepcopy(merged))
            _copy_comment(key, current, template)
    return conflicts


def _merge_values(values: list[Any], path: tuple[str, ...]) -> tuple[Any, list[str]]:
    """Merge a value of base, user and template; ``_ABSENT`` marks a missing one."""
    base, current, template = values
    if all(isinstance(value, CommentedMap) for value in values):
        return current, _merge_maps(base, current, template, path)
    if all(isinstance(value, CommentedSeq) for value in values):
        return current, _merge_lists(base, current, template, path)
    if _is_equal(template, base) or _is_equal(template, current):
        return current, []
    if _is_equal(current, base):
        return template, []
    if current is _ABSENT:  # the user removed it: it stays removed
        return current, []
    yours, theirs = _format_value(current), _format_value(template)
    return current, [f"{'.'.join(path)}: yours is {yours}, the template's {theirs}"]


def _merge_lists(
    base: CommentedSeq, current: CommentedSeq, template: CommentedSeq, path: tuple[str, ...]
) -> list[str]:
    conflicts: list[str] = []
    tables = [{_get_item_name(item): item for item in items} for items in (base, current, template)]
    for name in list(dict.fromkeys([*tables[0], *tables[2]])):
        values = [table.get(name, _ABSENT) for table in tables]
        merged, new_conflicts = _merge_values(values, (*path, name))
        conflicts += new_conflicts
        names = [_get_item_name(item) for item in current]
        if merged is _ABSENT and name in names:
            del current[names.index(name)]
        elif name in names:
            current[names.index(name)] = merged
        elif merged is not _ABSENT:
            current.insert(_find_position(name, names, list(tables[2])), deepcopy(merged))
    return conflicts


def _get_item_name(item: Any) -> str:
    """Return the name that identifies an item of a list."""
    if isinstance(item, CommentedMap):
        return str(item.get("name") or f"{next(iter(item), '')}:")
    return re.split(r"[=<>~!\[; ]", str(item))[0]


def _find_position(name: str, names: list[str], template_names: list[str]) -> int:
    """Return the position of a new name: after the one that precedes it in the template."""
    preceding = template_names[: template_names.index(name)]
    last_common = next((other for other in reversed(preceding) if other in names), None)
    return 0 if last_common is None else names.index(last_common) + 1


def _update_comment(
    key: str, base: CommentedMap, current: CommentedMap, template: CommentedMap
) -> None:
    """Use the template's comment of a key, unless the user has changed it."""
    texts = [_get_comment_text(document, key) for document in (base, current, template)]
    if texts[0] == texts[1] != texts[2]:
        _copy_comment(key, current, template)


def _copy_comment(key: str, current: CommentedMap, template: CommentedMap) -> None:
    comment = template.ca.items.get(key)
    if comment is None:
        current.ca.items.pop(key, None)
    else:
        current.ca.items[key] = deepcopy(comment)


def _get_comment_text(document: CommentedMap, key: str) -> str:
    tokens = document.ca.items.get(key) or []
    flat = [token for part in tokens for token in (part if isinstance(part, list) else [part])]
    return "".join(token.value for token in flat if token is not None)


def _is_equal(first: Any, second: Any) -> bool:
    """Whether two values are equal; 1 is not true."""
    return first == second and isinstance(first, bool) == isinstance(second, bool)


def _format_value(value: Any) -> str:
    return "removed" if value is _ABSENT else repr(value)
