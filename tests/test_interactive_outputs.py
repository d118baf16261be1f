"""Interactive notebook outputs in reports: rendered as image, or replaced by a note."""

from __future__ import annotations

import base64
import re
from typing import Any

import nbformat.v4 as nbformat
import pytest

from modelbook.pages import executed_notebook
from modelbook.pages.interactive_outputs import PLOTLY_TYPE, WIDGET_TYPE

FIGURE = {
    "data": [{"type": "bar", "x": [1, 2], "y": [3, 4]}],
    "layout": {"title": {"text": "Ages <b>of members</b>"}},
}


def render_output(data: dict[str, Any]) -> dict[str, Any]:
    """HTML of an output in a report."""
    cell = nbformat.new_code_cell("x", outputs=[nbformat.new_output("display_data", data)])
    notebook = nbformat.new_notebook(cells=[nbformat.new_markdown_cell("# a"), cell])
    [cell] = executed_notebook.prepare_cells(notebook).cells
    return dict(cell.outputs[0].data)


@pytest.mark.long
@pytest.mark.requires("browser")
def test_plotly_figure_is_rendered_as_image_with_title() -> None:
    script = "<div></div><script>Plotly.newPlot()</script>"
    html = render_output({PLOTLY_TYPE: FIGURE, "text/html": script})["text/html"]
    [alt, source] = re.search(
        r'alt="([^"]+)" src="data:image/svg\+xml;base64,([^"]+)"', html
    ).groups()
    assert "Ages" in alt
    assert "of members" in alt
    assert b"<svg" in base64.b64decode(source)
    assert "script" not in html


@pytest.mark.long
def test_unrenderable_figure_is_named() -> None:
    html = render_output({PLOTLY_TYPE: {"data": 3, "layout": {"title": "Ages"}}})["text/html"]
    assert "Omitted" in html
    assert "Ages" in html


@pytest.mark.parametrize(
    ("data", "fact"),
    [
        ({WIDGET_TYPE: {}, "text/plain": "IntSlider(value=0)"}, "IntSlider"),
        ({"text/html": "<style>a {}</style><div id='x'></div><script>f()</script>"}, "JavaScript"),
        ({"application/vnd.vegalite.v5+json": {}, "text/plain": "<VegaLite>"}, "vegalite"),
    ],
)
def test_widgets_and_scripts_are_replaced_by_a_note(data: dict[str, Any], fact: str) -> None:
    html = render_output(data)["text/html"]
    assert "Omitted" in html
    assert fact in html


@pytest.mark.parametrize(
    ("data", "static"),
    [
        ({"text/html": "<script>load()</script>"}, {}),
        (
            {"text/html": "<div></div><script>f()</script>", "image/png": "iVBO"},
            {"image/png": "iVBO"},
        ),
        (
            {"text/html": "<p>a</p>", "text/plain": "a"},
            {"text/html": "<p>a</p>", "text/plain": "a"},
        ),
        ({"text/plain": "a"}, {"text/plain": "a"}),
    ],
)
def test_static_outputs_are_unchanged(data: dict[str, Any], static: dict[str, Any]) -> None:
    assert render_output(data) == static
