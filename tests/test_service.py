"""Service in-process: predictions, journal, limits, keys, traffic, reload, metrics."""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import io
import json
import logging
import math
import re
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from fastapi.testclient import TestClient
from servers import free_port
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from text_facts import missing_facts, raises_stating
from typer.testing import CliRunner
from version_store import BOOK, VersionStore, fit_pipeline, make_client

from modelbook.cli import serving as cli_serving
from modelbook.cli.serving import app
from modelbook.config import Monitor
from modelbook.contract import Contract
from modelbook.errors import ServingError
from modelbook.journal.database import get_default_url
from modelbook.scoring import CompiledScorer, RowPrediction, latency
from modelbook.scoring.drift_reference import DRIFT_REFERENCE_FILE
from modelbook.serving import html_pages, metrics, served_models, server, service
from modelbook.serving.access import KEYRING_VARIABLE, ApiKeyStore
from modelbook.serving.app import create_app
from modelbook.serving.canary import CanaryMonitor
from modelbook.serving.http_request import BodyLimits, RequestError
from modelbook.serving.metrics import WorkersCollector
from modelbook.serving.settings import SETTINGS_FILE, TrafficSettings, load_settings

ROW = {"colour": "11", "size": 80.0, "noise": None, "flag": 1}
JSON_TYPE = {"content-type": "application/json"}


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "POLL_SECONDS", 0.05)
    monkeypatch.setattr(service, "DRIFT_SECONDS", 0.25)


@pytest.fixture
def empty_store(tmp_path: Path) -> VersionStore:
    return VersionStore(tmp_path)


@pytest.fixture(scope="module")
def rows(make_frame: Callable[..., pd.DataFrame]) -> pd.DataFrame:
    return make_frame()


@pytest.fixture(scope="module")
def model(rows: pd.DataFrame, contract: Contract) -> Any:
    return fit_pipeline(rows, contract)


@pytest.fixture(scope="module")
def template_store(
    model: Any, rows: pd.DataFrame, contract: Contract, tmp_path_factory: pytest.TempPathFactory
) -> VersionStore:
    empty_store = VersionStore(tmp_path_factory.mktemp("empty_store"))
    empty_store.alias("champion", empty_store.register(model, contract, rows))
    return empty_store


@pytest.fixture
def version_store(template_store: VersionStore, tmp_path: Path) -> VersionStore:
    """A store with version 1 as champion."""
    return template_store.copy(tmp_path)


@pytest.fixture(scope="module")
def client(
    template_store: VersionStore, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TestClient]:
    """A service shared by tests that do not change its store."""
    with serve(template_store.copy(tmp_path_factory.mktemp("served"))) as client:
        yield client


def serve(empty_store: VersionStore, settings: str = "", **kwargs: Any) -> TestClient:
    (empty_store.root / SETTINGS_FILE).write_text(settings)
    return make_client(empty_store.root, raise_server_exceptions=False, **kwargs)


def post(client: TestClient, path: str, body: Any, **headers: str) -> Any:
    return client.post(
        path, content=json.dumps(body), headers={"content-type": "application/json", **headers}
    )


def wait(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.05)


@contextmanager
def write_history(file: Path) -> Iterator[Callable[..., Any]]:
    """A function that writes to a verdict history as monitor does, in one transaction."""
    from modelbook.monitoring.window_history import CREATE_TABLES

    with closing(sqlite3.connect(file)) as connection, connection:
        connection.executescript(CREATE_TABLES)
        yield lambda statement, *values: connection.execute(statement, values)


class TestPredict:
    @pytest.mark.long
    def test_single_row_prediction_matches_the_model(self, client, model, contract):
        result = post(client, "/predict", ROW)
        assert result.status_code == 200
        p = model.predict_proba(contract.select_features(pd.DataFrame([ROW])))[0, 1]
        prediction = result.json()
        assert prediction["prediction"] == int(p >= 0.4)
        assert prediction["probabilities"] == pytest.approx({"0": 1 - p, "1": p}, abs=1e-6)
        assert (prediction["model_version"], prediction["variant"]) == (1, "champion")
        assert prediction["id"]

    def test_list_of_rows_returns_predictions_in_order(self, client):
        rows = [{**ROW, "size": size} for size in (5.0, 95.0, 5.0)]
        result = post(client, "/predict", rows).json()
        assert [prediction["prediction"] for prediction in result] == [0, 1, 0]
        assert len({prediction["id"] for prediction in result}) == 3
        assert post(client, "/predict", []).json() == []

    @pytest.mark.parametrize(
        "change",
        [
            {"colour": 11},
            {"flag": True},
            {"flag": 1.0},
            {"size": 80},
            {"noise": 0.0},
            {"who": 7},
            {"who": 7, "year": 3},
        ],
        ids=str,
    )
    def test_equivalent_value_formats_are_accepted(self, client, change):
        result = post(client, "/predict", {**ROW, **change})
        assert result.status_code == 200
        if "noise" not in change:
            assert (
                result.json()["probabilities"]
                == post(client, "/predict", ROW).json()["probabilities"]
            )

    def test_nullable_field_may_be_omitted(self, client):
        result = post(
            client, "/predict", {name: value for name, value in ROW.items() if name != "noise"}
        )
        assert (
            result.json()["probabilities"] == post(client, "/predict", ROW).json()["probabilities"]
        )

    BAD = (
        ({"size": None}, "size", "null", ["number", 0, 100]),
        ({"size": "800"}, "size", '"800"', ["number", 0, 100]),
        ({"size": True}, "size", "true", ["number", 0, 100]),
        ({"size": 100.5}, "size", "100.5", ["number", 0, 100]),
        ({"size": [1]}, "size", "[1]", ["number", 0, 100]),
        ({"colour": "3"}, "colour", '"3"', [1, 2, 11]),
        ({"flag": 2}, "flag", "2", [0, 1]),
        ({"flag": 1e-42}, "flag", "1e-42", [0, 1]),
        ({"flag": "yes"}, "flag", '"yes"', [0, 1]),
        ({"noise": "much"}, "noise", '"much"', ["number", "null"]),
        ({"who": -1}, "who", "-1", ["integer", 0]),
        ({"who": 1.5}, "who", "1.5", ["integer", 0]),
        ({"who": 2.6e-42}, "who", "2.6e-42", ["integer", 0]),
        ({"who": float("inf")}, "who", "Infinity", ["integer", 0]),
        ({"sise": 1}, "sise", "1", ["contract", "size"]),
        ({"after": 1.0}, "after", "1.0", ["contract"]),
    )

    @pytest.mark.parametrize(
        ("change", "field", "value", "facts"), BAD, ids=lambda value: str(value)[:30]
    )
    def test_invalid_value_is_rejected_with_expected_rule(
        self, client, change, field, value, facts
    ):
        response = post(client, "/predict", [ROW, {**ROW, **change}])
        assert response.status_code == 422
        [rejection] = response.json()["rejected"]
        assert (rejection["row"], rejection["field"], rejection["value"]) == (1, field, value)
        assert missing_facts(rejection["expected"], *facts) == []
        assert response.json()["request_id"] == response.headers["x-request-id"]

    def test_long_value_is_truncated_in_error(self, client):
        response = post(client, "/predict", {**ROW, "colour": "x" * 100_000})
        [rejection] = response.json()["rejected"]
        assert rejection["value"].startswith("x" * 80)
        assert len(rejection["value"]) < 200
        assert missing_facts(rejection["value"], 100_000) == []

    def test_every_missing_field_is_named(self, client):
        result = post(client, "/predict", {})
        assert {rejection["field"] for rejection in result.json()["rejected"]} == {
            "colour",
            "size",
            "flag",
        }

    RAW = (
        (b"", 400), (b"{", 400), (b'{"size": 1', 400), (b"\xff\xfe{}", 400), (b"[" * 100_000, 413), (b"5", 422),
        (b"null", 422), (b'"text"', 422), (b"[[1]]", 422), (b"[null]", 422),
        (b'{"colour": "11", "size": NaN, "flag": 1}', 422), (b'{"colour": "11", "size": -Infinity, "flag": 1}', 422),
        (b'{"colour": "11", "size": 1e999, "flag": 1}', 422),
        (b'{"colour": "11", "size": ' + b"9" * 5000 + b', "flag": 1}', 400),
        (b'{"colour": "11", "size": 1, "flag": 1, "size": 2}', 422), (b'{"a": ' * 5000, 400),
        (b'{"a": ' * 20_000, 413),
    )  # fmt: skip

    @pytest.mark.parametrize(("body", "status"), RAW, ids=lambda value: str(value)[:40])
    def test_body_that_is_not_a_row_is_rejected(self, client, body, status):
        result = client.post("/predict", content=body, headers={"content-type": "application/json"})
        assert (result.status_code, set(result.json()) >= {"error", "request_id"}) == (status, True)
        assert "Traceback" not in result.text

    def test_small_body_with_many_unknown_fields_names_them(self, client):
        result = post(
            client, "/predict", {**ROW, **{f"field_{number}": 1 for number in range(3000)}}
        )
        assert result.status_code == 422
        assert result.json()["rejected"][0]["field"] == "field_0"

    def test_text_containing_a_colon_is_not_a_duplicate_field(self, client):
        result = post(client, "/predict", {**ROW, "colour": "a:b"})
        assert result.json()["rejected"][0]["field"] == "colour"


class TestPredictCsv:
    def csv(self, rows: list[dict[str, Any]]) -> bytes:
        return pd.DataFrame(rows).to_csv(index=False).encode()

    def send(self, client: TestClient, body: bytes, content_type: str = "text/csv") -> Any:
        return client.post("/predict/csv", content=body, headers={"content-type": content_type})

    def test_csv_response_has_predictions_in_row_order(self, client):
        rows = [
            {"name": f"n{i}", **ROW, "size": 5 + 90 * (i % 2), "noise": None} for i in range(450)
        ]
        result = self.send(client, self.csv(rows))
        assert result.status_code == 200, result.text
        predictions = pd.read_csv(io.BytesIO(result.content))
        assert predictions["name"].tolist() == [row["name"] for row in rows]
        assert predictions["prediction"].tolist() == [i % 2 for i in range(450)]
        assert predictions["probability_1"].nunique() == 2
        assert predictions["id"].nunique() == 450

    def test_csv_accepts_any_column_order_bom_and_quotes(self, client):
        body = '\ufeff"flag","noise","size","colour","a ""name"""\r\n"1","","80","11","x, y"\r\n'.encode()
        result = self.send(client, body)
        assert result.status_code == 200, result.text
        assert pd.read_csv(io.BytesIO(result.content))['a "name"'].tolist() == ["x, y"]
        probability = post(client, "/predict", ROW).json()["probabilities"]["1"]
        assert pd.read_csv(io.BytesIO(result.content))["probability_1"].tolist() == pytest.approx(
            [probability]
        )

    def test_csv_form_upload_is_accepted(self, client):
        result = client.post(
            "/predict/csv", files={"file": ("rows.csv", self.csv([ROW]), "text/csv")}
        )
        assert (result.status_code, result.headers["content-type"]) == (
            200,
            "text/csv; charset=utf-8",
        )
        assert client.post("/predict/csv", files={"table": b"x"}).status_code == 422
        assert (
            self.send(client, b"nothing of the kind", "multipart/form-data; boundary=x").status_code
            == 400
        )

    def test_csv_with_violations_is_rejected_with_all_of_them(self, client):
        rows = [ROW] * 230 + [
            {**ROW, "size": 500},
            {**ROW, "size": "inf"},
            {**ROW, "size": "tall", "colour": 3},
        ]
        result = self.send(client, self.csv(rows))
        assert result.status_code == 422
        assert [(rejection["row"], rejection["field"]) for rejection in result.json()["rejected"]] == [
            (230, "size"), (231, "size"), (232, "colour"), (232, "size"),
        ]  # fmt: skip

    BAD = (
        (b'"', 422, ["line"]), (b"~", 422, ["colour"]),
        (b"", 422, ["empty"]), (b"size\n1\n", 422, ["colour", "flag"]),
        (b"colour,size,noise,flag\n1,2\n", 422, [0, 2]),
        (b"colour,size,noise,flag,size\n1,2,3,1,2\n", 422, ["size"]), (b"\xff\xfd", 400, ["UTF-8"]),
        (b'colour,size,noise,flag\n"1,2,3,1\n', 400, ["CSV"]),
        (b"PK\x03\x04" + bytes(range(256)), 400, ["UTF-8"]),
        (b"colour,sise,noise,flag\n1,2,3,1\n", 422, ["sise", "size"]),
    )  # fmt: skip

    @pytest.mark.parametrize(("body", "status", "facts"), BAD, ids=lambda value: str(value)[:30])
    def test_invalid_csv_is_rejected(self, client, body, status, facts):
        response = self.send(client, body)
        assert response.status_code == status
        assert missing_facts(response.text, *facts) == []


class TestOutcomes:
    def test_outcome_is_recorded_once_for_its_prediction(self, client):
        prediction_id = post(client, "/predict", {**ROW, "who": 42}).json()["id"]
        assert post(client, "/outcomes", {"id": prediction_id, "outcome": True}).json() == {
            "recorded": 1,
            "repeated": 0,
        }
        assert post(client, "/outcomes", [{"id": prediction_id, "outcome": 1}]).json() == {
            "recorded": 0,
            "repeated": 1,
        }
        result = post(client, "/outcomes", {"id": prediction_id, "outcome": 0})
        assert result.status_code == 409
        row = next(
            row
            for row in client.app._service.journal.read_predictions(0)
            if row["id"] == prediction_id
        )
        assert (row["outcome"], row["prediction"], row["version"]) == (1, 1, 1)
        assert row["inputs"] == {**ROW, "flag": 1.0, "who": 42.0}

    def test_delay_of_repeated_outcome_is_not_measured_again(self, client):
        def read_count() -> float:
            [line] = re.findall(
                r"modelbook_outcome_delay_seconds_count (\S+)", client.get("/metrics").text
            )
            return float(line)

        first, second = (post(client, "/predict", ROW).json()["id"] for _ in range(2))
        count_before = read_count()
        post(client, "/outcomes", {"id": first, "outcome": 1})
        both = [{"id": prediction_id, "outcome": 1} for prediction_id in (first, second)]
        assert post(client, "/outcomes", both).json() == {"recorded": 1, "repeated": 1}
        assert read_count() - count_before == 2

    def test_unknown_id_or_invalid_outcome_is_rejected(self, client):
        assert post(client, "/outcomes", {"id": "nobody", "outcome": 1}).status_code == 404
        [rejection] = post(client, "/outcomes", {"id": "nobody", "outcome": 7}).json()["rejected"]
        assert missing_facts(rejection.pop("expected"), 0, 1) == []
        assert rejection == {"row": None, "field": "outcome", "value": "7"}
        response = post(
            client, "/outcomes", [{"id": "aa", "outcome": 1}, {"id": "aa", "outcome": 0}]
        )
        assert response.status_code == 409
        assert missing_facts(response.json()["error"], "aa") == []
        assert post(client, "/outcomes", {"id": 5}).status_code == 422


class TestJournal:
    @pytest.mark.long
    def test_response_hash_is_verified_by_journal(self, version_store, monkeypatch):
        with serve(version_store) as client:
            predictions = [post(client, "/predict", ROW).json() for _ in range(2)]
            predictions += post(client, "/predict", [ROW, ROW]).json()
            table = client.post(
                "/predict/csv",
                content=b"colour,size,noise,flag\n11,80,,1\n",
                headers={"content-type": "text/csv"},
            )
            predictions += pd.read_csv(io.BytesIO(table.content), dtype=str).to_dict("records")
            journal_path = version_store.root / "data" / BOOK / "journal.db"
        id_hash_pairs = [
            f"{prediction['id']}={prediction['row_hash']}" for prediction in predictions
        ]
        assert len({prediction["row_hash"] for prediction in predictions}) == 5
        monkeypatch.setattr(cli_serving, "find_book", lambda book: (version_store.root, BOOK))
        verify = ["journal", "verify"]
        assert CliRunner().invoke(app, [*verify, *id_hash_pairs]).exit_code == 0
        with closing(sqlite3.connect(journal_path)) as connection, connection:
            connection.execute(
                "update predictions set prediction = '0' where id = ?", [predictions[1]["id"]]
            )
        result = CliRunner().invoke(app, [*verify, *id_hash_pairs])
        assert result.exit_code == 1
        assert [
            line.partition(":")[0] for line in result.output.splitlines() if "altered" in line
        ] == [predictions[1]["id"]]

    @pytest.mark.long
    def test_response_without_journal_has_no_hash(self, version_store):
        (version_store.root / "data" / BOOK / "journal.db").mkdir(parents=True)
        with serve(version_store, "journal: {timeout_seconds: 0.2}") as client:
            assert post(client, "/predict", ROW).json()["row_hash"] is None

    @pytest.mark.long
    def test_redacted_columns_are_not_journaled(self, version_store):
        with serve(version_store, "journal: {redacted_columns: [size, who]}") as client:
            post(client, "/predict", {**ROW, "who": 1})
            [row] = client.app._service.journal.read_predictions(0)
        assert set(row["inputs"]) == {"colour", "noise", "flag"}

    @pytest.mark.long
    @pytest.mark.parametrize(("setting", "status"), [("predict", 200), ("refuse", 503)])
    def test_on_failure_setting_decides_when_journal_is_down(
        self, version_store, setting, status, tmp_path
    ):
        folder = tmp_path / "data" / BOOK / "journal.db"
        folder.mkdir(parents=True)
        with serve(
            version_store, f"journal: {{on_failure: {setting}, timeout_seconds: 0.2}}"
        ) as client:
            assert [post(client, "/predict", ROW).status_code for _ in range(3)] == [status] * 3
            wait(lambda: client.get("/health/ready").json()["journal"] == "down")
            n_lost = 3 if setting == "predict" else 0
            wait(lambda: f"modelbook_journal_lost_total {n_lost}.0" in client.get("/metrics").text)

    @pytest.mark.long
    def test_predictions_older_than_retention_are_deleted(self, version_store):
        with serve(version_store) as client:
            post(client, "/predict", ROW)
        with serve(version_store, "journal: {retention_days: 0.0000001}") as client:
            wait(lambda: client.app._service.journal.read_predictions(0) == [])


class TestHealthAndApiDocs:
    def test_health_reports_version_in_service(self, client):
        assert client.get("/health/live").json() == {"status": "live"}
        result = client.get("/health/ready").json()
        assert (result["status"], result["model_version"], result["data_fingerprint"]) == (
            "ready",
            1,
            "f00d",
        )
        assert result["loaded_at"] == pytest.approx(time.time(), abs=30)
        assert result["golden_rows"] > 100

    @pytest.mark.long
    def test_service_without_version_is_live_but_not_ready(self, empty_store):
        with serve(empty_store) as client:
            assert client.get("/health/live").status_code == 200
            assert client.get("/health/ready").status_code == 503
            result = post(client, "/predict", ROW)
            assert (result.status_code, result.headers["retry-after"]) == (503, "5")
            assert missing_facts(result.json()["error"], "tiny", "champion") == []
            assert client.get("/openapi.json").status_code == 503

    def test_model_endpoint_reports_scorer_and_parity_check(self, client):
        result = client.get("/model").json()
        assert (result["task"], result["threshold"], result["question"]) == (
            "binary",
            0.4,
            "Will it happen?",
        )
        assert result["scorer"]["compiled"] is True
        assert missing_facts(result["scorer"]["parity"], 0) == []
        assert (result["scorer"]["proof"], result["refused"]) == (result["scorer"]["parity"], {})

    def test_openapi_describes_served_model(self, client):
        document = client.get("/openapi.json").json()
        row = document["components"]["schemas"]["Row"]
        assert row["properties"]["size"] == {
            "title": "Size", "description": "decides", "type": "number", "minimum": 0, "maximum": 100,
            "examples": row["properties"]["size"]["examples"],
        }  # fmt: skip
        assert row["properties"]["colour"]["enum"] == ["1", "2", "11", 1, 2, 11]
        assert set(row["required"]) == {"colour", "size", "flag"}
        assert post(client, "/predict", row["example"]).status_code == 200
        assert document["info"]["title"] == "Tiny"
        assert set(document["paths"]) == {
            "/predict", "/predict/csv", "/outcomes", "/model", "/metrics", "/health/live", "/health/ready",
            "/v2", "/v2/health/live", "/v2/health/ready",
            *(f"/v2/models/{BOOK}{path}" for path in ("", "/ready", "/infer")),
        }  # fmt: skip

    def test_pages_forbid_inline_scripts_frames_and_content_sniffing(self, client):
        for path in ("/", "/docs", "/redoc"):
            response = client.get(path)
            policy = dict(
                part.strip().split(" ", 1)
                for part in response.headers["content-security-policy"].split(";")
            )
            assert "'unsafe-inline'" not in policy.get("script-src", policy["default-src"])
            assert policy["frame-ancestors"] == "'none'"
            assert re.findall(r"<script(?! src=\"/)|\son\w+=|javascript:", response.text) == []
        for response in (
            client.get("/"),
            client.get("/health/live"),
            post(client, "/predict", ROW),
        ):
            assert response.headers["x-content-type-options"] == "nosniff"

    def test_api_docs_load_no_external_resources(self, client):
        for page in ("/docs", "/redoc"):
            result = client.get(page)
            text = result.text
            assert "https://" not in text, page
            assert "default-src 'self'" in result.headers["content-security-policy"]
            for path in {part.split('"')[0] for part in text.split('"/static/')[1:]}:
                assert client.get(f"/static/{path}").status_code == 200


class TestPage:
    def form(self, **change: str) -> dict[str, str]:
        return {"colour": "11", "size": "80", "noise": "", "flag": "1", **change}

    def test_page_shows_model_and_form_from_contract(self, client):
        result = client.get("/")
        assert "script" not in result.text
        assert "default-src 'none'" in result.headers["content-security-policy"]
        assert "Will it happen?" in result.text
        for name in ROW:
            assert f'name="{name}"' in result.text
        assert missing_facts(result.text, "Size", 0, 100) == []
        assert 'href="/docs"' in result.text

    def test_form_starts_with_all_digits_of_typical_values(self, client):
        champion = client.app._service.champion
        typical_row = {**champion.typical_row, "size": 1234567.5}
        page = html_pages.render_page(dataclasses.replace(champion, typical_row=typical_row))
        assert 'value="1234567.5"' in page

    def test_form_shows_prediction_with_reasons_and_does_not_journal_explanations(self, client):
        journal = client.app._service.journal
        before = len(journal.read_predictions(0))
        text = client.post("/", data=self.form(size="99")).text
        p = post(client, "/predict", {**ROW, "size": 99.0}).json()["probabilities"]["1"]
        assert f"1: {p:.1%}" in text
        reasons = text.split("<tbody>")[1].split("</tbody>")[0].split("<tr>")[1:]
        assert reasons[0].startswith("<th scope='row'>Size</th><td>99</td>")
        assert len(journal.read_predictions(0)) == before + 1

    def test_form_shows_escaped_errors_next_to_fields(self, client):
        text = client.post("/", data=self.form(size="<b>tall</b>")).text
        assert "&lt;b&gt;tall&lt;/b&gt;" in text
        assert "<b>" not in text
        assert missing_facts(text, "size", 0, 100) == []
        assert "<tbody>" not in text

    @pytest.mark.long
    def test_form_requires_api_key_when_keys_exist(self, version_store):
        key = ApiKeyStore(version_store.root).add_key("one", ["predict"])
        with serve(version_store) as client:
            assert 'name="api key"' in client.get("/").text
            assert client.post("/", data=self.form()).status_code == 401
            assert "<tbody>" in client.post("/", data={**self.form(), "api key": key}).text


class TestLimits:
    @pytest.mark.long
    def test_request_size_rows_and_content_type_are_limited(self, version_store):
        with serve(
            version_store, "limits: {max_body_bytes: 300, max_rows: 2, max_upload_bytes: 200}"
        ) as client:
            assert post(client, "/predict", [ROW] * 2).status_code == 200
            assert post(client, "/predict", [{"size": 1}] * 3).status_code == 413
            assert post(client, "/predict", [ROW] * 9).status_code == 413
            result = client.post(
                "/predict",
                content=iter([b" " * 200] * 3),
                headers={"content-type": "application/json"},
            )
            assert (result.status_code, missing_facts(result.json()["expected"], 300)) == (413, [])
            table = ("/predict/csv", b"size\n" * 100)
            assert (
                client.post(
                    table[0], content=table[1], headers={"content-type": "text/csv"}
                ).status_code
                == 413
            )
            for content_type in ("text/plain", "", "application/xml"):
                assert (
                    client.post(
                        "/predict", content=b"{}", headers={"content-type": content_type}
                    ).status_code
                    == 415
                )
            gzip_headers = {"content-type": "application/json", "content-encoding": "gzip"}
            assert client.post("/predict", content=b"{}", headers=gzip_headers).status_code == 415

    @pytest.mark.parametrize(
        ("body", "facts"),
        [
            (b"[" + b"{}," * 29_999 + b"{}]", ["30,000", 2]),
            (b"{" + b",".join(b'"k%d":1' % i for i in range(8_000)) + b"}", ["16,000", 1, 6]),
            (b'{"size": [' + b"1," * 39_999 + b"1]}", ["40,002", 1, 6]),
            (b"[" * 100_000, ["100,000"]),
        ],
        ids=lambda value: str(value)[:20],
    )
    def test_oversized_body_is_rejected_before_parsing(self, body, facts):
        with pytest.raises(RequestError) as exc_info:
            BodyLimits(max_rows=2, max_fields=6).check_json(body, is_list=body[:1] == b"[")
        assert exc_info.value.status == 413
        assert missing_facts(f"{exc_info.value.message} {exc_info.value.expected}", *facts) == []

    def test_brackets_and_separators_in_strings_are_not_counted(self):
        limits = BodyLimits(max_rows=2, max_fields=6)
        for text in (b'["' + b'\\"' * 900 + b"{,:" * 900 + b'"]', b'["' + b"{,:" * 900, b'["\\'):
            limits.check_json(text, is_list=True)

    @pytest.mark.long
    def test_csv_with_too_many_lines_or_columns_is_rejected(self, version_store):
        wide = ",".join(f"c{number}" for number in range(100_000)).encode()
        with serve(version_store, "limits: {max_upload_rows: 5}") as client:
            for body, facts in ((wide, ["100,000"]), (b"size\n" + b"1\n" * 7, [5])):
                response = client.post(
                    "/predict/csv", content=body, headers={"content-type": "text/csv"}
                )
                assert (response.status_code, missing_facts(response.text, *facts)) == (413, [])

    @pytest.mark.long
    def test_event_loop_uses_short_thread_switch_interval(self, version_store):
        before = sys.getswitchinterval()  # of a service of other tests
        sys.setswitchinterval(0.02)
        with serve(version_store):
            assert sys.getswitchinterval() == pytest.approx(service.THREAD_SWITCH_SECONDS)
        assert sys.getswitchinterval() == pytest.approx(0.02)
        sys.setswitchinterval(before)

    @pytest.mark.long
    def test_health_is_served_while_many_rows_are_predicted(self, version_store, monkeypatch):
        has_started, is_healthy = threading.Event(), threading.Event()
        predict_many = CompiledScorer.predict_many

        def predict_after_health_check(scorer: CompiledScorer, rows: list[Any]) -> list[Any]:
            has_started.set()
            assert is_healthy.wait(20)
            return predict_many(scorer, rows)

        with serve(version_store) as client, ThreadPoolExecutor(1) as pool:
            monkeypatch.setattr(CompiledScorer, "predict_many", predict_after_health_check)
            pending_response = pool.submit(post, client, "/predict", [ROW] * 300)
            assert has_started.wait(20)
            assert client.get("/health/live").status_code == 200
            is_healthy.set()
            assert (
                pending_response.result().status_code,
                len(pending_response.result().json()),
            ) == (200, 300)

    @pytest.mark.long
    def test_garbage_collection_leaves_out_objects_of_the_start(self, version_store):
        gc.unfreeze()  # objects frozen in conftest.py
        before = len(gc.get_objects())
        with serve(version_store):
            assert len(gc.get_objects()) < before / 10

    @pytest.mark.long
    def test_upload_row_limit_follows_cost_per_row(
        self, model, contract, rows, tmp_path, monkeypatch
    ):
        """A champion that takes 60 ms per row: 4 rows take less than 300 ms."""
        monkeypatch.setattr(latency, "measure_batch_row_ms", lambda scorer, rows: 60.0)
        empty_store = VersionStore(tmp_path)
        empty_store.alias("champion", empty_store.register(model, contract, rows))
        table = b"size\n" + b"1\n" * 6
        with serve(empty_store) as client:
            assert client.get("/model").json()["max_upload_rows"] == 4
            response = client.post(
                "/predict/csv", content=table, headers={"content-type": "text/csv"}
            )
            assert (response.status_code, missing_facts(response.text, 4)) == (413, [])
        with serve(empty_store, "limits: {max_upload_rows: 50}") as client:
            assert client.get("/model").json()["max_upload_rows"] == 50

    def test_validation_stops_at_maximum_of_listed_errors(self, client):
        response = post(client, "/predict", [{**ROW, "size": "tall"}] * 1000)
        assert response.status_code == 422
        assert [rejection["row"] for rejection in response.json()["rejected"]] == list(range(100))
        assert missing_facts(response.json()["error"], 100) == []

    @pytest.mark.long
    def test_form_with_too_many_fields_is_rejected_before_key_check(self, version_store):
        ApiKeyStore(version_store.root).add_key("one", ["predict"])
        with serve(version_store) as client:
            headers = {"content-type": "application/x-www-form-urlencoded"}
            response = client.post("/", content=b"a=1&" * 2000, headers=headers)
            assert (response.status_code, missing_facts(response.text, "2,001")) == (413, [])

    @pytest.mark.long
    def test_body_limit_follows_from_contract(self, version_store):
        with serve(version_store, "limits: {max_rows: 2}") as client:
            limit = client.app._service.champion.row_reader.limits.max_bytes
            assert len(json.dumps([ROW] * 2, indent=4)) < limit < 5000
            for content, connection in ((b" " * 5000, None), (iter([b" " * 5000]), "close")):
                response = client.post("/predict", content=content, headers=JSON_TYPE)
                assert (response.status_code, response.headers.get("connection")) == (
                    413,
                    connection,
                )

    @pytest.mark.long
    def test_total_size_of_large_bodies_is_limited(self, version_store):
        with serve(version_store, "limits: {max_buffered_bytes: 100000}") as client:
            table = b"colour,size,noise,flag,more\n11,80,,1," + b"x" * 99_000 + b"\n"
            csv = {"content-type": "text/csv"}
            assert client.post("/predict/csv", content=table, headers=csv).status_code == 200
            assert client.app._service.bodies.buffered_bytes == 0
            response = client.post("/predict/csv", content=table * 2, headers=csv)
            assert (response.status_code, response.headers["retry-after"]) == (503, "1")

    @pytest.mark.long
    def test_row_limit_counts_all_rows(self, version_store):
        with serve(version_store, "limits: {max_rows: 2}") as client:
            result = post(client, "/predict", [ROW] * 3)
            assert (result.status_code, missing_facts(result.json(), 3, 2)) == (413, [])

    @pytest.mark.long
    def test_rate_limit_returns_retry_after(self, version_store):
        with serve(version_store, "limits: {requests_per_second: 2}") as client:
            responses = [post(client, "/predict", ROW) for _ in range(5)]
            assert [response.status_code for response in responses][:2] == [200, 200]
            assert responses[-1].status_code == 429
            assert int(responses[-1].headers["retry-after"]) >= 1
            assert client.post("/", data={"size": "80"}).status_code == 429
            assert client.get("/health/live").status_code == 200

    def test_unknown_path_and_method_return_json_errors(self, client):
        for result, status in ((client.get("/nope"), 404), (client.put("/predict"), 405)):
            assert result.status_code == status
            assert (
                missing_facts(
                    result.json()["error"], result.request.method, result.request.url.path
                )
                == []
            )
            assert result.json()["request_id"] == result.headers["x-request-id"]

    def test_request_id_of_caller_is_returned(self, client):
        assert (
            post(client, "/predict", ROW, **{"x-request-id": "mine-1"}).headers["x-request-id"]
            == "mine-1"
        )
        assert (
            post(client, "/predict", ROW, **{"x-request-id": "a b\t"}).headers["x-request-id"]
            != "a b"
        )

    def test_internal_error_reveals_no_details(self, client, monkeypatch, caplog):
        monkeypatch.setattr(client.app._service, "predict", None)
        monkeypatch.setattr(client.app._service, "describe", None)
        logging.getLogger("modelbook.serving").propagate = True
        for result in (post(client, "/predict", ROW), client.get("/model")):
            assert result.status_code == 500
            assert "NoneType" not in result.text
            assert result.json()["request_id"] in str([vars(record) for record in caplog.records])

    @pytest.mark.long
    def test_cross_origin_requests_need_configured_origin(self, version_store):
        origin = {"origin": "https://example.org"}
        with serve(version_store) as client:
            assert post(client, "/predict", ROW, **origin).status_code == 403
            assert client.app._service.journal.read_predictions(0) == []
        with serve(version_store, "cors_origins: ['https://example.org']") as client:
            result = post(client, "/predict", ROW, **origin)
            assert (result.status_code, result.headers["access-control-allow-origin"]) == (
                200,
                "https://example.org",
            )
            requests = {**origin, "access-control-request-method": "POST"}
            assert client.options("/predict", headers=requests).status_code == 200


class TestOpenAccess:
    FOREIGN = (
        {"origin": "https://example.org"}, {"origin": "null"}, {"host": "example.org"},
        {"host": "127.0.0.1.example.org:8000"}, {"x-forwarded-for": "10.0.0.1"}, {"forwarded": "for=10.0.0.1"},
        {"via": "1.1 gate"}, {"x-forwarded-proto": "https"}, {"cf-connecting-ip": "10.0.0.1"},
    )  # fmt: skip

    @pytest.mark.parametrize("headers", FOREIGN, ids=str)
    def test_without_keys_foreign_hosts_and_origins_are_rejected(self, client, headers):
        before = len(client.app._service.journal.read_predictions(0))
        upload = {"file": ("a.csv", b"colour,size,noise,flag\n11,80,,1\n", "text/csv")}
        assert client.post("/predict/csv", files=upload, headers=headers).status_code == 403
        assert post(client, "/predict", ROW, **headers).status_code == 403
        assert client.post("/", data={"size": "1"}, headers=headers).status_code == 403
        assert client.get("/model", headers=headers).status_code == 403
        assert len(client.app._service.journal.read_predictions(0)) == before
        assert client.get("/health/ready", headers=headers).status_code == 200

    @pytest.mark.parametrize("host", ["[::1", "[zz]", "[127.0.0.1]"])
    def test_without_keys_hosts_and_origins_that_are_no_url_are_refused(self, client, host):
        for headers in ({"host": host}, {"origin": f"http://{host}"}):
            assert post(client, "/predict", ROW, **headers).status_code == 403

    def test_without_keys_own_pages_are_served(self, client):
        for origin in ("http://127.0.0.1", "http://127.0.0.2:80", "http://localhost:8000"):
            custom = {"origin": origin, "host": origin.removeprefix("http://")}
            assert post(client, "/predict", ROW, **custom).status_code == 200

    @pytest.mark.long
    def test_with_key_any_origin_and_host_is_accepted(self, version_store):
        key = ApiKeyStore(version_store.root).add_key("one", ["predict"])
        with serve(version_store, client=("192.0.2.7", 5000)) as client:
            for headers in self.FOREIGN:
                assert (
                    post(client, "/predict", ROW, **headers, **{"x-api-key": key}).status_code
                    == 200
                )

    @pytest.mark.long
    def test_service_without_remaining_keys_stays_closed(self, version_store):
        keys = ApiKeyStore(version_store.root)
        keys.add_key("one", ["predict"])
        with serve(version_store) as client:
            keys.remove_key("one")
            wait(lambda: not len(client.app._service.api_keys))
            assert post(client, "/predict", ROW).status_code == 401
            (version_store.root / "serving.keys.json").unlink()
            wait(lambda: client.app._service.api_keys._file_state is None)
            assert post(client, "/predict", ROW).status_code == 401
        (version_store.root / "serving.keys.json").write_text("[]")
        with serve(version_store) as client:
            assert post(client, "/predict", ROW).status_code == 401

    def test_removing_last_key_prints_a_warning(self, version_store, monkeypatch):
        monkeypatch.setattr("modelbook.stage.project.find_root", lambda: version_store.root)
        ApiKeyStore(version_store.root).add_key("one", ["predict"])
        ApiKeyStore(version_store.root).add_key("two", ["predict"])
        first, last = (CliRunner().invoke(app, ["keys", "remove", name]) for name in ("one", "two"))
        assert (first.exit_code, first.output) == (0, "")
        facts = ("api_keys: on", "modelbook keys add", "serving.keys.json")
        assert missing_facts(last.output, *facts) == []


class TestKeys:
    @pytest.mark.long
    def test_key_grants_only_its_scopes(self, version_store):
        keys = ApiKeyStore(version_store.root)
        predict_key, outcomes_key, admin_key = (
            keys.add_key("one", ["predict"]),
            keys.add_key("two", ["outcomes"]),
            keys.add_key("all", ["admin"]),
        )
        with serve(version_store) as client:
            assert post(client, "/predict", ROW).status_code == 401
            assert post(client, "/predict", ROW, **{"x-api-key": "guess"}).status_code == 401
            assert post(client, "/predict", ROW, **{"x-api-key": predict_key}).status_code == 200
            assert (
                post(client, "/predict", ROW, authorization=f"Bearer {admin_key}").status_code
                == 200
            )
            result = post(client, "/predict", ROW, **{"x-api-key": outcomes_key})
            assert (
                result.status_code,
                missing_facts(result.json()["error"], "'two'", "predict"),
            ) == (403, [])
            assert client.get("/metrics", headers={"x-api-key": predict_key}).status_code == 403
            assert client.get("/metrics", headers={"x-api-key": admin_key}).status_code == 200
            for path in ("/health/live", "/health/ready", "/docs", "/openapi.json"):
                assert client.get(path).status_code == 200
        assert predict_key not in (version_store.root / "serving.keys.json").read_text()
        assert (version_store.root / "serving.keys.json").stat().st_mode & 0o77 == 0

    @pytest.mark.long
    def test_keys_are_reloaded_while_service_runs(self, version_store):
        keys = ApiKeyStore(version_store.root)
        old = keys.add_key("old", ["predict"])
        with serve(version_store) as client:
            new = keys.add_key("new", ["predict"])
            keys.remove_key("old")
            wait(lambda: post(client, "/predict", ROW, **{"x-api-key": new}).status_code == 200)
            assert post(client, "/predict", ROW, **{"x-api-key": old}).status_code == 401

    @pytest.mark.long
    def test_expired_key_is_rejected(self, version_store):
        short = ApiKeyStore(version_store.root).add_key("short", ["predict"], valid_days=1e-9)
        with serve(version_store) as client:
            assert post(client, "/predict", ROW, **{"x-api-key": short}).status_code == 401

    @pytest.mark.long
    def test_without_keys_only_loopback_clients_are_served(self, version_store):
        with serve(version_store, client=("192.0.2.7", 5000)) as client:
            assert post(client, "/predict", ROW).status_code == 401
        with raises_stating(ServingError, "0.0.0.0", "modelbook keys add"):
            server.run_server(version_store.root, BOOK, "0.0.0.0", free_port(), 1)
        with serve(version_store, "api_keys: off", client=("192.0.2.7", 5000)) as client:
            assert post(client, "/predict", ROW).status_code == 200

    def test_unusable_address_raises_before_keys_are_needed(self, version_store):
        with raises_stating(ServingError, "300.1.1.1", "--host"):
            server.run_server(version_store.root, BOOK, "300.1.1.1", free_port(), 1)
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
            with raises_stating(ServingError, "127.0.0.1", str(port), "in use", "--port"):
                server.run_server(version_store.root, BOOK, "127.0.0.1", port, 1)

    def test_book_without_champion_is_not_served(self, empty_store):
        with raises_stating(ServingError, BOOK, "champion", "modelbook build"):
            server.run_server(empty_store.root, BOOK, "127.0.0.1", free_port(), 1)

    def test_duplicate_key_name_and_unknown_scope_raise(self, tmp_path):
        keys = ApiKeyStore(tmp_path)
        keys.add_key("one", ["predict"])
        with raises_stating(ServingError, "'one'"):
            keys.add_key("one", ["predict"])
        with raises_stating(ServingError, "'all'", "predict", "outcomes", "admin"):
            keys.add_key("two", ["all"])
        with raises_stating(ServingError, "'two'", "one"):
            keys.remove_key("two")
        (tmp_path / "serving.keys.json").write_text("[{}]")
        with raises_stating(ServingError, tmp_path / "serving.keys.json"):
            ApiKeyStore(tmp_path)

    @pytest.mark.long
    def test_keys_are_read_from_environment_without_a_file(
        self, version_store, tmp_path, monkeypatch
    ):
        key = ApiKeyStore(tmp_path / "elsewhere").add_key("one", ["predict"])
        monkeypatch.setenv(KEYRING_VARIABLE, (tmp_path / "elsewhere/serving.keys.json").read_text())
        with serve(version_store, client=("192.0.2.7", 5000)) as client:
            assert post(client, "/predict", ROW, **{"x-api-key": key}).status_code == 200
            assert post(client, "/predict", ROW).status_code == 401
        with raises_stating(
            ServingError, KEYRING_VARIABLE, version_store.root / "serving.keys.json"
        ):
            ApiKeyStore(version_store.root).add_key("two", ["predict"])
        monkeypatch.setenv(KEYRING_VARIABLE, "{}x")
        with raises_stating(ServingError, KEYRING_VARIABLE):
            ApiKeyStore(version_store.root)


class TestSettings:
    def test_environment_overrides_single_settings_of_file(self, tmp_path, monkeypatch):
        (tmp_path / SETTINGS_FILE).write_text(
            "traffic: {mode: split, challenger_share: 0.3}\nlimits: {max_rows: 5}\n"
        )
        monkeypatch.setenv("MODELBOOK_SERVE_TRAFFIC__CHALLENGER_SHARE", "0.7")
        result = load_settings(tmp_path, BOOK)
        assert (result.traffic.mode, result.traffic.challenger_share, result.limits.max_rows) == (
            "split",
            0.7,
            5,
        )
        assert load_settings(tmp_path / "nowhere", BOOK).traffic.challenger_share == 0.7

    def test_book_file_overrides_project_settings(self, tmp_path):
        (tmp_path / "serving.yaml").write_text("traffic: {mode: split, salt: a}\nlog_level: debug")
        (tmp_path / "serving.other.yaml").write_text("traffic: {mode: shadow}")
        settings, other_settings = load_settings(tmp_path, BOOK), load_settings(tmp_path, "other")
        assert (settings.traffic.mode, other_settings.traffic.mode) == ("split", "shadow")
        assert (other_settings.traffic.salt, other_settings.log_level) == ("a", "debug")

    @pytest.mark.parametrize(
        ("text", "facts"),
        [("traffic: {shares: 1}", ["traffic.shares", 1]), ("limits: {max_rows: 0}", ["limits.max_rows", 0]),
         ("api_keys: maybe", ["api_keys", "'maybe'"]), ("[1]", ["[1]"]), ("a: [", ["YAML"])],
    )  # fmt: skip
    def test_invalid_setting_raises(self, tmp_path, text, facts):
        (tmp_path / SETTINGS_FILE).write_text(text)
        with raises_stating(ServingError, SETTINGS_FILE, *facts):
            load_settings(tmp_path, BOOK)


class TestTraffic:
    @pytest.fixture
    def two_versions(self, version_store, frame, contract):
        version_store.alias(
            "challenger",
            version_store.register(
                fit_pipeline(frame, contract, LogisticRegression(C=0.01)), contract, frame
            ),
        )
        return version_store

    @pytest.mark.long
    def test_split_routes_constant_share_of_users_to_challenger(self, two_versions):
        with serve(two_versions, "traffic: {mode: split, challenger_share: 0.3}") as client:
            rows = [{**ROW, "who": number} for number in range(1000)]
            result = post(client, "/predict", rows).json()
            share = sum(prediction["variant"] == "challenger" for prediction in result) / 1000
            assert share == pytest.approx(0.3, abs=0.06)
            repeated_result = post(client, "/predict", rows).json()
            assert [prediction["variant"] for prediction in repeated_result] == [
                prediction["variant"] for prediction in result
            ]
            assert {
                (prediction["variant"], prediction["model_version"]) for prediction in result
            } == {("champion", 1), ("challenger", 2)}
            by_user = {
                post(client, "/predict", {**ROW, "who": n}, **{"x-user-id": "anna"}).json()[
                    "variant"
                ]
                for n in range(9)
            }
            assert len(by_user) == 1
            assert len({prediction["probabilities"]["1"] for prediction in result}) == 2

    CANARY = (
        "traffic: {mode: canary, challenger_share: 0.5, canary_min_rows: 100, canary_max_drift: %s}"
    )

    def variants(self, client: TestClient, count: int = 400) -> set[str]:
        users = [{**ROW, "size": number % 100, "who": number} for number in range(count)]
        response = post(client, "/predict", users)
        assert response.status_code == 200
        return {prediction["variant"] for prediction in response.json()}

    @pytest.mark.long
    def test_canary_with_similar_predictions_keeps_its_traffic(
        self, version_store, frame, contract
    ):
        version_store.alias(
            "challenger", version_store.register(fit_pipeline(frame, contract), contract, frame)
        )
        with serve(version_store, self.CANARY % 0.3) as client:
            for _ in range(3):
                assert self.variants(client) == {"champion", "challenger"}
            assert client.get("/model").json()["traffic"]["rolled_back"] == ""

    @pytest.mark.long
    def test_canary_with_different_predictions_is_rolled_back_until_replaced(
        self, two_versions, frame, contract
    ):
        with serve(two_versions, self.CANARY % 0.1) as client:
            assert self.variants(client) == {"champion", "challenger"}
            assert self.variants(client) == {"champion"}
            assert "away" in client.get("/model").json()["traffic"]["rolled_back"]
            wait(lambda: "modelbook_canary_rolled_back 1.0" in client.get("/metrics").text)
            two_versions.alias(
                "challenger", two_versions.register(fit_pipeline(frame, contract), contract, frame)
            )
            wait(lambda: self.variants(client, 40) == {"champion", "challenger"})

    @pytest.mark.long
    def test_rows_that_canary_fails_on_are_predicted_by_champion(self, two_versions, monkeypatch):
        with serve(two_versions, self.CANARY % 1) as client:
            scorer = client.app._service.model_manager.challenger.scorer
            monkeypatch.setattr(scorer, "predict_many", None)
            assert self.variants(client, 40) == {"champion"}
            assert "failed" in client.get("/model").json()["traffic"]["rolled_back"]

    @pytest.mark.parametrize("rows", [100, 3000])
    def test_slow_canary_is_rolled_back(self, rows):
        canary = CanaryMonitor(2)
        prediction = RowPrediction(1, (0.5, 0.5))
        for name, seconds in (("champion", 0.001), ("challenger", 0.01)):
            for _ in range(rows):
                canary.record_predictions(name, seconds, [prediction])
        canary.check(TrafficSettings(canary_min_rows=rows))
        assert missing_facts(canary.stop_reason, "10", "1") == []

    @pytest.mark.long
    def test_shadow_predictions_are_journaled_but_not_returned(self, two_versions):
        with serve(two_versions, "traffic: {mode: shadow}") as client:
            prediction = post(client, "/predict", ROW).json()
            assert (prediction["variant"], prediction["model_version"]) == ("champion", 1)
            journal = client.app._service.journal
            [shadow] = journal.read_predictions(0, variant="challenger")
            assert (shadow["id"], shadow["version"], shadow["returned"]) == (
                prediction["id"],
                2,
                False,
            )
            assert shadow["probabilities"] != prediction["probabilities"]

    @pytest.mark.long
    def test_traffic_settings_are_reloaded_and_invalid_ones_ignored(self, two_versions):
        with serve(two_versions) as client:
            assert post(client, "/predict", ROW).json()["variant"] == "champion"
            (two_versions.root / SETTINGS_FILE).write_text(
                "traffic: {mode: split, challenger_share: 1}"
            )
            wait(lambda: post(client, "/predict", ROW).json()["variant"] == "challenger")
            (two_versions.root / SETTINGS_FILE).write_text(
                "traffic: {mode: split, challenger_share: 7}"
            )
            wait(lambda: "settings" in client.get("/model").json()["problems"])
            assert post(client, "/predict", ROW).json()["variant"] == "challenger"

    def test_settings_that_are_still_written_are_not_applied(self, version_store):
        path = version_store.root / SETTINGS_FILE
        path.write_text("traffic: {mode: split}")
        serving = service.PredictionService(version_store.root, BOOK)
        serving._reload_settings()
        modes = []
        for text in ("", "traffic: {mode: sha", "traffic: {mode: shadow}"):
            path.write_text(text)
            serving._reload_settings()
            modes.append(serving.settings.traffic.mode)
        serving._reload_settings()
        assert [*modes, serving.settings.traffic.mode] == ["split"] * 3 + ["shadow"]

    def test_settings_are_read_once_until_a_file_changes(self, version_store, monkeypatch):
        path = version_store.root / SETTINGS_FILE
        serving = service.PredictionService(version_store.root, BOOK)
        reads: list[Path] = []
        load_settings = service.settings.load_settings
        monkeypatch.setattr(
            service.settings,
            "load_settings",
            lambda root, book: reads.append(root) or load_settings(root, book),
        )
        for text, expected_reads in (("traffic: {mode: shadow}", 1), ("traffic: {mode: split}", 2)):
            path.write_text(text)
            for _ in range(4):
                serving._reload_settings()
            assert (len(reads), serving.settings.traffic.mode in text) == (expected_reads, True)
        path.write_text("traffic: {mode: none of them}")
        for _ in range(4):
            serving._reload_settings()
        assert "settings" in serving.model_manager.problems

    @pytest.mark.long
    def test_challenger_with_different_fields_is_refused(self, version_store, frame, contract):
        wider = contract.model_copy(
            update={"columns": {**contract.columns, "size2": contract.columns["size"]}}
        )
        version_store.alias(
            "challenger",
            version_store.register(fit_pipeline(frame, contract), wider, frame.assign(size2=1.0)),
        )
        with serve(version_store, "traffic: {mode: split, challenger_share: 1}") as client:
            assert post(client, "/predict", ROW).json()["variant"] == "champion"
            assert (
                missing_facts(client.get("/model").json()["problems"]["challenger"], "size2") == []
            )


class TwoColumnStep(BaseEstimator, TransformerMixin):
    """A user's own step, which mixes columns."""

    def fit(self, X: Any, y: Any = None) -> TwoColumnStep:
        self.n_features_in_ = X.shape[1]
        return self

    def transform(self, X: pd.DataFrame) -> Any:
        return (X[["size"]] * (1 + X[["flag"]].to_numpy())).to_numpy()


class TestReload:
    @pytest.mark.long
    def test_version_that_failed_to_load_is_retried(
        self, version_store, frame, contract, monkeypatch
    ):
        monkeypatch.setattr(served_models, "MAX_RETRY_SECONDS", 0.2)
        new = version_store.register(fit_pipeline(frame, contract), contract, frame)
        hidden = version_store.folder(new).with_name("hidden")
        version_store.folder(new).rename(hidden)
        with serve(version_store) as client:
            version_store.alias("champion", new)
            wait(lambda: client.get("/health/ready").json()["reasons"])
            result = client.get("/health/ready").json()
            assert (result["status"], result["model_version"], result["alias_version"]) == (
                "ready",
                1,
                2,
            )
            assert missing_facts(result["reasons"]["champion"], "version 2") == []
            series = {
                'modelbook_version_refused{alias="champion"} 1.0',
                'modelbook_workers_behind{alias="champion"} 1.0',
                'modelbook_model_version{alias="champion"} 1.0',
                'modelbook_alias_version{alias="champion"} 2.0',
            }
            wait(lambda: series <= set(client.get("/metrics").text.splitlines()))
            hidden.rename(version_store.folder(new))
            wait(lambda: client.get("/health/ready").json()["model_version"] == new)
            assert client.get("/health/ready").json()["reasons"] == {}
            follows = 'modelbook_workers_behind{alias="champion"} 0.0'
            wait(lambda: follows in client.get("/metrics").text)

    @pytest.mark.long
    def test_aliases_are_read_again_when_their_file_changes(
        self, version_store, frame, contract, monkeypatch
    ):
        new = version_store.register(fit_pipeline(frame, contract), contract, frame)
        version_store.alias("champion", 1)
        manager, reads = served_models.ModelManager(version_store.root, BOOK, 1), []
        monkeypatch.setattr(served_models, "MAX_READ_AGE_SECONDS", 3600)  # loading may take long
        read_versions = served_models.read_aliased_versions
        monkeypatch.setattr(
            served_models,
            "read_aliased_versions",
            lambda root, book: reads.append(book) or read_versions(root, book),
        )

        def refresh() -> tuple[int, int]:
            for _ in range(4):
                asyncio.run(manager.refresh())
            count = len(reads)
            reads.clear()
            return count, manager.served_versions["champion"]

        assert refresh() == (2, 1)  # the first one finds the file
        assert refresh() == (0, 1)
        version_store.alias("champion", new)
        assert refresh() == (1, new)
        monkeypatch.setattr(manager, "_read_again_at", 0.0)
        assert refresh() == (1, new)

    @pytest.mark.long
    def test_service_becomes_ready_when_version_loads_again(self, version_store, monkeypatch):
        monkeypatch.setattr(served_models, "MAX_RETRY_SECONDS", 0.2)
        hidden = version_store.folder(1).with_name("hidden")
        version_store.folder(1).rename(hidden)
        with serve(version_store) as client:
            response = client.get("/health/ready")
            assert (response.status_code, response.json()["status"]) == (503, "not ready")
            assert missing_facts(response.json()["reasons"]["champion"], "version 1") == []
            hidden.rename(version_store.folder(1))
            wait(lambda: client.get("/health/ready").status_code == 200)

    def test_retry_delays_grow_to_one_minute(self):
        state = served_models.AliasState((1, "digest"))
        assert [state.schedule_retry() for _ in range(8)] == [1, 2, 4, 8, 16, 32, 60, 60]

    @pytest.mark.long
    def test_alias_is_followed_unless_version_fails_verification(
        self, version_store, frame, contract
    ):
        new = version_store.register(
            fit_pipeline(frame, contract, LogisticRegression(C=0.01)),
            contract,
            frame,
            fingerprint="beef",
        )
        bad = version_store.register(fit_pipeline(frame, contract), contract, frame)
        golden = version_store.folder(bad) / "scorer" / "golden.json"
        with serve(version_store) as client:
            version_store.alias("champion", new)
            wait(lambda: client.get("/health/ready").json()["model_version"] == new)
            assert client.get("/health/ready").json()["data_fingerprint"] == "beef"
            assert post(client, "/predict", ROW).json()["model_version"] == new
            result = json.loads(golden.read_text())
            result["numbers"][5][1] += 0.01
            golden.write_text(json.dumps(result))
            version_store.alias("champion", bad)
            wait(lambda: "champion" in client.get("/model").json()["problems"])
            reason = client.get("/model").json()["problems"]["champion"]
            assert missing_facts(reason, BOOK, bad) == []
            assert post(client, "/predict", ROW).json()["model_version"] == new
            version_store.alias("champion", 1)
            wait(lambda: client.get("/health/ready").json()["model_version"] == 1)
            assert client.get("/model").json()["problems"] == {}

    @pytest.mark.long
    def test_scorer_that_fails_golden_rows_is_not_ready(
        self, empty_store, frame, contract, monkeypatch
    ):
        from modelbook.scoring import CompiledScorer

        empty_store.alias(
            "champion", empty_store.register(fit_pipeline(frame, contract), contract, frame)
        )
        real = CompiledScorer.predict_many
        monkeypatch.setattr(
            CompiledScorer,
            "predict_many",
            lambda self, rows: [a._replace(probabilities=[0.5, 0.5]) for a in real(self, rows)],
        )
        with serve(empty_store) as client:
            result = client.get("/health/ready")
            assert result.status_code == 503
            assert re.search(
                r"\b0\.\d+", result.json()["reasons"]["champion"]
            )  # by how much it differs

    @pytest.mark.long
    def test_uncompiled_model_is_served_and_reported(self, empty_store, frame, contract):
        model = make_pipeline(TwoColumnStep(), LogisticRegression()).fit(
            contract.select_features(frame), frame["happened"]
        )
        empty_store.alias("champion", empty_store.register(model, contract, frame))
        with serve(empty_store) as client:
            result = client.get("/model").json()["scorer"]
            assert result["compiled"] is False
            assert missing_facts(result["reason"], "size", "flag") == []
            p = model.predict_proba(contract.select_features(pd.DataFrame([ROW])))[0, 1]
            assert post(client, "/predict", ROW).json()["probabilities"]["1"] == pytest.approx(
                p, abs=1e-9
            )
            assert len(post(client, "/predict", [ROW] * 3).json()) == 3


class TestMetrics:
    def test_metrics_ignore_files_of_starting_workers(self, tmp_path):
        (tmp_path / "counter_7.db").touch()
        assert list(WorkersCollector(str(tmp_path)).collect()) == []

    @pytest.mark.long
    def test_metrics_count_predictions_rejections_latency_and_versions(self, version_store):
        with serve(version_store) as client:
            post(client, "/predict", [ROW] * 3)
            post(client, "/predict", {})
            client.get("/a" * 50)
            text = client.get("/metrics").text
        assert 'modelbook_predictions_total{variant="champion"} 3.0' in text
        assert 'modelbook_rejected_total{reason="contract"} 1.0' in text
        assert 'modelbook_rejected_total{reason="error"} 0.0' in text  # alerts watch its increase
        assert 'modelbook_request_seconds_count{path="predict",status="200"} 1.0' in text
        assert 'modelbook_request_seconds_count{path="other",status="404"} 1.0' in text
        assert 'modelbook_model_version{alias="champion"} 1.0' in text
        assert "/a/a" not in text

    @pytest.mark.long
    def test_metrics_show_latest_monitor_verdict_of_champion(self, version_store):
        from modelbook.monitoring import latest_verdict

        def shown(client: TestClient) -> dict[str, float]:
            match = re.findall(
                r"^modelbook_monitor_(\S+) (\S+)$", client.get("/metrics").text, re.M
            )
            return {name: float(value) for name, value in match}

        file = latest_verdict.get_history_path(version_store.root, BOOK)
        file.parent.mkdir(parents=True, exist_ok=True)
        with serve(version_store) as client:
            wait(lambda: shown(client).get('verdict{verdict="watch"}') == 0)
            assert shown(client)["timestamp_seconds"] == 0
            with write_history(file) as requests:
                requests("insert into windows values (1, 1, '4', 7.5, 900, 0, 'watch', '[]')")
                for name, value in {
                    "drifted_share": 0.4,
                    "drift:size": 0.3,
                    "drift:noise": None,
                    "drift:x": 1,
                }.items():
                    requests(
                        "insert into metrics values (1, '4', ?, ?, null, null, null)", name, value
                    )
                requests("insert into verdicts values (1, 1, '4', 7.5, 'retrain', '[]')")
            wait(lambda: shown(client)["timestamp_seconds"] == 7.5)
            result = shown(client)
            assert math.isnan(result.pop('drift{feature="noise"}'))
            assert result == {
                'verdict{verdict="healthy"}': 0, 'verdict{verdict="watch"}': 0, 'verdict{verdict="retrain"}': 1,
                "timestamp_seconds": 7.5, "drifted_share": 0.4, 'drift{feature="size"}': 0.3,
            }  # fmt: skip
            with write_history(file) as requests:
                requests("insert into verdicts values (2, 1, '4', 8.5, 'healthy', '[]')")
                requests("delete from metrics where metric = 'drift:size'")
            wait(lambda: shown(client)["timestamp_seconds"] == 8.5)
            assert shown(client)['verdict{verdict="retrain"}'] == 0
            assert math.isnan(shown(client)['drift{feature="size"}'])

    def test_metrics_show_drift_of_recent_requests(self, client, frame):
        reference = client.app._service.model_manager.champion.drift_reference

        def measure(rows: list[dict[str, Any]]) -> dict[str, float]:
            params = Monitor(min_rows=len(reference_rows))
            return asyncio.run(metrics.measure_input_drift(reference, rows, params))

        columns = ["colour", "size", "noise", "flag"]
        reference_rows = frame[columns].astype(object).where(frame.notna(), None).to_dict("records")
        assert max(measure(reference_rows).values()) == pytest.approx(0, abs=1e-6)
        result = measure([{**row, "size": 99.0, "noise": None} for row in reference_rows])
        assert min(result["size"], result["noise"]) > 1
        assert result["colour"] == pytest.approx(0, abs=1e-6)
        assert all(map(math.isnan, measure(reference_rows[1:]).values()))
        mauve = [{**row, "colour": "mauve"} for row in reference_rows[:10]] + reference_rows[10:40]
        assert metrics.compute_unseen_shares(reference, mauve) == {"colour": 0.25}

    @pytest.mark.long
    def test_version_without_counts_has_no_drift_metric_and_logs_once(
        self, version_store, frame, contract, caplog
    ):
        def shown(client: TestClient) -> str:
            pattern = r"^modelbook_(?:drift|unseen_share)\{.*$"
            return "\n".join(re.findall(pattern, client.get("/metrics").text, re.M))

        old = version_store.register(fit_pipeline(frame, contract), contract, frame)
        (version_store.folder(old) / DRIFT_REFERENCE_FILE).unlink()
        version_store.update_digest(old)
        with caplog.at_level("WARNING"), serve(version_store) as client:
            post(client, "/predict", [ROW] * 500)
            wait(lambda: 'modelbook_drift{feature="size"}' in shown(client))
            assert "NaN" not in shown(client)
            assert "holdout" not in caplog.text
            version_store.alias("champion", old)
            wait(lambda: client.get("/health/ready").json()["model_version"] == old)
            service = client.app._service
            for _ in range(2):
                asyncio.run(service._measure_input_drift(service.model_manager.champion))
            assert {line.split()[1] for line in shown(client).splitlines()} == {"NaN"}
        assert caplog.text.count("no counts of its holdout") == 1

    def test_drift_thresholds_are_those_of_monitor(self, tmp_path):
        assert metrics.read_monitor_parameters(tmp_path, BOOK) == Monitor()
        pipeline = {"tasks": [{"name": "monitor", "params": {"drift_threshold": "{{threshold}}"}}]}
        (tmp_path / "pipeline.yaml").write_text(json.dumps(pipeline))
        (tmp_path / "env.yaml").write_text(f"book: {BOOK}\nthreshold: 0.2\n")
        assert metrics.read_monitor_parameters(tmp_path, BOOK).drift_threshold == 0.1
        pipeline["tasks"][0]["product"] = "models/{{book}}"
        (tmp_path / "pipeline.yaml").write_text(json.dumps(pipeline))
        assert metrics.read_monitor_parameters(tmp_path, BOOK).drift_threshold == 0.2


def test_default_journal_is_in_data_folder_of_book(version_store):
    assert create_app(version_store.root, BOOK)._service.journal.url == get_default_url(
        version_store.root, BOOK
    )


@pytest.mark.long
def test_service_does_not_import_pandas(template_store: VersionStore, tmp_path: Path):
    """Importing pandas takes seconds, in which no request is served."""
    code = """
import json, sys
import modelbook.serving.app
print(sys.modules.keys() & {"pandas", "sklearn", "scipy", "mlflow", "pyarrow", "pycaret"})
from pathlib import Path
from modelbook.registry import aliases
from modelbook.serving.served_models import load_model
from modelbook.serving.http_request import RequestError
one = load_model(aliases.require_champion(Path(sys.argv[1]), sys.argv[2]))
for colour in ("11", 11, 11.0, 2.5e-42, float("nan"), float("inf"), True, None, [1], {}):
    for noise in (None, 1, "?", float("nan"), 10**400):
        try:
            one.row_reader.read_body(json.dumps({"colour": colour, "size": 5, "flag": 1, "noise": noise}).encode())
        except RequestError:
            pass
print("pandas" in sys.modules)
"""
    root = template_store.copy(tmp_path).root
    result = subprocess.run(
        [sys.executable, "-c", code, root, BOOK], capture_output=True, text=True, check=True
    )
    assert result.stdout == "set()\nFalse\n"
