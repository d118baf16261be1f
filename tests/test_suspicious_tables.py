"""Leaking tables in the real stages: refused, suspected, or held by the gate."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from notebook_cells import run_cells, verify_in_process
from small_project import SMALL, SmallProject
from version_store import put_empty_store

from modelbook import config
from modelbook.errors import DataError

pytestmark = pytest.mark.slow
FEATURES = [f"x{number}" for number in range(5)]
VALUES = {
    **SMALL, "table": "noise.csv", "contract": "contracts/noise.yaml", "train_until": None,
    "sample": 1.0, "families": ["lr"], "learning_budget": 20, "log_candidate_models": False,
}  # fmt: skip


def draw_table(groups: int, rows_per_group: int = 1, jitter: float = 0.0) -> pd.DataFrame:
    """Noise in groups of similar rows with one outcome, and a different id in each row."""
    rng = np.random.default_rng(0)
    numbers = np.repeat(rng.normal(size=(groups, 5)), rows_per_group, axis=0)
    numbers += jitter * rng.normal(size=numbers.shape)
    frame = pd.DataFrame(numbers, columns=FEATURES)
    return frame.assign(
        id=np.arange(len(frame)),
        plot=np.repeat(np.arange(groups), rows_per_group),
        y=np.repeat(rng.integers(0, 2, groups), rows_per_group),
    )


def draw_pair() -> pd.DataFrame:
    """The difference of two columns is the target, but neither column is."""
    frame = draw_table(600)
    return frame.assign(y=(frame["x0"] > frame["x1"]).astype(int))


def draw_rare() -> pd.DataFrame:
    """1% positives and a weak feature."""
    frame = draw_table(1000)
    is_event = np.random.default_rng(1).permutation(1000) < 10
    return frame.assign(y=is_event.astype(int), x0=frame["x0"] + is_event)


@pytest.fixture
def run(small_project: SmallProject, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run stages up to one on a table; ``plot`` is dropped, as a draft may do, and ``id`` the key."""
    monkeypatch.setenv("MODELBOOK_ROOT", str(put_empty_store(small_project.root)))
    verify_in_process(monkeypatch)
    contract = {
        "title": "Noise", "question": "Is it so?", "source": "a seeded generator", "licence": "none",
        "task": "binary", "key": ["id"],
        "columns": {
            **{name: {"role": "feature", "type": "number", "meaning": "a number"} for name in FEATURES},
            "id": {"role": "id", "type": "integer", "meaning": "number of the row"},
            "plot": {"role": "dropped", "type": "integer", "meaning": "a plot", "reason": "a name"},
            "y": {"role": "target", "type": "boolean", "meaning": "a coin"},
        },
    }  # fmt: skip
    (small_project.root / "contracts/noise.yaml").write_text(yaml.safe_dump(contract))

    def run_stages(frame: pd.DataFrame, *stages: str) -> list[dict[str, Any]]:
        frame.to_csv(small_project.root / "noise.csv", index=False)
        for stage in stages:
            fields = config.STAGES[stage].model_fields
            values = {name: value for name, value in VALUES.items() if name in fields}
            run_cells(small_project.root, stage, values, wired=True)
        return [small_project.read_receipt(stage) for stage in stages]

    return run_stages


def failed_criteria(deploy: dict[str, Any]) -> str:
    failed = [row["name"] for row in deploy["details"]["criteria"] if row["passed"] is False]
    return "; ".join(failed)


def test_jittered_copies_are_refused(run: Any) -> None:
    with pytest.raises(DataError, match="max_duplicate_share"):
        run(draw_table(300, 5, jitter=1e-3), "ingest")


def test_exact_copies_stay_together_and_noise_has_no_leader(run: Any) -> None:
    ingest, compare = run(draw_table(300, 5), "ingest", "compare")
    assert ingest["status"] == "accepted"
    assert compare["status"] == "no better than baseline"
    assert compare["details"]["at_chance"]


def test_noise_is_not_suspected_and_its_model_is_held(run: Any) -> None:
    stages = ("ingest", "explore", "compare", "finalize", "deploy")
    ingest, explore, compare, finalize, deploy = run(draw_table(600), *stages)
    assert (ingest["status"], explore["status"]) == ("accepted", "clear")
    assert compare["status"] == "no better than baseline"
    assert compare["details"]["at_chance"]
    assert finalize["status"] == "no better than baseline"
    assert deploy["status"] == "hold"
    assert "against the baseline" in failed_criteria(deploy)
    assert "leak" not in failed_criteria(deploy)


def test_undeclared_groups_are_suspected_and_model_is_held(run: Any) -> None:
    stages = ("ingest", "compare", "finalize", "deploy")
    ingest, compare, _, deploy = run(draw_table(100, 8, jitter=0.3), *stages)
    assert ingest["status"] == "suspect"
    assert any("plot" in text for text in ingest["details"]["suspicions"])
    assert compare["details"]["at_chance"]
    assert deploy["status"] == "hold"
    assert "leak" in failed_criteria(deploy)


def test_leaking_pair_is_suspected_and_model_is_held(run: Any) -> None:
    stages = ("ingest", "explore", "compare", "finalize", "deploy")
    _, explore, _, _, deploy = run(draw_pair(), *stages)
    assert explore["status"] == "suspect"
    assert explore["details"]["pairs"] == ["x0 and x1"]
    assert deploy["status"] == "hold"
    assert "leak" in failed_criteria(deploy)
    assert "x0 and x1 together" in str(deploy["details"])


def test_few_positives_are_inconclusive_and_model_is_held(run: Any) -> None:
    stages = ("ingest", "compare", "finalize", "deploy")
    *_, finalize, deploy = run(draw_rare(), *stages)
    assert "roc_auc_low" in finalize["details"]["metrics"]
    low = finalize["details"]["metrics"]["roc_auc_low"]
    assert low is None or np.isnan(low)
    assert deploy["status"] == "hold"
    assert "minimum ROC AUC" in failed_criteria(deploy)
