"""Open Inference Protocol (V2) in addition to the API, for clients of KServe, MLServer and Triton.

Each field is a separate input tensor of shape [rows] or [rows, 1]. Values are validated as
those of ``POST /predict``, whatever the datatype of their input, which is ignored; the binary
extension is not supported.
"""

from __future__ import annotations

import time
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field, ValidationError

import modelbook
from modelbook.contract import Column
from modelbook.formatting import format_count
from modelbook.serving.http_request import RequestError, read_user_id, require_content_type
from modelbook.serving.schemas import find_duplicate, format_request_value
from modelbook.serving.served_models import ServedModel
from modelbook.serving.service import PredictionService
from modelbook.tasks.conformal_prediction import SET_SEPARATOR

PREFIX = "/v2"
HEALTH_PATHS = (f"{PREFIX}/health/live", f"{PREFIX}/health/ready")
MAX_ID_LENGTH = 200
JSON_TOKENS_PER_INPUT = 20  # names, brackets and separators of one input, without its data


class _NamedModel(BaseModel):
    model_config = ConfigDict(strict=True)

    name: str


class RequestedOutput(_NamedModel):
    """An output that the response shall contain."""


class Tensor(_NamedModel):
    """An input of a request."""

    datatype: str = ""  # of the protocol; ignored
    shape: list[Annotated[int, Field(ge=1)]] = Field(min_length=1, max_length=2)
    data: list[Any]


class InferenceRequest(BaseModel):
    """Body of an inference request: one input for each field."""

    model_config = ConfigDict(strict=True)

    id: str = Field("", max_length=MAX_ID_LENGTH)
    inputs: list[Tensor] = Field(min_length=1)
    outputs: list[RequestedOutput] = []


def create_router(service: PredictionService) -> APIRouter:
    """Create the routes of the protocol."""
    router = APIRouter(prefix=PREFIX, include_in_schema=False)

    @router.get("")
    async def get_server_metadata() -> dict[str, Any]:
        return {"name": "modelbook", "version": modelbook.__version__, "extensions": []}

    @router.get("/health/live")
    async def live() -> dict[str, bool]:
        return {"live": True}

    @router.get("/health/ready")
    async def ready() -> JSONResponse:
        is_ready = service.model_manager.champion is not None
        return JSONResponse({"ready": is_ready}, 200 if is_ready else 503)

    @router.get("/models/{name}")
    @router.get("/models/{name}/versions/{version}")
    async def get_model_metadata(name: str, version: str = "") -> dict[str, Any]:
        return _describe_model(_find_model(service, name, version), name)

    @router.get("/models/{name}/ready")
    @router.get("/models/{name}/versions/{version}/ready")
    async def model_ready(name: str, version: str = "") -> dict[str, Any]:
        _find_model(service, name, version)
        return {"name": name, "ready": True}

    @router.post("/models/{name}/infer")
    @router.post("/models/{name}/versions/{version}/infer")
    async def infer(request: Request, name: str, version: str = "") -> JSONResponse:
        headers = request.scope["modelbook.headers"]
        require_content_type(headers, "application/json")
        model = _find_model(service, name, version)
        body = await service.read_json_body(request.scope, request.receive)
        start_time = time.perf_counter()
        inference_request, rows = await service.parse_in_thread(_read_request, body, model)
        predictions = await service.predict_rows(model, rows, read_user_id(headers), start_time)
        response = _build_response(model, name, inference_request, predictions)
        return JSONResponse(response)

    return router


def _find_model(service: PredictionService, name: str, version: str) -> ServedModel:
    champion = service.champion
    if name != service.book or version not in ("", str(champion.number)):
        raise RequestError(
            404,
            f"no model {name[:80]!r}{f' with version {version[:20]}' if version else ''}",
            expected=f"{service.book!r}, version {champion.number}",
        )
    return champion


def _read_request(body: bytes, model: ServedModel) -> tuple[InferenceRequest, list[dict[str, Any]]]:
    """Parse a request into its envelope and validated rows."""
    limits = model.row_reader.limits
    max_tokens_per_input = limits.max_rows + JSON_TOKENS_PER_INPUT
    limits.check_tokens(body, limits.max_fields * max_tokens_per_input)
    try:
        request = InferenceRequest.model_validate_json(body)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        place = ".".join(map(str, problem["loc"]))
        raise RequestError(
            400 if problem["type"] == "json_invalid" else 422,
            f"not an inference request: {place}: {problem['msg']}",
            expected="inputs, each with name, shape and data",
        ) from None
    _flatten_inputs(request, limits.max_rows)
    names = [tensor.name for tensor in request.inputs]
    if (duplicate := find_duplicate(names)) is not None:
        raise RequestError(
            422,
            f"the input {format_request_value(duplicate)} occurs twice",
            expected="each input once",
        )
    rows = [dict(zip(names, values)) for values in zip(*(tensor.data for tensor in request.inputs))]
    return request, model.row_reader.read_body(orjson.dumps(rows))[0]


def _flatten_inputs(request: InferenceRequest, max_rows: int) -> None:
    """Make the data of each input a list with one value for each row.

    Raises
    ------
    RequestError
        422 if the inputs have different shapes, or other numbers of values than their shapes; 413
        for too many rows.
    """
    shapes = {tuple(tensor.shape) for tensor in request.inputs}
    counts = {shape[0] if shape[1:] in ((), (1,)) else None for shape in shapes}
    if len(counts) != 1 or None in counts:
        raise RequestError(
            422, f"the inputs have the shapes {sorted(shapes)[:5]}", expected="[rows] for each"
        )
    [row_count] = counts
    assert row_count is not None
    for tensor in request.inputs:
        if all(isinstance(values, list) for values in tensor.data):  # one list for each row
            tensor.data = [value for values in tensor.data for value in values]
        if len(tensor.data) != row_count:
            raise RequestError(
                422,
                f"the input {tensor.name[:80]!r} has {format_count(len(tensor.data), 'value')}",
                expected=f"{row_count:,}, as in its shape",
            )
    if row_count > max_rows:
        raise RequestError(
            413, f"{row_count:,} rows in one request", expected=f"at most {max_rows:,}"
        )


def _describe_model(model: ServedModel, name: str) -> dict[str, Any]:
    columns = model.contract.columns
    inputs = [
        {"name": field, "datatype": _get_input_datatype(columns[field]), "shape": [-1]}
        for field in model.contract.input_names
    ]
    outputs = [{"name": "prediction", "datatype": _get_prediction_datatype(model), "shape": [-1]}]
    if model.class_labels:
        shape = [-1, len(model.class_labels)]
        outputs.append({"name": "probabilities", "datatype": "FP64", "shape": shape})
    if model.scorer.conformal is not None:
        outputs.append(
            {"name": "prediction_set", "datatype": "BYTES", "shape": [-1]}
            if model.class_labels
            else {"name": "interval", "datatype": "FP64", "shape": [-1, 2]}
        )
    outputs += [
        {"name": output, "datatype": "BYTES", "shape": [-1]}
        for output in ("id", "variant", "row_hash")
    ]
    return {
        "name": name,
        "versions": [str(model.number)],
        "platform": "modelbook",
        "inputs": inputs,
        "outputs": outputs,
        "parameters": {"classes": model.class_labels},
    }


def _get_input_datatype(column: Column) -> str:
    if column.number_format or column.type in ("category", "text", "date"):
        return "BYTES"
    return "BOOL" if column.type == "boolean" else "FP64"


def _get_prediction_datatype(model: ServedModel) -> str:
    classes = model.scorer.decision_rule.classes
    if not classes:
        return "FP64"
    return "BYTES" if isinstance(classes[0], str) else "INT64"


def _build_response(
    model: ServedModel, name: str, request: InferenceRequest, predictions: list[dict[str, Any]]
) -> dict[str, Any]:
    output_metadata = _describe_model(model, name)["outputs"]
    outputs = [
        {
            **output,
            "shape": [len(predictions), *output["shape"][1:]],
            "data": _make_output_data(output["name"], predictions),
        }
        for output in output_metadata
    ]
    if requested := {output.name for output in request.outputs}:
        outputs = [output for output in outputs if output["name"] in requested]
    versions = {prediction["model_version"] for prediction in predictions}
    return {
        "model_name": name,
        "model_version": ",".join(map(str, sorted(versions))),
        **({"id": request.id} if request.id else {}),
        "outputs": outputs,
    }


def _make_output_data(name: str, predictions: list[dict[str, Any]]) -> list[Any]:
    # A row of a version without intervals or sets has null, or an empty text.
    if name == "prediction_set":
        return [SET_SEPARATOR.join(prediction.get(name, [])) for prediction in predictions]
    if name == "interval":
        intervals = [prediction.get(name, {}) for prediction in predictions]
        return [interval.get(end) for interval in intervals for end in ("low", "high")]
    if name == "probabilities":
        return [value for prediction in predictions for value in prediction[name].values()]
    return [prediction[name] for prediction in predictions]
