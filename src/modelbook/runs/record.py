"""Run records: build the content of ``run.json`` from receipts, and read it."""

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
from modelbook.config.renamed_keys import RENAMED_LEVELS, RENAMED_METRICS, RENAMED_PARAMETERS
from modelbook.formatting import KeyNumber
from modelbook.tasks.metric_format import HEADLINE_METRICS, format_metric, metric_label

RENAMED_FIELDS = {"word": "verdict"}  # of records of 1.0.0, which never change
# Cells with these tags are compared as parameters, not as code.
PARAMETER_TAGS = {"parameters", "injected-parameters"}


@dataclass(frozen=True)
class StageRecord:
    """One stage of a run; it has a result only if it ran or was up to date."""

    state: str  # ran, kept (was up to date), failed, not run
    message: str = ""  # reason of a failure
    verdict: str = ""
    level: str = ""
    seconds: float | None = None
    commit: str = ""  # at which the stage ran
    run_id: str = ""  # MLflow run
    version: int | None = None
    numbers: list[KeyNumber] = field(default_factory=list)
    metrics: dict[str, float] = field(default_factory=dict)
    paired: dict[str, Any] = field(default_factory=dict)  # deploy's comparison with the champion
    parameters: list[dict[str, str]] = field(default_factory=list)
    library_versions: dict[str, str] = field(default_factory=dict)
    processor: list[str] = field(default_factory=list)  # vector instructions and BLAS kernels
    digests: dict[str, str] = field(default_factory=dict)  # folds, libraries and processor
    code_digests: dict[str, str] = field(default_factory=dict)  # notebook and modules

    @property
    def has_result(self) -> bool:
        """Whether its receipt belongs to this run."""
        return self.state in ("ran", "kept")


@dataclass(frozen=True)
class BuildRun:
    """One build of a book; if ``read_error`` is set, only its number is known."""

    number: int
    read_error: str = ""
    started: str = ""  # ISO, UTC
    seconds: float = 0
    status: str = ""  # ok, failed, stopped
    command: str = ""
    env_file: str = ""  # the env file's name
    commit: str = ""
    fingerprint: str = ""  # fingerprint of the table
    rows: int | None = None  # rows of the table
    stages: dict[str, StageRecord] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return the run as plain JSON."""
        return asdict(self)

    def stages_in_state(self, state: str) -> list[str]:
        """Return the names of the stages in a state."""
        return [name for name, stage_run in self.stages.items() if stage_run.state == state]

    @property
    def headline(self) -> list[str]:
        """Result in a few words: the headline metric, the gate's decision, monitoring's verdict.

        If the run has none of these: the reason of its failure, or the verdict of its last stage.
        """
        finished = {
            name: stage_run for name, stage_run in self.stages.items() if stage_run.has_result
        }
        scores = [
            (name, stage_run.metrics[name])
            for stage_run in finished.values()
            for name in HEADLINE_METRICS
            if name in stage_run.metrics
        ]
        highlights = (
            [f"{metric_label(scores[-1][0])} {format_metric(scores[-1][1])}"] if scores else []
        )
        highlights += [finished[name].verdict for name in ("deploy", "monitor") if name in finished]
        reasons = [stage_run.message for stage_run in self.stages.values() if stage_run.message]
        return (
            highlights
            or reasons[:1]
            or [f"{name}: {stage_run.verdict}" for name, stage_run in list(finished.items())[-1:]]
        )


def read_run(path: Path, number: int) -> BuildRun:
    """Read a run from its ``run.json``; ``read_error`` is set if that fails."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        datetime.fromisoformat(content["started"])
        stages = {
            name: StageRecord(**_select_fields(StageRecord, stage_run))
            for name, stage_run in content["stages"].items()
        }
        return BuildRun(
            **{
                **_select_fields(BuildRun, content),
                "number": number,
                "seconds": float(content["seconds"]),
                "stages": stages,
            }
        )
    except OSError as error:
        return BuildRun(number, f"run.json: {error.strerror}")
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        return BuildRun(
            number, f"run.json is not a valid run record ({type(error).__name__}: {error})"
        )


def describe_stage(
    state: str,
    receipt: Mapping[str, Any],
    *,
    message: str,
    parameters: Sequence[Mapping[str, Any]],
    code_digests: dict[str, str],
) -> dict[str, Any]:
    """Return a stage's entry in ``run.json``; ``parameters`` apply where it has no receipt."""
    stage_record = {
        "state": state,
        "message": " ".join(message.split()),
        "code_digests": code_digests,
    }
    if not StageRecord(state).has_result:
        return stage_record | {
            "parameters": [_describe_parameter(parameter) for parameter in parameters]
        }
    facts, details = receipt.get("facts", {}), receipt.get("details", {})
    return stage_record | {
        "verdict": receipt.get("status", ""),
        "level": receipt.get("level", ""),
        "seconds": facts.get("seconds"),
        "commit": facts.get("commit", ""),
        "run_id": facts.get("run_id", ""),
        "version": details.get("version", details.get("candidate")),
        "numbers": receipt.get("numbers", []),
        "metrics": {
            name: value for name, value in details.get("metrics", {}).items() if value is not None
        },
        "paired": details.get("paired", {}),
        "parameters": [
            _describe_parameter(parameter) for parameter in facts.get("parameters", parameters)
        ],
        "library_versions": facts.get("versions", {}),
        "processor": facts.get("processor", []),
        "digests": facts.get("digests", {}),
    }


def describe_table(
    stage_runs: Mapping[str, Mapping[str, Any]], receipts: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """Return fingerprint and row count of the table in this run."""
    stage_receipts = [
        receipts.get(name, {})
        for name, stage_run in stage_runs.items()
        if StageRecord(stage_run["state"]).has_result
    ]
    fingerprints = [receipt.get("facts", {}).get("fingerprint", "") for receipt in stage_receipts]
    numbers = stage_runs.get("ingest", {}).get("numbers", [])
    return {
        "fingerprint": next(filter(None, fingerprints), ""),
        "rows": next((number["value"] for number in numbers if number["name"] == "rows"), None),
    }


def hash_notebook_code(executed: Path | None) -> str:
    """Hash the code of an executed notebook; its source may have been edited since."""
    try:
        cells = json.loads(executed.read_text(encoding="utf-8"))["cells"] if executed else []
    except (OSError, ValueError, KeyError):
        return ""
    sources = [
        "".join(cell["source"])
        for cell in cells
        if cell["cell_type"] == "code"
        and not PARAMETER_TAGS & set(cell["metadata"].get("tags", []))
    ]
    return hashlib.sha256("\0".join(sources).encode()).hexdigest() if sources else ""


def format_command(command: Sequence[str]) -> str:
    """Format a command as one line, without the program's folder."""
    return shlex.join([Path(command[0]).name, *command[1:]]) if command else ""


def _describe_parameter(parameter: Mapping[str, Any]) -> dict[str, str]:
    return {
        "name": parameter["name"],
        "value": config.format_value(parameter["value"]),
        "origin": parameter.get("origin", ""),
    }


def _select_fields(kind: type, record: Mapping[str, Any]) -> dict[str, Any]:
    """Select the known fields of a record; later versions may have added others."""
    values = {RENAMED_FIELDS.get(name, name): value for name, value in record.items()}
    if "metrics" in values:
        values["metrics"] = {
            RENAMED_METRICS.get(name, name): value for name, value in values["metrics"].items()
        }
    if "level" in values:
        values["level"] = RENAMED_LEVELS.get(values["level"], values["level"])
    if "parameters" in values:
        values["parameters"] = [
            parameter | {"name": RENAMED_PARAMETERS.get(parameter["name"], parameter["name"])}
            for parameter in values["parameters"]
        ]
    return {name: values[name] for name in (f.name for f in fields(kind)) if name in values}
