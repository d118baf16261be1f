"""Resolve parameter values from their sources, in order of precedence.

The command line comes first, then environment variables (``MODELBOOK_FOLDS=3``), the values of the
last retrain, and the book's env file and ``pipeline.yaml``. In a run by hand, a value edited in the
parameters cell, or given to Papermill, takes the place of the command line.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from modelbook import config
from modelbook.errors import ModelbookError, ParameterError
from modelbook.redaction import redact
from modelbook.stage import project, retrain_overrides

PREFIX = "MODELBOOK_"
# Variables with the prefix that are not parameters.
NON_PARAMETER_VARIABLES = {
    "ROOT", "BY", "WHY", "PROGRESS", "COMMAND_LINE", "BROWSER", "KERNEL_TEMPLATE",
    "KERNEL_TEMPLATES", "BUILD_TOKEN", "COMMIT", "SERVING_BOOK", "SERVING_FROM", "WEBHOOK",
    "WORKERS",
}  # fmt: skip
SETTINGS_PREFIXES = (PREFIX + "SERVE_", PREFIX + "STORE_")  # validated by service and store
# Passes the names that are set on the build's command line to its kernels.
COMMAND_LINE_VARIABLE = "MODELBOOK_COMMAND_LINE"
PARAMETERS_CELL, COMMAND_LINE, PIPELINE_FILE = "parameters cell", "command line", "pipeline.yaml"
LAST_RETRAIN = "the last retrain"

Values = dict[str, Any]
Origins = dict[str, str]


def resolve_for_build(
    root: Path, stage: str, pipeline_values: Mapping[str, Any], env_file: Path | None = None
) -> tuple[Values, Origins]:
    """Resolve a stage's values and origins in a build; ``pipeline_values`` come from Ploomber."""
    env_file = env_file or project.find_env_file(root)
    env_values = project.read_parameters(root, env_file).get(stage, {})
    pipeline_params = project.read_pipeline_params(root).get(stage, {})
    command_line_names = _list_command_line_names()
    origins = {}
    for name, value in pipeline_values.items():
        placeholder = project.parse_placeholder(pipeline_params.get(name))
        if (placeholder in command_line_names) or (
            name in env_values and not _is_same_as_text(value, env_values[name])
        ):
            origins[name] = COMMAND_LINE
        else:
            origins[name] = f"env file {env_file.name}" if placeholder else PIPELINE_FILE
    values = dict(pipeline_values)
    for name, value in retrain_overrides.load_active_overrides(
        root, str(env_values.get("book", pipeline_values.get("book"))), env_values
    ).items():
        if name in values and origins[name] != COMMAND_LINE:
            values[name] = value
            origins[name] = LAST_RETRAIN
    return _apply_environment(stage, values, origins)


def resolve_by_hand(
    root: Path, stage: str, cell_values: Mapping[str, Any], injected: set[str]
) -> tuple[Values, Origins]:
    """Resolve values and origins outside a build: edits, else the values of the chosen book.

    Parameters
    ----------
    cell_values : Mapping
        Values of the parameters cells by name.
    injected : set of str
        Names set on Papermill's command line.

    Raises
    ------
    StageError
        If no env file names the book.
    """
    fields = config.STAGES[stage].model_fields
    env_file = project.find_env_file(root, cell_values.get("book", fields["book"].default))
    values, origins = resolve_for_build(
        root, stage, project.read_parameters(root, env_file).get(stage, {}), env_file
    )
    for name, value in cell_values.items():
        if name in injected:
            values[name] = value
            origins[name] = COMMAND_LINE
        elif name not in fields or not _is_same_as_text(value, fields[name].default):
            values[name] = value
            origins[name] = PARAMETERS_CELL
    return values, origins


def read_environment(stage: str) -> Values:
    """Return the stage's parameters that environment variables set, as text.

    Raises
    ------
    ParameterError
        If a variable with the prefix ``MODELBOOK_`` names no parameter of any stage.
    """
    parameter_names = {
        name.upper() for model in config.STAGES.values() for name in model.model_fields
    } - {"BOOK"}
    for variable, value in sorted(os.environ.items()):
        if variable.startswith(SETTINGS_PREFIXES):
            continue
        if (
            variable.startswith(PREFIX)
            and variable.removeprefix(PREFIX) not in parameter_names | NON_PARAMETER_VARIABLES
        ):
            raise ParameterError(
                f"the environment sets {variable} = {redact(repr(value))}, which is not a "
                "parameter",
                expected=config.suggest_name(
                    variable.removeprefix(PREFIX).lower(),
                    [name.lower() for name in parameter_names],
                ),
                next=_suggest_fix(variable),
            )
    names = set(config.STAGES[stage].model_fields) - {"book"}
    return {
        name: os.environ[PREFIX + name.upper()]
        for name in names
        if PREFIX + name.upper() in os.environ
    }


def export_command_line() -> dict[str, str]:
    """Return the environment variables that pass the command line's names to kernels."""
    return {COMMAND_LINE_VARIABLE: " ".join(sorted(_list_command_line_names()))}


def find_build_differences(
    root: Path, stage: str, params: config.Parameters
) -> list[dict[str, Any]]:
    """Return the parameters that have another value in a build: ``name, value, origin``."""
    try:
        env_file = project.find_env_file(root, params.book)
        values, origins = resolve_for_build(
            root, stage, project.read_parameters(root, env_file)[stage], env_file
        )
        build_values = config.validate(stage, values).model_dump()
    except (ModelbookError, KeyError):
        return []  # no env file or no pipeline entry: there is no build
    current_values = params.model_dump()
    return [
        {"name": name, "value": value, "origin": origins[name]}
        for name, value in build_values.items()
        if name in origins and current_values[name] != value
    ]


def _apply_environment(stage: str, values: Values, origins: Origins) -> tuple[Values, Origins]:
    for name, value in read_environment(stage).items():
        if origins.get(name) != COMMAND_LINE:
            values[name] = value
            origins[name] = f"environment {PREFIX}{name.upper()}"
    return values, origins


def _list_command_line_names() -> set[str]:
    matches = [re.fullmatch(r"--env--(\w+)(=.*)?", word, re.S) for word in sys.argv]
    return {match[1] for match in matches if match} | set(
        os.environ.get(COMMAND_LINE_VARIABLE, "").split()
    )


def _is_same_as_text(first: Any, second: Any) -> bool:
    """Whether two values are equal as text; Ploomber and Papermill pass some values as text."""
    return config.format_value(first) == config.format_value(second)


def _suggest_fix(variable: str) -> str:
    if variable == f"{PREFIX}BOOK":
        return "choose a book by its env file: PLOOMBER_ENV_FILENAME=env.<book>.yaml"
    return f"use the name of a parameter in docs/parameters.md in capitals, or unset {variable}"
