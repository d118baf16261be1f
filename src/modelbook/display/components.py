"""What notebooks display: figures with text and data, tables, lists of findings."""

from __future__ import annotations

import base64
import io
import re
import textwrap
from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from modelbook.display import style
from modelbook.errors import ReportError
from modelbook.formatting import (
    Format,
    capitalize_first,
    format_count,
    is_numeric,
    make_column_formatters,
)

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure as MplFigure

MAX_TABLE_ROWS = 200
MAX_FIGURE_DATA_ROWS = 50
MAX_SVG_BYTES = 150_000
SVG_METADATA = {"Date": None, "Creator": None}  # the same data gives the same bytes
MAX_NAME_CHARS = 80
LONG_TEXT = 60  # characters of a cell at which a narrow screen gives its column room


class Figure:
    """A figure with alternative text, a caption and its data.

    Parameters
    ----------
    figure : matplotlib.figure.Figure or None
        The drawing; None if there is nothing to show.
    alt : str
        Alternative text: what the figure shows, with its main number.
    summary : str, optional
        The sentence above the figure; by default ``alt``. Shorter where the figure has many
        panels.
    data : pandas.DataFrame, optional
        The data of the figure, in a collapsed table below it.
    caption : str
        How to read it.
    """

    def __init__(
        self,
        figure: MplFigure | None,
        *,
        alt: str,
        data: pd.DataFrame | None = None,
        caption: str = "",
        summary: str = "",
    ) -> None:
        if not alt.strip():
            raise ReportError(
                "a figure has no alternative text", expected="a sentence that describes it"
            )
        self.figure = figure
        self.alt = alt
        self.data = data
        self.caption = caption
        self.summary = summary or alt

    def to_svg(self) -> str:
        """Render the figure as SVG whose colours follow the light or dark page."""
        text = self._draw_svg("none")
        svg = re.sub(r"^.*?(?=<svg)", "", text, flags=re.DOTALL)
        return style.show_hover_texts(style.adapt_to_dark_mode(svg))

    def to_svg_file(self) -> str:
        """Render the figure as an SVG file on a white background.

        The axes have fixed margins: fitting them to their labels takes half of the time.
        """
        if self.figure is not None:
            self.figure.set_layout_engine(None)
            self.figure.subplots_adjust(left=0.2, bottom=0.16, wspace=0.35, hspace=0.35)
        text = self._draw_svg(style.PAPER)
        return style.show_hover_texts(text)

    def to_png(self) -> bytes:
        """Render the figure as PNG on a white background."""
        buffer = io.BytesIO()
        style.apply_style(self._require_drawing().savefig)(
            buffer, format="png", dpi=150, facecolor=style.PAPER
        )
        return buffer.getvalue()

    @style.apply_style
    def _draw_svg(self, facecolor: str) -> str:
        """The SVG that ``savefig`` would write, which draws twice: first for the layout alone."""
        from matplotlib.backends.backend_svg import FigureCanvasSVG

        drawing = self._require_drawing()
        engine = drawing.get_layout_engine()
        dpi = drawing.dpi
        canvas = FigureCanvasSVG(drawing)
        buffer = io.StringIO()
        drawing.set_facecolor(facecolor)
        if engine is not None:
            engine.execute(drawing)
            drawing.set_layout_engine("none")
        canvas.print_svg(buffer, metadata=SVG_METADATA)  # type: ignore[no-untyped-call]
        drawing.set_dpi(dpi)
        drawing.set_layout_engine(engine)
        return buffer.getvalue()

    def _require_drawing(self) -> MplFigure:
        if self.figure is None:
            raise ReportError("there is nothing to draw", expected="a figure with data")
        return self.figure

    def _repr_html_(self) -> str:
        caption = f"<figcaption>{escape(self.caption)}</figcaption>" if self.caption else ""
        # A screen reader reads it once, as the image's text.
        hidden_attribute = ' aria-hidden="true"' if self.summary == self.alt else ""
        summary_html = (
            f'<p class="found"{hidden_attribute}>{escape(capitalize_first(self.summary))}</p>'
            if self.figure is not None
            else ""
        )
        content = f"{summary_html}{self._render_image()}{caption}{self._render_data()}"
        return f'<figure class="figure" style="margin-left:0;margin-right:0">{content}</figure>'

    def _render_image(self) -> str:
        if self.figure is None:
            return f'<p class="nothing">{escape(self.alt)}</p>'
        svg = self.to_svg()
        width = _measure_pixel_width(self.figure)
        picture = (
            _render_svg(self.figure, svg, self.alt)
            if len(svg) <= MAX_SVG_BYTES
            else self._render_png(width)
        )
        name = escape(f"Figure: {self.short_name}")
        return f'<div class="scroll" tabindex="0" role="group" aria-label="{name}">{picture}</div>'

    @property
    def short_name(self) -> str:
        """The beginning of the alternative text, by which figures are distinguished."""
        words = re.split(r"[.;:,(] |[.;]$", self.alt, maxsplit=1)[0]
        return textwrap.shorten(words, MAX_NAME_CHARS, placeholder=" …")

    def _render_png(self, width: int) -> str:
        source = base64.b64encode(self.to_png()).decode()
        return (
            f'<img class="png" alt="{escape(self.alt)}" width="{width}" '
            f'style="background:#fff;min-width:{round(width * 0.72)}px" '
            f'src="data:image/png;base64,{source}">'
        )

    def _render_data(self) -> str:
        if self.data is None or self.data.empty:
            return ""
        table = _render_table(
            self.data, "", {}, index=_has_named_index(self.data), max_rows=MAX_FIGURE_DATA_ROWS
        )
        name = escape(f"The numbers: {self.short_name}")
        summary = f'<summary aria-label="{name}">The numbers</summary>'
        return f'<details class="numbers">{summary}{table}</details>'

    def __repr__(self) -> str:
        return f"Figure: {self.alt}"


class Table:
    """A table with a caption, headers and aligned numbers.

    Parameters
    ----------
    frame : pandas.DataFrame
        The data to show; at most 200 rows are shown.
    caption : str
        What the table holds.
    summary : str or function, optional
        A sentence above the table, or a function that computes it from the frame. Of a frame
        without rows only this is shown, with the reason why there are none.
    formats : mapping, optional
        Column to format: a format specification such as ``".1%"``, or a function of the value.
    index : bool
        Whether to show the index as row headers.
    """

    def __init__(
        self,
        frame: pd.DataFrame,
        *,
        caption: str,
        summary: str | Callable[[pd.DataFrame], str] = "",
        formats: Mapping[str, str | Callable[[Any], str]] | None = None,
        index: bool = False,
    ) -> None:
        if not caption.strip():
            raise ReportError("a table has no caption", expected="its content, in a few words")
        unknown = [name for name in formats or {} if name not in frame.columns]
        if unknown:
            raise ReportError(
                f"formats are given for unknown columns {unknown}",
                expected=f"columns of the table: {[*frame.columns]}",
            )
        self.frame = frame
        self.caption = caption
        self.formats = dict(formats or {})
        self.index = index
        self.summary = summary(frame) if callable(summary) else summary

    def _repr_html_(self) -> str:
        if self.frame.empty:
            return f'<p class="nothing">{escape(self.summary or f"{self.caption}: none.")}</p>'
        summary_html = f'<p class="found">{escape(self.summary)}</p>' if self.summary else ""
        return summary_html + _render_table(
            self.frame, self.caption, self.formats, index=self.index, max_rows=MAX_TABLE_ROWS
        )

    def __repr__(self) -> str:
        return f"Table: {self.caption} ({format_count(len(self.frame), 'row')})"


class DisplayGroup:
    """Figures and tables on one question, one below the other."""

    def __init__(self, *items: Figure | Table) -> None:
        self.items = items

    def _repr_html_(self) -> str:
        return "".join(item._repr_html_() for item in self.items)

    def __repr__(self) -> str:
        return "\n".join(map(repr, self.items))


def list_figures(displayed: Figure | Table | DisplayGroup) -> list[Figure]:
    """Return the figures of a group, or the one that is shown alone."""
    items = displayed.items if isinstance(displayed, DisplayGroup) else (displayed,)
    return [item for item in items if isinstance(item, Figure)]


class BulletList:
    """A list of computed sentences."""

    def __init__(self, items: Sequence[str]) -> None:
        if isinstance(items, str):
            raise ReportError(f"the items are a string: {items!r}", expected="a list of sentences")
        self.items = [str(sentence) for sentence in items]

    def _repr_html_(self) -> str:
        if not self.items:
            return '<p class="nothing">Nothing to report.</p>'
        items = "".join(f"<li>{escape(sentence)}</li>" for sentence in self.items)
        return f'<ul class="findings">{items}</ul>'

    def __repr__(self) -> str:
        return "\n".join(f"- {sentence}" for sentence in self.items) or "Nothing to report."


def _render_svg(figure: MplFigure, svg: str, alt: str) -> str:
    """The SVG of a figure, and the drawing that takes its place on a narrow screen, if any."""
    from modelbook.display import narrow_figure  # it draws with plotting, which imports this module

    redrawn = narrow_figure.redraw_for_narrow_screen(figure)
    picture = style.make_embeddable(
        svg, alt, _measure_pixel_width(figure), has_narrow=redrawn is not None
    )
    if redrawn is None:
        return picture
    narrow_svg = Figure(redrawn, alt=alt).to_svg()
    return picture + style.make_embeddable(
        narrow_svg, alt, _measure_pixel_width(redrawn), is_narrow=True
    )


def _measure_pixel_width(figure: MplFigure) -> int:
    return round(figure.get_figwidth() * style.PIXELS_PER_INCH)


def empty_figure(subject: str, reason: str = "") -> Figure:
    """Return the placeholder for a figure without data: the reason, if it is known."""
    return Figure(None, alt=reason or f"{subject}: nothing to show.")


def _render_table(
    frame: pd.DataFrame, caption: str, formats: Mapping[str, Format], *, index: bool, max_rows: int
) -> str:
    note = f"The first {max_rows:,} of {len(frame):,} rows." if len(frame) > max_rows else ""
    visible_rows = frame.head(max_rows)
    right_aligned = [is_numeric(column) for _, column in visible_rows.items()]
    cell_formatters = make_column_formatters(visible_rows, formats)
    column_names = [_format_label(column).replace("_", " ") for column in visible_rows.columns]
    header_texts = ([str(visible_rows.index.name or "")] if index else []) + column_names
    alignments = ([False] if index else []) + right_aligned
    header_html = "".join(
        _render_cell("th", text, is_right_aligned, ' scope="col"')
        for text, is_right_aligned in zip(header_texts, alignments, strict=True)
    )
    body_html = ""
    for label, cells in zip(
        visible_rows.index,
        _render_body_cells(visible_rows, cell_formatters, right_aligned),
        strict=True,
    ):
        row_header = (
            [_render_cell("th", _format_label(label), False, ' scope="row"')] if index else []
        )
        body_html += f"<tr>{''.join(row_header + cells)}</tr>"
    title, explanation = _split_caption(caption)
    caption_content = " ".join(
        f"<{tag}>{escape(text)}</{tag}>"
        for tag, text in [("b", title), ("span", explanation), ("i", note)]
        if text
    )
    caption_html = (
        f'<caption style="text-align:left">{caption_content}</caption>' if caption_content else ""
    )
    return (
        '<div class="scroll" tabindex="0" role="group" '
        f'aria-label="{escape(title or "The numbers")}">'
        f'<table class="table">{caption_html}'
        f"<thead><tr>{header_html}</tr></thead><tbody>{body_html}</tbody></table></div>"
    )


def _split_caption(caption: str) -> tuple[str, str]:
    """The first sentence of a caption, which names the table, and the rest, which explains it."""
    title, stop, explanation = caption.partition(". ")
    return title + stop.strip(), explanation


def _render_body_cells(
    frame: pd.DataFrame, cell_formatters: list[Callable[[Any], str]], right_aligned: list[bool]
) -> list[list[str]]:
    # Not by iterrows, which would change the values' types.
    return [
        [
            _render_cell("td", format_value(value), is_right_aligned)
            for value, format_value, is_right_aligned in zip(
                row, cell_formatters, right_aligned, strict=True
            )
        ]
        for row in frame.itertuples(index=False, name=None)
    ]


def _render_cell(tag: str, text: str, is_right_aligned: bool, attributes: str = "") -> str:
    class_name = "num" if is_right_aligned else "long" if len(text) > LONG_TEXT else ""
    side = "right" if is_right_aligned else "left"
    alignment = (f' class="{class_name}"' if class_name else "") + f' style="text-align:{side}"'
    return f"<{tag}{attributes}{alignment}>{escape(text)}</{tag}>"


def _format_label(label: Any) -> str:
    if isinstance(label, tuple):
        return " · ".join(str(part) for part in label if str(part))
    return str(label)


def _has_named_index(frame: pd.DataFrame) -> bool:
    """Whether the index carries labels rather than a plain row count."""
    import pandas as pd

    from modelbook.contract.parsing import may_contain_text

    return not isinstance(frame.index, pd.RangeIndex) and may_contain_text(frame.index)
