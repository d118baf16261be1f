"""OpenAPI document of the served model, generated from its contract."""

from __future__ import annotations

from typing import Any

from modelbook.serving.http_request import MAX_USER_ID_LENGTH
from modelbook.serving.inference_protocol import PREFIX, InferenceRequest
from modelbook.serving.served_models import ServedModel

JSON_TYPE, CSV_TYPE = "application/json", "text/csv"
ERROR_SCHEMA = {
    "type": "object",
    "title": "Error",
    "required": ["error", "request_id"],
    "properties": {
        "error": {"type": "string", "description": "what is wrong, with the value"},
        "expected": {"type": "string", "description": "what was expected"},
        "rejected": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["row", "field", "value", "expected"],
                "properties": {
                    "row": {
                        "type": ["integer", "null"],
                        "description": "counted from 0; null for a single object",
                    },
                    "field": {"type": "string"},
                    "value": {"type": "string"},
                    "expected": {"type": "string"},
                },
            },
        },
        "request_id": {"type": "string"},
    },
}
ERROR_DESCRIPTIONS = {
    "400": "The body cannot be read.",
    "401": "Missing, unknown or expired API key.",
    "403": "The API key lacks the required scope.",
    "408": "The body did not arrive in time.",
    "413": "Too many bytes or rows.",
    "415": "Unsupported content type.",
    "422": "Values break the contract.",
    "429": "Too many requests.",
    "503": "No model in production, too many concurrent requests, or the journal is down.",
}
USER_ID_PARAMETER = {
    "name": "X-User-Id", "in": "header", "required": False,
    "schema": {"type": "string", "maxLength": MAX_USER_ID_LENGTH},
    "description": "Id of the user; a user always gets the same variant.",
}  # fmt: skip


def complete_document(
    document: dict[str, Any], model: ServedModel, book: str, max_rows: int
) -> dict[str, Any]:
    """Add the schemas and paths of the served model to FastAPI's document."""
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    schemas |= {
        "Row": model.row_reader.json_schema(),
        "Prediction": _make_prediction_schema(model),
        "Outcome": model.outcome_reader.json_schema(),
        "Error": ERROR_SCHEMA,
        **_make_inference_schemas(),
    }
    document["components"]["securitySchemes"] = {
        "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
        "bearer": {"type": "http", "scheme": "bearer"},
    }
    operations = {
        "/predict": _make_predict_operation(model, max_rows),
        "/predict/csv": _make_csv_operation(model),
        "/outcomes": _make_outcomes_operation(max_rows),
    }
    posts = {path: {"post": operation} for path, operation in operations.items()}
    document["paths"] = posts | document["paths"] | _make_inference_paths(model, book)
    for path in document["paths"].values():
        for method in path.values():
            if "security" not in method:
                method["security"] = [{}, {"key": []}, {"bearer": []}]
    document["info"] |= {
        "title": model.contract.title,
        "version": f"model version {model.number}",
        "description": f"**{model.contract.question}** Predicted by version {model.number} of "
        f"`{model.name}` ({model.tags.get('model', model.scorer.name)}). Target: "
        f"{model.contract.columns[model.contract.target].meaning}.",
    }
    _escape_markup(document)
    return document


def _escape_markup(node: Any) -> None:
    """Escape ``<`` in descriptions: viewers render them as Markdown, which may contain HTML."""
    if isinstance(node, list):
        for item in node:
            _escape_markup(item)
    elif isinstance(node, dict):
        if isinstance(description := node.get("description"), str):
            node["description"] = description.replace("<", "&lt;")
        for name, item in node.items():
            if name not in ("example", "examples", "enum"):
                _escape_markup(item)


def _make_prediction_schema(model: ServedModel) -> dict[str, Any]:
    decision_rule = model.scorer.decision_rule
    prediction = (
        {"enum": list(decision_rule.classes)} if decision_rule.classes else {"type": "number"}
    )
    properties: dict[str, Any] = {
        "id": {"type": "string", "description": "id of the prediction; send it with the outcome"},
        "prediction": prediction,
        "model_version": {"type": "integer"},
        "variant": {"enum": ["champion", "challenger"]},
    }
    if decision_rule.classes:
        probability = {"type": "number", "minimum": 0, "maximum": 1}
        properties["probabilities"] = _make_object_schema(
            dict.fromkeys(model.class_labels, probability)
        )
    if model.scorer.conformal is not None:
        properties |= _make_conformal_schema(model)
    properties["row_hash"] = {
        "type": ["string", "null"],
        "description": "hash that verifies the journal entry; null if it was not journaled",
    }
    if decision_rule.threshold is not None:
        properties["prediction"] = prediction | {
            "description": f"{model.class_labels[1]} if its probability is at least "
            f"{decision_rule.threshold:g}"
        }
    return _make_object_schema(properties) | {"title": "Prediction"}


def _make_conformal_schema(model: ServedModel) -> dict[str, Any]:
    nominal_coverage = model.scorer.conformal.nominal_coverage
    if not model.class_labels:
        number = {"type": "number"}
        interval = _make_object_schema({"low": number, "high": number})
        return {
            "interval": interval
            | {"description": f"holds the outcome in {nominal_coverage:.0%} of cases"}
        }
    prediction_set = {
        "type": "array",
        "description": f"classes that hold the outcome in {nominal_coverage:.0%} of cases",
        "items": {"enum": model.class_labels},
        "minItems": 1,
    }
    return {"prediction_set": prediction_set}


def _make_single_or_list_schema(name: str, max_rows: int) -> dict[str, Any]:
    item = {"$ref": f"#/components/schemas/{name}"}
    list_keywords = {
        "title": f"List of {name.lower()}s",
        "description": f"at most {max_rows:,}; more are rejected with 413",
    }
    return {"oneOf": [item, {"type": "array", "items": item, **list_keywords}]}


def _make_predict_operation(model: ServedModel, max_rows: int) -> dict[str, Any]:
    body = {
        "schema": _make_single_or_list_schema("Row", max_rows),
        "example": model.row_reader.example,
    }
    prediction = _make_single_or_list_schema("Prediction", max_rows)
    return {
        "summary": "Predict one row, or a list of rows",
        "operationId": "predict",
        "tags": ["predict"],
        "parameters": [USER_ID_PARAMETER],
        "requestBody": {"required": True, "content": {JSON_TYPE: body}},
        "responses": _make_responses("A prediction for each row, in order.", prediction),
    }


def _make_csv_operation(model: ServedModel) -> dict[str, Any]:
    features = ", ".join(model.contract.input_names)
    file = {"type": "string", "contentMediaType": "application/octet-stream"}
    content = {
        CSV_TYPE: {"schema": {"type": "string", "minLength": 1}},
        "multipart/form-data": {"schema": _make_object_schema({"file": file})},
    }
    return {
        "summary": "Predict the rows of a table",
        "operationId": "predict_csv",
        "parameters": [USER_ID_PARAMETER],
        "tags": ["predict"],
        "description": (
            f"CSV in UTF-8 with a header. Columns in any order: {features}. Other columns are "
            "passed through."
        ),
        "requestBody": {"required": True, "content": content},
        "responses": _make_responses(
            "The table with the predictions appended as columns.", {"type": "string"}, CSV_TYPE
        ),
    }


def _make_outcomes_operation(max_rows: int) -> dict[str, Any]:
    counts = _make_object_schema({name: {"type": "integer"} for name in ("recorded", "repeated")})
    body = {"schema": _make_single_or_list_schema("Outcome", max_rows)}
    return {
        "summary": "Record actual outcomes",
        "operationId": "outcomes",
        "tags": ["outcomes"],
        "requestBody": {"required": True, "content": {JSON_TYPE: body}},
        "responses": {
            **_make_responses("All outcomes are recorded now or were recorded before.", counts),
            "404": _make_error_response("Unknown prediction id; nothing was recorded."),
            "409": _make_error_response(
                "A different outcome is on record, or in the request; nothing was recorded."
            ),
        },
    }


def _make_inference_schemas() -> dict[str, Any]:
    reference = "#/components/schemas/{model}"
    schema = InferenceRequest.model_json_schema(ref_template=reference)
    return {**schema.pop("$defs"), "InferenceRequest": schema}


def _make_inference_paths(model: ServedModel, book: str) -> dict[str, Any]:
    """Return the paths of the Open Inference Protocol, for this book."""
    text = {"type": "string"}
    integers = {"type": "array", "items": {"type": "integer"}}
    tensor = {"name": text, "datatype": text, "shape": integers}
    outputs = _make_array_schema({**tensor, "data": {"type": "array"}})
    metadata = {
        "name": text,
        "versions": {"type": "array", "items": text},
        "platform": text,
        "inputs": _make_array_schema(tensor),
        "outputs": _make_array_schema(tensor),
    }
    flag = {"type": "boolean"}
    path = f"{PREFIX}/models/{book}"
    reads: dict[str, tuple[str, dict[str, Any]]] = {
        PREFIX: ("The server", {"name": text, "version": text}),
        f"{PREFIX}/health/live": ("Liveness", {"live": flag}),
        f"{PREFIX}/health/ready": ("Readiness", {"ready": flag}),
        path: ("The model, its inputs and outputs", metadata),
        f"{path}/ready": ("Readiness of the model", {"name": text, "ready": flag}),
    }
    infer_paths = {f"{path}/infer": {"post": _make_infer_operation(model, outputs)}}
    return {
        route: {"get": _make_get_operation(*arguments)} for route, arguments in reads.items()
    } | infer_paths


def _make_infer_operation(model: ServedModel, outputs: dict[str, Any]) -> dict[str, Any]:
    text = {"type": "string"}
    body = {
        "schema": {"$ref": "#/components/schemas/InferenceRequest"},
        "example": _make_inference_example(model),
    }
    response = _make_object_schema({"model_name": text, "model_version": text, "outputs": outputs})
    return {
        "summary": "Predict rows, each field as an input of its own",
        "operationId": "infer",
        "tags": ["Open Inference Protocol"],
        "parameters": [USER_ID_PARAMETER],
        "requestBody": {"required": True, "content": {JSON_TYPE: body}},
        "responses": _make_responses("The outputs, each with a value for each row.", response),
    }


def _make_get_operation(summary: str, properties: dict[str, Any]) -> dict[str, Any]:
    schema = _make_object_schema(properties)
    return {
        "summary": summary,
        "tags": ["Open Inference Protocol"],
        "responses": {
            "200": {"description": summary, "content": {JSON_TYPE: {"schema": schema}}},
            "503": {"description": "No version in production."},
        },
    }


def _make_inference_example(model: ServedModel) -> dict[str, Any]:
    return {
        "inputs": [
            {"name": name, "shape": [1], "data": [value]}
            for name, value in model.row_reader.example.items()
        ]
    }


def _make_object_schema(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties)}


def _make_array_schema(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": _make_object_schema(properties)}


def _make_responses(
    description: str, schema: dict[str, Any], content_type: str = JSON_TYPE
) -> dict[str, Any]:
    return {"200": {"description": description, "content": {content_type: {"schema": schema}}}} | {
        status: _make_error_response(text) for status, text in ERROR_DESCRIPTIONS.items()
    }


def _make_error_response(text: str) -> dict[str, Any]:
    return {
        "description": text,
        "content": {JSON_TYPE: {"schema": {"$ref": "#/components/schemas/Error"}}},
    }
