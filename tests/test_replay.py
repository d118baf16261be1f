"""Replay: predictions of another version on journaled rows, and their differences."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.dummy import DummyClassifier
from task_books import make_multiclass_contract, make_regression_contract
from typer.testing import CliRunner
from version_store import BOOK, THRESHOLD, VersionStore, fit_pipeline, make_client

from modelbook.ab import replay
from modelbook.contract import Contract
from modelbook.errors import ContractError, DataError
from modelbook.tasks.decision_rule import RowPrediction, make_decision_rule


@pytest.fixture(scope="module")
def rows(make_frame: Callable[..., pd.DataFrame]) -> pd.DataFrame:
    return make_frame()


@pytest.fixture(scope="module")
def template_store(
    rows: pd.DataFrame, contract: Contract, tmp_path_factory: pytest.TempPathFactory
) -> VersionStore:
    """A store with version 1, which predicts the base rate, as champion, and a fitted version 2."""
    result = VersionStore(tmp_path_factory.mktemp("replay"))
    result.alias(
        "champion", result.register(fit_pipeline(rows, contract, DummyClassifier()), contract, rows)
    )
    result.register(fit_pipeline(rows, contract), contract, rows)
    return result


@pytest.fixture
def project(template_store: VersionStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    template_store.copy(tmp_path)
    (tmp_path / "pipeline.yaml").write_text("tasks: []\n")
    (tmp_path / "reports" / BOOK / "runs").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def serve(root: Path, frame: pd.DataFrame) -> None:

    names = ["colour", "size", "noise", "flag"]
    requests = [{**row, "noise": None if pd.isna(row["noise"]) else row["noise"]}
             for row in frame[names].to_dict("records")]  # fmt: skip
    with make_client(root, BOOK) as client:
        assert client.post("/predict", json=requests).status_code == 200


def run(*args: str) -> Any:
    from modelbook.cli import app

    return CliRunner().invoke(app, ["replay", *args, "--book", BOOK])


@pytest.mark.long
def test_replay_reports_changed_predictions_of_version(project, rows, contract, make_frame) -> None:
    frame = make_frame(seed=9, entities=100)
    serve(project, frame)
    result = run("--model", "2", "--since", "1h", "--json", "--out", "all.csv")
    assert result.exit_code == 0, result.output
    match = json.loads(result.stdout)
    old_scores = rows["happened"].mean()
    new_scores = fit_pipeline(rows, contract).predict_proba(contract.select_features(frame))[:, 1]
    is_changed = (new_scores >= THRESHOLD) != (old_scores >= THRESHOLD)
    assert (match["rows"], match["changed_rows"], match["version"]) == (300, is_changed.sum(), 2)
    assert 0.1 < match["share"] < 0.9
    assert match["mean_change"] == pytest.approx((new_scores - old_scores).mean(), abs=1e-6)
    assert match["mean_absolute_change"] == pytest.approx(
        np.abs(new_scores - old_scores).mean(), abs=1e-6
    )
    assert match["quantiles"]["0.05"] == pytest.approx(
        np.quantile(new_scores - old_scores, 0.05), abs=1e-6
    )
    assert match["changed_quantity"] == "probability of 1"
    largest = np.argsort(-np.abs(new_scores - old_scores))[:10]
    assert [row["change"] for row in match["largest_changes"]] == pytest.approx(
        (new_scores - old_scores)[largest], abs=1e-6
    )
    assert [row["inputs"]["size"] for row in match["largest_changes"]] == pytest.approx(
        frame["size"].iloc[largest]
    )
    part = (frame["colour"] == "11").to_numpy()
    [eleven] = [row for row in match["slices"] if row["value"] == "11"]
    assert (eleven["slice"], eleven["rows"], eleven["changed_rows"]) == (
        "colour",
        part.sum(),
        is_changed[part].sum(),
    )
    assert eleven["mean_change"] == pytest.approx((new_scores - old_scores)[part].mean(), abs=1e-6)
    with Path("all.csv").open() as file:
        csv_rows = list(csv.DictReader(file))
    assert len(csv_rows) == 300
    assert [float(row["change"]) for row in csv_rows] == pytest.approx(
        new_scores - old_scores, abs=1e-6
    )
    assert sum(row["is_changed"] == "True" for row in csv_rows) == is_changed.sum()
    assert set(csv_rows[0]) == {
        "id", "at", "version", "colour", "size", "noise", "flag", "before", "after", "change", "is_changed",
    }  # fmt: skip
    second_run = run("--model", "2", "--since", "1h", "--out", "all.csv")
    assert (second_run.exit_code, second_run.stderr.split()[:2]) == (1, ["DataError:", "all.csv"])


@pytest.mark.long
def test_replay_table_lists_counts_slices_and_changed_rows(project, make_frame) -> None:
    serve(project, make_frame(seed=9, entities=20))
    result = run("--model", "2", "--since", "1h")
    assert result.exit_code == 0
    assert re.match(r"Version 2\b.* of 60\b", result.stdout)
    assert "colour  2 " in result.stdout
    assert result.stdout.split("Changed most:")[1].count("size=") == 10


@pytest.mark.long
def test_replay_errors_state_next_step(project, make_frame) -> None:
    result = run("--model", "7", "--since", "1h")
    assert result.exit_code == 1
    assert re.match(r"ServingError: .*\btiny\b.*\b7\b", result.stderr)
    result = run("--model", "2", "--since", "1h", "--out", "none.csv")
    assert re.match(r"DataError: .*\b2\b", result.stderr)
    assert not list(project.glob("*none.csv*"))
    serve(project, make_frame(seed=9, entities=3))
    assert run("--model", "1", "--since", "1h").exit_code == 1, "the rows are its own"
    assert run("--model", "2", "--since", "soon").exit_code == 2
    assert run("--model", "2", "--since", "1h", "--out", "rows.txt").exit_code == 2


# Parts, without a service


class FixedScorer:
    """A scorer with fixed predictions."""

    def __init__(self, contract: Contract, *numbers: list[float]) -> None:
        self.decision_rule, self._numbers = (
            make_decision_rule(contract, 0.5 if contract.task == "binary" else None),
            numbers,
        )

    def predict_many(self, rows: list[dict[str, Any]]) -> list[RowPrediction]:
        return [
            self.decision_rule.predict_row(self._numbers[index % len(self._numbers)])
            for index in range(len(rows))
        ]


def row(
    number: int, prediction: Any, sure: dict[str, float] | None, **inputs: Any
) -> dict[str, Any]:
    result = {"size": 1.0, "colour": "1", "noise": None, **inputs}
    return {"id": f"id-{number}", "at": 1.0, "version": 1, "inputs": result, "prediction": prediction,
            "probabilities": sure}  # fmt: skip


def replay_rows(rows: list[dict[str, Any]], scorer: Any, contract: Contract) -> dict[str, Any]:
    return replay.replay_predictions(
        iter(rows), scorer, contract, "version 2", on_progress=lambda *_: None
    ).to_dict()


def test_multiclass_change_is_measured_for_previous_class() -> None:
    contract = make_multiclass_contract()
    sure = {"low": 0.5, "middle": 0.3, "high": 0.2}
    result = replay_rows(
        [row(1, "low", sure), row(2, "low", sure)],
        FixedScorer(contract, [0.6, 0.2, 0.2], [0.1, 0.1, 0.8]),
        contract,
    )
    assert (result["rows"], result["changed_rows"]) == (2, 1)
    assert [row["change"] for row in result["largest_changes"]] == pytest.approx([-0.4, 0.1])
    assert result["largest_changes"][0]["after"] == "high"


def test_regression_change_ignores_rounding() -> None:
    contract = make_regression_contract()
    rows = [row(1, 1000.0, None), row(2, 1000.0, None)]
    result = replay_rows(rows, FixedScorer(contract, [1000.0000001], [1200.0]), contract)
    assert (result["changed_rows"], result["changed_quantity"]) == (1, "prediction")
    assert result["mean_change"] == pytest.approx(100)


def test_version_with_other_contract_raises() -> None:
    sure = {"low": 0.5, "middle": 0.3, "high": 0.2}
    with pytest.raises(ContractError, match=r"version 2 .*number, version 1 .*low, middle, high"):
        replay_rows(
            [row(1, "low", sure)],
            FixedScorer(make_regression_contract(), [1.0]),
            make_regression_contract(),
        )
    with pytest.raises(ContractError, match=r"version 2 .*low, middle, high, version 1 .*number"):
        replay_rows(
            [row(1, 2.0, None)],
            FixedScorer(make_multiclass_contract(), [1, 0, 0]),
            make_multiclass_contract(),
        )
    lacking = row(1, 2.0, None)
    del lacking["inputs"]["noise"]
    with pytest.raises(ContractError, match=r"\b2\b.*noise.*id-1"):
        replay_rows(
            [lacking], FixedScorer(make_regression_contract(), [1.0]), make_regression_contract()
        )
    with pytest.raises(DataError, match="the journal has no predictions"):
        replay_rows([], FixedScorer(make_regression_contract(), [1.0]), make_regression_contract())


def test_replay_memory_is_independent_of_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay, "MAX_SAMPLED_CHANGES", 500)
    monkeypatch.setattr(replay, "MAX_SLICE_VALUES", 3)
    contract = make_regression_contract().model_copy(update={"slices": ["size"]})
    random, output = np.random.default_rng(1), []
    before = random.normal(size=9000)
    match = replay.replay_predictions(
        (row(index, value, None, size=float(index)) for index, value in enumerate(before)), FixedScorer(contract, [0.0]),
        contract, "version 2", on_progress=lambda rows, seconds: output.append(rows),
    )  # fmt: skip
    assert output == [2000, 4000, 6000, 8000, 9000]
    assert (len(match.sampled_changes), len(match.largest_changes), len(match.slice_totals)) == (
        500,
        replay.LISTED_ROWS,
        4,
    )
    result = match.to_dict()
    assert result["mean_change"] == pytest.approx(-before.mean())
    assert result["quantiles"]["0.5"] == pytest.approx(-np.median(before), abs=0.2)
    assert result["largest_changes"][0]["change"] == pytest.approx(
        -before[np.argmax(np.abs(before))]
    )
    assert [row["value"] for row in result["slices"]] == ["0", "1", "2", "others"]
    assert sum(row["rows"] for row in result["slices"]) == 9000


@pytest.mark.long
def test_long_replay_prints_progress(project, make_frame, monkeypatch) -> None:
    from modelbook.cli import terminal

    serve(project, make_frame(seed=9, entities=20))
    assert run("--model", "2", "--since", "1h").stderr == ""
    monkeypatch.setattr(terminal, "PROGRESS_SECONDS", 0)
    assert run("--model", "2", "--since", "1h").stderr.startswith("60 rows, ")
