"""Typed, bounded parameters, one pydantic model per stage.

Unknown, mistyped and out-of-range parameters raise an error.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from modelbook.config.stages import (
    STAGES,
    Compare,
    Deploy,
    Explore,
    Finalize,
    Ingest,
    Monitor,
    Parameters,
)
from modelbook.config.values import (
    AUTO,
    CLASS_NAME,
    FAMILIES,
    FAMILY_DISTRIBUTIONS,
    FAMILY_PACKAGES,
    NONE,
    suggest_name,
)
from modelbook.errors import ParameterError
from modelbook.redaction import describe_problem, redact

__all__ = [
    "AUTO", "CLASS_NAME", "FAMILIES", "FAMILY_DISTRIBUTIONS", "FAMILY_PACKAGES", "NONE", "STAGES",
    "Compare", "Deploy", "Explore", "Finalize", "Ingest", "Monitor", "Parameters",
    "describe_parameters", "format_value", "stage_stem", "suggest_name", "validate",
]  # fmt: skip

PARAMETER_PLACES = "env.yaml, pipeline.yaml, command line, environment or parameters cell"


def stage_stem(stage: str) -> str:
    """Return the file stem of a stage's notebook, task, report and docs page: ``03_compare``."""
    return f"{list(STAGES).index(stage) + 1:02d}_{stage}"


def validate(
    stage: str, values: Mapping[str, Any], origins: Mapping[str, str] | None = None
) -> Parameters:
    """Validate a stage's parameters.

    Parameters
    ----------
    origins : mapping, optional
        Where each value comes from, for the error message.

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
    problem_texts = [_explain_problem(model, problem, origins or {}) for problem in problems]
    places = dict.fromkeys(
        (origins or {}).get(str(problem["loc"][0]), PARAMETER_PLACES) for problem in problems
    )
    wrong_names = dict.fromkeys(
        name for problem in problems if (name := str(problem["loc"][0])) in model.model_fields
    )
    raise ParameterError(
        f"stage {stage!r}: " + "; ".join(problem_texts),
        expected="; ".join(
            f"{name}: {model.model_fields[name].description or name}" for name in wrong_names
        ),
        next=f"correct it where it is set: {', '.join(places)}",
    )


def _explain_problem(model: type[Parameters], problem: Any, origins: Mapping[str, str]) -> str:
    name = str(problem["loc"][0])
    source = f" ({origins[name]})" if name in origins else ""
    if problem["type"] == "extra_forbidden":
        suggestion = suggest_name(name, model.model_fields)
        return (
            f"unknown parameter {name!r} (= {redact(repr(problem['input']))}){source}; {suggestion}"
        )
    return describe_problem({**problem, "loc": (name,)}, source)


def format_value(value: Any) -> str:
    """Format a value as in an env file: a list as words, 300.0 as 300, None as none."""
    if value is None:
        return NONE
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def describe_parameters(parameters: Parameters, origins: Mapping[str, str]) -> list[dict[str, Any]]:
    """List each parameter with its value, meaning and origin, in order of declaration."""
    return [
        {
            "name": name,
            "value": getattr(parameters, name),
            "origin": origins.get(name, "default"),
            "meaning": field.description or "",
        }
        for name, field in type(parameters).model_fields.items()
    ]
