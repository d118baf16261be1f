"""The model card: made of kept evidence, whole or not at all, and honest where something is missing."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from modelbook.contract import Contract
from modelbook.errors import ReportError
from modelbook.gate import Criterion, Decision
from modelbook.registry import dossier
from modelbook.registry.versions import Version
from modelbook.report import card
from modelbook.report.chapters import sections

SAID = {
    "use": "To try <things>.", "not_for": ["Anything that matters."], "limits": ["It was drawn by a generator."],
    "contact": "The person with the seed.",
}  # fmt: skip
FOUND = {"value": 0.8, "low": 0.75, "high": 0.85, "baseline": 0.5}
GAP = {"slice": "group", "value": "1", "n": 30, "against": "0", "against_n": 70, "one": 0.4, "other": 0.7}


def metrics() -> dict[str, Any]:
    names = ("roc_auc", "pr_auc", "log_loss", "brier", "recall", "precision", "flagged")
    off = {"metric": "calibration_error", "value": -0.03, "low": -0.05, "high": -0.01, "baseline": 0.0}
    return {
        "name": "logistic regression", "threshold": 0.2, "rows": {"train": 400, "holdout": 100},
        "entities": {"train": 80, "holdout": 20}, "periods": [1, 2, 3],
        "evaluation": [*({"metric": name, **FOUND} for name in names), off],
        "calibration": [{"predicted": p, "observed": p + 0.03, "low": p - 0.1, "high": p + 0.1, "n": 50}
                        for p in (0.2, 0.7)],
        "gain": [0.1, 0.05, 0.15], "importance": {"size": 0.2, "noise": 0.01, "colour": 0.0, "flag": -0.01},
        "importance_sd": {"size": 0.02, "noise": 0.01, "colour": 0.01, "flag": 0.01}, "slice_rows": 25,
        "slices": [{"slice": "group", "value": value, "n": n, "rate": 0.2, "roc_auc": auc, "low": auc - 0.1,
                    "high": auc + 0.1, "calibration_error": 0.0, "recall": 0.5, "flagged": 0.3}
                   for value, n, auc in (("0", 70, 0.81), ("1", 30, 0.66))],
        "gaps": [{**GAP, "metric": "recall", "gap": -0.3, "low": -0.5, "high": -0.1}],
        "told": {"beside": "It gains on the simple model.", "looks": "This was look 7 at this holdout."},
    }  # fmt: skip


@pytest.fixture
def make(tmp_path: Path, contract: Contract):
    """A version whose folder holds what a card is made of; ``without`` leaves evidence out, ``said`` the contract's."""

    def made(without: tuple[str, ...] = (), split: str = "group", **said: Any) -> Version:
        told = Contract.model_validate({**contract.model_dump(exclude_defaults=True), **SAID, **said})
        (tmp_path / "contract.yaml").write_text(told.dump())
        kept = {name: value for name, value in metrics().items() if name not in without} | {"split": split}
        (tmp_path / "metrics.json").write_text(json.dumps(kept))
        return Version("tiny", 3, {"commit": "c0ffee", "fingerprint": "f" * 64}, tmp_path)

    return made


def approved(word: str = "promote", gate: str = "enforce", champion: int | None = 3) -> dict[str, Any]:
    decision = Decision(word, [Criterion("ROC AUC above the floor", "at least 0.6", "0.800", word == "promote")])
    done = {"champion": champion, "moved": word == "promote", "golden_rows": 30, "scorer": ""}
    return dossier.approval(decision, done, commit="beef", gate=gate)


def opened(root: Path, *, by_hand: bool = False) -> Any:
    """As much of an open stage as a card needs; ``heard`` is what it told the build."""
    heard: list[str] = []
    folder = root / "reports/tiny" / ("by-hand" if by_hand else "")
    report = folder / "04_finalize.html"
    (root / "pipeline.yaml").write_text("tasks: [{name: ingest}, {name: finalize}]")
    return SimpleNamespace(root=root, product={"report": report}, by_hand=by_hand, tell=heard.append, heard=heard)


def words(path: Path) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", path.read_text().split("</style>", 1)[1]))


def test_a_card_tells_every_section_from_the_evidence(make, tmp_path):
    path = card.write(dossier.gather(make(), approved()), tmp_path / "reports/tiny/card-3.html", tmp_path)
    html, text = path.read_text(), words(path)
    assert re.findall(r'<h2 id="([\w-]+)"', html) == [
        "use", "not-for", "data", "quality", "calibration", "fairness", "importance", "limits", "approval", "contact",
    ]  # fmt: skip
    assert "To try &lt;things&gt;." in html  # what the contract says is escaped
    assert "500: 400 train, 100 holdout" in text
    assert "No member is on both sides of the split" in text
    drawn = dossier.gather(make(split="random"))["split"]
    assert drawn.startswith("Rows were drawn one by one for the holdout. A member may be on both sides")
    assert "ranks a yes above a no 80% of the time (75% to 85%; guessing reaches 50%)" in text
    assert "too low by 3.0 percentage points" in text
    assert "The model never sees group." in text
    assert "finds 40% where group is 1 and 70% where it is 0: 30 points fewer (-50 to -10; more than chance" in text
    assert "weakest where group is 1: ROC AUC 0.660 (0.560 to 0.760) on 30 rows" in text
    assert "period" in text
    assert "known too late" in text  # why a column was dropped
    assert "Approved by the gate of the code at commit beef" in text
    assert "The person with the seed." in text


@pytest.mark.parametrize(
    ("approval", "badge", "told"),
    [
        (None, "not decided", "Nobody yet: the gate in deploy has not been asked"),
        (approved("hold", champion=2), "on hold", "Not approved. The gate of the code at commit beef"),
        (approved("hold", champion=None), "on hold", "the alias champion named no version"),
        (approved(gate="dry_run", champion=2), "not decided", "Nobody: this was a dry run."),
    ],
)
def test_only_a_promotion_is_an_approval(make, tmp_path, approval, badge, told):
    path = card.write(dossier.gather(make(), approval), tmp_path / "card-3.html", tmp_path)
    assert told in words(path)
    assert re.search(rf'<span class="badge watch">.*?{badge}', path.read_text())
    assert "Approved by" not in words(path)


@pytest.mark.parametrize(
    ("without", "said", "section", "mend"),
    [
        ((), {"use": "  "}, "What is it for?", "write `use` into the book's contract"),
        ((), {"not_for": []}, "What is it not for?", "write `not_for` into the book's contract"),
        ((), {"limits": []}, "What are its limits?", "write `limits` into the book's contract"),
        ((), {"contact": ""}, "Whom to ask?", "write `contact` into the book's contract"),
        (("slices",), {}, "For whom is it better or worse?", "name columns in the contract's `slices`"),
        (("calibration",), {}, "Can its answers be taken at their word?", "build finalize again"),
        (("entities",), {}, "What was it made of?", "build finalize again"),
        (("importance",), {}, "What does it rest on?", "build finalize again"),
        (("evaluation",), {}, "How good is it?", "build finalize again"),
    ],
)
def test_a_card_with_an_empty_section_refuses_to_be_made(make, tmp_path, without, said, section, mend):
    target = tmp_path / "card-3.html"
    with pytest.raises(ReportError) as caught:
        card.write(dossier.gather(make(without, **said)), target, tmp_path)
    assert f"“{section}”" in caught.value.what
    assert mend in caught.value.next
    assert not target.exists()


def test_a_book_that_says_nothing_of_its_use_is_told_so_and_goes_on(make, tmp_path):
    this = opened(tmp_path)
    stale = this.product["report"].with_name("card-3.html")
    stale.parent.mkdir(parents=True)
    stale.write_text("of another version 3")
    shown = card.publish(dossier.gather(make(use="", contact="")), this)
    assert shown.name == ""
    assert not stale.exists()
    assert "No model card was made for version 3." in shown._repr_html_()
    assert "write `use` into the book&#x27;s contract" in shown._repr_html_()
    [line] = this.heard
    assert line.startswith("no model card of version 3: the model card of version 3 would have nothing under")


def test_the_report_links_to_the_card_beside_it(make, tmp_path):
    shown = card.publish(dossier.gather(make()), opened(tmp_path))
    assert 'href="card-3.html"' in shown._repr_html_()
    html = (tmp_path / "reports/tiny/card-3.html").read_text()
    assert re.findall(r'href="(\d\d_\w+).html"', html) == ["01_ingest", "04_finalize"]  # the project's own stages


def test_by_hand_a_card_goes_to_the_by_hand_folder_and_links_to_the_builds_pages(make, tmp_path):
    shown = card.publish(dossier.gather(make()), opened(tmp_path, by_hand=True))
    html = (tmp_path / "reports/tiny/by-hand/card-3.html").read_text()
    assert "<code>reports/tiny/by-hand/card-3.html</code>" in shown._repr_html_()
    assert 'href="../../index.html"' in html
    assert 'href="../04_finalize.html"' in html


@pytest.mark.parametrize(
    ("commit", "told"),
    [
        ("c0ffee", "Approved by the gate of the code at commit c0ffee, on"),
        ("c0ffee+", "at commit c0ffee with changes that were not committed, on"),
        ("none", "Approved by the gate of the code outside version control, on"),
    ],
)
def test_a_card_says_which_code_approved(make, commit, told):
    approval = {**approved(), "commit": commit}
    [section] = [section for section in sections(dossier.gather(make(), approval)) if section.name == "approval"]
    assert told in section.blocks[0]


def test_a_book_without_sensitive_columns_says_so(make, contract):
    told = dossier.gather(make(("gaps",)))
    told["sensitive"] = []
    [fairness] = [section for section in sections(told) if section.name == "fairness"]
    assert fairness.blocks[0].startswith("The contract marks no column as sensitive")


def test_a_group_that_is_too_small_is_named_as_not_judged(make):
    [fairness] = [section for section in sections(dossier.gather(make(("gaps",)))) if section.name == "fairness"]
    assert "group could not be judged: too few rows in a second group." in fairness.blocks[0]


def test_the_bundled_contract_fills_what_a_card_asks_of_it():
    told = Contract.load(Path(__file__).parents[1] / "contracts/rand-hie.yaml")
    assert all([told.use, told.not_for, told.limits, told.contact])


@pytest.mark.slow
def test_a_build_leaves_the_card_of_its_version_with_the_gates_decision(built):
    version = built.receipt("deploy")["details"]["candidate"]
    path = built.root / f"reports/tiny/card-{version}.html"
    assert built.receipt("finalize")["details"]["card"] == built.receipt("deploy")["details"]["card"] == path.name
    assert "Approved by the gate of the code outside version control" in words(path)
    for stage in ("04_finalize", "05_deploy"):
        assert f'href="{path.name}"' in (built.root / f"reports/tiny/{stage}.html").read_text()
    assert path.stat().st_size < 1_500_000
