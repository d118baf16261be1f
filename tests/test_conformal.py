"""Conformal prediction intervals and sets: coverage, and use in service, files and monitor."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np
import pandas as pd
import pytest
import task_books
from fastapi.testclient import TestClient
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder
from version_store import BOOK, VersionStore, make_client

from modelbook import tasks
from modelbook.config import Monitor
from modelbook.contract import Contract
from modelbook.evaluation.conformal import (
    compute_nonconformity_quantile,
    measure_prediction_interval,
)
from modelbook.monitoring import batch_evaluation, rules
from modelbook.scoring import batch, loading
from modelbook.tasks.conformal_prediction import ConformalPrediction
from modelbook.tasks.decision_rule import RowPrediction
from modelbook.tasks.scored_rows import ScoredRows

NUMBER, CLASSES = task_books.make_regression_contract(), task_books.make_multiclass_contract()


def draw(rng: np.random.Generator, entities: int, first: int = 0) -> ScoredRows:
    """Skewed errors, of which those of one entity resemble one another; 1 to 9 rows of each."""
    rows = rng.integers(1, 10, entities)
    entity = np.repeat(np.arange(first, first + entities), rows)
    scale = np.repeat(rng.exponential(size=entities), rows)
    errors = scale * rng.standard_normal(len(entity)) + scale
    return ScoredRows.from_arrays(errors, np.zeros(len(entity)), entity)


def draw_classes(rng: np.random.Generator, rows: int) -> ScoredRows:
    """Three classes with true probabilities."""
    probabilities = rng.dirichlet([1, 1, 1], rows)
    outcome = np.array([rng.choice(3, p=row) for row in probabilities])
    return ScoredRows.from_arrays(outcome, probabilities, np.arange(rows))


def limit_of(scored: ScoredRows) -> float:
    return compute_nonconformity_quantile(np.abs(scored.outcome - scored.score), scored.entity)


def test_interval_covers_rows_of_new_entities_at_nominal_rate() -> None:
    rng, covered = np.random.default_rng(0), []
    for _ in range(400):
        halfwidth = limit_of(draw(rng, 40))
        covered.append(np.abs(draw(rng, 1).outcome[0]) <= halfwidth)
    assert 0.86 <= np.mean(covered) <= 0.95


def test_each_entity_has_equal_weight() -> None:
    errors = np.r_[np.full(1000, 100.0), np.arange(1, 100)]
    entity = np.r_[np.zeros(1000), np.arange(1, 100)]
    scored = ScoredRows.from_arrays(errors, np.zeros(len(errors)), entity)
    assert limit_of(scored) == 91


def test_too_few_entities_give_infinite_bound() -> None:
    errors_of_few = draw(np.random.default_rng(0), 8)
    assert limit_of(errors_of_few) == float("inf")
    assert (
        measure_prediction_interval(tasks.get_task(NUMBER), errors_of_few, errors_of_few, seed=0)
        is None
    )


def test_holdout_coverage_is_measured_with_interval() -> None:
    rng, task = np.random.default_rng(1), tasks.get_task(NUMBER)
    result = measure_prediction_interval(task, draw(rng, 200), draw(rng, 100, first=200), seed=0)
    assert result is not None
    assert result.low < result.coverage < result.high
    assert result.coverage == pytest.approx(0.9, abs=0.1)
    assert result.describe().count("%") >= 4


def test_prediction_sets_cover_at_nominal_rate() -> None:
    rng, task = np.random.default_rng(2), tasks.get_task(CLASSES)
    result = measure_prediction_interval(
        task, draw_classes(rng, 600), draw_classes(rng, 2000), seed=0
    )
    assert result is not None
    assert result.coverage == pytest.approx(0.9, abs=0.03)
    assert result.mean_size is not None
    assert 1 <= result.mean_size < 3


def test_most_probable_class_is_in_every_prediction_set() -> None:
    conformal = ConformalPrediction(0.9, 0.3, ("low", "middle", "high"))
    result = conformal.make_response_fields(RowPrediction("low", [0.5, 0.3, 0.2]))
    assert result == {"prediction_set": ["low"]}
    wide = ConformalPrediction(0.9, 0.75, ("low", "middle", "high"))
    sets = wide.make_output_columns(np.array([[0.5, 0.3, 0.2], [0.9, 0.05, 0.05]]))[
        "prediction_set"
    ]
    assert sets.tolist() == ["low | middle", "low"]


def publish(root: Path, contract: Contract, table: pd.DataFrame, limit: float) -> VersionStore:
    """A store whose champion has conformal predictions with this limit."""
    columns = make_column_transformer(("passthrough", ["size"]), (OneHotEncoder(), ["colour"]))
    model = LogisticRegression(max_iter=500) if contract.classes else LinearRegression()
    rows = contract.conform(table.assign(noise=0.0))
    pipeline = make_pipeline(columns, model)
    pipeline.fit(contract.select_features(rows), contract.encode_target(rows))
    version_store = VersionStore(root)
    number = version_store.register(pipeline, contract, contract.select_features(rows))
    metrics = {"threshold": None, "prediction_interval": {"level": 0.9, "limit": limit}}
    (version_store.folder(number) / "metrics.json").write_text(json.dumps(metrics))
    version_store.update_digest(number)
    version_store.alias("champion", number)
    return version_store


def infer(client: TestClient, inputs: pd.DataFrame) -> dict[str, list[Any]]:
    """Predict rows by the Open Inference Protocol; returns the data of each output."""
    tensors = [
        {"name": name, "shape": [len(inputs)], "datatype": "BYTES" if name == "colour" else "FP64", "data": inputs[name].tolist()}
        for name in inputs
    ]  # fmt: skip
    response = client.post(f"/v2/models/{BOOK}/infer", json={"inputs": tensors})
    assert response.status_code == 200
    return {output["name"]: output["data"] for output in response.json()["outputs"]}


@pytest.mark.long
def test_challenger_without_intervals_has_empty_cells(tmp_path: Path) -> None:
    table = task_books.make_regression_rows().head(300)
    version_store = publish(tmp_path, NUMBER, table, 400.0)
    pipeline = cloudpickle.loads((version_store.folder(1) / "model.pkl").read_bytes())
    rows = NUMBER.select_features(NUMBER.conform(table.assign(noise=0.0)))
    version_store.alias("challenger", version_store.register(pipeline, NUMBER, rows))
    (tmp_path / "serving.yaml").write_text("traffic: {mode: split, challenger_share: 0.5}")
    inputs = table.head(40)[NUMBER.input_names].assign(noise=0.0)
    with make_client(tmp_path) as client:
        upload = client.post(
            "/predict/csv",
            content=inputs.to_csv(index=False).encode(),
            headers={"content-type": "text/csv"},
        )
        outputs = infer(client, inputs)
    uploaded = pd.read_csv(io.StringIO(upload.text))
    assert set(uploaded["variant"]) == {"champion", "challenger"}
    is_challenger = uploaded["variant"] == "challenger"
    assert uploaded["prediction_low"].isna().tolist() == is_challenger.tolist()
    assert [low is None for low in outputs["interval"][::2]] == [
        variant == "challenger" for variant in outputs["variant"]
    ]


@pytest.mark.long
@pytest.mark.parametrize("task_name", ["number", "classes"])
def test_requests_uploads_and_files_return_same_intervals_or_sets(
    task_name: str, tmp_path: Path
) -> None:
    contract = NUMBER if task_name == "number" else CLASSES
    table = (
        task_books.make_regression_rows()
        if task_name == "number"
        else task_books.make_multiclass_rows()
    )
    table = table.head(300)
    version_store = publish(tmp_path, contract, table, 400.0 if task_name == "number" else 0.8)
    inputs = table.head(5)[contract.input_names].assign(noise=0.0)
    inputs.to_csv(tmp_path / "in.csv", index=False)
    folder = version_store.folder(1)
    scorer = loading.load_scorer(folder, contract)
    batch.score_file(
        tmp_path / "in.csv", tmp_path / "out.csv", scorer, contract, 1, on_progress=lambda *_: None
    )
    csv_rows = pd.read_csv(tmp_path / "out.csv")
    with make_client(tmp_path) as client:
        predictions = client.post("/predict", json=inputs.to_dict("records")).json()
        upload = client.post(
            "/predict/csv", content=(tmp_path / "in.csv").read_bytes(), headers={"content-type": "text/csv"}
        )  # fmt: skip
        service = client.app._service
        assert [client.portal.call(service.find_response, row["id"]) for row in predictions] == (
            predictions
        )
        schema = client.get("/openapi.json").text
        outputs = infer(client, inputs)
    (tmp_path / "upload.csv").write_bytes(upload.content)
    uploaded = pd.read_csv(tmp_path / "upload.csv")
    if task_name == "number":
        ends = [(row["interval"]["low"], row["interval"]["high"]) for row in predictions]
        assert [high - low for low, high in ends] == pytest.approx([800.0] * 5)
        columns = ["prediction_low", "prediction_high"]
        assert np.reshape(outputs["interval"], (5, 2)) == pytest.approx(np.array(ends))
        assert csv_rows[columns].to_numpy() == pytest.approx(np.array(ends))
    else:
        columns = ["prediction_set"]
        sets = [" | ".join(row["prediction_set"]) for row in predictions]
        assert csv_rows["prediction_set"].tolist() == outputs["prediction_set"] == sets
        assert all(row["prediction"] in row["prediction_set"] for row in predictions)
    pd.testing.assert_frame_equal(csv_rows[columns], uploaded[columns])
    assert ('"interval"' in schema, '"prediction_set"' in schema) == (
        task_name == "number",
        task_name == "classes",
    )


@pytest.mark.parametrize(("limit", "is_found"), [(1.645, False), (0.8, True)])
def test_monitor_checks_coverage(limit: float, is_found: bool) -> None:
    rng = np.random.default_rng(0)
    table = NUMBER.conform(task_books.make_regression_rows(entities=400, years=(1,)))
    scores = table["amount"].to_numpy(dtype=float) + rng.normal(size=len(table))
    params = Monitor(min_rows=100)
    metrics = {"importance": {"size": 1.0}, "threshold": None}
    metrics["prediction_interval"] = {"level": 0.9, "limit": limit}
    evaluated = batch_evaluation.evaluate_batch(
        "now", table, scores, table.assign(score=scores), NUMBER, metrics=metrics, params=params
    )  # fmt: skip
    row = evaluated.find_metric("coverage")
    assert row["low"] < row["value"] < row["high"]
    findings = rules.apply_rules(evaluated, params)
    assert any(finding.rule == "coverage" for finding in findings) is is_found
