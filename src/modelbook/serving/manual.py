"""The manual: an OpenAPI document made from the version in service, so that it describes this model and no other."""

from __future__ import annotations

from typing import Any

from modelbook.serving.loaded import Loaded

JSON, CSV = "application/json", "text/csv"
WRONG = {
    "type": "object", "title": "Refusal", "required": ["error", "request_id"],
    "properties": {
        "error": {"type": "string", "description": "what was wrong, with its value"},
        "expected": {"type": "string", "description": "what would have been right"},
        "rejected": {
            "type": "array",
            "items": {
                "type": "object", "required": ["row", "field", "value", "expected"],
                "properties": {
                    "row": {"type": ["integer", "null"], "description": "counted from 0; null for a single object"},
                    "field": {"type": "string"}, "value": {"type": "string"}, "expected": {"type": "string"},
                },
            },
        },
        "request_id": {"type": "string"},
    },
}  # fmt: skip
REFUSED = {
    "400": "The body cannot be read.", "401": "No API key, or one that is not known.",
    "403": "The key has not the scope.", "408": "The body took too long.",
    "413": "Too many bytes or rows.", "415": "Another content type.", "422": "Values break the contract.",
    "429": "Too many requests.", "503": "No version in service, too busy, or the journal is down.",
}  # fmt: skip
USER = {
    "name": "X-User-Id", "in": "header", "required": False, "schema": {"type": "string", "maxLength": 200},
    "description": "Who is asked about: the same user gets the same variant.",
}  # fmt: skip


def complete(document: dict[str, Any], one: Loaded, rows: int) -> dict[str, Any]:
    """FastAPI's document with the paths that are made from the version in service."""
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    schemas |= {"Row": one.rows.schema(), "Answer": _answer(one), "Outcome": one.outcomes.schema(), "Refusal": WRONG}
    document["components"]["securitySchemes"] = {
        "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"}, "bearer": {"type": "http", "scheme": "bearer"},
    }  # fmt: skip
    made = {"/predict": _predict(one, rows), "/predict/csv": _csv(one), "/outcomes": _outcomes(rows)}
    document["paths"] = {path: {"post": told} for path, told in made.items()} | document["paths"]
    for path in document["paths"].values():
        for method in path.values():
            if "security" not in method:
                method["security"] = [{}, {"key": []}, {"bearer": []}]
    document["info"] |= {
        "title": one.contract.title, "version": f"model version {one.number}",
        "description": f"**{one.contract.question}** Answered by version {one.number} of `{one.name}`"
        f" ({one.tags.get('model', one.scorer.name)}). Target: {one.contract.columns[one.contract.target].meaning}.",
    }  # fmt: skip
    return document


def _answer(one: Loaded) -> dict[str, Any]:
    answers = one.scorer.answering
    prediction = {"enum": list(answers.classes)} if answers.classes else {"type": "number"}
    kinds: dict[str, Any] = {
        "id": {"type": "string", "description": "send it with the outcome, later"}, "prediction": prediction,
        "model_version": {"type": "integer"}, "variant": {"enum": ["champion", "challenger"]},
    }  # fmt: skip
    if answers.classes:
        share = {"type": "number", "minimum": 0, "maximum": 1}
        kinds["probabilities"] = {
            "type": "object", "properties": dict.fromkeys(one.classes, share), "required": one.classes,
        }  # fmt: skip
    if answers.threshold is not None:
        kinds["prediction"] = prediction | {
            "description": f"{one.classes[1]} from a probability of {answers.threshold:g} on"
        }
    return {"type": "object", "title": "Answer", "properties": kinds, "required": list(kinds)}


def _one_or_many(name: str, rows: int) -> dict[str, Any]:
    one = {"$ref": f"#/components/schemas/{name}"}
    about = {"title": f"List of {name.lower()}s", "description": f"at most {rows:,}; more are too many (413)"}
    return {"oneOf": [one, {"type": "array", "items": one, **about}]}


def _predict(one: Loaded, rows: int) -> dict[str, Any]:
    return {
        "summary": "Answer one row, or a list of rows", "operationId": "predict", "tags": ["predict"],
        "parameters": [USER],
        "requestBody": {
            "required": True,
            "content": {JSON: {"schema": _one_or_many("Row", rows), "example": one.rows.example}},
        },
        "responses": _responses("An answer for each row, in order.", {JSON: {"schema": _one_or_many("Answer", rows)}}),
    }  # fmt: skip


def _csv(one: Loaded) -> dict[str, Any]:
    features = ", ".join(one.contract.inputs_)
    file = {"type": "string", "contentMediaType": "application/octet-stream"}
    upload = {"type": "object", "properties": {"file": file}, "required": ["file"]}
    return {
        "summary": "Answer a table", "operationId": "predict_csv", "parameters": [USER], "tags": ["predict"],
        "description": f"CSV in UTF-8 with a header. Columns in any order: {features}. Others are carried along.",
        "requestBody": {"required": True, "content": {CSV: {"schema": {"type": "string"}},
                                                      "multipart/form-data": {"schema": upload}}},
        "responses": _responses("The table with the answers behind it.", {CSV: {"schema": {"type": "string"}}}),
    }  # fmt: skip


def _outcomes(rows: int) -> dict[str, Any]:
    counts = {"type": "object", "required": ["recorded", "repeated"],
              "properties": {"recorded": {"type": "integer"}, "repeated": {"type": "integer"}}}  # fmt: skip
    told = _responses("All were recorded, or known before.", {JSON: {"schema": counts}})
    for status, text in (("404", "An id that no kept prediction has; nothing was recorded."),
                         ("409", "Another outcome was recorded before; nothing was recorded.")):  # fmt: skip
        told[status] = _refusal(text)
    return {
        "summary": "Tell what really happened", "operationId": "outcomes", "tags": ["outcomes"],
        "requestBody": {"required": True, "content": {JSON: {"schema": _one_or_many("Outcome", rows)}}},
        "responses": told,
    }  # fmt: skip


def _responses(text: str, content: dict[str, Any]) -> dict[str, Any]:
    return {"200": {"description": text, "content": content}} | {k: _refusal(text) for k, text in REFUSED.items()}


def _refusal(text: str) -> dict[str, Any]:
    return {"description": text, "content": {JSON: {"schema": {"$ref": "#/components/schemas/Refusal"}}}}
