"""Regression and multiclass books through all six stages, pages and the service."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import urllib.request
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import task_books
import yaml
from small_project import STAGES, SmallProject
from version_store import put_empty_store

from modelbook import config

pytestmark = pytest.mark.slow
PREDICT_SCRIPT = """
import json, sys, mlflow, pandas as pd
mlflow.set_tracking_uri("sqlite:///models/mlflow.db")
model = mlflow.pyfunc.load_model(f"models:/{sys.argv[1]}@champion")
print(model.predict(pd.read_parquet("request.parquet")).to_json())
"""
ROWS = pd.DataFrame(
    {"size": [10.0, 58.0, 90.0], "colour": ["1", "2", "11"], "noise": [np.nan, 0.5, 0.0]}
)
AUTO = {"families": "lr dt", "metric": "auto", "train_until": "none", "amount_column": "none"}


class BuiltBook:
    """A project whose only book has been built."""

    def __init__(
        self, root: Path, contract: dict[str, Any], table: pd.DataFrame, **values: Any
    ) -> None:
        self.project = SmallProject(put_empty_store(root))
        table.to_csv(root / "table.csv", index=False)
        (root / "contracts/tiny.yaml").write_text(yaml.safe_dump(contract, sort_keys=False))
        env = yaml.safe_load((root / "env.yaml").read_text())
        named = {"table": "table.csv", "contract": "contracts/tiny.yaml", "sample": 1.0}
        (root / "env.yaml").write_text(yaml.safe_dump({**env, **AUTO, **named, **values}))
        self.build_result = self.project.build(MODELBOOK_SLICE_ROWS="30", MODELBOOK_MIN_ROWS="100")
        assert self.build_result.returncode == 0, (
            self.build_result.stdout + self.build_result.stderr
        )

    def verdict(self, stage: str) -> dict[str, Any]:
        return self.project.read_receipt(stage)

    def statuses(self) -> dict[str, str]:
        return {stage: self.verdict(stage)["status"] for stage in STAGES}

    def page(self, stage: str) -> str:
        return (self.project.root / f"reports/tiny/{config.stage_stem(stage)}.html").read_text()

    @cached_property
    def predictions(self) -> pd.DataFrame:
        """Predictions of the champion for ROWS in a process without the project on its path."""
        ROWS.to_parquet(self.project.root / "request.parquet")
        result = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", PREDICT_SCRIPT, "tiny"], cwd=self.project.root,
            env={k: v for k, v in self.project.environ.items() if k != "PYTHONPATH"},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert result.returncode == 0, result.stderr
        return pd.DataFrame(json.loads(result.stdout.splitlines()[-1]))


@pytest.fixture(scope="module")
def number(tmp_path_factory: pytest.TempPathFactory) -> BuiltBook:
    """Years 1 and 2 train; year 3 is like them, in year 4 all pay 300 more."""
    table = pd.concat(
        [
            task_books.make_regression_rows(years=(1, 2, 3)),
            task_books.make_regression_rows(seed=1, years=(4,), offset=300.0),
        ]
    )
    return BuiltBook(tmp_path_factory.mktemp("number"), task_books.NUMBER, table, train_until=2)


@pytest.fixture(scope="module")
def classes(tmp_path_factory: pytest.TempPathFactory) -> BuiltBook:
    return BuiltBook(
        tmp_path_factory.mktemp("classes"), task_books.CLASSES, task_books.make_multiclass_rows()
    )


def test_regression_book_is_built_and_monitored(number: BuiltBook) -> None:
    assert number.verdict("compare")["level"] == "good"
    assert number.statuses() | {"compare": ""} == {
        "ingest": "accepted", "explore": "clear", "compare": "", "finalize": "beats baseline",
        "deploy": "promote", "monitor": "retrain",
    }  # fmt: skip
    assert number.verdict("compare")["details"]["leader"] == "lr"
    finalized = number.verdict("finalize")
    assert re.search(r"\b2\d\d\b.*\bmembers\b", finalized["sentences"][0])
    assert finalized["numbers"][0]["name"] == "RMSE"
    assert finalized["details"]["threshold"] is None
    evaluated = number.verdict("monitor")
    requests = [
        finding for finding in evaluated["details"]["findings"] if finding.startswith("retrain")
    ]
    assert [finding[:24] for finding in requests] == [
        "retrain: Batch 4: RMSE 3"
    ]  # and none for batch 3


def test_multiclass_book_is_built_and_monitored(classes: BuiltBook) -> None:
    assert classes.verdict("compare")["level"] == "good"
    assert classes.statuses() | {"compare": ""} == {
        "ingest": "accepted", "explore": "clear", "compare": "", "finalize": "beats baseline",
        "deploy": "promote", "monitor": "watch",
    }  # fmt: skip
    assert "member" not in classes.verdict("ingest")["sentences"][1]  # rows without entities
    finalized = classes.verdict("finalize")
    assert finalized["numbers"][0]["name"] == "ROC AUC"
    assert "%" in finalized["sentences"][0]
    [sentence] = classes.verdict("monitor")["sentences"]
    assert re.search(r"batch.*version 1\b", sentence)
    assert classes.verdict("monitor")["details"]["findings"] == []


@pytest.mark.parametrize("book", ["number", "classes"])
def test_every_page_exists_and_uses_words_of_its_task(
    book: str, request: pytest.FixtureRequest
) -> None:
    built_book: BuiltBook = request.getfixturevalue(book)
    for stage in STAGES:
        page = built_book.page(stage)
        assert "Traceback" not in page
        assert "Warning" not in page, stage
        assert "“not " not in page
    card = next((built_book.project.root / "reports/tiny").glob("card-1.html")).read_text()
    assert "threshold" not in card.lower()
    expected_texts = {"number": ("RMSE", "amount"), "classes": ("accuracy", "“kind”")}
    assert all(expected_text in card for expected_text in expected_texts[book])


def test_regression_champion_loads_in_clean_process(number: BuiltBook) -> None:
    result = number.predictions
    assert list(result.columns) == ["prediction"]
    assert result["prediction"].tolist() == pytest.approx([1200, 2160, 2900], abs=90)


def test_multiclass_champion_predicts_class_names_in_clean_process(classes: BuiltBook) -> None:
    result = classes.predictions
    assert list(result.columns) == [
        "prediction",
        "probability_low",
        "probability_middle",
        "probability_high",
    ]
    assert result["prediction"].tolist() == ["low", "middle", "high"]
    assert result.filter(like="probability").sum(axis=1).tolist() == pytest.approx([1, 1, 1])


@pytest.mark.parametrize("book", ["number", "classes"])
def test_service_matches_pipeline_for_each_task(book: str, request: pytest.FixtureRequest) -> None:
    built_book: BuiltBook = request.getfixturevalue(book)
    expected = built_book.predictions.to_dict("records")
    body = ROWS.to_json(orient="records").encode()
    with built_book.project.serve() as address:
        requests = urllib.request.Request(
            f"{address}/predict", body, {"content-type": "application/json"}
        )
        result = json.load(urllib.request.urlopen(requests))
        about = json.load(urllib.request.urlopen(f"{address}/model"))
        assert urllib.request.urlopen(f"{address}/").status == 200
    assert about["task"] == {"number": "regression", "classes": "multiclass"}[book]
    assert about["scorer"]["compiled"], about["scorer"]
    for prediction, expected_row in zip(result, expected, strict=True):
        flat = {
            f"probability_{name}": share
            for name, share in prediction.get("probabilities", {}).items()
        }
        assert ["prediction", *flat] == list(expected_row)
        assert prediction["prediction"] == (
            pytest.approx(expected_row["prediction"])
            if book == "number"
            else expected_row["prediction"]
        )
        assert flat == pytest.approx({name: expected_row[name] for name in flat}, abs=1e-6)
