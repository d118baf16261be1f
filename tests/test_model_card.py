"""Model card: content from the stored evidence, missing sections, approval."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from text_facts import missing_facts
from version_evidence import HARM, VALUE

from modelbook.contract import Contract
from modelbook.errors import ReportError
from modelbook.gate import Criterion, Decision
from modelbook.pages import model_card
from modelbook.pages.card_sections import render_sections
from modelbook.registry import card_data
from modelbook.registry.versions import ModelVersion

INTENDED_USE = {
    "use": "To try <things>.", "not_for": ["Anything that matters."], "limits": ["It was drawn by a generator."],
    "contact": "The person with the seed.",
}  # fmt: skip
METRIC = {"value": 0.8, "low": 0.75, "high": 0.85, "baseline": 0.5}
GAP = {
    "slice": "group",
    "value": "1",
    "n": 30,
    "reference": "0",
    "reference_n": 70,
    "group_metric": 0.4,
    "reference_metric": 0.7,
}


def metrics() -> dict[str, Any]:
    names = ("roc_auc", "pr_auc", "log_loss", "brier", "recall", "precision", "selection_rate")
    calibration = {
        "metric": "calibration_in_the_large",
        "value": -0.03,
        "low": -0.05,
        "high": -0.01,
        "baseline": 0.0,
    }
    return {
        "name": "logistic regression", "threshold": 0.2, "rows": {"train": 400, "holdout": 100},
        "entities": {"train": 80, "holdout": 20}, "periods": [1, 2, 3],
        "evaluation": [*({"metric": name, **METRIC} for name in names), calibration],
        "calibration": [{"predicted": p, "observed": p + 0.03, "low": p - 0.1, "high": p + 0.1, "n": 50}
                        for p in (0.2, 0.7)],
        "gain": [0.1, 0.05, 0.15], "importance": {"size": 0.2, "noise": 0.01, "colour": 0.0, "flag": -0.01},
        "importance_sd": {"size": 0.02, "noise": 0.01, "colour": 0.01, "flag": 0.01}, "slice_rows": 25,
        "slices": [{"slice": "group", "value": value, "n": n, "rate": 0.2, "roc_auc": auc, "low": auc - 0.1,
                    "high": auc + 0.1, "calibration_in_the_large": 0.0, "recall": 0.5, "selection_rate": 0.3}
                   for value, n, auc in (("0", 70, 0.81), ("1", 30, 0.66))],
        "gaps": [{**GAP, "metric": "recall", "gap": -0.3, "low": -0.5, "high": -0.1}],
        "by_period": [{"period": period, "rows": 50, "rate": 0.2, "roc_auc": auc, "low": auc - 0.1, "high": auc + 0.1, "recall": 0.5}
                      for period, auc in (("2", 0.717), ("3", 0.828))],
        "gaps_by_significance": HARM, "business_value": VALUE,
        "told": {"beside": "It gains on the simple model.", "looks": "This was look 7 at this holdout."},
    }  # fmt: skip


@pytest.mark.long
def test_card_states_the_least_rows_of_groups_and_of_error_slices(make_version, tmp_path) -> None:
    """Those of a tree are evaluated on half of the entities, so with fewer rows."""
    card = card_data.collect_card_data(make_version())
    [limits] = [section for section in render_sections(card) if section.name == "limits"]
    sentence = next(text for text in limits.html.split("<li>") if "error slices" in text)
    groups, error_slices = sentence.split(";")
    assert missing_facts(groups, 25) == []
    assert missing_facts(error_slices, 12) == []


@pytest.mark.long
def test_card_states_the_lowest_score_that_is_flagged_at_capacity(make_version, tmp_path) -> None:
    card = card_data.collect_card_data(make_version())
    at_capacity = [{**VALUE["policies"][0], "kind": "model at capacity"}, *VALUE["policies"]]
    limited = {**VALUE, "policies": at_capacity, "decision_threshold": 0.3116}
    tiles = {}
    for name, value in (("limited", limited), ("unlimited", VALUE)):
        card["metrics"]["business_value"] = value
        page = model_card.write(card, tmp_path / "card.html", tmp_path).read_text(encoding="utf-8")
        tiles[name] = page[re.search("rows with this score|lowest score", page).start() - 400 :][
            :800
        ]
    # The rule of the brief: a capacity is a number of rows, not a score.
    flagged = f"{VALUE['at_capacity']['flagged']:.0f} highest scores of each year"
    facts = ("at capacity", "0.312", flagged, "label", "threshold 0.2", "whatever the capacity")
    assert missing_facts(tiles["limited"], *facts) == []
    assert missing_facts(tiles["unlimited"], "0.2", "at capacity") == ["at capacity"]


@pytest.mark.long
def test_card_does_not_state_a_probability_as_its_own_certainty(make_version) -> None:
    sections = render_sections(card_data.collect_card_data(make_version(("prediction_interval",))))
    [html] = [section.html for section in sections if section.name == "quality"]
    assert missing_facts(html, "uncertain", "certain") == ["certain"]


@pytest.mark.long
def test_card_states_metrics_of_all_rows_beside_those_of_groups(make_version, monkeypatch) -> None:
    gap = {**HARM["conclusive"][0], "overall": 0.437}
    monkeypatch.setitem(HARM, "conclusive", [gap])
    sections = render_sections(card_data.collect_card_data(make_version()))
    [html] = [section.html for section in sections if section.name == "fairness"]
    assert missing_facts(html, "without weights", "recall 43.7%") == []


@pytest.fixture
def make_version(tmp_path: Path, contract: Contract):
    """A function that makes a version with the evidence of a card, except for ``excluded_metrics``."""

    def make(
        excluded_metrics: tuple[str, ...] = (), split: str = "group", **tags: Any
    ) -> ModelVersion:
        result = Contract.model_validate(
            {**contract.model_dump(exclude_defaults=True), **INTENDED_USE, **tags}
        )
        (tmp_path / "contract.yaml").write_text(result.to_yaml())
        metrics_and_details = {
            name: value for name, value in metrics().items() if name not in excluded_metrics
        } | {"split": split}
        (tmp_path / "metrics.json").write_text(json.dumps(metrics_and_details))
        return ModelVersion("tiny", 3, {"commit": "c0ffee", "fingerprint": "f" * 64}, tmp_path)

    return make


def make_decision(
    action: str = "promote",
    gate: str = "enforce",
    champion: int | None = 3,
    moved: bool | None = None,
) -> dict[str, Any]:
    decision = Decision(
        action, [Criterion("ROC AUC above the floor", "at least 0.6", "0.800", action == "promote")]
    )
    moved = action == "promote" if moved is None else moved
    result = {"champion": champion, "moved": moved, "golden_rows": 30, "scorer": ""}
    return card_data.describe_decision(decision, result, commit="beef", gate_mode=gate)


def fake_stage(root: Path, *, by_hand: bool = False) -> Any:
    """Minimal context of a stage for a card; ``messages`` are those to the build."""
    messages: list[str] = []
    folder = root / "reports/tiny" / ("by-hand" if by_hand else "")
    report = folder / "04_finalize.html"
    (root / "pipeline.yaml").write_text("tasks: [{name: ingest}, {name: finalize}]")
    return SimpleNamespace(
        root=root,
        product={"report": report},
        by_hand=by_hand,
        log_progress=messages.append,
        heard=messages,
    )


def read_sections(path: Path) -> dict[str, str]:
    """The text of each section of a card."""
    parts = re.split(r'<h2 id="([\w-]+)"[^>]*>', path.read_text().partition("<footer")[0])
    texts = [re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", html)) for html in parts]
    return dict(zip(texts[1::2], texts[2::2], strict=True))


def find_paragraphs(evidence: dict[str, Any], name: str) -> list[str]:
    """The paragraphs of a section."""
    [section] = [section for section in render_sections(evidence) if section.name == name]
    return re.findall(r'<p class="words">(.*?)</p>', section.html, re.DOTALL)


@pytest.mark.long
def test_card_fills_every_section_from_evidence(make_version, tmp_path):
    path = model_card.write(
        card_data.collect_card_data(make_version(), make_decision()),
        tmp_path / "reports/tiny/card-3.html",
        tmp_path,
    )
    html, sections_ = path.read_text(), read_sections(path)
    assert re.findall(r'<h2 id="([\w-]+)"', html) == [
        "use", "not-for", "data", "worth", "quality", "calibration", "fairness", "importance", "limits", "approval", "contact",
    ]  # fmt: skip
    assert re.findall(r'<span class="badge (\w+)"', html) == ["good"]
    assert "To try &lt;things&gt;." in html  # texts of the contract are escaped
    for section, facts in {
        "use": ["To try &lt;things&gt;."],
        "not-for": ["Anything that matters."],
        "data": [500, 400, 100, "member", "period", "known too late"],  # the last: why dropped
        "worth": [123, "EUR", "flag everybody", 100, "28%"],
        "quality": [
            0.8,
            0.75,
            0.85,
            0.5,
            0.071,
            0.717,
            0.828,
            "recall at the threshold",
        ],  # the last: 2.8 standard errors
        "calibration": [3.0],
        "fairness": ["the small group", "group", 0.4, 0.7, "50.0", "10.0", 0.66, 0.56, 0.76, 30],
        "limits": ["It was drawn by a generator."],
        "approval": ["beef"],
        "contact": ["The person with the seed."],
    }.items():
        assert missing_facts(sections_[section], *facts) == [], section


@pytest.mark.long
def test_card_shows_prediction_intervals_and_power_of_criteria(make_version):
    version = make_version()
    interval = {"level": 0.9, "limit": 3.21, "coverage": 0.88, "low": 0.83, "high": 0.92}
    recorded = {**version.metrics, "prediction_interval": {**interval, "mean_size": None}}
    (version.artifact_folder / "metrics.json").write_text(json.dumps(recorded))
    power = "a model with 0.671 passes"
    decision = Decision("hold", [Criterion("ROC AUC", "at least 0.6", "0.65", False, power)])
    outcome = {"champion": None, "moved": False, "golden_rows": 30, "scorer": ""}
    described = card_data.describe_decision(decision, outcome, commit="", gate_mode="enforce")
    card = card_data.collect_card_data(version, described)
    html = {section.name: section.html for section in render_sections(card)}
    assert missing_facts(html["quality"], 0.9, 3.21, 0.88, 0.83, 0.92) == []
    assert missing_facts(html["approval"], power) == []


def test_slices_of_a_card_are_named_like_those_of_finalize(make_version):
    card = card_data.collect_card_data(make_version())
    contract = make_version().contract
    slices = metrics()["slices"]
    assert [row["group"] for row in card["slices"]] == [
        contract.label_group(row["slice"], row["value"]) for row in slices
    ]


def test_card_states_whether_entities_are_in_train_and_holdout(make_version):
    by_group, by_row = (
        card_data.collect_card_data(make_version(split=split))["split"]
        for split in ("group", "random")
    )
    assert by_group != by_row
    assert missing_facts(by_group, "member") == missing_facts(by_row, "member", "rows") == []


@pytest.mark.long
@pytest.mark.parametrize(
    ("approval", "facts"),
    [
        (None, ["deploy"]),
        (make_decision("hold", champion=2), ["beef", 2]),
        (make_decision("hold", champion=None), ["beef", "champion"]),
        (make_decision(gate="dry_run", champion=2), ["dry run"]),
    ],
    ids=["no gate", "hold", "hold without a champion", "dry run"],
)
def test_only_promotion_counts_as_approval(make_version, tmp_path, approval, facts):
    path = model_card.write(
        card_data.collect_card_data(make_version(), approval), tmp_path / "card-3.html", tmp_path
    )
    assert re.findall(r'<span class="badge (\w+)"', path.read_text()) == ["warning"]
    assert missing_facts(read_sections(path)["approval"], *facts) == []
    approved_card, other_card = (
        find_paragraphs(card_data.collect_card_data(make_version(), decision), "approval")[0]
        for decision in (make_decision(), approval)
    )
    assert approved_card != other_card
    if approval and approval["action"] == "hold":
        assert missing_facts(other_card, "1 failed", "ROC AUC above the floor") == []
    if approval:
        text = read_sections(path)["approval"]
        assert ("golden rows" in text) == (approval["champion"] is not None)


@pytest.mark.long
@pytest.mark.parametrize(
    ("excluded_metrics", "tags", "section", "fields"),
    [
        ((), {"use": "  "}, "use", ["contract", "`use`"]),
        ((), {"not_for": []}, "not-for", ["contract", "`not_for`"]),
        ((), {"limits": []}, "limits", ["contract", "`limits`"]),
        ((), {"contact": ""}, "contact", ["contract", "`contact`"]),
        (("slices",), {}, "fairness", ["contract", "`slices`"]),
        (("calibration",), {}, "calibration", ["finalize"]),
        (("entities",), {}, "data", ["finalize"]),
        (("importance",), {}, "importance", ["finalize"]),
        (("evaluation",), {}, "quality", ["finalize"]),
    ],
)
def test_card_with_empty_section_raises(
    make_version, tmp_path, excluded_metrics, tags, section, fields
):
    [title] = [
        part.title
        for part in render_sections(card_data.collect_card_data(make_version()))
        if part.name == section
    ]
    target = tmp_path / "card-3.html"
    with pytest.raises(ReportError) as exc_info:
        model_card.write(
            card_data.collect_card_data(make_version(excluded_metrics, **tags)), target, tmp_path
        )
    assert title in exc_info.value.problem
    assert missing_facts(exc_info.value.next, *fields) == []
    assert not target.exists()


@pytest.mark.long
def test_contract_without_use_skips_card_with_message(make_version, tmp_path):
    this = fake_stage(tmp_path)
    stale = this.product["report"].with_name("card-3.html")
    stale.parent.mkdir(parents=True)
    stale.write_text("of another version 3")
    result = model_card.publish(card_data.collect_card_data(make_version(use="", contact="")), this)
    assert result.file_name == ""
    assert not stale.exists()
    [line] = this.heard
    assert missing_facts(result._repr_html_(), 3, "`use`") == missing_facts(line, 3) == []


@pytest.mark.long
def test_report_links_to_card(make_version, tmp_path):
    result = model_card.publish(card_data.collect_card_data(make_version()), fake_stage(tmp_path))
    assert 'href="card-3.html"' in result._repr_html_()
    html = (tmp_path / "reports/tiny/card-3.html").read_text()
    assert re.findall(r'href="(\d\d_\w+).html"', html) == [
        "01_ingest",
        "04_finalize",
    ]  # the project's own stages


@pytest.mark.long
def test_card_by_hand_is_written_to_by_hand_folder(make_version, tmp_path):
    result = model_card.publish(
        card_data.collect_card_data(make_version()), fake_stage(tmp_path, by_hand=True)
    )
    html = (tmp_path / "reports/tiny/by-hand/card-3.html").read_text()
    assert "<code>reports/tiny/by-hand/card-3.html</code>" in result._repr_html_()
    assert 'href="../../index.html"' in html
    assert 'href="../04_finalize.html"' in html


@pytest.mark.long
@pytest.mark.parametrize(("action", "level"), [("promote", "good"), ("hold", "warning")])
def test_card_of_the_champion_built_again_keeps_its_approval(make_version, tmp_path, action, level):
    standing = {"was_champion": True, "standing": ["Approved on day 1 (entry 8)."]}
    decision = {**make_decision(action, moved=False), **standing}
    card = card_data.collect_card_data(make_version(), decision)
    path = model_card.write(card, tmp_path / "card-3.html", tmp_path)
    assert re.findall(r'<span class="badge (\w+)".*</span> (\w+)</span>', path.read_text()) == [
        (level, "champion")
    ]
    text = read_sections(path)["approval"]
    assert missing_facts(text, "Approved on day 1 (entry 8).", "of 1 criteria passed") == []
    assert "Not approved" not in text


@pytest.mark.long
def test_approval_counts_criteria_that_are_open_or_not_evaluated(make_version):
    names = ("quality", "fairness", "calibration", "latency", "size")
    passed = (True, True, True, None, None)
    criterion = make_decision()["criteria"][0]
    criteria = [
        {**criterion, "name": name, "passed": is_met, "is_certain": name != "fairness"}
        for name, is_met in zip(names, passed)
    ]
    card = card_data.collect_card_data(make_version(), {**make_decision(), "criteria": criteria})
    text = find_paragraphs(card, "approval")[0]
    facts = ("2 of 5", "1 inconclusive", "fairness", "2 could not be evaluated", "latency", "size")
    assert missing_facts(text, *facts) == []
    assert "no criterion failed" not in text
    only = find_paragraphs(
        card_data.collect_card_data(make_version(), make_decision()), "approval"
    )[0]
    assert missing_facts(only, "1 of 1") == []
    assert "evaluated" not in only


@pytest.mark.long
@pytest.mark.parametrize(
    ("commit", "facts", "absent"),
    [
        ("c0ffee", ["c0ffee"], "none"),
        ("c0ffee+", ["c0ffee", "committed"], "c0ffee+"),
        ("none", ["version control"], "none"),
    ],
)
def test_card_names_commit_that_approved(make_version, commit, facts, absent):
    approval = {**make_decision(), "commit": commit}
    text = find_paragraphs(card_data.collect_card_data(make_version(), approval), "approval")[0]
    assert missing_facts(text, *facts, absent) == [absent]


@pytest.mark.long
def test_card_names_missing_sensitive_columns_and_too_small_groups(make_version):
    evidence = card_data.collect_card_data(make_version(("gaps",)))
    too_small = find_paragraphs(evidence, "fairness")[0]
    text_without_columns = find_paragraphs(evidence | {"sensitive": []}, "fairness")[0]
    assert (
        missing_facts(too_small, "group") == missing_facts(text_without_columns, "sensitive") == []
    )
    assert too_small != text_without_columns


def test_bundled_contract_has_all_card_sections():
    result = Contract.load(Path(__file__).parents[1] / "contracts/rand-hie.yaml")
    assert all([result.use, result.not_for, result.limits, result.contact])


@pytest.mark.slow
def test_build_updates_card_with_gate_decision(built_project):
    version = built_project.read_receipt("deploy")["details"]["candidate"]
    path = built_project.root / f"reports/tiny/card-{version}.html"
    assert (
        built_project.read_receipt("finalize")["details"]["card"]
        == built_project.read_receipt("deploy")["details"]["card"]
        == path.name
    )
    assert '<span class="badge good"' in path.read_text()
    for stage in ("04_finalize", "05_deploy"):
        assert (
            f'href="{path.name}"' in (built_project.root / f"reports/tiny/{stage}.html").read_text()
        )
    assert path.stat().st_size < 1_500_000


@pytest.mark.long
@pytest.mark.parametrize(
    ("row", "stated"),
    [
        ({"relevant_gap": 0.1, "is_share": True}, "10 percentage points"),
        ({"relevant_gap": 5.0, "is_share": False}, "5.000"),
    ],
)
def test_rows_that_are_needed_are_for_a_gap_of_the_limit(make_version, row, stated):
    evidence = card_data.collect_card_data(make_version())
    gap = evidence["gaps"][0] | {"gap": -0.29, "rows_needed": 5530.0} | row
    sections = render_sections(evidence | {"gaps": [gap]})
    [html] = [section.html for section in sections if section.name == "fairness"]
    times = round(5530 / gap["n"])
    assert not missing_facts(html, f"{times} times", "5,530", f"gap of {stated}")
