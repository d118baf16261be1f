"""Open Inference Protocol (KServe): metadata, predictions, errors, keys."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient
from text_facts import missing_facts
from version_store import BOOK, VersionStore, fit_pipeline, make_client

from modelbook.serving.access import ApiKeyStore

INFER = f"/v2/models/{BOOK}/infer"
ROWS = [
    {"colour": "11", "size": 80.0, "noise": None, "flag": True},
    {"colour": "2", "size": 5.5, "noise": 1.0, "flag": False},
]
DATATYPES = {"colour": "BYTES", "size": "FP64", "noise": "FP64", "flag": "BOOL"}


@pytest.fixture(scope="module")
def version_store(make_frame, contract, tmp_path_factory) -> VersionStore:
    version_store, frame = VersionStore(tmp_path_factory.mktemp("version_store")), make_frame()
    version_store.alias(
        "champion", version_store.register(fit_pipeline(frame, contract), contract, frame)
    )
    return version_store


@pytest.fixture(scope="module")
def client(version_store) -> Iterator[TestClient]:
    with make_client(version_store.root) as client:
        yield client


def tensors(rows: list[dict[str, Any]], **change: Any) -> dict[str, Any]:
    inputs = [
        {
            "name": name,
            "datatype": datatype,
            "shape": [len(rows)],
            "data": [row[name] for row in rows],
        }
        for name, datatype in DATATYPES.items()
    ]
    return {"id": "mine", "inputs": inputs, **change}


@pytest.mark.long
def test_server_model_and_health_metadata_are_served(client):
    assert client.get("/v2").json()["name"] == "modelbook"
    assert client.get("/v2/health/live").json() == {"live": True}
    assert client.get("/v2/health/ready").json() == {"ready": True}
    model = client.get(f"/v2/models/{BOOK}/versions/1").json()
    assert (model["name"], model["versions"]) == (BOOK, ["1"])
    assert {tensor["name"]: tensor["datatype"] for tensor in model["inputs"]} == DATATYPES
    assert {tensor["name"]: tensor["datatype"] for tensor in model["outputs"]}[
        "prediction"
    ] == "INT64"
    assert client.get(f"/v2/models/{BOOK}/ready").status_code == 200
    for path in ("/v2/models/other", f"/v2/models/{BOOK}/versions/7"):
        response = client.get(path)
        assert (response.status_code, missing_facts(response.json()["error"], "no model")) == (
            404,
            [],
        )


def test_infer_matches_predict_and_is_journaled(client):
    expected = client.post("/predict", json=ROWS).json()
    response = client.post(INFER, json=tensors(ROWS)).json()
    assert (response["model_name"], response["model_version"], response["id"]) == (
        BOOK,
        "1",
        "mine",
    )
    outputs = {row["name"]: row for row in response["outputs"]}
    assert outputs["prediction"]["data"] == [row["prediction"] for row in expected]
    assert outputs["probabilities"]["shape"] == [2, 2]
    assert outputs["probabilities"]["data"] == [
        value for row in expected for value in row["probabilities"].values()
    ]
    journaled = {row["id"] for row in client.app._service.journal.read_predictions(0)}
    assert set(outputs["id"]["data"]) <= journaled


def test_openapi_example_of_infer_is_accepted(client):
    paths = client.get("/openapi.json").json()["paths"]
    assert {"/v2", f"/v2/models/{BOOK}/ready", "/v2/health/ready", INFER} <= paths.keys()
    body = paths[INFER]["post"]["requestBody"]["content"]["application/json"]
    assert client.post(INFER, json=body["example"]).json()["outputs"][0]["shape"] == [1]


def test_infer_accepts_lists_and_selected_outputs(client):
    request = tensors(ROWS, outputs=[{"name": "prediction"}])
    for tensor in request["inputs"]:
        tensor["shapes"], tensor["data"] = [2, 1], [[value] for value in tensor["data"]]
    response = client.post(INFER, json=request).json()
    assert [output["name"] for output in response["outputs"]] == ["prediction"]


@pytest.mark.parametrize("datatypes", [[], ["FP32", "BYTES", "INT8", "UINT64"]])
def test_infer_ignores_datatypes(client, datatypes):
    request = tensors(ROWS)
    for tensor in request["inputs"]:
        del tensor["datatype"]
    for tensor, datatype in zip(request["inputs"], datatypes):
        tensor["datatype"] = datatype
    outputs = client.post(INFER, json=request).json()["outputs"]
    expected = client.post("/predict", json=ROWS).json()
    assert outputs[0]["data"] == [row["prediction"] for row in expected]


def wrong(number: int, **change: Any) -> dict[str, Any]:
    request = tensors(ROWS)
    request["inputs"][number] |= change
    return request


@pytest.mark.parametrize(
    ("request_", "status", "facts"),
    [
        (wrong(1, data=[500, 1]), 422, ["size", 500]),
        (wrong(1, data=[1]), 422, ["size", 1, 2]),
        (wrong(1, shape=[3]), 422, ["shapes"]),
        (wrong(1, shape=[2, 2]), 422, ["shapes"]),
        (wrong(1, name="sise"), 422, ["sise"]),
        (wrong(1, data=[[1], [2, 3]]), 422, ["size", 3]),
        ({"inputs": []}, 422, ["inputs"]),
        (wrong(1, shape=[0], data=[]), 422, ["inputs.1.shape.0"]),
        (wrong(1, data=[[1], 2]), 422, ["size"]),
        (wrong(1, name="colour"), 422, ["colour"]),
        ({"rows": 1}, 422, ["inputs"]),
        ({"inputs": [{"name": "size", "shape": [9000], "data": [1] * 9000}]}, 413, ["rows"]),
    ],
    ids=str,
)
def test_invalid_infer_requests_are_rejected_with_reason(client, request_, status, facts):
    response = client.post(INFER, json=request_)
    assert (response.status_code, missing_facts(response.text, *facts)) == (status, [])


@pytest.mark.long
def test_infer_requires_api_keys_like_predict(version_store, tmp_path):
    copy = version_store.copy(tmp_path)
    key = ApiKeyStore(copy.root).add_key("one", ["outcomes"])
    with make_client(copy.root) as client:
        assert client.get("/v2/health/ready").status_code == 200
        assert client.post(INFER, json=tensors(ROWS)).status_code == 401
        response = client.post(INFER, json=tensors(ROWS), headers={"x-api-key": key})
        assert response.status_code == 403
