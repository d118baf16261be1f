"""Comparison page of two runs: changes, causes, and figures side by side."""

from __future__ import annotations

import re
import shutil

import pytest
import task_books
from conftest import CONTRACT
from small_project import ROOT, STAGES
from test_run_archive import fail, write_stage_page
from test_run_history import ALL_RAN, metrics_of, write_receipt, write_receipts, write_run

from modelbook import tasks
from modelbook.contract import Contract
from modelbook.pages import run_archive
from modelbook.pages.run_comparison import THRESHOLD_METRICS
from modelbook.runs import history


@pytest.fixture
def project(tmp_path):
    shutil.copy(ROOT / "pipeline.yaml", tmp_path)
    (tmp_path / "env.yaml").write_text(
        (ROOT / "env.yaml").read_text().replace("book: rand-hie ", "book: tiny ")
    )
    write_receipts(tmp_path)
    for index, stage in enumerate(STAGES, 1):
        write_stage_page(tmp_path, f"{index:02d}_{stage}")
    write_run(tmp_path)
    return tmp_path


def page(root, a="1", b="2"):
    """Comparison page of two runs: HTML and plain text."""
    html = run_archive.write_comparison(
        root, "tiny", *history.compare_runs(root, "tiny", a, b)[:2]
    ).read_text()
    return html, " ".join(re.sub(r"<style>.*?</style>|<[^>]+>", " ", html, flags=re.DOTALL).split())


def test_change_within_intervals_is_described_as_chance(project):
    write_receipts(project, roc_auc=0.765)
    write_run(project)
    assert re.search(r"ROC AUC [^.]*0\.750 to 0\.765 \(\+0\.015\)[^.]*chance", page(project)[1])


def test_change_beyond_intervals_is_not_described_as_chance(project):
    write_receipts(project, roc_auc=0.65)
    write_run(project)
    html, text = page(project)
    assert re.search(r"ROC AUC [^.]*0\.750 to 0\.650 \(-0\.1\)", text)
    assert not re.search(r"0\.650 \(-0\.1\)[^.]*chance", text)
    assert "finalize ROC AUC 0.7500 0.6500 -0.1 0.730 to 0.770, then 0.630 to 0.670" in text
    assert '<td class="num">-0.1</td>' in html


def test_change_without_intervals_claims_none(project):
    """Neither chance nor an interval is claimed where a run has recorded no interval."""
    for metrics in ({"roc_auc": 0.75}, metrics_of(0.76), metrics_of(0.9)):
        write_receipt(project, "finalize", metrics=metrics, version=3)
        write_run(project)
    assert "run has no 95% CI" in page(project, "2", "3")[1]
    text = page(project, "2", "4")[1]  # 0.75 is outside the only interval
    assert "run has no 95% CI" not in text
    assert "outside the other run's 95% CI" in text


@pytest.mark.parametrize(("low", "is_chance"), [(0.005, False), (-0.005, True)])
def test_change_is_judged_by_the_paired_interval_of_deploy(project, low, is_chance):
    """Each metric is within the other's interval; deploy compared the versions on shared rows."""
    write_receipt(project, "finalize", metrics=metrics_of(0.75), version=7)
    write_run(project)
    write_receipt(project, "finalize", metrics=metrics_of(0.765), version=8)
    difference = {"metric": "roc_auc", "difference": 0.015, "low": low, "high": 0.025}
    paired = {"champion": 7, "rows": 1234, "differences": [difference]}
    write_receipt(project, "deploy", "promote", candidate=8, paired=paired)
    write_run(project)
    sentence = re.search(r"ROC AUC rose [^.]*\.[^.]*\.[^.]*\.[^.]*\.", page(project, "2", "3")[1])[
        0
    ]
    assert "1,234 rows" in sentence
    assert ("chance" in sentence) is is_chance
    assert ("includes zero" in sentence) is is_chance
    assert "same rows" in page(project, "1", "3")[1]


@pytest.mark.parametrize(
    ("before", "after", "facts"),
    [
        ({"selection_rate": 0.29, "recall": 0.6, "precision": 0.4},
         {"selection_rate": 0.87, "recall": 0.9, "precision": 0.25}, r"\b870\b [^.]*\b290\b"),
        ({"accuracy": 0.9}, {"accuracy": 0.85}, r"\b150\b [^.]*\b100\b"),
        ({"mae": 12.5}, {"mae": 20.25}, r"20\.25 [^.]*\b12\.50"),
    ],
)  # fmt: skip
def test_page_begins_with_changed_decisions(project, before, after, facts):
    for metrics in (before, after):
        write_receipt(project, "finalize", metrics=metrics, version=3)
        write_run(project)
    lead = page(project, "2", "3")[0].split('aria-label="Summary">')[1].split("</p>")[0]
    assert re.search(facts, lead)


@pytest.mark.parametrize(
    ("contract", "names"),
    zip(
        (
            Contract.model_validate(CONTRACT),
            task_books.make_multiclass_contract(),
            task_books.make_regression_contract(),
        ),
        THRESHOLD_METRICS,
        strict=True,
    ),
)
def test_metrics_of_decisions_are_those_of_the_task(contract, names):
    assert set(names) <= set(tasks.get_task(contract).metric_functions(0.5))


def test_equal_runs_have_no_differences(project):
    write_run(project)
    html, text = page(project)
    assert re.search(r"ROC AUC [^.]*0\.750 in both", text)
    assert re.search(r"\b12 figures\b", text)
    assert "<img" not in html
    assert "finalize brier" not in text
    assert (
        "finalize Brier score 0.1000 0.1000 0" in text
    )  # in the collapsed section of equal values


def test_changed_parameters_and_decisions_are_listed(project):
    write_receipts(project, fingerprint="e" * 64, folds=10)
    write_receipt(project, "deploy", "hold")
    write_run(
        project, {**ALL_RAN, "explore": "kept"}, command=["ploomber", "build", "--env--folds", "10"]
    )
    text = page(project)[1]
    assert re.search(r"deploy [^.]*promote[^.]*hold\. [^.]*data[^.]*\. [^.]*\b1 parameter\b", text)
    assert "command ploomber build ploomber build --env--folds 10 " in text
    assert "compare folds 5 10 default" in text
    assert "data fingerprint ffffffffffff eeeeeeeeeeee " in text


def test_only_different_figures_are_shown_side_by_side(project):
    write_stage_page(project, "04_finalize", "another line")
    write_run(project)
    html, text = page(project)
    sources = re.findall(r'<img [^>]*src="([^"]+)" alt="([^"]+)"', html)
    assert [alt for _, alt in sources] == [
        "It says 04_finalize 2 ",
        "It says 04_finalize 2 another line",
    ]
    result = [(project / "reports/tiny/runs" / source).read_text() for source, _ in sources]
    assert result == ["04_finalize 2 ", "04_finalize 2 another line"]
    assert re.search(r"\b11 figures\b", text)


CAPTIONS_BELOW = """() => [...document.querySelectorAll('.pair .figure:has(img)')].map(figure =>
    figure.querySelector('figcaption').getBoundingClientRect().left
    <= figure.querySelector('img').getBoundingClientRect().left + 1)"""


@pytest.mark.long
def test_figures_have_their_captions_below_on_a_wide_screen(project, browser):
    write_stage_page(project, "04_finalize", "another line")
    write_run(project)
    path = run_archive.write_comparison(
        project, "tiny", *history.compare_runs(project, "tiny", "1", "2")[:2]
    )
    tab = browser.new_page(viewport={"width": 1440, "height": 900})
    tab.goto(path.as_uri())
    assert tab.evaluate(CAPTIONS_BELOW) == [True, True]


def test_failed_run_shows_reason_and_no_figures_of_later_stages(project):
    fail(project, "compare")
    states = {
        **dict.fromkeys(STAGES, "not run"),
        "ingest": "kept",
        "compare": "failed: no family was left",
    }
    write_run(project, states, outcome="failed")
    text = page(project)[1]
    assert re.search(r"Run 2 [^.]*: no family was left", text)
    assert re.search(r"Run 2 [^.]*figures[^.]*finalize", text)


def test_values_from_data_are_escaped(project):
    write_receipt(
        project, "compare", "<b>leader</b>", parameters={"folds": "<script>alert(1)</script>"}
    )
    write_run(project, command=["ploomber", "build", "--env--table", "<i>"])
    html = page(project)[0]
    assert html.count("<script") == 1  # the one that every page has
    assert "&lt;script&gt;alert(1)" in html
    assert "&lt;b&gt;leader" in html
    assert "<i>" not in html


def test_page_loads_only_its_own_figures(project):
    write_run(project)
    html = page(project)[0]
    assert "default-src 'none'; img-src 'self' file: data:;" in html
    assert len(html) < 200_000
