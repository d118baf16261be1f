"""Typed, bounded parameters: one model per stage. Unknown, mistyped and out-of-range ones are fatal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from modelbook.config.stages import STAGES, Compare, Deploy, Explore, Finalize, Ingest, Monitor, Parameters
from modelbook.config.values import AUTO, FAMILIES, KNOWN, NONE, nearest
from modelbook.errors import ParameterError
from modelbook.redaction import redact

__all__ = [
    "AUTO",
    "FAMILIES",
    "KNOWN",
    "NONE",
    "STAGES",
    "Compare",
    "Deploy",
    "Explore",
    "Finalize",
    "Ingest",
    "Monitor",
    "Parameters",
    "describe",
    "nearest",
    "shown",
    "stem",
    "validate",
]

ANYWHERE = "env.yaml, pipeline.yaml, command line, environment or parameters cell"


def stem(stage: str) -> str:
    """The one stem of a stage's notebook, task, report and docs page: ``03_compare``."""
    return f"{list(STAGES).index(stage) + 1:02d}_{stage}"


def validate(stage: str, values: Mapping[str, Any], origins: Mapping[str, str] | None = None) -> Parameters:
    """Check a stage's parameters; ``origins`` tells where each value comes from, for the message.

    Raises
    ------
    ParameterError
        Listing every unknown, mistyped or out-of-range parameter with its value.
    """
    model = STAGES[stage]
    try:
        return model(**values)
    except ValidationError as error:
        problems = error.errors()
    wrong = [_explain(model, problem, origins or {}) for problem in problems]
    places = dict.fromkeys((origins or {}).get(str(problem["loc"][0]), ANYWHERE) for problem in problems)
    raise ParameterError(
        f"stage {stage!r}: " + "; ".join(wrong),
        expected=_expectations(model, [name for name in values if name in model.model_fields], wrong),
        next=f"correct it where it is set: {', '.join(places)}",
    )


def _explain(model: type[Parameters], problem: Any, origins: Mapping[str, str]) -> str:
    name = str(problem["loc"][0])
    source = f" ({origins[name]})" if name in origins else ""
    if problem["type"] == "extra_forbidden":
        known = nearest(name, model.model_fields)
        return f"unknown parameter {name!r} (= {redact(repr(problem['input']))}){source}; {known}"
    return f"{name} = {redact(repr(problem['input']))}{source}: {problem['msg'].removeprefix('Value error, ')}"


def _expectations(model: type[Parameters], names: list[str], wrong: list[str]) -> str:
    told = (n for n in names if any(text.startswith(f"{n} =") for text in wrong))
    return "; ".join(f"{name}: {model.model_fields[name].description or name}" for name in told)


def shown(value: Any) -> str:
    """A value as people write it: a list as words, 300.0 as 300, None as none."""
    if value is None:
        return NONE
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def describe(parameters: Parameters, origins: Mapping[str, str]) -> list[dict[str, Any]]:
    """Each parameter with its value, meaning and where the value comes from, in order of declaration."""
    return [
        {
            "name": name,
            "value": getattr(parameters, name),
            "origin": origins.get(name, "default"),
            "meaning": field.description or "",
        }
        for name, field in type(parameters).model_fields.items()
    ]
