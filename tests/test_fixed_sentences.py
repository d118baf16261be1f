"""Fixed sentences of templates and notebooks state no facts that may differ between runs."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jinja2 import nodes
from small_project import ROOT
from test_model_card import make_decision, make_version, metrics, read_sections  # noqa: F401 (a fixture)

from modelbook.display import summarize
from modelbook.pages import model_card, templating
from modelbook.registry import card_data
from modelbook.tasks import base

# Words that state the result of a run.
CLAIM = re.compile(
    r"\b(approved|promoted|rejected|moved|reviewed|signed off|drifted(?! column)|failed|passed|succeeded"
    r"|outperforms|beats|worse than|better than|first (time|look)|there is no champion|changed"
    r"|(no|all|every|\d+) (criteri|batch|violation|outcome|missing value|duplicate)\w*)\b",
    re.IGNORECASE,
)
# Words of rules and instructions.
RULE = re.compile(
    r"\b(if|where|when|whether|once|until|unless|without|only|may|can|must|could|would|which|how"
    r"|does|should|what|is decided|leads? to|or|after|(an?|any) \w+ that)\b|\?",
    re.IGNORECASE,
)


def find_claims(text: str) -> list[str]:
    """The sentences that state an outcome."""
    sentences = re.split(r"(?<=[.!?:])\s+|\n\n|</?\w[^>]*>", text)
    return [s for s in sentences if " " in s.strip() and CLAIM.search(s) and not RULE.search(s)]


def fixed_texts(node: nodes.Node) -> Iterator[str]:
    """Unconditional texts of a template."""
    if isinstance(node, nodes.If) or (isinstance(node, nodes.For) and node.test is not None):
        return
    if isinstance(node, nodes.TemplateData):
        yield node.data
    if isinstance(node, nodes.Output):  # one sentence, with gaps where values are
        parts = [part.data if isinstance(part, nodes.TemplateData) else "…" for part in node.nodes]
        yield "".join(parts)
        return
    for child in node.iter_child_nodes():
        yield from fixed_texts(child)


FOLDERS = (templating.TEMPLATE_FOLDER, base.TEMPLATE_FOLDER, summarize.TEMPLATE.parent)
TEMPLATES = {path.name: path for folder in FOLDERS for path in folder.glob("*.j2")}
# Of a stage that has failed, or that depends on one.
OF_A_FAILURE = {"failure_report.html.j2", "last_good_notice.html.j2", "waiting_notice.html.j2"}


@pytest.mark.parametrize("name", sorted(TEMPLATES.keys() - OF_A_FAILURE))
def test_templates_state_no_facts_outside_conditions(name: str) -> None:
    source = TEMPLATES[name].read_text()
    tree = templating.create_environment().parse(source)
    assert [claim for text in fixed_texts(tree) for claim in find_claims(text)] == []


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda p: p.stem)
def test_notebook_prose_states_no_facts(path: Path) -> None:
    cells = json.loads(path.read_text())["cells"]
    prose = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown"]
    assert [claim for text in prose for claim in find_claims(text)] == []


@pytest.mark.parametrize(
    "sentence",
    [
        "The holdout is read here for the first time.",
        "The contract was reviewed by a person.",
        "Approved by the gate: no criterion failed.",
        "No batch drifted, and the champion was moved.",
    ],
)
def test_known_false_sentences_are_detected_as_claims(sentence: str) -> None:
    assert find_claims(sentence)


DECISIONS = {
    "none": None,
    "promote": make_decision(),
    "hold": make_decision("hold", champion=2),
    "hold without a champion": make_decision("hold", champion=None),
    "dry run": make_decision(gate="dry_run", champion=2),
    "champion already": {**make_decision(moved=False), "standing": ["It has been the champion."]},
}


@pytest.mark.long
@pytest.mark.parametrize("decision", DECISIONS.values(), ids=DECISIONS)
def test_card_claims_follow_from_evidence(make_version: Any, tmp_path: Path, decision: Any) -> None:  # noqa: F811
    card = card_data.collect_card_data(make_version(), decision)
    sections = read_sections(model_card.write(card, tmp_path / "card-3.html", tmp_path))
    approval = sections["approval"]
    is_enforced = bool(decision) and decision["gate"] == "enforce"
    is_dry_run = bool(decision) and not is_enforced
    is_champion = bool(decision) and "standing" in decision
    claims = {
        "Approved by": is_enforced and decision["action"] == "promote" and not is_champion,
        "It has been the champion": is_champion,
        "dry run": is_dry_run,
        "Not promoted": is_dry_run,
        "was moved to": bool(decision) and decision["moved"],
        "pointed to no version": bool(decision) and decision["champion"] is None,
        "golden rows": bool(decision) and decision["champion"] is not None,
        "Not approved": not is_dry_run and not (decision and decision["action"] == "promote"),
    }
    assert {claim: claim in approval for claim in claims} == claims


@pytest.mark.long
@pytest.mark.parametrize("left_out", [(), ("gaps",), ("slice_rows",), ("periods",)])
def test_card_omits_what_was_not_measured(
    make_version: Any,  # noqa: F811
    tmp_path: Path,
    left_out: tuple[str, ...],
) -> None:
    card = card_data.collect_card_data(make_version(left_out))
    sections = read_sections(model_card.write(card, tmp_path / "card-3.html", tmp_path))
    assert ("could not be evaluated" in sections["fairness"]) == ("gaps" in left_out)
    assert ("25 holdout rows" in sections["limits"]) == ("slice_rows" not in left_out)
    assert ("1 to 3" in sections["limits"]) == ("periods" not in left_out)
    assert str(metrics()["rows"]["holdout"]) in sections["data"]
