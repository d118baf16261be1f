"""What notebooks display: a figure with its words and numbers, a table, a list of findings."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from modelbook.errors import ReportError
from modelbook.report import style
from modelbook.report.numbers import Format, formatters, is_numeric

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure as Drawing

ROWS = 200
FIGURE_ROWS = 50
SVG_BYTES = 150_000


class Figure:
    """A drawing that can also be read: alternative text, a caption, and the numbers behind it.

    Parameters
    ----------
    figure : matplotlib.figure.Figure or None
        The drawing; None where there is nothing to show.
    alt : str
        What the drawing says, with its main number, for those who do not see it.
    found : str, optional
        The sentence above it; by default ``alt``. Something shorter where the drawing has many panels.
    data : pandas.DataFrame, optional
        The numbers behind the drawing, folded under it.
    caption : str
        How to read it.
    """

    def __init__(
        self, figure: Drawing | None, *, alt: str, data: pd.DataFrame | None = None, caption: str = "", found: str = ""
    ) -> None:
        if not alt.strip():
            raise ReportError("a figure has no alternative text", expected="what it says, in a sentence")
        self.figure, self.alt, self.data, self.caption, self.found = figure, alt, data, caption, found or alt

    def svg(self) -> str:
        """The drawing as SVG whose colours follow the reader's light or dark page."""
        text = self._save("svg", metadata={"Date": None, "Creator": None}).decode()
        return style.adaptive(re.sub(r"^.*?(?=<svg)", "", text, flags=re.DOTALL))

    def png(self) -> bytes:
        """The drawing as PNG, on white paper."""
        return self._save("png", dpi=150, facecolor=style.PAPER)

    @style.styled
    def _save(self, kind: str, **options: Any) -> bytes:
        if self.figure is None:
            raise ReportError("there is nothing to draw", expected="a figure with data")
        buffer = io.BytesIO()
        self.figure.savefig(buffer, format=kind, **options)
        return buffer.getvalue()

    def _repr_html_(self) -> str:
        caption = f"<figcaption>{escape(self.caption)}</figcaption>" if self.caption else ""
        said = ' aria-hidden="true"' if self.found == self.alt else ""  # a screen reader says it once, as the picture's
        found = f'<p class="found"{said}>{escape(self.found)}</p>' if self.figure is not None else ""
        shown = f"{found}{self._picture()}{caption}{self._numbers()}"
        return f'<figure class="figure" style="margin-left:0;margin-right:0">{shown}</figure>'

    def _picture(self) -> str:
        if self.figure is None:
            return f'<p class="nothing">{escape(self.alt)}</p>'
        source, kind = self.svg().encode(), "svg+xml"
        if len(source) > SVG_BYTES:
            source, kind = self.png(), "png"
        width = round(self.figure.get_figwidth() * 96)
        # In a notebook, paper that turns dark together with the drawing; the page takes it away again.
        paper = "Canvas" if kind == "svg+xml" else "#fff"
        return (
            f'<div class="scroll" tabindex="0" role="group" aria-label="Figure">'
            f'<img class="{kind[:3]}" alt="{escape(self.alt)}" width="{width}" '
            f'style="background:{paper};min-width:{round(width * 0.72)}px" '
            f'src="data:image/{kind};base64,{base64.b64encode(source).decode()}"></div>'
        )

    def _numbers(self) -> str:
        if self.data is None or self.data.empty:
            return ""
        table = _table(self.data, "", {}, index=_is_named(self.data), rows=FIGURE_ROWS)
        return f'<details class="numbers"><summary>The numbers</summary>{table}</details>'

    def __repr__(self) -> str:
        return f"Figure: {self.alt}"


class Table:
    """A table with a caption, headers that say what they head, and numbers that line up.

    Parameters
    ----------
    frame : pandas.DataFrame
        What to show; at most 200 rows of it.
    caption : str
        What the table holds.
    found : str or function, optional
        What the table says, in a sentence that stands above it; a function is given the table.
    formats : mapping, optional
        Column to format: a format specification such as ``".1%"``, or a function of the value.
    index : bool
        Show the index as the rows' headers.
    """

    def __init__(
        self,
        frame: pd.DataFrame,
        *,
        caption: str,
        found: str | Callable[[pd.DataFrame], str] = "",
        formats: Mapping[str, str | Callable[[Any], str]] | None = None,
        index: bool = False,
    ) -> None:
        if not caption.strip():
            raise ReportError("a table has no caption", expected="what it holds, in a few words")
        unknown = [name for name in formats or {} if name not in frame.columns]
        if unknown:
            raise ReportError(
                f"formats name the columns {unknown}", expected=f"columns of the table: {[*frame.columns]}"
            )
        self.frame, self.caption, self.formats, self.index = frame, caption, dict(formats or {}), index
        self.found = found(frame) if callable(found) else found

    def _repr_html_(self) -> str:
        found = f'<p class="found">{escape(self.found)}</p>' if self.found else ""
        if self.frame.empty:
            return f'{found}<p class="nothing">{escape(self.caption)}: no rows.</p>'
        return found + _table(self.frame, self.caption, self.formats, index=self.index, rows=ROWS)

    def __repr__(self) -> str:
        return f"Table: {self.caption} ({len(self.frame):,} rows)"


class Together:
    """Figures and tables that answer one question, one below the other."""

    def __init__(self, *parts: Figure | Table) -> None:
        self.parts = parts

    def _repr_html_(self) -> str:
        return "".join(part._repr_html_() for part in self.parts)

    def __repr__(self) -> str:
        return "\n".join(map(repr, self.parts))


class Findings:
    """A list of plain sentences that code computed."""

    def __init__(self, sentences: Sequence[str]) -> None:
        if isinstance(sentences, str):
            raise ReportError(f"findings are one text {sentences!r}", expected="a list of sentences")
        self.sentences = [str(sentence) for sentence in sentences]

    def _repr_html_(self) -> str:
        if not self.sentences:
            return '<p class="nothing">Nothing to report.</p>'
        items = "".join(f"<li>{escape(sentence)}</li>" for sentence in self.sentences)
        return f'<ul class="findings">{items}</ul>'

    def __repr__(self) -> str:
        return "\n".join(f"- {sentence}" for sentence in self.sentences) or "Nothing to report."


def nothing(what: str) -> Figure:
    """The figure that stands where there is no data for one."""
    return Figure(None, alt=f"{what}: nothing to show.")


def _table(frame: pd.DataFrame, caption: str, formats: Mapping[str, Format], *, index: bool, rows: int) -> str:
    note = f"The first {rows:,} of {len(frame):,} rows." if len(frame) > rows else ""
    shown = frame.head(rows)
    right = [is_numeric(shown.iloc[:, place]) for place in range(shown.shape[1])]
    write = formatters(shown, formats)
    names = [_name(column).replace("_", " ") for column in shown.columns]
    heads = ([str(shown.index.name or "")] if index else []) + names
    sides = ([False] if index else []) + right
    head = "".join(_cell("th", text, side, ' scope="col"') for text, side in zip(heads, sides, strict=True))
    body = ""
    for label, cells in zip(shown.index, _rows(shown, write, right), strict=True):
        first = [_cell("th", _name(label), False, ' scope="row"')] if index else []
        body += f"<tr>{''.join(first + cells)}</tr>"
    words = " ".join(f"<{tag}>{escape(text)}</{tag}>" for tag, text in [("b", caption), ("i", note)] if text)
    titled = f'<caption style="text-align:left">{words}</caption>' if words else ""
    return (
        f'<div class="scroll" tabindex="0" role="group" aria-label="{escape(caption or "The numbers")}">'
        f'<table class="table">{titled}'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _rows(frame: pd.DataFrame, write: list[Callable[[Any], str]], right: list[bool]) -> list[list[str]]:
    # column by column, so that no value changes its type on the way, as it does in iterrows
    columns = [[*frame.iloc[:, place]] for place in range(frame.shape[1])]
    return [
        [_cell("td", text(value), side) for value, text, side in zip(row, write, right, strict=True)]
        for row in (zip(*columns, strict=True) if columns else [() for _ in range(len(frame))])
    ]


def _cell(tag: str, text: str, right: bool, more: str = "") -> str:
    side = ' class="num" style="text-align:right"' if right else ' style="text-align:left"'
    return f"<{tag}{more}{side}>{escape(text)}</{tag}>"


def _name(label: Any) -> str:
    return " · ".join(str(part) for part in label if str(part)) if isinstance(label, tuple) else str(label)


def _is_named(frame: pd.DataFrame) -> bool:
    """Whether the index says something: a plain count of rows does not."""
    import pandas as pd

    return not isinstance(frame.index, pd.RangeIndex) and frame.index.dtype == object
