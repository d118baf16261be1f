"""Archived pages: rewritten links, notice, and figures found for comparison."""

from __future__ import annotations

import base64
import re

import pytest

from modelbook.pages import archived_pages

ARCHIVED_FILES = {"01_ingest.html", "01_ingest.ipynb"}
REPLACEMENTS = {"01_ingest.html": "index.html", "02_explore.html": "index.html"}


def page(body, start='<a class="skip" href="#main">Skip</a>'):
    return f'<html><body>\n{start}\n<nav class="bar"></nav>{body}</body></html>'


@pytest.mark.parametrize(
    ("link", "expected_href"),
    [
        ("01_ingest.html", "01_ingest.html"), ("01_ingest.html#data", "01_ingest.html#data"),
        ("02_explore.html", "index.html"), ("02_explore.html#gaps", "index.html"),
        ("../index.html", "../../../index.html"), ("card-3.html", "../../card-3.html"),
        ("card-3.html#limits", "../../card-3.html#limits"), ("#data", "#data"), ("", ""),
        ("https://example.org/a.html", "https://example.org/a.html"), ("mailto:a@b.org", "mailto:a@b.org"),
        ("a&amp;b.html", "../../a&amp;b.html"),
    ],
)  # fmt: skip
def test_archived_link_leads_to_same_run_or_original_target(link, expected_href):
    assert f'<a class="x" href="{expected_href}">' in archived_pages.archive(
        page(f'<a class="x" href="{link}">go</a>'), ARCHIVED_FILES, REPLACEMENTS
    )


def test_archiving_changes_links_only():
    body = '<p>href="card-3.html"</p><img src="data:image/png;base64,aaaa" alt="href=&quot;x.html&quot;">'
    assert body in archived_pages.archive(page(body), ARCHIVED_FILES, REPLACEMENTS)


@pytest.mark.parametrize("start", ['<a class="skip" href="#main">Skip to\nit</a>', ""])
def test_archived_page_has_one_notice_linking_to_its_run(start):
    archived = archived_pages.archive(page("<p>text</p>", start), ARCHIVED_FILES, REPLACEMENTS)
    [note] = re.findall(r"<aside.*?</aside>", archived)
    assert 'href="index.html"' in note
    assert (
        archived.index(start or "<body>")
        < archived.index(note)
        < archived.index('<nav class="bar">')
    )


def test_links_are_relative_to_page():
    links = "".join(
        f'<a href="{to}">x</a>'
        for to in ("b.html#c", "#d", "https://e.org", "../f.html", "b.html", "g&amp;h")
    )
    assert archived_pages.find_links(page(links)) == ["b.html", "../f.html", "g&h"]


def test_chart_is_named_by_its_own_title():
    marks = "<g><title>size: 3</title></g>"
    html = f'<h2>How large?</h2><svg class="chart" width="9"><title>Sizes</title>{marks}</svg>'
    [(attributes, _, content)] = archived_pages.extract_figures(html)
    assert attributes["alt"] == "Sizes"
    assert b"<title>size: 3</title>" in content


def test_drawing_for_narrow_screens_takes_place_of_wide_one():
    charts = "".join(
        f'<svg class="chart {drawing}" style="display:{display}" width="{width}"><title>Sizes</title></svg>'
        for drawing, display, width in (("wide", "block", 730), ("narrow", "none", 346))
    )
    [(attributes, _, content)] = archived_pages.extract_figures(f"<h2>How large?</h2>{charts}")
    assert attributes["width"] == "346"
    assert b"narrow" in content
    assert b"display:none" not in content, "the file would be blank"


def test_figures_are_found_under_their_headings():
    def image(text, image_type="svg+xml"):
        return f'<img alt="It says {text} &amp; so" width="700" src="data:image/{image_type};base64,{encode_base64(text)}">'

    def encode_base64(text):
        return base64.b64encode(text.encode()).decode()

    foreign = '<img alt="far" src="https://example.org/x.png">'
    body = f"<h2>What <em>is</em>\n it?</h2>{image('a')}{foreign}{image('b', 'png')}<h2>And?</h2><p>so</p>{image('c')}"
    match = [
        (result, ending, text.decode())
        for result, ending, text in archived_pages.extract_figures(page(body))
    ]
    assert [(result["section"], result["position"], ending, text) for result, ending, text in match] == [
        ("What is it?", 0, "svg", "a"), ("What is it?", 2, "png", "b"), ("And?", 0, "svg", "c"),
    ]  # fmt: skip
    assert (match[0][0]["alt"], match[0][0]["width"]) == ("It says a & so", "700")
