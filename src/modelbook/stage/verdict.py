"""Verdict of a stage: its status, with sentences, key figures and the next step."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

from modelbook.config.renamed_keys import RENAMED_LEVELS
from modelbook.errors import ReportError
from modelbook.formatting import describe_key_number, format_key_number

MIME_TYPE = "application/vnd.modelbook.verdict+json"
MAX_SENTENCES = 9
LEVELS = ("good", "warning", "bad")
LEVEL_SYMBOLS = {"good": "✓", "warning": "!", "bad": "✕"}  # color is never the only signal
LEVEL_COLORS = {"good": "#00694f", "warning": "#8a5a00", "bad": "#b03a00"}  # below white text


@dataclass(frozen=True)
class Verdict:
    """Conclusion of a stage, as shown in reports and the index and stored in receipts."""

    stage: str
    book: str
    status: str
    level: str
    sentences: Sequence[str]
    numbers: Sequence[Mapping[str, Any]] = ()
    next: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)
    details: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("stage", "book", "status"):
            _check_text(name, getattr(self, name))
        object.__setattr__(self, "level", RENAMED_LEVELS.get(self.level, self.level))
        if self.level not in LEVELS:
            raise ReportError(
                f"a verdict's level is {self.level!r}", expected=f"one of {', '.join(LEVELS)}"
            )
        object.__setattr__(self, "sentences", _check_sentences(self.sentences))
        object.__setattr__(self, "numbers", tuple(_check_key_number(item) for item in self.numbers))
        object.__setattr__(self, "facts", to_jsonable(self.facts))
        object.__setattr__(self, "details", to_jsonable(self.details))

    def to_dict(self) -> dict[str, Any]:
        """Return the verdict as plain JSON, as stored in receipts."""
        return {name: to_jsonable(getattr(self, name)) for name in self.__dataclass_fields__}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Verdict:
        """Create a verdict from the output of ``to_dict``; unknown keys are ignored."""
        try:
            return cls(
                **{name: values[name] for name in cls.__dataclass_fields__ if name in values}
            )
        except (TypeError, AttributeError) as error:
            raise ReportError(
                f"this is not a verdict: {error}", expected="the output of Verdict.to_dict()"
            ) from error

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        return {
            MIME_TYPE: self.to_dict(),
            "text/html": _render_verdict(self),
            "text/plain": str(self),
        }

    def __str__(self) -> str:
        lines = [f"{LEVEL_SYMBOLS[self.level]} {self.status} · {self.stage} · {self.book}"]
        lines += [f"  {sentence}" for sentence in self.sentences]
        for number in self.numbers:
            context = describe_key_number(number)
            lines.append(
                f"  {number['name']}: {format_key_number(number)}"
                + (f" ({context})" if context else "")
            )
        return "\n".join(lines + ([f"  Next: {self.next}"] if self.next else []))


def to_jsonable(value: Any) -> Any:
    """Convert to JSON types: NumPy scalars to numbers, NaN to null, other objects to text."""
    if hasattr(value, "item") and not isinstance(value, Mapping | str):
        value = value.item() if getattr(value, "size", 1) == 1 else value.tolist()
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): to_jsonable(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [to_jsonable(item) for item in value]
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


def _check_text(name: str, value: Any) -> None:
    if not isinstance(value, str) or not value.strip():
        raise ReportError(f"a verdict's {name} is {value!r}", expected="a short text")


def _check_sentences(sentences: Sequence[str]) -> tuple[str, ...]:
    if isinstance(sentences, str) or not 1 <= len(sentences) <= MAX_SENTENCES:
        raise ReportError(
            f"a verdict has the sentences {sentences!r}", expected=f"a list of 1 to {MAX_SENTENCES}"
        )
    for sentence in sentences:
        _check_text("sentence", sentence)
    return tuple(sentences)


def _check_key_number(item: Mapping[str, Any]) -> dict[str, Any]:
    if not isinstance(item, Mapping) or not {"name", "value"} <= set(item):
        raise ReportError(
            f"a verdict's number is {item!r}", expected="a key number: name, value and unit"
        )
    return {"unit": "", "context": ""} | to_jsonable(item)


def _render_verdict(verdict: Verdict) -> str:
    """Render a verdict as HTML with inline styles, for light and dark themes of JupyterLab."""
    color = LEVEL_COLORS[verdict.level]
    sentences = "".join(
        f'<p style="margin:.35em 0">{escape(text)}</p>' for text in verdict.sentences
    )
    numbers = "".join(_key_number_html(item) for item in verdict.numbers)
    next_step = f"<b>Next:</b> {escape(verdict.next)}" if verdict.next else ""
    return (
        f'<section aria-label="Verdict" style="border-left:5px solid {color};padding:.3em 0 '
        ".3em 1.1em;"
        'margin:.5em 0;max-width:52em;line-height:1.5">'
        '<p style="margin:.2em 0 .6em"><span '
        f'style="background:{color};color:#fff;font-weight:600;'
        f'padding:.22em .8em;border-radius:1em">{LEVEL_SYMBOLS[verdict.level]} '
        f"{escape(verdict.status)}</span>"
        f'<span style="opacity:.7;margin-left:.8em">{escape(verdict.stage)} · '
        f"{escape(verdict.book)}</span>"
        "</p>"
        f'{sentences}<div style="display:flex;flex-wrap:wrap;gap:.6em;margin:.7em '
        f'0">{numbers}</div>'
        f'<p style="margin:.35em 0">{next_step}</p></section>'
    )


def _key_number_html(item: Mapping[str, Any]) -> str:
    return (
        '<div style="border:1px solid rgba(128,128,128,.4);border-radius:.5em;padding:.45em .9em">'
        f'<div style="opacity:.75;font-size:.85em">{escape(item["name"])}</div>'
        f'<div style="font-size:1.35em;font-weight:600">{escape(format_key_number(item))}</div>'
        f'<div style="opacity:.75;font-size:.85em">{escape(describe_key_number(item))}</div></div>'
    )
