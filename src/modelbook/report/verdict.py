"""What a stage concludes: one word, the sentences and numbers behind it, what to do next."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

from modelbook.errors import ReportError

MIME = "application/vnd.modelbook.verdict+json"
LEVELS = ("good", "watch", "bad")
MARKS = {"good": "✓", "watch": "!", "bad": "✕"}  # a level is never told by its colour alone
COLOURS = {"good": "#00694f", "watch": "#8a5a00", "bad": "#b03a00"}  # white text reads on each


@dataclass(frozen=True)
class Verdict:
    """A stage's conclusion, the same for the page's reader, the index and machines."""

    stage: str
    book: str
    word: str
    level: str
    sentences: Sequence[str]
    numbers: Sequence[Mapping[str, str]] = ()
    next: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)
    details: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("stage", "book", "word"):
            _check_text(name, getattr(self, name))
        if self.level not in LEVELS:
            raise ReportError(f"a verdict's level is {self.level!r}", expected=f"one of {', '.join(LEVELS)}")
        object.__setattr__(self, "sentences", _checked_sentences(self.sentences))
        object.__setattr__(self, "numbers", tuple(_number(item) for item in self.numbers))
        object.__setattr__(self, "facts", plain(self.facts))
        object.__setattr__(self, "details", plain(self.details))

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain JSON: what receipts hold and what the index reads."""
        return {
            "stage": self.stage,
            "book": self.book,
            "word": self.word,
            "level": self.level,
            "sentences": list(self.sentences),
            "numbers": [dict(item) for item in self.numbers],
            "next": self.next,
            "facts": plain(self.facts),
            "details": plain(self.details),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Verdict:
        """The verdict that `to_dict` wrote; keys it does not know are left alone."""
        try:
            return cls(**{name: values[name] for name in cls.__dataclass_fields__ if name in values})
        except (TypeError, AttributeError) as error:
            raise ReportError(f"this is not a verdict: {error}", expected="what Verdict.to_dict() wrote") from error

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        return {MIME: self.to_dict(), "text/html": _html(self), "text/plain": str(self)}

    def __str__(self) -> str:
        lines = [f"{MARKS[self.level]} {self.word} · {self.stage} · {self.book}"]
        lines += [f"  {sentence}" for sentence in self.sentences]
        lines += [f"  {n['name']}: {n['value']}" + (f" ({n['beside']})" if n["beside"] else "") for n in self.numbers]
        return "\n".join(lines + ([f"  Next: {self.next}"] if self.next else []))


def plain(value: Any) -> Any:
    """Only what JSON can hold: numpy scalars become numbers, NaN becomes null, the rest its text."""
    if hasattr(value, "item") and not isinstance(value, Mapping | str):
        value = value.item() if getattr(value, "size", 1) == 1 else value.tolist()
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


def _check_text(name: str, value: Any) -> None:
    if not isinstance(value, str) or not value.strip():
        raise ReportError(f"a verdict's {name} is {value!r}", expected="a short text")


def _checked_sentences(sentences: Sequence[str]) -> tuple[str, ...]:
    if isinstance(sentences, str) or not 1 <= len(sentences) <= 5:
        raise ReportError(f"a verdict has the sentences {sentences!r}", expected="a list of one to five")
    for sentence in sentences:
        _check_text("sentence", sentence)
    return tuple(sentences)


def _number(item: Mapping[str, Any]) -> dict[str, str]:
    if not isinstance(item, Mapping) or not {"name", "value"} <= set(item):
        raise ReportError(f"a verdict's number is {item!r}", expected="name, value and what stands beside it")
    beside = item.get("beside")
    return {
        "name": str(item["name"]),
        "value": str(item["value"]),
        "beside": "" if beside is None else str(beside),
    }


def _html(verdict: Verdict) -> str:
    """Looks right inside JupyterLab, light or dark: it brings its styles and borrows the text's colour."""
    colour = COLOURS[verdict.level]
    sentences = "".join(f'<p style="margin:.35em 0">{escape(text)}</p>' for text in verdict.sentences)
    numbers = "".join(_card(item) for item in verdict.numbers)
    following = f"<b>Next:</b> {escape(verdict.next)}" if verdict.next else ""
    return (
        f'<section aria-label="Verdict" style="border-left:5px solid {colour};padding:.3em 0 .3em 1.1em;'
        'margin:.5em 0;max-width:52em;line-height:1.5">'
        f'<p style="margin:.2em 0 .6em"><span style="background:{colour};color:#fff;font-weight:600;'
        f'padding:.22em .8em;border-radius:1em">{MARKS[verdict.level]} {escape(verdict.word)}</span>'
        f'<span style="opacity:.7;margin-left:.8em">{escape(verdict.stage)} · {escape(verdict.book)}</span>'
        "</p>"
        f'{sentences}<div style="display:flex;flex-wrap:wrap;gap:.6em;margin:.7em 0">{numbers}</div>'
        f'<p style="margin:.35em 0">{following}</p></section>'
    )


def _card(item: Mapping[str, str]) -> str:
    return (
        '<div style="border:1px solid rgba(128,128,128,.4);border-radius:.5em;padding:.45em .9em">'
        f'<div style="opacity:.75;font-size:.85em">{escape(item["name"])}</div>'
        f'<div style="font-size:1.35em;font-weight:600">{escape(item["value"])}</div>'
        f'<div style="opacity:.75;font-size:.85em">{escape(item["beside"])}</div></div>'
    )
