"""Where a parameter's value comes from, and which one holds when several places name it.

The command line comes first, then the environment (``MODELBOOK_FOLDS=3``), then what a retrain has set, then the env
file and ``pipeline.yaml``, then the default. By hand, a value edited in the parameters cell stands where the command
line does.
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
from modelbook.stage import project, retrained

PREFIX = "MODELBOOK_"
# Ours, and no parameters.
SETTINGS = {"ROOT", "BY", "WHY", "PROGRESS", "TOLD", "BROWSER", "SERVING_BOOK", "SERVING_FROM", "WEBHOOK"}
OTHERS = (PREFIX + "SERVE_", PREFIX + "STORE_")  # settings of service and store, which check them themselves
TOLD = "MODELBOOK_TOLD"  # names that the build's command line gives, handed on to its kernels
DEFAULT, CELL, TYPED, PIPELINE = "default", "parameters cell", "command line", "pipeline.yaml"
RETRAINED = "the last retrain"
FIRST = {TYPED, CELL}  # what the environment does not outdo

Values = dict[str, Any]
Origins = dict[str, str]


def in_pipeline(
    root: Path, stage: str, given: Mapping[str, Any], environment: Path | None = None
) -> tuple[Values, Origins]:
    """Values that hold in a build with an env file, and their origins; ``given`` is what Ploomber hands on."""
    environment = environment or project.environment(root)
    plain = project.parameters(root, environment).get(stage, {})
    written = project.written(root).get(stage, {})
    typed = _typed()
    origins = {}
    for name, value in given.items():
        filled = project.placeholder(written.get(name))
        if (filled in typed) or (name in plain and not _same(value, plain[name])):
            origins[name] = TYPED
        else:
            origins[name] = f"env file {environment.name}" if filled else PIPELINE
    values = dict(given)
    for name, value in retrained.held(root, str(plain.get("book", given.get("book"))), plain).items():
        if name in values and origins[name] != TYPED:
            values[name], origins[name] = value, RETRAINED
    return _outdone(stage, values, origins)


def alone(stage: str, given: Mapping[str, Any], injected: set[str]) -> tuple[Values, Origins]:
    """Values that hold without a build; ``injected`` are the names that Papermill was given."""
    fields = config.STAGES[stage].model_fields
    origins = {}
    for name, value in given.items():
        edited = name not in fields or not _same(value, fields[name].default)
        origins[name] = TYPED if name in injected else CELL if edited else DEFAULT
    return _outdone(stage, dict(given), origins)


def named(stage: str) -> Values:
    """The stage's parameters that the environment names, as text.

    Raises
    ------
    ParameterError
        When a variable that begins with ``MODELBOOK_`` names no parameter of any stage.
    """
    known = {name.upper() for model in config.STAGES.values() for name in model.model_fields} - {"BOOK"}
    for variable, value in sorted(os.environ.items()):
        if variable.startswith(OTHERS):
            continue
        if variable.startswith(PREFIX) and variable.removeprefix(PREFIX) not in known | SETTINGS:
            raise ParameterError(
                f"the environment sets {variable} = {redact(repr(value))}, which names no parameter",
                expected=config.nearest(variable.removeprefix(PREFIX).lower(), [name.lower() for name in known]),
                next=_how(variable),
            )
    names = set(config.STAGES[stage].model_fields) - {"book"}
    return {name: os.environ[PREFIX + name.upper()] for name in names if PREFIX + name.upper() in os.environ}


def command_line() -> dict[str, str]:
    """What a build's kernels must know of its command line, for their environment."""
    return {TOLD: " ".join(sorted(_typed()))}


def differences(root: Path, stage: str, params: config.Parameters) -> list[dict[str, Any]]:
    """Parameters to which a build of the book would give another value than ``params`` has: ``name, value, origin``."""
    try:
        environment = project.environment(root, params.book)
        values, origins = in_pipeline(root, stage, project.parameters(root, environment)[stage], environment)
        built = config.validate(stage, values).model_dump()
    except (ModelbookError, KeyError):
        return []  # a book without an env file, or a stage without an entry, is never built
    now = params.model_dump()
    return [{"name": n, "value": v, "origin": origins[n]} for n, v in built.items() if n in origins and now[n] != v]


def _outdone(stage: str, values: Values, origins: Origins) -> tuple[Values, Origins]:
    for name, value in named(stage).items():
        if origins.get(name) not in FIRST:
            values[name], origins[name] = value, f"environment {PREFIX}{name.upper()}"
    return values, origins


def _typed() -> set[str]:
    words = [re.fullmatch(r"--env--(\w+)(=.*)?", word, re.S) for word in sys.argv]
    return {found[1] for found in words if found} | set(os.environ.get(TOLD, "").split())


def _same(one: Any, other: Any) -> bool:
    """Whether two values are one when written; Ploomber and Papermill hand some on as words."""
    return config.shown(one) == config.shown(other)


def _how(variable: str) -> str:
    if variable == f"{PREFIX}BOOK":
        return "a book is chosen by its env file: PLOOMBER_ENV_FILENAME=env.<book>.yaml"
    return f"name a parameter of docs/parameters.md in capitals, or unset {variable}"
