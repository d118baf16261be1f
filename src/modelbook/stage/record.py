"""The record of a run: what ``run.json`` holds, made from receipts, and read again."""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime
from pathlib import Path
from typing import Any

from modelbook import config
from modelbook.tasks.names import HEADLINES, label
from modelbook.tasks.names import told as written

GIVEN = {"parameters", "injected-parameters"}  # tags of cells whose values are compared as parameters, not as code


@dataclass(frozen=True)
class Step:
    """One stage in a run. What it found is there only when it ran, or was up to date."""

    state: str  # ran, kept (was up to date), failed, not run
    message: str = ""  # why it failed
    word: str = ""
    level: str = ""
    seconds: float | None = None
    commit: str = ""  # that the stage itself ran at
    run_id: str = ""  # of MLflow
    version: int | None = None
    numbers: list[dict[str, str]] = field(default_factory=list)
    metrics: dict[str, float] = field(default_factory=dict)
    parameters: list[dict[str, str]] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)
    processor: list[str] = field(default_factory=list)  # vector instructions and BLAS kernels
    digests: dict[str, str] = field(default_factory=dict)  # of folds, libraries and processor
    code: dict[str, str] = field(default_factory=dict)  # digests of the notebook's code and of the modules

    @property
    def stands(self) -> bool:
        """Whether its receipt belongs to this run."""
        return self.state in ("ran", "kept")


@dataclass(frozen=True)
class Run:
    """One build of a book. ``problem`` says why it cannot be read; then only its number is known."""

    number: int
    problem: str = ""
    started: str = ""  # ISO, UTC
    seconds: float = 0
    ended: str = ""  # ok, failed, stopped
    command: str = ""
    environment: str = ""  # the env file's name
    commit: str = ""
    fingerprint: str = ""  # of the table
    rows: int | None = None  # of the table
    stages: dict[str, Step] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain JSON."""
        return asdict(self)

    def that(self, state: str) -> list[str]:
        """Names of the stages in a state."""
        return [name for name, step in self.stages.items() if step.state == state]

    @property
    def headline(self) -> list[str]:
        """What came out, in a few words: the holdout's first metric, the gate's decision, what monitoring says.

        Where a run came to none of these: why it failed, or its last stage's word.
        """
        found = {name: step for name, step in self.stages.items() if step.stands}
        scores = [(name, step.metrics[name]) for step in found.values() for name in HEADLINES if name in step.metrics]
        told = [f"{label(scores[-1][0])} {written(scores[-1][1])}"] if scores else []
        told += [found[name].word for name in ("deploy", "monitor") if name in found]
        reasons = [step.message for step in self.stages.values() if step.message]
        return told or reasons[:1] or [f"{name}: {step.word}" for name, step in list(found.items())[-1:]]


def read(path: Path, number: int) -> Run:
    """A run from its ``run.json``; one that cannot be read says so in its ``problem``."""
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        datetime.fromisoformat(told["started"])
        stages = {name: Step(**_known(Step, step)) for name, step in told["stages"].items()}
        return Run(**{**_known(Run, told), "number": number, "seconds": float(told["seconds"]), "stages": stages})
    except OSError as error:
        return Run(number, f"run.json: {error.strerror}")
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        return Run(number, f"run.json is no record of a run ({type(error).__name__}: {error})")


def step(
    state: str, receipt: Mapping[str, Any], given: Sequence[Mapping[str, Any]], code: Mapping[str, str]
) -> dict[str, Any]:
    """What is kept of a stage; ``given`` are its parameters when it left no receipt in this run."""
    state, _, message = state.partition(": ")
    kept = {"state": state, "message": " ".join(message.split()), "code": dict(code)}
    if not Step(state).stands:
        return kept | {"parameters": [_parameter(told) for told in given]}
    facts, details = receipt.get("facts", {}), receipt.get("details", {})
    return kept | {
        "word": receipt.get("word", ""), "level": receipt.get("level", ""), "seconds": facts.get("seconds"),
        "commit": facts.get("commit", ""), "run_id": facts.get("run_id", ""),
        "version": details.get("version", details.get("candidate")), "numbers": receipt.get("numbers", []),
        "metrics": {name: value for name, value in details.get("metrics", {}).items() if value is not None},
        "parameters": [_parameter(told) for told in facts.get("parameters", given)],
        "versions": facts.get("versions", {}),
        "processor": facts.get("processor", []),
        "digests": facts.get("digests", {}),
    }  # fmt: skip


def data(steps: Mapping[str, Mapping[str, Any]], receipts: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Fingerprint and rows of the table, as the stages of this run saw it."""
    stood = [receipts.get(name, {}) for name, step in steps.items() if Step(step["state"]).stands]
    prints = [receipt.get("facts", {}).get("fingerprint", "") for receipt in stood]
    numbers = steps.get("ingest", {}).get("numbers", [])
    rows = [told["value"].replace(",", "") for told in numbers if told["name"] == "rows"]
    return {
        "fingerprint": next(filter(None, prints), ""),
        "rows": int(rows[0]) if rows and rows[0].isdecimal() else None,
    }


def code(executed: Path | None) -> str:
    """Digest of a notebook's code as it was executed: the source may have been edited since."""
    try:
        cells = json.loads(executed.read_text(encoding="utf-8"))["cells"] if executed else []
    except (OSError, ValueError, KeyError):
        return ""
    own = [cell for cell in cells if cell["cell_type"] == "code" and not GIVEN & set(cell["metadata"].get("tags", []))]
    return hashlib.sha256("\0".join("".join(cell["source"]) for cell in own).encode()).hexdigest() if own else ""


def typed(command: Sequence[str]) -> str:
    """A command in one line, without the program's folder."""
    return shlex.join([Path(command[0]).name, *command[1:]]) if command else ""


def _parameter(told: Mapping[str, Any]) -> dict[str, str]:
    return {"name": told["name"], "value": config.shown(told["value"]), "origin": told.get("origin", "")}


def _known(kind: type, values: Mapping[str, Any]) -> dict[str, Any]:
    """What this version knows of a record; a later one may hold more."""
    return {name: values[name] for name in (f.name for f in fields(kind)) if name in values}
