"""Report pages, figures, tables, index and brief: content, escaping, missing data."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
from html import escape
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pandas as pd
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from text_facts import missing_facts, raises_stating
from version_evidence import GAP, HARM, UNKNOWN, VALUE

from modelbook import config, tasks
from modelbook.display import (
    BulletList,
    DisplayGroup,
    Figure,
    Table,
    narrow_figure,
    plotting,
    style,
    summarize,
)
from modelbook.display.figures import (
    ab,
    compare,
    correlation,
    deploy,
    explore,
    finalize,
    ingest,
    monitor,
    partial_dependence,
    shap_values,
    target,
)
from modelbook.display.figures.predictions import multiclass
from modelbook.errors import ReportError
from modelbook.formatting import format_cell, format_key_number, key_number, make_column_formatters
from modelbook.monitoring import evaluation_tables
from modelbook.pages import (
    brief,
    executed_notebook,
    failure_report,
    index,
    pipeline_diagram,
    stage_report,
    templating,
)
from modelbook.pages.sanitizer import sanitize_html
from modelbook.registry.history import HistoryEntry
from modelbook.runs.record import BuildRun, StageRecord
from modelbook.stage.verdict import MAX_SENTENCES, MIME_TYPE, Verdict

NAN = float("nan")


def verdict(**changes: Any) -> Verdict:
    values: dict[str, Any] = {
        "stage": "compare", "book": "tiny", "status": "accepted", "level": "good",
        "sentences": ["Trees lead with 0.812 <AUC>."],
        "numbers": [{"name": "ROC AUC", "value": 0.812, "compared_with": {"dummy": 0.5}}],
        "next": "Open finalize.",
        "facts": {
            "run_id": "run-7", "commit": "a" * 40, "fingerprint": "sha256:" + "b" * 64, "seconds": 83.2,
            "started": "2024-05-06T07:08:09+00:00", "versions": {"pandas": "2.1.4"},
            "parameters": [{"name": "seed", "value": "7", "origin": "env.yaml", "meaning": "seed"}],
        },
    }  # fmt: skip
    return Verdict(**(values | changes))


def notebook(*cells: Any) -> Any:
    first = new_markdown_cell("# 03 · Compare\n\n> Which family is best?\n\nReads & writes.")
    return new_notebook(cells=[first, *cells])


def shown(source: str = "show()", tags: tuple[str, ...] = (), **data: Any) -> Any:
    outputs = [
        new_output("display_data", {key.replace("__", "/"): value for key, value in data.items()})
    ]
    return new_code_cell(source, metadata={"tags": list(tags)}, outputs=outputs if data else [])


def concluding(conclusion: Verdict) -> Any:
    return new_code_cell(
        "verdict", outputs=[new_output("display_data", conclusion._repr_mimebundle_())]
    )


def published(folder: Path, *cells: Any) -> str:
    source, target = (
        folder / "reports/tiny/03_compare.ipynb",
        folder / "reports/tiny/03_compare.html",
    )
    source.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook(*cells), source)
    stage_report.publish({"nb": source, "report": target}, {"book": "tiny"})
    return target.read_text(encoding="utf-8")


# Verdict


@pytest.mark.parametrize(("step", "is_link"), [("Go on to finalize.", True), ("Act.", False)])
def test_only_a_next_step_that_names_the_next_stage_links_to_it(
    tmp_path: Path, step: str, is_link: bool
) -> None:
    html = published(tmp_path, concluding(verdict(stage="compare", next=step)))
    next_html = html.split('class="next"')[1].split("</p>")[0]
    assert ('href="04_finalize.html"' in next_html) == is_link
    assert step in next_html


def test_verdict_survives_json_round_trip() -> None:
    result = verdict(
        details={"auc": np.float64(0.8), "bad": NAN, "n": np.int64(3), "many": np.arange(2)}
    )
    reloaded = Verdict.from_dict(json.loads(json.dumps(result.to_dict(), allow_nan=False)))
    assert reloaded == result
    assert reloaded.details == {"auc": 0.8, "bad": None, "n": 3, "many": [0, 1]}


def test_level_of_a_verdict_of_1_0_0_has_its_present_name() -> None:
    former = verdict(level="watch")
    assert former == verdict(level="warning")
    assert former.to_dict()["level"] == "warning"


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"level": "fine"}, "'fine'"),
        ({"sentences": []}, "sentences"),
        ({"sentences": ["s"] * (MAX_SENTENCES + 1)}, f"1 to {MAX_SENTENCES}"),
        ({"sentences": ["  "]}, "sentence"),
        ({"sentences": "one text"}, "one text"),
        ({"status": ""}, "status"),
        ({"numbers": [{"name": "x"}]}, "'x'"),
    ],
)
def test_invalid_verdict_raises(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(ReportError, match=named):
        verdict(**changes)


def test_incomplete_verdict_raises() -> None:
    with raises_stating(ReportError, "'book'"):  # the first that is missing
        Verdict.from_dict({"stage": "compare"})


def test_verdict_repr_is_escaped() -> None:
    bundle = verdict()._repr_mimebundle_()
    assert bundle[MIME_TYPE]["status"] == "accepted"
    assert "0.812 &lt;AUC&gt;" in bundle["text/html"]
    assert "Open finalize." in bundle["text/plain"]


# Tables, findings, figures


def test_table_escapes_all_cells() -> None:
    frame = pd.DataFrame({"<i>": ["<b>"]}, index=["<u>"])
    html = Table(frame, caption="<s>", index=True)._repr_html_()
    assert not re.search(r"<[isu]>", html)
    assert html.count("<b>") == 1
    for text in ("&lt;i&gt;", "&lt;b&gt;", "&lt;u&gt;", "&lt;s&gt;"):
        assert text in html
    assert 'scope="col"' in html
    assert 'scope="row"' in html
    assert "<caption " in html


def test_table_formats_numbers() -> None:
    frame = pd.DataFrame({
        "count": [12114, 3], "auc": [0.81234, NAN], "tiny": [1e-9, 0.5], "gap": [2.0, NAN], "rate": [0.1, 0.25],
        "yes": [True, False], "when": [pd.Timestamp("2024-01-02"), pd.NaT], "text": ["a", None],
    })  # fmt: skip
    html = Table(frame, caption="All", formats={"rate": ".1%"})._repr_html_()
    cells = re.findall(r"<td[^>]*>([^<]*)</td>", html)
    assert cells[:8] == ["12,114", "0.812", "1e-09", "2", "10.0%", "yes", "2024-01-02", "a"]
    assert cells[8:] == ["3", "–", "0.500", "–", "25.0%", "no", "–", "–"]
    assert html.count('scope="col" class="num"') == 5


def test_long_table_is_truncated_with_note() -> None:
    html = Table(pd.DataFrame({"x": range(1234)}), caption="Many")._repr_html_()
    assert html.count("<tr>") == 201
    assert missing_facts(html, 200, 1234) == []


def test_caption_names_table_in_bold_and_explains_it_in_plain_text() -> None:
    html = Table(pd.DataFrame({"x": [1]}), caption="Sizes in m. Lower <is> better.")._repr_html_()
    assert "<b>Sizes in m.</b> <span>Lower &lt;is&gt; better.</span></caption>" in html
    assert 'aria-label="Sizes in m."' in html


def test_empty_table_is_one_line_that_says_why() -> None:
    empty = pd.DataFrame({"<x>": []})
    html = Table(empty, caption="These", summary="None of <these>.")._repr_html_()
    assert html == '<p class="nothing">None of &lt;these&gt;.</p>'
    unsaid = Table(empty, caption="Rows of <these>")._repr_html_()
    assert re.fullmatch('<p class="nothing">Rows of &lt;these&gt;[^<]*</p>', unsaid)


def test_table_with_format_of_unknown_column_raises() -> None:
    with pytest.raises(ReportError, match="'y'"):
        Table(pd.DataFrame({"x": [1]}), caption="One", formats={"y": "d"})


def test_bullet_list_is_escaped() -> None:
    assert BulletList(["a < b"])._repr_html_() == '<ul class="findings"><li>a &lt; b</li></ul>'
    assert '<p class="nothing">' in BulletList([])._repr_html_()


def test_figure_without_alternative_text_raises() -> None:
    with pytest.raises(ReportError):
        Figure(None, alt=" ")
    assert Figure(None, alt="x").alt == "x"


def test_figure_data_is_truncated_at_fifty_rows() -> None:
    html = Figure(None, alt="x", data=pd.DataFrame({"x": range(60)}))._repr_html_()
    assert html.count("<tr>") == 51
    assert '<details class="numbers">' in html
    assert missing_facts(html, 50, 60) == []


def test_numbers_of_leaderboard_are_those_of_its_metric() -> None:
    figure = compare.plot_leaderboard(
        BOARD.assign(recall_mean=0.3, recall_folds=[[0.3]] * 4), "roc_auc"
    )
    assert not [name for name in figure.data if "recall" in name]
    assert figure.data["ROC AUC mean"].max() == 0.812


def test_large_svg_becomes_png(monkeypatch: pytest.MonkeyPatch) -> None:
    figure = compare.plot_leaderboard(BOARD, "roc_auc")
    assert "<svg" in figure._repr_html_()
    monkeypatch.setattr("modelbook.display.components.MAX_SVG_BYTES", 10)
    assert "data:image/png;base64,iVBOR" in figure._repr_html_()


def test_figure_is_deterministic_and_supports_dark_mode() -> None:
    import matplotlib

    svgs = [compare.plot_leaderboard(BOARD, "roc_auc").to_svg() for _ in range(2)]
    with matplotlib.rc_context({"axes.grid": True, "font.size": 20}):  # as a library may set it
        svgs.append(compare.plot_leaderboard(BOARD, "roc_auc").to_svg())
    assert svgs[0] == svgs[1] == svgs[2]
    assert "prefers-color-scheme:dark" in svgs[0]
    assert "var(--accent,#0072b2)" in svgs[0]


def test_svg_is_that_of_savefig_and_keeps_the_layout_engine() -> None:
    figure, expected = compare.plot_leaderboard(BOARD, "roc_auc"), io.StringIO()
    drawing = compare.plot_leaderboard(BOARD, "roc_auc").figure
    assert figure.figure is not None
    assert drawing is not None
    engine = figure.figure.get_layout_engine()
    metadata = {"Date": None, "Creator": None}
    style.apply_style(drawing.savefig)(expected, format="svg", metadata=metadata)
    text = expected.getvalue()
    svg = style.show_hover_texts(style.adapt_to_dark_mode(text[text.index("<svg") :]))
    assert figure.to_svg() == svg
    assert engine is not None
    assert figure.figure.get_layout_engine() is engine


@pytest.mark.long
def test_drawing_keeps_matplotlib_settings() -> None:
    code = (
        "import matplotlib, sys\n"
        # asking for the backend would choose one
        "def now(): return {k: matplotlib.rcParams[k] for k in matplotlib.rcParams if k != 'backend'}\n"
        "before = now()\n"
        "import pandas as pd; from modelbook.display.figures import explore\n"
        "explore.plot_missing_rates(pd.DataFrame({'column': ['a'], 'share': [0.2]}))._repr_html_()\n"
        "assert now() == before and 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_importing_display_is_light() -> None:
    code = (
        "import sys, modelbook.display\n"
        "heavy = {'matplotlib', 'pandas', 'nbconvert', 'jinja2'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


BOARD = pd.DataFrame({
    "candidate": ["lr", "gbc", "baseline (dummy)", "mlp"], "family": ["lr", "gbc", "dummy", "mlp"],
    "status": ["ok", "ok", "ok", "failed"],
    "roc_auc_mean": [0.79, 0.812, 0.5, NAN], "roc_auc_sd": [0.01, 0.02, 0.0, NAN], "fit_seconds": [1, 2, 0.1, NAN],
})  # fmt: skip
CURVE = pd.DataFrame(
    {"fpr": [0, 0.5, 1], "tpr": [0, 0.75, 1], "low": [0, 0.7, 1], "high": [0, 0.8, 1]}
)
TRAIN = pd.DataFrame({
    "age": np.r_[np.arange(40), np.arange(40) + 30.0], "plan": ["a", "b"] * 40, "sick": [0] * 60 + [1] * 20,
})  # fmt: skip
PUSHES = pd.DataFrame({
    "feature": ["age"] * 4 + ["site"] * 4, "level": [0, 0.2, 0.5, 1] + [NAN] * 4, "class": "",
    "value": [None] * 4 + ["two", "one"] * 2,
    "shap": [-0.5, -0.4, 0.2, 0.5, 0.1, -0.1, 0.1, -0.1],
})  # fmt: skip
FIGURES: dict[str, Any] = {
    "a/b": (ab.plot_difference_history, pd.DataFrame({
        "users": [100, 200], "difference": [-0.2, -0.1], "low": [-0.5, -0.15], "high": [0.1, -0.05],
    }), ("Brier score",), -0.1),
    "periods": (ingest.plot_rows_by_period, pd.DataFrame({
        "period": [1, 2], "rows": [5905, 1700], "entities": [5905, 1700], "use": ["train and holdout", "batch"],
    }), (), 5905),
    "balance": (explore.plot_target_by_period, pd.DataFrame({
        "period": [1, 2], "rows": [100, 100], "positive_rate": [0.2, 0.3], "low": [0.1, 0.2], "high": [0.3, 0.4],
    }), (), 0.25),
    "missingness": (explore.plot_missing_rates, pd.DataFrame({"column": ["hi", "age"], "share": [0.26, 0]}), (), 0.26),
    "distributions": (explore.plot_feature_distributions, TRAIN, (["age", "plan"], "sick"), 59.5),
    "associations": (explore.plot_univariate_scores, pd.DataFrame({
        "column": ["age", "sex"], "univariate_score": [0.68, 0.51], "direction": ["higher", ""],
        "non_missing_rate": [0.65, 1.0],
    }), ("ROC AUC", 0.5), (0.68, "65% of rows")),  # those without the column are not scored
    "over_time": (explore.plot_mean_shifts, pd.DataFrame({
        "column": ["age", "age"], "period": [1, 2], "mean": [25.1, 22.4], "shift": [0, -0.31],
    }), (), (25.1, 22.4, "0.31")),  # in years; in either direction
    "correlations": (correlation.plot_correlation_heatmap, pd.DataFrame({
        "feature_a": ["age", "age", "plan"], "feature_b": ["child", "plan", "child"],
        "measure": ["Spearman", "correlation ratio", "correlation ratio"], "value": [-0.85, 0.3, -0.001],
    }), (), -0.85),
    "leaderboard": (compare.plot_leaderboard, BOARD, ("roc_auc",), 0.812),
    "learning": (compare.plot_learning_curve, pd.DataFrame({
        "share": [0.5, 0.5, 1, 1], "fold": [1, 2, 1, 2], "rows": [50, 50, 100, 100], "value": [0.7, 0.72, 0.8, 0.78],
    }), ("roc_auc", "Rows help."), 0.79),
    "curves": (finalize.plot_roc_and_precision_recall, CURVE, (pd.DataFrame({
        "recall": [0, 0.5, 1], "precision": [1, 0.6, 0.2], "low": [1, 0.5, 0.2], "high": [1, 0.7, 0.2],
    }), 0.762, 0.2), 0.762),
    "calibration": (finalize.plot_calibration, pd.DataFrame({
        "predicted": [0.1, 0.6], "observed": [0.1, 0.5], "low": [0, 0.4], "high": [0.2, 0.6], "n": [50, 50],
    }), (), 0.05),
    "threshold_cost": (finalize.plot_threshold_cost, pd.DataFrame({
        "threshold": [0.1, 0.5, 0.9], "cost": [30, 20, 40], "cost_none": 45, "cost_all": 33,
    }), (0.5,), (20, 0.5, 45, 33)),
    "confusion": (finalize.plot_confusion_matrix, pd.DataFrame([[80, 5], [5, 10]]), (), 0.9),
    "importance": (finalize.plot_feature_importance, pd.DataFrame({
        "feature": ["age", "sex"], "mean": [0.03, 0.01], "sd": [0.01, 0.01],
    }), (), 0.03),
    "contributions": (shap_values.plot_shap_summary, PUSHES, ("the log-odds of “sick”",), 0.4),
    "contributions to classes": (shap_values.plot_shap_summary, pd.concat([
        PUSHES.assign(**{"class": "a"}), PUSHES.assign(shap=-2 * PUSHES["shap"], **{"class": "b"}),
    ]), ("the log-odds of each class of “kind”",), 0.6),
    "dependence": (partial_dependence.plot_partial_dependence, pd.DataFrame({
        "feature": ["age", "age", "site", "site"], "kind": ["number", "number", "category", "category"],
        "value": [20.0, 60.0, "11", "2"], "mean": [0.1, 0.34, 0.2, 0.3], "low": [0, 0.1, 0.1, 0.1],
        "high": [0.2, 0.6, 0.4, 0.5],
    }), (), (0.34, "(at 60)", "(for 2)")),
    "slices": (finalize.plot_metric_by_slice, pd.DataFrame({
        "slice": ["site", "site"], "value": [1, 2], "n": [90, 80], "roc_auc": [0.7, 0.8],
        "low": [0.6, 0.7], "high": [0.75, 0.9],
    }), (0.8,), 0.7),
    "difference": (deploy.plot_metric_differences, pd.DataFrame({
        "metric": ["roc_auc"], "difference": [0.004], "low": [-0.01], "high": [0.02],
    }), (0.005, "roc_auc"), 0.004),
    "drift": (monitor.plot_drift_scores, pd.DataFrame({
        "batch": [4, 5], "column": ["site", "site"], "relative_drift": [0.5, 2.0],
        "drifted": [False, True], "importance": [0.1, 0.1],
    }), (), 2.0),
    "performance": (monitor.plot_metrics_by_batch, pd.DataFrame({
        "batch": [4], "metric": ["roc_auc"], "value": [0.77], "low": [0.75], "high": [0.79], "reference": [0.8],
    }), (), 0.77),
}  # fmt: skip


@pytest.mark.long
@pytest.mark.parametrize("name", FIGURES)
def test_figure_alt_text_states_its_main_number(name: str) -> None:
    draw, frame, options, main = FIGURES[name]
    figure = draw(frame, *options)
    assert missing_facts(figure.alt, *(main if isinstance(main, tuple) else [main])) == []
    html = figure._repr_html_()
    assert '<details class="numbers">' in html
    charts = re.findall(r"<svg.*?</svg>", html, re.DOTALL)
    assert len(charts) == 2  # for wide screens, and for narrow ones
    for chart in charts:
        [name] = re.findall(r'aria-labelledby="([^"]+)"', chart)
        assert f'<title id="{name}">{escape(figure.alt)}</title>' in chart
        assert "<text" in chart  # letters that can be found and selected
        ids = set(re.findall(r' id="([^"]+)"', chart))
        assert ids == {name} | set(re.findall(r'(?:href="|url\()#([\w-]+)', chart))


@pytest.mark.parametrize("name", FIGURES)
def test_figure_is_redrawn_for_narrow_screens_in_readable_text(name: str) -> None:
    draw, frame, options, _ = FIGURES[name]
    figure = draw(frame, *options)
    wide, small = re.findall(r"<svg.*?</svg>", figure._repr_html_(), re.DOTALL)
    assert "display:none" in small
    assert "display:none" not in wide
    [width] = re.findall(r'width="(\d+)"', small)
    assert int(width) < 328  # of a screen of 360, less the page's margins
    [viewport] = re.findall(r'viewBox="0 0 ([\d.]+)', small)
    sizes = re.findall(r"font(?:-size)?: (?:\w+ )?([\d.]+)px", small)
    assert sizes
    assert min(map(float, sizes)) * int(width) / float(viewport) > 11
    assert figure.figure.get_figwidth() * 96 > int(width), "the figure itself has changed"


def test_rows_keep_labels_and_texts_on_narrow_screens() -> None:
    wide, small = re.findall(
        r"<svg.*?</svg>", compare.plot_leaderboard(BOARD, "roc_auc")._repr_html_(), re.DOTALL
    )
    texts = [set(re.findall(r"<text[^>]*>([^<]+)</text>", svg)) for svg in (wide, small)]
    names = {name for name in BOARD["candidate"] if name in texts[0]}
    assert names
    assert names <= texts[1]
    assert {text for text in texts[0] if text.endswith(" s")} <= texts[1]


def test_panels_stand_below_each_other_on_narrow_screens() -> None:
    figure = explore.plot_feature_distributions(TRAIN, ["age", "plan"], "sick").figure
    small = narrow_figure.redraw_for_narrow_screen(figure)
    wide_places, places = (
        [ax.get_position() for ax in drawing.axes if ax.get_visible()]
        for drawing in (figure, small)
    )
    assert wide_places[0].y0 == pytest.approx(wide_places[1].y0)
    assert places[0].y0 > places[1].y1


@pytest.mark.long
def test_each_panel_of_rows_has_labels_on_narrow_screens() -> None:
    metrics = ["recall", "precision", "f1"]
    rows = pd.DataFrame([
        {"class": name, "metric": metric, "value": 0.5, "low": 0.4, "high": 0.6, "rows": 70}
        for metric in metrics for name in "abcdefghijklmnop"
    ])  # fmt: skip
    figure = multiclass.plot_class_metrics(rows)
    wide, small = re.findall(r"<svg.*?</svg>", figure._repr_html_(), re.DOTALL)
    assert wide.count(">a (70)<") == 1
    assert small.count(">a (70)<") == len(metrics)
    [height] = re.findall(r'viewBox="0 0 [\d.]+ ([\d.]+)', small)
    assert float(height) / rows.shape[0] > 72 * 0.3, "rows overlap"


@pytest.mark.long
def test_cells_of_heat_map_have_texts_only_where_they_fit() -> None:
    def cells(n: int) -> list[str]:
        names = [f"column {i}" for i in range(n)]
        pairs = [(a, b) for i, a in enumerate(names) for b in names[:i]]
        rows = pd.DataFrame(pairs, columns=["feature_a", "feature_b"])
        figure = correlation.plot_correlation_heatmap(rows.assign(measure="Spearman", value=0.25))
        small = re.findall(r"<svg.*?</svg>", figure._repr_html_(), re.DOTALL)[1]
        return re.findall(r"<text[^>]*>0\.25</text>", small)

    assert len(cells(4)) == 6
    assert cells(12) == []


@pytest.mark.parametrize("name", FIGURES)
@pytest.mark.parametrize("reason", ["no rows", "only gaps"])
def test_figure_without_data_shows_message(name: str, reason: str) -> None:
    draw, frame, options, _ = FIGURES[name]
    empty = frame.iloc[:0] if reason == "no rows" else pd.DataFrame(NAN, frame.index, frame.columns)
    figure = draw(empty, *options)
    assert figure.figure is None
    assert '<p class="nothing">' in figure._repr_html_()


@pytest.mark.long
@pytest.mark.parametrize("name", FIGURES)
@pytest.mark.filterwarnings("error::RuntimeWarning", "error::UserWarning")
def test_figure_accepts_one_row_and_missing_intervals(name: str) -> None:
    draw, frame, options, _ = FIGURES[name]
    unknown = [
        column
        for column in ("low", "high", "sd", "n", "reference", "roc_auc_sd")
        if column in frame
    ]
    for part in (
        frame.iloc[:1],
        frame.assign(**dict.fromkeys(unknown, NAN)),
        frame.drop(columns=unknown),
    ):
        assert "<figure" in draw(part, *options)._repr_html_()


@pytest.mark.parametrize(
    ("metric", "value", "is_worse"),
    [
        ("ROC AUC", 0.9, False), ("ROC AUC", 0.5, True), ("log loss", 0.9, True),
        ("log loss", 0.5, False), ("selection rate", 0.9, True), ("selection rate", 0.5, True),
        ("ROC AUC", 0.69, False),
    ],
)  # fmt: skip
def test_figure_color_marks_worse_values(metric: str, value: float, is_worse: bool) -> None:
    row = {"batch": 4, "metric": metric, "value": value, "low": value - 0.02, "high": value + 0.02}
    figure = monitor.plot_metrics_by_batch(pd.DataFrame([row | {"reference": 0.7}]))
    assert ("var(--positive" in figure.to_svg()) == is_worse


def test_figure_has_no_common_reference_line_where_a_batch_has_no_reference() -> None:
    row = {"metric": "ROC AUC", "value": 0.7, "low": 0.6, "high": 0.8, "reference": 0.75}
    frame = pd.DataFrame([row | {"batch": 4}, row | {"batch": 5}])
    without_reference = frame.assign(reference=[0.75, NAN])
    texts = [monitor.plot_metrics_by_batch(data).to_svg() for data in (frame, without_reference)]
    assert ["matched holdout" in text for text in texts] == [True, False]


def luminance(colour: str) -> float:
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(c * weight for c, weight in zip(linear, (0.2126, 0.7152, 0.0722), strict=True))


def contrast(foreground: str, background: str) -> float:
    low, high = sorted((luminance(foreground), luminance(background)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", [0, 1])
def test_chart_text_has_sufficient_contrast_in_light_and_dark(scheme: int) -> None:
    paper = style.PALETTE["paper"][scheme]
    for name in ("ink", "muted", "accent", "positive"):
        assert contrast(style.PALETTE[name][scheme], paper) >= 4.5, name
    for name in ("accent", "positive"):  # half of it, as in the darkest cell of a heat map
        pairs = [(style.PALETTE[name][scheme][i : i + 2], paper[i : i + 2]) for i in (1, 3, 5)]
        tint = "#" + "".join(f"{(int(a, 16) + int(b, 16)) // 2:02x}" for a, b in pairs)
        assert contrast(style.PALETTE["ink"][scheme], tint) >= 4.5, name


def test_marks_have_tooltips() -> None:
    frame = pd.DataFrame(
        {"metric": ["AUC <1>"], "difference": [0.02], "low": [0.0], "high": [0.04]}
    )
    svg = deploy.plot_metric_differences(frame, 0.01, "roc_auc").to_svg()
    assert "<title>AUC &lt;1&gt;: +0.0200</title>" in svg
    assert style.HOVER_PREFIX not in svg


def test_of_many_periods_only_some_are_labelled() -> None:
    periods = pd.DataFrame(
        {"period": range(1, 101), "rows": 5000, "entities": 50, "use": ["train and holdout"] * 20 + ["batch"] * 80}
    )  # fmt: skip
    figure = ingest.plot_rows_by_period(periods)
    [ax] = figure.figure.axes
    assert len(ax.texts) == len(ax.get_xticks()) <= ingest.MAX_LABELLED_PERIODS
    assert missing_facts(figure.alt, 21, 100, 50) == [50]
    assert "period 50: 5,000 rows" in figure.to_svg()


def test_figures_of_many_periods_have_a_limited_size() -> None:
    rows = pd.DataFrame({"period": range(1, 201), "rows": 10, "low": 0.1, "high": 0.4})
    numbers = dict.fromkeys(("mean", "median", "q05", "q25", "q75", "q95"), 5.0)
    classes = [rows.assign(share=0.25, **{"class": name}) for name in "abcd"]
    figures = [
        explore.plot_target_by_period(rows.assign(positive_rate=0.2), "sick"),
        target.get_figure_module("multiclass").plot_target_by_period(pd.concat(classes), "plan"),
        target.get_figure_module("regression").plot_target_by_period(rows.assign(**numbers), "cost"),
    ]  # fmt: skip
    for figure, n_shown in zip(figures, (40, 10, 40), strict=True):
        [ax] = figure.figure.axes
        assert len(ax.get_yticks()) == plotting.MAX_ROWS
        assert "200" in ax.get_yticklabels()[-1].get_text()
        assert missing_facts(figure.caption, n_shown, 200) == []
    shifts = rows.assign(column="age", mean=25.0, shift=rows["period"] / 100)
    figure = explore.plot_mean_shifts(shifts)
    [ax] = figure.figure.axes
    labels = [label.get_text() for label in ax.get_xticklabels()]
    assert (labels[0], labels[-1], len(labels)) == ("1", "200", explore.MAX_PERIOD_COLUMNS)
    assert missing_facts(figure.caption, "evenly spaced", explore.MAX_PERIOD_COLUMNS, 200) == []


def test_captions_state_how_many_of_the_columns_are_shown() -> None:
    names = [f"c{number}" for number in range(53)]
    scores = {"univariate_score": 0.6, "direction": "higher", "non_missing_rate": 1.0}
    shifts = pd.DataFrame({"column": names * 2, "period": [1] * 53 + [2] * 53, "mean": 1.0})
    drift = pd.DataFrame({"column": names, "batch": "4", "relative_drift": 0.5, "importance": 0.1})
    slices = pd.DataFrame({"slice": "who", "value": names, "n": 50, "roc_auc": 0.7})
    figures = [
        explore.plot_missing_rates(pd.DataFrame({"column": names, "share": 0.2})),
        explore.plot_univariate_scores(pd.DataFrame({"column": names, **scores}), "ROC AUC", 0.5),
        explore.plot_mean_shifts(shifts.assign(shift=0.1)),
        monitor.plot_drift_scores(drift),
        finalize.plot_metric_by_slice(slices.assign(low=0.6, high=0.8), 0.75),
    ]
    for figure in figures:
        assert missing_facts(figure.caption, plotting.MAX_ROWS, 53) == []


def test_caption_states_the_limits_of_a_distribution() -> None:
    rows = pd.DataFrame({
        "age": range(90), "town": [f"t{number % 9}" for number in range(90)],
        "sick": pd.Categorical.from_codes([0, 1] * 45, ["well", "ill"]),
    })  # fmt: skip
    figure = explore.plot_feature_distributions(rows, ["age", "town"], "sick")
    assert missing_facts(figure.caption, "8 most frequent", "0.5%", "ill") == []


def test_difference_that_rounds_to_zero_is_not_negative() -> None:
    frame = pd.DataFrame({"metric": ["AUC"], "difference": [-1e-5], "low": [-0.02], "high": [0.02]})
    assert "-0.0000" not in deploy.plot_metric_differences(frame, 0.01, "roc_auc").alt
    assert "−" not in deploy.plot_metric_differences(frame, 0.0, "roc_auc").alt
    change = dict.fromkeys(
        ("matching", "known entities", "residual", "rows of known entities"), -1e-5
    )
    assert "-0.000" not in summarize.metric_changes(pd.DataFrame([{"batch": "4", **change}]))


def test_margin_applies_to_the_headline_metric_only() -> None:
    metrics = ["log loss", "ROC AUC"]
    frame = pd.DataFrame({"metric": metrics, "difference": 0.0, "low": -0.02, "high": 0.02})
    drawn = deploy.plot_metric_differences(frame, 0.01, "roc_auc")
    [ax] = drawn.figure.axes
    dots = [mark for mark in ax.collections if type(mark).__name__ == "PathCollection"]
    assert dots[0].get_facecolor().tolist() != dots[1].get_facecolor().tolist()
    assert len(dots) == 2
    assert "margin of ROC AUC is −0.01" in drawn.alt
    assert list(drawn.data) == ["metric", "gain", "low", "high"]


def test_a_curve_shows_its_values_under_the_pointer() -> None:
    places = np.arange(1, 101) / 100
    bounds = {"recall_low": 0.0, "recall_high": 1.0}
    curve = pd.DataFrame({"share": places, "recall": places**2, **bounds})
    figure = finalize.plot_gains(curve, {"share": 0.25, "recall": 0.0625})
    texts = re.findall("<title>(.*?)</title>", figure.to_svg())
    assert len(texts) == plotting.MAX_HOVER_STRIPS
    assert missing_facts(texts[0], 0.01) == []
    assert missing_facts(texts[-1], 0.97, 0.9409) == []
    draw, dots, options, _ = FIGURES["contributions"]
    assert len(re.findall("<title>", draw(dots, *options).to_svg())) == dots["feature"].nunique()


def test_figure_summary_is_shown_once_and_hidden_from_screen_readers() -> None:
    html = explore.plot_missing_rates(
        pd.DataFrame({"column": ["<age>", "b"], "share": [0.2, 0]})
    )._repr_html_()
    [above] = re.findall(r'<p class="found" aria-hidden="true">([^<]*)</p>.*<svg', html, re.DOTALL)
    assert missing_facts(above, "&lt;age&gt;", 0.2) == []


def test_multi_panel_figure_has_short_summary_and_full_alt_text() -> None:
    frame = pd.DataFrame({
        "batch": [4, 5, 4, 5], "metric": ["ROC AUC", "ROC AUC", "PR AUC", "PR AUC"], "value": [0.7, 0.77, 0.5, 0.4],
        "low": [0.6, 0.75, 0.4, 0.3], "high": [0.8, 0.79, 0.6, 0.5], "reference": [0.76, 0.76, 0.6, 0.6],
    })  # fmt: skip
    figure = monitor.plot_metrics_by_batch(frame)
    assert missing_facts(figure.alt, "PR AUC", 0.4, 5) == []
    assert missing_facts(figure.summary, "ROC AUC", 0.77, 5, 0.76) == []
    assert figure.summary.rstrip(".").endswith("PR AUC")  # worse, beyond chance
    assert f'<p class="found">{figure.summary}</p>' in figure._repr_html_()


@pytest.mark.parametrize("capacity_is_set", [True, False])
def test_caption_of_batches_states_the_threshold(contract: Any, capacity_is_set: bool) -> None:
    row = {"batch": 5, "value": 0.4, "low": 0.3, "high": 0.5, "reference": 0.4}
    data = pd.DataFrame([row | {"metric": name} for name in ("roc_auc", "recall", "precision")])
    metrics = {"threshold": 0.2, "business_value": {"capacity_is_set": capacity_is_set}}
    task = tasks.get_task(contract)
    text = evaluation_tables.describe_threshold(data, task, metrics)
    caption = monitor.plot_metrics_by_batch(data.assign(mostly_known_entities=False), text).caption
    assert missing_facts(caption, "recall", "precision", 0.2) == []
    assert "ROC AUC" not in caption
    assert ("capacity" in caption) == capacity_is_set
    assert evaluation_tables.describe_threshold(data.head(1), task, metrics) == ""


def test_batch_of_known_entities_is_not_called_better() -> None:
    row = {"batch": 5, "metric": "ROC AUC", "value": 0.9, "low": 0.88, "high": 0.92}
    rows = [row | {"reference": 0.8}, row | {"metric": "PR AUC", "reference": 0.95}]
    new_entities, known_entities = (
        monitor.plot_metrics_by_batch(
            pd.DataFrame(rows).assign(mostly_known_entities=is_known)
        ).summary
        for is_known in (False, True)
    )
    assert "better than" in new_entities
    assert "better than" not in known_entities
    assert missing_facts(known_entities, "fitted on") == []
    assert all(text.rstrip(".").endswith(": PR AUC") for text in (new_entities, known_entities))


def test_champion_comparison_caption_names_its_rows() -> None:
    draw, frame, options, _ = FIGURES["difference"]
    rows = "The 400 rows of year 4."
    caption = draw(frame, *options).caption
    assert draw(frame, *options, rows).caption == f"{rows} {caption}"
    assert caption


def test_cells_of_different_size_keep_their_digits() -> None:
    table = pd.DataFrame({"value": [1234.5, 0.52, np.nan], "cost": [12.5, 7.25, 3.0]})
    cells = [
        [show(value) for value in table[name]]
        for show, name in zip(make_column_formatters(table, {}), table)
    ]
    assert cells == [["1,234", "0.520", "–"], ["12.50", "7.25", "3.00"]]


def test_lift_is_that_of_the_policy_between_two_points_of_the_curve() -> None:
    """Interpolated between 19% and 20%, the recall would be 0.451 and the lift 2.3."""
    bounds = {"recall_low": 0.4, "recall_high": 0.5}
    curve = pd.DataFrame({"share": [0.19, 0.2], "recall": [0.447, 0.4647], **bounds})
    figure = finalize.plot_gains(curve, {"share": 0.1924, "recall": 0.4526}, "expensive")
    assert missing_facts(figure.alt, 0.192, 0.45, "lift of 2.4", "expensive") == []


def test_gains_and_curves_state_whether_rows_are_weighted() -> None:
    curve = pd.DataFrame(
        {"share": [0.2], "recall": [0.5], "recall_low": [0.4], "recall_high": [0.6]}
    )
    at_capacity = {"share": 0.2, "recall": 0.5}
    for is_weighted in (True, False):
        figure = finalize.plot_gains(curve, at_capacity, is_weighted=is_weighted)
        assert ("weighted" in figure.caption) == is_weighted
    draw, points, options, _ = FIGURES["curves"]
    assert "unweighted" in draw(points, *options).caption


def test_share_above_zero_is_not_shown_as_zero() -> None:
    table = pd.DataFrame({"missing": [0, 0.0004, 0.0006, 0.65]})
    cells = {
        spec: [
            make_column_formatters(table, {"missing": spec})[0](share) for share in table["missing"]
        ]
        for spec in (".1%", ".0%")
    }
    assert cells == {
        ".1%": ["0.0%", "<0.1%", "0.1%", "65.0%"], ".0%": ["0%", "<1%", "<1%", "65%"]
    }  # fmt: skip
    assert key_number_text(0.0004) == "<0.1%"
    figure = explore.plot_missing_rates(pd.DataFrame({"column": ["hi"], "share": [0.0004]}))
    assert missing_facts(figure.alt, "<0.1%") == []
    shifts = pd.DataFrame({"column": ["hi"] * 2, "period": [1, 2], "is_share": [True, True]})
    means = explore.plot_mean_shifts(shifts.assign(mean=[0.26, 0.004], shift=[0, -0.6]))
    assert "<1%" in means.data["mean"].tolist()
    rare = pd.DataFrame({"class": ["a", "b"], "period": ["all"] * 2, "rows": [9999, 9999]})
    shares = rare.assign(share=[0.9997, 0.0003], low=[0.99, 0.0001], high=[0.9999, 0.001])
    classes = target.get_figure_module("multiclass").plot_target_by_period(shares, "plan")
    by_period = pd.DataFrame(
        {"class": ["a", "a", "b", "b"], "period": [1, 2] * 2, "rows": [100, 900] * 2,
         "share": [0.8, 0.3, 0.2, 0.7], "low": 0, "high": 1}
    )  # fmt: skip
    overall = target.get_figure_module("multiclass").plot_target_by_period(by_period, "plan")
    assert missing_facts(overall.alt, "65.0%", "35.0%") == []
    rate = rare.tail(1).assign(positive_rate=0.0003, low=0.0001, high=0.001)
    for text in (classes.alt, explore.plot_target_by_period(rate, "sick").alt):
        assert missing_facts(text, "<0.1%") == []


def key_number_text(share: float) -> str:
    return format_key_number(key_number("missing rate", share, "share"))


def test_numbers_of_columns_in_different_units_keep_their_digits() -> None:
    shifts = pd.DataFrame(
        {
            "column": ["female", "female", "income", "income"],
            "period": [1, 2] * 2,
            "mean": [0.52, 0.61, 8000.0, 9000.0],
            "shift": [0.0, 0.2, 0.0, 0.1],
            "is_share": [True, True, False, False],
        }
    )
    assert explore.plot_mean_shifts(shifts).data["mean"].tolist() == [
        "52%",
        "61%",
        "8,000",
        "9,000",
    ]
    rows = pd.DataFrame(
        {
            "income": np.linspace(1000, 9000, 40),
            "limits": np.linspace(0.11, 0.89, 40),
            "sick": pd.Categorical.from_codes([0] * 20 + [1] * 20, ["well", "ill"]),
        }
    )
    figure = explore.plot_feature_distributions(rows, ["income", "limits"], "sick")
    assert figure.data.set_index("column").loc["limits", "median, ill"] == "0.700"
    assert missing_facts(figure.alt, "ill", "well") == []


def test_accuracy_is_compared_with_the_most_frequent_class() -> None:
    matrix = pd.DataFrame([[60, 20], [5, 15]], index=["well", "ill"], columns=["well", "ill"])
    figure = finalize.plot_confusion_matrix(matrix)
    assert missing_facts(figure.alt, 0.75, 100, "well", 0.8, 15, 20, "ill", 20) == []
    three = pd.DataFrame(np.eye(3) * 5, index=list("abc"), columns=list("abc"))
    assert "threshold" not in finalize.plot_confusion_matrix(three).caption


def test_slices_are_named_as_groups() -> None:
    slices = pd.DataFrame(
        {"slice": ["who"] * 2, "value": ["0", "1"], "group": ["men", "women"], "n": [50, 60],
         "roc_auc": [0.7, 0.8], "low": [0.6, 0.7], "high": [0.8, 0.9]}
    )  # fmt: skip
    figure = finalize.plot_metric_by_slice(slices, 0.75)
    assert missing_facts(figure.alt, "men", 0.7) == []
    assert "group" not in figure.data
    assert "who: 0" in finalize.plot_metric_by_slice(slices.drop(columns="group"), 0.75).alt


def test_slices_are_marked_as_weaker_by_widened_intervals() -> None:
    slices = pd.DataFrame(
        {"slice": "who", "value": range(15), "n": 100, "roc_auc": [0.7, *[0.8] * 14],
         "low": [0.65, *[0.75] * 14], "high": [0.74, *[0.84] * 14]}
    )  # fmt: skip
    figures = [finalize.plot_metric_by_slice(rows, 0.75) for rows in (slices.head(1), slices)]
    assert [style.POSITIVE in figure.to_svg_file() for figure in figures] == [True, False]
    assert missing_facts(figures[1].caption, 15) == []


def test_shap_figure_describes_size_direction_and_odds() -> None:
    figure = shap_values.plot_shap_summary(PUSHES, "the log-odds of “sick”")
    age, site = re.fullmatch(r"(.*\bage\b.*)(\bsite\b.*)", figure.alt).groups()
    assert missing_facts(age, "“sick”", "high", 0.4, 1.5) == []  # the last: the factor of the odds
    assert missing_facts(site, "two", 0.1) == []
    assert {"high values", "two"} <= set(figure.data.to_numpy().ravel())
    assert missing_facts(figure.caption, 4) == []
    neighbour = [text.get_text() for text in figure.figure.axes[0].texts]
    first, second = (text for text in neighbour if text[0].isdigit())
    assert missing_facts(first, 0.4) == missing_facts(second, 0.1, "two") == []
    assert "the log-odds of “sick”" in figure.caption  # and not "the prediction"
    assert "prediction" not in figure.caption
    down = shap_values.plot_shap_summary(PUSHES.assign(shap=-PUSHES["shap"]), "“cost”")
    assert missing_facts(down.alt, "“cost”", "age", "low", 0.4, 1.5) == [1.5]


def test_category_called_high_is_not_shown_as_a_high_number() -> None:
    texts = {}
    for name in ("two", "high"):
        pushes = PUSHES.replace({"value": {"two": name}})
        figure = shap_values.plot_shap_summary(pushes, "the log-odds of “sick”")
        texts[name] = [figure.alt, *(text.get_text() for text in figure.figure.axes[0].texts)]
    assert [text.replace("two", "high") for text in texts["two"]] == texts["high"]


def test_shap_dots_are_at_their_value_without_overlap() -> None:
    many_rows = pd.DataFrame(
        {
            "feature": "age",
            "level": np.linspace(0, 1, 60),
            "class": "",
            "shap": [0.1] * 30 + [0.9] * 30,
        }
    )
    ax = shap_values.plot_shap_summary(many_rows, "the log-odds of “sick”").figure.axes[0]
    strokes = [patch for patch in ax.patches if not patch.get_fill()]
    positions = np.concatenate([patch.get_path().vertices[::2] for patch in strokes])
    assert len(positions) == 60
    assert len(np.unique(positions.round(6), axis=0)) == 60
    assert sorted(set(positions[:, 0])) == [0.1, 0.9]
    assert np.abs(positions[:, 1]).max() <= 0.4


def test_missing_shap_values_show_reason() -> None:
    figure = shap_values.plot_shap_summary(PUSHES.iloc[:0], "", "No SHAP values: <several> fits.")
    assert '<p class="nothing">No SHAP values: &lt;several&gt; fits.</p>' in figure._repr_html_()


def test_stacked_outputs_are_shown_in_order() -> None:
    table = Table(pd.DataFrame({"a": [1]}), caption="The table")
    both = DisplayGroup(
        explore.plot_missing_rates(pd.DataFrame({"column": ["b"], "share": [0.2]})), table
    )
    html = both._repr_html_()
    assert html.index("</figure>") < html.index("The table")
    assert missing_facts(repr(both).splitlines()[1], "The table", 1) == []


def test_cells_show_missing_values_as_dash() -> None:
    cells = [format_cell(value) for value in (None, float("nan"), True, 1234, 0.5)]
    assert cells == ["–", "–", "True", "1,234", "0.5000"]


def test_importance_in_currency_is_formatted_as_amount() -> None:
    frame = pd.DataFrame({"feature": ["smoker"], "mean": [11_080.4], "sd": [100.0]})
    assert re.search(
        r"\bsmoker\b.*\b11,080(?!\.\d)", finalize.plot_feature_importance(frame, "RMSE").alt
    )


def test_correlation_figure_counts_strong_pairs_without_negative_zero() -> None:
    draw, frame, *_ = FIGURES["correlations"]
    figure = draw(frame)
    assert missing_facts(figure.alt, 1, 3, 0.8) == []
    assert "-0.00" not in figure.to_svg()


def test_missing_values_figure_counts_complete_columns() -> None:
    figure = explore.plot_missing_rates(
        pd.DataFrame({"column": ["a", "b", "c"], "share": [0.2, 0.0001, 0]})
    )
    assert missing_facts(figure.caption, 1) == []
    assert "&lt;0.1%" in figure.to_svg()


def test_columns_that_share_the_maximum_are_all_counted() -> None:
    rates = pd.DataFrame({"column": ["a", "b", "c", "d"], "share": [0.35, 0.35, 0.35, 0.2]})
    assert missing_facts(explore.plot_missing_rates(rates).alt, "a and 2 more columns", 0.35) == []
    shifts = pd.DataFrame(
        {
            "column": ["b", "b", "a", "a", "c", "c"],
            "period": [1, 2] * 3,
            "mean": [1.0, 0.02] * 2 + [5.0, 4.0],
            "shift": [0, -2.06] * 2 + [0, -0.1],
            "is_share": [True] * 4 + [False] * 2,
        }
    )
    alt = explore.plot_mean_shifts(shifts).alt
    assert missing_facts(alt, "b and 1 more column", "100%", "2%") == []
    alt = explore.plot_mean_shifts(shifts.iloc[2:]).alt
    assert missing_facts(alt, "a", "more") == ["more"]


def test_complete_table_has_no_missing_values_figure() -> None:
    figure = explore.plot_missing_rates(pd.DataFrame({"column": ["a", "b"], "share": [0, 0]}))
    assert figure.figure is None
    assert missing_facts(figure._repr_html_(), 2) == []


def test_leaderboard_figure_is_sorted_and_names_baseline() -> None:
    alt_text = compare.plot_leaderboard(BOARD, "roc_auc").alt
    assert re.search(r"\bgbc\b.*\blr\b", alt_text)
    assert missing_facts(alt_text, 0.812, "0.790", 0.5, "mlp") == ["mlp"]


def test_drift_figure_names_strongest_drift_by_threshold_multiple() -> None:
    frame = pd.DataFrame(
        {"batch": [4, 4], "column": ["site", "age"], "relative_drift": [0.2, 18.0]}
    )
    assert missing_facts(monitor.plot_drift_scores(frame).alt, 1, 2, "age", 18.0, "site") == [
        "site"
    ]


# Pages


@pytest.mark.long
def test_page_begins_with_verdict_and_ends_with_run_facts(tmp_path: Path) -> None:
    html = published(tmp_path, new_markdown_cell("## Who & what?"), concluding(verdict()))
    head, foot = html.split("<main")[0], html.split("<footer")[1]
    for text in ("<h1>Compare</h1>", "Which family is best?", "accepted", "0.812 &lt;AUC&gt;", "dummy 0.500",
                 "Open finalize.", 'href="../index.html"', 'href="04_finalize.html"', "Who &amp; what?"):  # fmt: skip
        assert text in head, text
    for text in ("seed", "env.yaml", "run-7", "a" * 12, "b" * 12, "2024-05-06 07:08 UTC", "1 min 23 s",
                 "pandas 2.1.4", 'href="03_compare.ipynb"'):  # fmt: skip
        assert text in foot, text
    assert '<html lang="en">' in html
    assert 'aria-current="page"' in head
    assert 'href="#main"' in head
    assert (
        html.count("border-left:5px solid #00694f") == 0
    )  # the notebook's own card is not repeated
    assert html.count("Trees lead") == 2


def test_table_of_contents_links_to_headings(tmp_path: Path) -> None:
    html = published(
        tmp_path,
        new_markdown_cell('## "Rows" & `columns`?\n\ntext\n\n## Next'),
        concluding(verdict()),
    )
    anchors = re.findall(
        r'<a href="#([^"]+)">', html.split('class="contents"')[1].split("</nav>")[0]
    )
    assert len(anchors) == 2
    assert all(f'id="{anchor}"' in html for anchor in anchors)


def test_page_runs_no_foreign_scripts_and_loads_nothing(tmp_path: Path) -> None:
    nasty = (
        "<script>alert(1)</script><link rel=stylesheet href=https://x.org/a.css><iframe src=https://x.org></iframe>"
        "<img src=https://x.org/a.png onerror=alert(1)><style>@import 'https://x.org/b.css';p{color:red}</style>"
        '<p style="background:url(https://x.org/c.png)" onclick="x()">kept</p><a href="javascript:x()">go</a>'
    )
    cells = [
        new_markdown_cell(f"![badge](https://x.org/b.svg) [link](https://x.org/page) {nasty}"),
        shown(text__html=nasty), shown(application__javascript="alert(1)", text__plain="fallback"),
    ]  # fmt: skip
    html = published(tmp_path, *cells, concluding(verdict()))
    html, n_scripts = re.subn(r"<script>.*?</script>", "", html, flags=re.DOTALL)
    digest = templating.create_environment().globals["script_digest"]
    assert n_scripts == 1  # Modelbook's script; the page allows no other
    assert f"script-src '{digest}'\">" in html
    assert not re.search(
        r"<script|<iframe|javascript:|\son\w+=|require\.js|MathJax", html, re.IGNORECASE
    )
    assert not re.search(
        r"""(src|srcset|data|poster)\s*=\s*["']?(https?:)?//|url\(\s*['"]?https?:|@import""", html
    )
    assert re.findall(r"<link[^>]*>", html) == ['<link rel="icon" href="data:,">']
    assert "default-src 'none'" in html
    assert ">kept</p>" in html
    assert "Omitted: an output of the type application/javascript" in html
    assert 'href="https://x.org/page"' in html  # a link is followed by its reader, not by the page


def test_equal_charts_have_distinct_ids(tmp_path: Path) -> None:
    picture = compare.plot_leaderboard(BOARD, "roc_auc")._repr_html_()
    cells = [shown(text__html=picture) for _ in range(2)]
    html = published(tmp_path, *cells, concluding(verdict()))
    charts = re.findall(r"<svg.*?</svg>", html, re.DOTALL)
    ids = [set(re.findall(r' id="([^"]+)"', chart)) for chart in charts]
    assert len(ids) == 4
    assert len(set().union(*ids)) == sum(map(len, ids))
    for chart, chart_ids in zip(charts, ids, strict=True):
        used = re.findall(r'(?:href="#|url\(#|labelledby=")([\w-]+)', chart)
        assert set(used) == chart_ids


def test_setup_cells_are_hidden_and_code_is_folded(tmp_path: Path) -> None:
    html = published(
        tmp_path, shown("secret_default = 1", ("parameters",)), shown("injected = 2", ("injected-parameters",)),
        shown("import os\nfrom pathlib import Path"), shown("visible = 3", text__plain="3 <4"), concluding(verdict()),
    )  # fmt: skip
    assert "secret_default" not in html
    assert "injected" not in html
    assert ">os<" not in html
    assert '<details class="code">' in html
    assert "visible" in html
    assert "3 &lt;4" in html


def test_page_without_verdict_shows_error(tmp_path: Path) -> None:
    trace = ["\x1b[0;31mZeroDivisionError\x1b[0m: <div>"]
    error = new_output(
        "error", ename="ZeroDivisionError", evalue="\x1b[31m<div>\x1b[0m", traceback=trace
    )
    html = published(
        tmp_path, new_code_cell("import x", outputs=[error]), new_markdown_cell("never reached")
    )
    assert "did not reach its verdict" in html
    assert 'class="badge bad"' in html
    assert "ZeroDivisionError: &lt;div&gt;" in html
    assert "\x1b" not in html
    assert "never reached" not in html
    assert "tiny" in html


def test_stdout_is_cleaned_and_warnings_are_folded(tmp_path: Path) -> None:
    outputs = [
        new_output("stream", name=name, text=f"\x1b[1m{name} <x>\x1b[0m")
        for name in ("stdout", "stderr")
    ]
    html = published(tmp_path, new_code_cell("work()", outputs=outputs), concluding(verdict()))
    assert '<pre class="stream">stdout &lt;x&gt;' in html
    [folded] = re.findall(r'<details class="messages">.*?</details>', html, re.DOTALL)
    assert "stderr &lt;x&gt;" in folded
    assert "stdout &lt;x&gt;" not in folded


def test_long_output_is_truncated(tmp_path: Path) -> None:
    outputs = [new_output("stream", name="stdout", text="x" * 3_000_000)]
    html = published(tmp_path, new_code_cell("work()", outputs=outputs), concluding(verdict()))
    assert len(html) < 100_000
    assert missing_facts(html, 2_980_000) == []


def test_page_supports_dark_mode_phone_and_print(tmp_path: Path) -> None:
    html = published(tmp_path, concluding(verdict()))
    for text in (
        "prefers-color-scheme:dark",
        "@media print",
        "max-width:40rem",
        "width=device-width",
    ):
        assert text in html


def test_page_is_written_atomically(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = published(tmp_path, concluding(verdict()))

    def raise_error(*_: Any) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("os.replace", raise_error)
    with pytest.raises(OSError, match="disk full"):
        published(tmp_path, concluding(verdict(status="other")))
    folder = tmp_path / "reports/tiny"
    assert (folder / "03_compare.html").read_text(encoding="utf-8") == before
    assert sorted(path.name for path in folder.iterdir()) == ["03_compare.html", "03_compare.ipynb"]


def test_invalid_notebook_raises(tmp_path: Path) -> None:
    (tmp_path / "x.ipynb").write_text("{")
    with raises_stating(ReportError, tmp_path / "x.ipynb"):
        stage_report.render(tmp_path / "x.ipynb", tmp_path / "x.html")


def test_sanitizer_keeps_harmless_html() -> None:
    harmless_html = (
        '<table class="a"><tr><td title="a &quot;b&quot;">1 &lt; 2 &#183;</td></tr></table><br>'
    )
    assert sanitize_html(harmless_html) == harmless_html
    assert sanitize_html("a<script>b</script>c<script/>d").startswith("ac")
    assert (
        sanitize_html('<img src="data:image/png;base64,AA" alt="x">')
        == '<img src="data:image/png;base64,AA" alt="x">'
    )


# Index


def receipt(root: Path, verdict: Verdict) -> None:
    path = root / "models" / verdict.book / f"{verdict.stage}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(verdict.to_dict()), encoding="utf-8")


def rows(html: str, book: str) -> dict[str, str]:
    section = html.split(f'<section class="book" aria-labelledby="book-{book}">')[1].split(
        "</section>", maxsplit=1
    )[0]
    return dict(zip(config.STAGES, section.split("<tr class=")[1:], strict=True))


def test_index_has_a_row_for_each_stage(tmp_path: Path) -> None:
    published(tmp_path, concluding(verdict()))
    receipt(tmp_path, verdict())
    (tmp_path / "reports/tiny/05_deploy.ipynb").write_text("{}")
    target = index.write(
        tmp_path, {"tiny": {"deploy": "\nBoom: <x>\nmore"}, "new": {"ingest": "no table"}}
    )
    assert target == tmp_path / "reports/index.html"
    html = target.read_text(encoding="utf-8")
    stage_rows = rows(html, "tiny")
    for text in ("accepted", "0.812 &lt;AUC&gt;", "dummy 0.500", 'href="tiny/03_compare.html"', "a" * 12, "b" * 12,
                 "1 min 23 s", "2024-05-06 07:08 UTC"):  # fmt: skip
        assert text in stage_rows["compare"], text
    assert stage_rows["deploy"].startswith('"failed"')
    assert "Boom: &lt;x&gt;" in stage_rows["deploy"]
    assert "more" not in stage_rows["deploy"]
    assert 'href="tiny/05_deploy.ipynb"' in stage_rows["deploy"]
    assert stage_rows["monitor"].startswith('"waiting"')
    assert "href" not in stage_rows["monitor"]
    assert "no table" in rows(html, "new")["ingest"]
    assert html.count("<script") == 1
    assert "http://" not in html
    assert "https://" not in html


def test_corrupt_receipt_does_not_hide_other_stages(tmp_path: Path) -> None:
    receipt(tmp_path, verdict())
    (tmp_path / "models/tiny/ingest.json").write_text("{")
    stage_rows = rows(index.write(tmp_path).read_text(encoding="utf-8"), "tiny")
    assert stage_rows["ingest"].startswith('"unreadable"')
    assert "badge bad" in stage_rows["ingest"]
    assert "accepted" in stage_rows["compare"]


READS = {
    "ingest": [], "explore": ["ingest"], "compare": ["ingest"], "finalize": ["ingest", "compare"],
    "deploy": ["finalize"], "monitor": ["ingest", "deploy"],
}  # fmt: skip


def built_book(root: Path, book: str = "tiny", champion: int = 2, **environment: str) -> None:
    """Write receipts of all stages, which start one hour after another or at given times."""
    score = {"name": "ROC AUC", "value": 0.723, "interval": [0.681, 0.769]}
    result: dict[str, Any] = {
        "finalize": {"status": "beats baseline", "numbers": [score], "details": {"version": 2}},
        "deploy": {"status": "promote", "numbers": [], "details": {"champion": champion, "candidate": 2}},
        "monitor": {
            "status": "watch", "level": "warning", "details": {"version": champion},
            "numbers": [{"name": "rows", "value": 9, "unit": "count"}, {"name": "ROC AUC", "value": 0.701, "compared_with": {"holdout": 0.723}}],
        },
    }  # fmt: skip
    for hour, stage in enumerate(READS, 1):
        facts = {
            "started": environment.get(stage, f"2024-05-06T{hour:02d}:00:00+00:00"),
            "seconds": 1.0,
        }
        receipt(
            root, verdict(**{"stage": stage, "book": book, "facts": facts, **result.get(stage, {})})
        )


def run(number: int, outcome: str = "ok", **kwargs: Any) -> BuildRun:
    stages = {stage: StageRecord("ran", verdict="fine") for stage in READS}
    return BuildRun(
        number,
        started="2024-05-06T07:08:09+00:00",
        seconds=83.2,
        status=outcome,
        stages={**stages, **kwargs},
    )


def glanced(html: str) -> list[str]:
    """The texts about champion, holdout, latest batch and monitor."""
    texts = re.findall(r"<div>(<dt>.*?)</div>", html, re.DOTALL)
    return [" ".join(re.sub(r"<[^>]+>", " ", text).split()) for text in texts]


def test_index_shows_key_numbers_of_book(tmp_path: Path) -> None:
    built_book(tmp_path)
    (tmp_path / "reports/tiny").mkdir(parents=True)
    (tmp_path / "reports/tiny/card-2.html").write_text("")
    html = index.write(tmp_path, upstream=READS).read_text(encoding="utf-8")
    expected = [
        ("champion", 2, "promote", "2024-05-06 05:00 UTC"),
        ("holdout", "ROC AUC", 0.723, 0.681, 0.769, "2024-05-06 04:00 UTC"),
        ("latest batch", "ROC AUC", 0.701, 0.723, "2024-05-06 06:00 UTC"),
        ("monitor", "watch", 2, "2024-05-06 06:00 UTC"),
    ]
    for text, facts in zip(glanced(html), expected, strict=True):
        assert missing_facts(text, *facts) == []
    assert 'href="tiny/card-2.html"' in html


def write_brief(root: Path, contract: Any, champion: int | None, **deployed: Any) -> str:
    """Write index and brief of a book whose version 2 was evaluated, and return the brief's HTML."""
    finalize_path, deploy_path = (
        root / f"models/tiny/{stage}.json" for stage in ("finalize", "deploy")
    )
    for path, details in (
        (finalize_path, {"business_value": VALUE, "gaps_by_significance": HARM}),
        (deploy_path, {"champion": champion, **deployed}),
    ):
        receipt_ = json.loads(path.read_text())
        receipt_["details"] |= details
        path.write_text(json.dumps(receipt_))
    (root / "data/tiny").mkdir(parents=True)
    (root / "data/tiny/contract.yaml").write_text(contract.to_yaml())
    index.write(root)
    return (root / "reports/tiny/brief.html").read_text(encoding="utf-8")


def text_of(html: str) -> str:
    stripped = re.sub(r"<script.*|<style.*?</style>|<[^>]+>", " ", html, flags=re.DOTALL)
    return " ".join(stripped.split())


def test_brief_is_linked_first_in_index(tmp_path: Path, contract: Any) -> None:
    built_book(tmp_path)
    html = index.write(tmp_path).read_text(encoding="utf-8")
    assert "brief.html" not in html  # of an older build, which did not find the value
    criterion = {"name": "fairness gaps", "passed": True, "is_certain": False,
                 "sentence": "Fairness gaps: lower by 22, required within 10.",
                 "power": "80% power to show harm if it is 37 percentage points"}  # fmt: skip
    text = text_of(write_brief(tmp_path, contract, 2, criteria=[criterion]))
    html = (tmp_path / "reports/index.html").read_text(encoding="utf-8")
    assert 'href="tiny/brief.html"' in html
    assert contract.question in html
    facts = [contract.question, "champion", "watch", 2, 123, "EUR", 100, "28%", "the small group"]
    facts += [
        "Fairness gaps",
        22,
        10,
        "80% power to show harm if it is 37 percentage points",
        0.701,
        0.723,
    ]  # inconclusive, with an interval beyond the limit; of the latest batch
    assert missing_facts(text, *facts, "the new", "4,320") == []
    assert "acceptable for this use" in text
    step = text_of(html.split('class="next"')[1].split("</p>")[0])
    assert not missing_facts(step, "1 significant gap", "Monitoring")


def test_brief_states_once_of_which_rows_the_latest_batch_is() -> None:
    share = "batch 5, 97% of the rows are of known members"
    number = key_number("ROC AUC", 0.83, compared_with={"holdout": 0.79}, context=share)
    for sentence, context in ((f"Healthy: in {share}.", ""), ("Healthy.", share)):
        monitor_ = verdict(stage="monitor", sentences=[sentence], numbers=[number])
        latest = brief.get_latest_batch_metric({"monitor": monitor_})
        assert latest == {**number, "context": context}


def test_a_gap_that_is_significant_alone_is_decided_first(
    tmp_path: Path, contract: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    [sensitive] = contract.columns_with_role("sensitive")
    row = {**GAP, "slice": sensitive, "gap": -0.2, "low": -0.43, "high": 0.079, "n_gaps": 15,
           "low_alone": -0.362, "high_alone": -0.022, "rows_needed": 6210.0, "group": "the few"}  # fmt: skip
    monkeypatch.setitem(HARM, "inconclusive", [row])
    built_book(tmp_path)
    html = write_brief(tmp_path, contract, 2)
    assert not missing_facts(text_of(html), "-36.2 to -2.2", "15 gaps -43.0 to 7.9")
    [first, second, *_] = html.split("<ol>")[1].split("</li>")
    assert not missing_facts(text_of(first), "decide", "recall", "the few", "15 comparisons")
    assert not missing_facts(text_of(second), "the small group")
    step = (tmp_path / "reports/index.html").read_text().split('class="next"')[1].split("</p>")[0]
    assert not missing_facts(text_of(step), "version 2", "1 significant gap", "1 gap that")


def test_brief_labels_each_widened_interval(
    tmp_path: Path, contract: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for kind, row in (("conclusive", GAP), ("inconclusive", UNKNOWN)):
        monkeypatch.setitem(HARM, kind, [{**row, "n_gaps": 7}])
    built_book(tmp_path)
    text = text_of(write_brief(tmp_path, contract, 2))
    assert text.count("95% CI, widened for 7 gaps, ") == 2
    assert "before rounding" in text


def test_brief_compares_unweighted_gaps_with_all_unweighted_rows(
    tmp_path: Path, contract: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    gap = {**GAP, "decision": "at capacity", "overall": 0.437}
    monkeypatch.setitem(HARM, "conclusive", [gap])
    rates = {"missing_rate": 0.35, "recent_missing_rate": 0.02}
    mix = {"label": "age", **rates, "is_weighted": True}
    more = {"mix": mix, "period_span": "", "decision_threshold": 0.3181}
    for name, fact in more.items():
        monkeypatch.setitem(VALUE, name, fact)
    criterion = {"name": "fairness gaps", "passed": True, "is_certain": False, "sentence": "Gap."}
    built_book(tmp_path)
    html = write_brief(tmp_path, contract, 2, criteria=[criterion])
    decision, missed = (
        text_of(html.split(f'id="{name}"')[1].split("<h2")[0]) for name in ("decision", "missed")
    )
    facts = ("score 0.318", "without weights", "recall at capacity 43.7%", "28%")
    assert missing_facts(missed, *facts) == []
    assert missing_facts(decision, "without weights") == []


def test_brief_tells_version_in_service_from_candidate(tmp_path: Path, contract: Any) -> None:
    built_book(tmp_path)
    (tmp_path / "reports/tiny").mkdir(parents=True)
    (tmp_path / "reports/tiny/card-1.html").write_text("")
    path = tmp_path / "models/tiny/monitor.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"level": "good"}))
    champion_policy = VALUE["policies"][0] | {"kind": "champion at capacity", "saving": 0.777}
    compared = VALUE | {"policies": [*VALUE["policies"], champion_policy], "champion": "version 1"}
    html = write_brief(tmp_path, contract, 1, candidate=2, business_value=compared)
    worth, missed, steps = (
        text_of(re.split(r"<h2", html.split(f'id="{name}"')[1])[0])
        for name in ("worth", "missed", "next")
    )
    assert missing_facts(worth, "Version 1", 777, "EUR", "flagging everybody", "version 2") == []
    assert 'href="card-1.html"' in html
    assert missing_facts(missed, "version 2", "version 1") == []
    assert "acceptable for this use" not in steps, "the gap is of version 2, which is not used"
    assert missing_facts(steps, "version 1 ranks highest", "its gaps", "model card") == []
    index_step = (tmp_path / "reports/index.html").read_text().split('class="next"')[1]
    assert "significant gap" not in index_step.split("</p>")[0]


def test_brief_states_the_loss_of_a_champion_in_its_own_direction(
    tmp_path: Path, contract: Any
) -> None:
    built_book(tmp_path)
    loss = {"saving": -0.5, "saving_low": -0.7, "saving_high": -0.3}
    champion_policy = VALUE["policies"][0] | {"kind": "champion", "policy": "version 1"} | loss
    compared = VALUE | {"policies": [*VALUE["policies"], champion_policy], "champion": "version 1"}
    html = write_brief(tmp_path, contract, 1, candidate=2, business_value=compared)
    worth = text_of(html.split('id="worth"')[1].split("<h2")[0])
    facts = ("loses an expected 500 EUR", "flagging everybody", "95% CI 300–700")
    assert missing_facts(worth, *facts) == []


def test_brief_shows_each_significant_gap_of_a_sensitive_column_first(contract: Any) -> None:
    [sensitive] = contract.columns_with_role("sensitive")
    gaps = [
        {"slice": "colour" if number < 5 else sensitive, "gap": 0.5 - number / 20}
        for number in range(9)
    ]
    shown = brief.select_displayed_gaps(contract, gaps)
    assert [row["slice"] for row in shown] == [sensitive] * 4 + ["colour"] * brief.MAX_GAPS
    assert shown[4]["gap"] == 0.5


@pytest.mark.parametrize(
    ("moved", "champion", "facts"),
    [
        (True, 2, ["alias champion", "version 2"]),
        (True, 1, ["no longer the champion", "Version 1 is the champion"]),
        (False, 1, ["Version 1 is the champion"]),
        (False, 2, ["Version 2", "is the champion"]),
        (False, None, ["no champion"]),
    ],
)
def test_brief_names_the_champion_not_what_is_served(
    tmp_path: Path, contract: Any, moved: bool, champion: int | None, facts: list[str]
) -> None:
    built_book(tmp_path)
    html = write_brief(tmp_path, contract, champion, moved=moved)
    decision = text_of(html.split('id="decision"')[1].split("<h2")[0])
    assert not missing_facts(decision, *facts)
    assert "in production" not in text_of(html)
    assert ("now points to" in decision) == (moved and champion == 2)
    # Monitor evaluated version 2.
    assert ("not the champion" in decision) == (champion == 1)


def test_brief_states_since_when_a_version_built_again_is_the_champion(
    tmp_path: Path, contract: Any
) -> None:
    built_book(tmp_path)
    path = tmp_path / "models/tiny/deploy.json"
    sentences = ["Version 2 is the champion since day 1.", "Entry 8 approved it.", "All passed."]
    path.write_text(json.dumps(json.loads(path.read_text()) | {"sentences": sentences}))
    promotion = {"action": "promote", "previous": 1}
    changes = {"was_champion": True, "earlier_promotion": promotion, "consequences": []}
    html = write_brief(tmp_path, contract, 2, moved=False, **changes)
    decision = text_of(html.split('id="decision"')[1].split("<h2")[0])
    assert missing_facts(decision, *sentences[:2], "champion") == []
    assert "held" not in decision
    [step] = [row for row in map(text_of, html.split("<li>")) if row.startswith("If you do not")]
    assert missing_facts(step, "version 1", "modelbook rollback") == []


@pytest.mark.parametrize("is_feature", [True, False])
def test_brief_offers_to_remove_columns_that_the_model_uses(
    tmp_path: Path, contract: Any, monkeypatch: pytest.MonkeyPatch, is_feature: bool
) -> None:
    column = contract.feature_names[0] if is_feature else contract.columns_with_role("sensitive")[0]
    monkeypatch.setitem(HARM, "conclusive", [{**GAP, "slice": column}])
    built_book(tmp_path)
    html = write_brief(tmp_path, contract, 2, moved=True)
    [step] = [row for row in map(text_of, html.split("<li>")) if row.startswith("If you do not")]
    facts = (f"To remove {contract.label(column)}", "modelbook build --book tiny", "sensitive")
    assert missing_facts(step, *facts) == ([] if is_feature else list(facts))
    assert "does not use" not in step or not is_feature


def test_brief_names_columns_whose_gaps_no_removal_closes(
    tmp_path: Path, contract: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    [sensitive] = contract.columns_with_role("sensitive")
    gaps = [{**GAP, "slice": name} for name in (contract.feature_names[0], sensitive)]
    monkeypatch.setitem(HARM, "conclusive", gaps)
    built_book(tmp_path)
    html = write_brief(tmp_path, contract, 2, moved=True)
    [step] = [row for row in map(text_of, html.split("<li>")) if row.startswith("If you do not")]
    facts = (f"To remove {contract.label(gaps[0]['slice'])}", contract.label(sensitive), "not use")
    assert missing_facts(step, *facts) == []


def test_brief_names_features_that_determine_a_column_to_remove(
    tmp_path: Path, contract: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    column, other, third = contract.feature_names[:3]
    monkeypatch.setitem(HARM, "conclusive", [{**GAP, "slice": column}])
    built_book(tmp_path)
    path = tmp_path / "models/tiny/explore.json"
    receipt_ = json.loads(path.read_text())
    pairs = ((column, other, -0.85), (other, third, 0.9))
    receipt_["details"]["proxies"] = [
        {"feature": feature, "proxy": proxy, "measure": "Spearman", "value": value}
        for feature, proxy, value in pairs
    ]
    path.write_text(json.dumps(receipt_))
    html = write_brief(tmp_path, contract, 2, moved=True)
    [step] = [row for row in map(text_of, html.split("<li>")) if row.startswith("If you do not")]
    fact = f"nearly determines {contract.label(column)}"
    assert missing_facts(step, contract.label(other), fact, -0.85) == []
    assert "0.9" not in step  # of a column that stays
    path.write_text(json.dumps(receipt_ | {"details": {}}))
    index.write(tmp_path)
    assert "determines" not in (tmp_path / "reports/tiny/brief.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("predecessor", ["version 1", "no champion"])
def test_brief_has_a_step_for_gaps_that_are_not_accepted(
    tmp_path: Path, contract: Any, predecessor: str
) -> None:
    built_book(tmp_path)
    path = tmp_path / "models/tiny/monitor.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"level": "good"}))
    compared = VALUE | {"candidate": "version 2", "champion": predecessor}
    html = write_brief(tmp_path, contract, 2, moved=True, business_value=compared)
    steps = [text_of(row) for row in html.split('id="next"')[1].split("<li>")[1:]]
    assert not missing_facts(steps[0], "1 significant gap", "decide")
    assert not missing_facts(
        steps[1], "If you accept", "act on", 100, "version 2", "ignores the capacity"
    )
    assert not missing_facts(steps[2], "do not accept", "proxies", "Compare the gaps")
    has_predecessor = predecessor == "version 1"
    assert (
        "return to version 1 with modelbook rollback --book tiny" in steps[2]
    ) == has_predecessor
    # Without a gap there is nothing to accept.
    path = tmp_path / "models/tiny/finalize.json"
    receipt_ = json.loads(path.read_text())
    receipt_["details"]["gaps_by_significance"] = {name: [] for name in HARM}
    path.write_text(json.dumps(receipt_))
    index.write(tmp_path)
    html = (tmp_path / "reports/tiny/brief.html").read_text(encoding="utf-8")
    steps = [text_of(row) for row in html.split('id="next"')[1].split("<li>")[1:]]
    assert len(steps) == 2
    assert steps[0].startswith("Act on")


def test_brief_uses_gate_comparison_of_its_own_version_only() -> None:
    compared = {"policies": ["both"], "champion": "version 1", "gains": {}}
    finalize_ = verdict(
        stage="finalize",
        level="warning",
        next="compare",
        details={"version": 2, "business_value": VALUE},
    )
    criteria = [{"passed": passed, "sentence": str(passed)} for passed in (True, False, None)]
    details = {"candidate": 2, "business_value": compared, "criteria": criteria}
    receipts = {
        "finalize": finalize_,
        "deploy": verdict(stage="deploy", next="improve it", details=details),
    }
    value = brief.merge_business_value(receipts)
    assert (value["policies"], value["champion"], value["rows"]) == (["both"], "version 1", 100)
    assert brief.choose_next_step(receipts, 1) == "improve it"
    assert brief.list_unpassed_criteria(receipts["deploy"]) == ["False", "None"]
    older = receipts | {"deploy": verdict(stage="deploy", details=details | {"candidate": 1})}
    assert brief.merge_business_value(older)["policies"] == VALUE["policies"]
    assert brief.choose_next_step(older, 1) == "compare"


@pytest.mark.parametrize(
    ("status", "moved", "champion", "step"),
    [
        ("promote", False, 1, "move the alias"),  # a dry run
        ("promote", False, None, "move the alias"),
        ("promote", False, 2, "wait"),  # promoted after the dry run
        ("promote", True, 1, "wait"),  # rolled back after the promotion
        ("hold", False, 1, "move the alias"),
        ("hold", False, 2, "wait"),  # promoted although it was held
    ],
)
def test_next_step_is_that_of_a_promotion_until_the_alias_has_moved(
    status: str, moved: bool, champion: int | None, step: str
) -> None:
    receipts = {
        "finalize": verdict(stage="finalize", details={"version": 2}),
        "deploy": verdict(
            stage="deploy",
            status=status,
            level="good" if status == "promote" else "warning",
            next="move the alias",
            details={"candidate": 2, "moved": moved},
        ),
        "monitor": verdict(stage="monitor", level="warning", next="wait"),
    }
    assert brief.choose_next_step(receipts, champion) == step


def test_brief_asks_for_the_step_of_monitor_before_predictions_are_acted_on(
    tmp_path: Path, contract: Any
) -> None:
    built_book(tmp_path)
    html = write_brief(tmp_path, contract, 2, moved=True)
    last = [text_of(row) for row in html.split('id="next"')[1].split("<li>")][-1]
    assert not missing_facts(last, "Before the predictions are acted on", "Monitoring")


def test_index_holdout_metric_is_of_champion_not_candidate(tmp_path: Path) -> None:
    built_book(tmp_path, champion=1)
    older = StageRecord(
        "ran", version=1, numbers=[{"name": "ROC AUC", "value": 0.799, "interval": [0.7, 0.9]}]
    )
    html = index.write(tmp_path, runs={"tiny": [run(2), run(1, finalize=older)]}).read_text(
        encoding="utf-8"
    )
    text = glanced(html)[1]
    assert missing_facts(text, 0.799, 0.7, 0.9, "2024-05-06 07:08 UTC", "0.723") == ["0.723"]
    html = index.write(tmp_path).read_text(encoding="utf-8")  # no run mentions version 1
    assert missing_facts(glanced(html)[1], 0.723, 2) == []


@pytest.mark.parametrize("champion", [1, 2])
def test_index_states_whose_saving_it_shows(tmp_path: Path, champion: int) -> None:
    built_book(tmp_path, champion=champion)
    path = tmp_path / "models/tiny/finalize.json"
    receipt_ = json.loads(path.read_text())
    receipt_["numbers"].append({"name": "EUR saved per year", "value": 433, "unit": "count"})
    path.write_text(json.dumps(receipt_))
    [text] = [text for text in glanced(index.write(tmp_path).read_text()) if "EUR saved" in text]
    assert missing_facts(text, 433) == []
    assert ("version 2" in text) == (champion == 1)


def test_index_lists_decisions_newest_first(tmp_path: Path) -> None:
    built_book(tmp_path)

    def entry(
        number: int, entry_kind: str, action: str, after: int, before: int | None
    ) -> HistoryEntry:
        at = f"2024-05-07T0{number % 10}:00:00+00:00"
        return HistoryEntry(
            "tiny",
            entry_kind,
            action,
            after,
            before,
            after,
            "<too> slow",
            {},
            timestamp=at,
            user="anna",
            number=number,
        )

    entries = [
        entry(1, "decision", "promote", 1, 1),
        entry(2, "move", "promote", 2, 1),
        entry(3, "move", "roll back", 1, 2),
    ]
    html = index.write(tmp_path, histories={"tiny": entries}).read_text(encoding="utf-8")
    champion, *_, monitored = glanced(html)
    assert missing_facts(champion, 1, "roll back", "anna", "2024-05-07 03:00 UTC") == []
    assert missing_facts(monitored, "watch", 2) == []
    of_champion = glanced(index.write(tmp_path).read_text(encoding="utf-8"))[-1]
    assert monitored != of_champion  # states that version 2 is not the champion
    part = html.split('<details class="history"')[1].split("</table>")[0]
    rows = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row) for row in part.split("<tr>")[2:]]
    assert rows[0] == [
        "3",
        "2024-05-07 03:00 UTC",
        "roll back",
        "1",
        "2 → 1",
        "anna",
        "&lt;too&gt; slow",
    ]
    actions = [row[2] for row in rows]
    assert actions[:2] == ["roll back", "promote"]
    assert missing_facts(actions[2], "promote") == []
    assert actions[2] != actions[1]  # a decision is no move
    many_entries = [entry(number, "decision", "hold", 2, 2) for number in range(1, 13)]
    html = index.write(tmp_path, histories={"tiny": many_entries}).read_text(encoding="utf-8")
    summary = html.split('<details class="history"')[1].split("</summary>")[0]
    assert missing_facts(summary, 10, 12) == []


def test_index_names_missing_stages(tmp_path: Path) -> None:
    receipt(tmp_path, verdict(stage="ingest"))
    texts = glanced(index.write(tmp_path).read_text(encoding="utf-8"))
    stages = ["deploy", "finalize", "monitor", "monitor"]
    for text, stage in zip(texts, stages, strict=True):
        assert missing_facts(text, stage) == []
        assert not re.search(r"\d", text)


def pictured(html: str) -> dict[str, tuple[str, str]]:
    """Level and word of each box."""
    diagram = html.split('class="flow horizontal"')[1].split("</svg>", maxsplit=1)[0]
    result = re.findall(
        r'<g class="(\w+)"><rect.*?class="name">(\w+)</text><text[^>]*>([^<]*)</text>', diagram
    )
    return {name: (level, label) for level, name, label in result}


def test_diagram_shows_state_of_each_stage(tmp_path: Path) -> None:
    built_book(tmp_path, compare="2024-05-06T00:30:00+00:00")
    (tmp_path / "models/tiny/explore.json").unlink()
    html = index.write(tmp_path, {"tiny": {"deploy": "Boom"}}, upstream=READS).read_text(
        encoding="utf-8"
    )
    states = {
        "ingest": ("good", "accepted"), "explore": ("none", ""), "compare": ("none", "ingest"),
        "finalize": ("none", "compare"), "deploy": ("bad", ""), "monitor": ("none", "waits for deploy"),
    }  # fmt: skip
    boxes = pictured(html)
    assert {stage: level for stage, (level, _) in boxes.items()} == {
        stage: level for stage, (level, _) in states.items()
    }
    for stage, (_, fact) in states.items():
        assert missing_facts(boxes[stage][1], fact) == [], stage
    labels = re.findall(r'<svg[^>]*aria-label="([^"]+)"', html)
    assert len(labels) == 2
    for label in labels:  # as in the figure: state and upstream stages
        for part, stage in zip(label.split(";"), READS, strict=True):
            assert missing_facts(part, stage, states[stage][1], *READS[stage]) == []
    assert html.count('class="flow vertical"') == 1
    assert missing_facts(rows(html, "tiny")["finalize"], boxes["finalize"][1]) == []


def test_index_marks_stages_blocked_by_failure(tmp_path: Path) -> None:
    built_book(tmp_path)
    (tmp_path / "models/tiny/monitor.json").unlink()
    page = index.write(tmp_path, {"tiny": {"finalize": "Boom"}}, upstream=READS)
    html = page.read_text(encoding="utf-8")
    stages = rows(html, "tiny")
    waiting = [stage for stage, row in stages.items() if "waits for finalize" in row]
    assert waiting == ["deploy", "monitor"]  # built before, and never
    champion, holdout, production, monitored = glanced(html)
    for text, stage in ((champion, "deploy"), (production, "monitor"), (monitored, "monitor")):
        assert f"{stage} waits for finalize" in text
    assert missing_facts(holdout, 0.723, "finalize failed") == []
    assert "waits" not in index.write(tmp_path, upstream=READS).read_text(encoding="utf-8")


def test_diagram_has_an_arrow_per_dependency_without_overlapping_boxes() -> None:
    boxes = [pipeline_diagram.StageBox(stage, "<b>", "good", f"{stage}.html") for stage in READS]
    svg = pipeline_diagram.draw_pipeline("tiny", boxes, READS).split("</svg>")[0]
    assert svg.count("<path") == sum(map(len, READS.values()))
    assert svg.count("<a href") == len(READS)
    assert "&lt;b&gt;" in svg
    corners = re.findall(r'<rect x="([\d.]+)" y="([\d.]+)"', svg)
    assert len(set(corners)) == len(READS)
    assert "<path" not in pipeline_diagram.draw_pipeline(
        "tiny", boxes, {}
    )  # their upstream stages are unknown


def test_failed_stage_links_its_page_notebook_and_last_good_report(tmp_path: Path) -> None:
    receipt(tmp_path, verdict())
    folder = tmp_path / "reports/tiny"
    folder.mkdir(parents=True)
    for name, text in (
        ("03_compare.html", failure_report.FAILURE_MARKER),
        ("03_compare.ipynb", "{}"),
        ("03_compare-last-good.html", ""),
    ):
        (folder / name).write_text(text)
    row = rows(
        index.write(tmp_path, {"tiny": {"compare": "Boom"}}).read_text(encoding="utf-8"), "tiny"
    )["compare"]
    assert row.startswith('"failed">')
    assert row.count('href="tiny/03_compare.html"') == 2
    assert 'href="tiny/03_compare.ipynb"' in row
    assert 'href="tiny/03_compare-last-good.html"' in row


def test_index_lists_last_ten_runs(tmp_path: Path) -> None:
    built_book(tmp_path)
    (tmp_path / "reports/tiny/runs/12").mkdir(parents=True)
    for name in ("12/index.html", "11-12.html", "index.html"):
        (tmp_path / "reports/tiny/runs" / name).write_text("")
    failed = run(12, "failed", compare=StageRecord("failed", "Boom <x>"))
    html = index.write(
        tmp_path,
        runs={"tiny": [failed, BuildRun(11, "run.json: gone"), *map(run, range(10, 0, -1))]},
    )
    result = html.read_text(encoding="utf-8").split('<details class="history"')[1]
    assert missing_facts(result.split("</summary>")[0], 10, 12) == []
    assert [int(n) for n in re.findall(r'<th scope="row">(?:<a[^>]*>)?(\d+)', result)] == list(
        range(12, 2, -1)
    )
    assert re.search("✕[^<]*compare", result)
    for text in ("Boom &lt;x&gt;", "run.json: gone", "✓", "1 min 23 s"):
        assert text in result, text
    assert missing_facts(result, 6) == []  # stages
    for link in ("12/index.html", "11-12.html", "index.html"):
        assert f'href="tiny/runs/{link}"' in result


def test_index_of_twenty_books_is_below_size_limit(tmp_path: Path) -> None:
    long = StageRecord("failed", "a long reason " * 20)
    for number in range(20):
        built_book(tmp_path, f"book-{number}")
    runs = {
        f"book-{number}": [run(n, "failed", compare=long) for n in range(50, 0, -1)]
        for number in range(20)
    }
    assert index.write(tmp_path, upstream=READS, runs=runs).stat().st_size < 300_000


def test_empty_index_states_next_step(tmp_path: Path) -> None:
    assert "make run" in index.write(tmp_path).read_text(encoding="utf-8")


def test_evidence_precedes_code_on_page() -> None:
    import nbformat

    v4 = nbformat.v4
    result = v4.new_output("display_data", data={"text/html": "<p>three rows</p>"})
    cells = [
        v4.new_markdown_cell("# 01 · Ingest\n\n> Is it sound?"),
        v4.new_markdown_cell("Open the stage."),
        v4.new_code_cell("context = stage.open('ingest', globals())", outputs=[result]),
        v4.new_code_cell("before()", outputs=[result]),
        v4.new_markdown_cell("## What is in it?"),
        v4.new_code_cell("prepare()"),
        v4.new_code_cell("look()", outputs=[result]),
        v4.new_markdown_cell("This only announces a check."),
        v4.new_code_cell("assert True"),
        v4.new_markdown_cell("## Verdict"),
        v4.new_code_cell("context.write_verdict()", outputs=[result]),
        v4.new_code_cell("after()", outputs=[result]),
    ]
    cells = executed_notebook.select_report_cells(v4.new_notebook(cells=cells))
    shown_sources = ["before()", "## What is in it?", "look()", "after()"]
    assert [cell.source for cell in cells.evidence.cells] == shown_sources
    assert cells.code == [
        ("", ["context = stage.open('ingest', globals())", "before()"]),
        ("What is in it?", ["prepare()", "look()", "assert True"]),
        ("Verdict", ["context.write_verdict()", "after()"]),
    ]
