"""Stages that a build could not finish: each gets a page in place of its report."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, Sequence
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

from modelbook import config
from modelbook.redaction import redact
from modelbook.report import failure
from modelbook.stage import files, project, wiring
from modelbook.stage.reproducibility import library_versions

FORCED = {"--force", "-f"}  # a build after a failure need not run what stands


def publish(
    root: Path, book: str, told: Mapping[str, str], states: Mapping[str, str],
    parameters: Mapping[str, Sequence[Mapping[str, Any]]],
) -> None:  # fmt: skip
    """Write the page of each stage that failed.

    Parameters
    ----------
    told : Mapping
        What ended a stage, in words, by stage.
    states : Mapping
        What became of each stage of the build, in order; see `history.keep`.
    parameters : Mapping
        The effective parameters by stage: name, value, origin, meaning.
    """
    for stage, what in told.items():
        try:
            failure.write(_gathered(root, book, stage, what, states, parameters.get(stage, ())))
        except Exception as error:  # a page about a failure must not hide the failure itself, whatever ails the disk
            sys.stderr.write(f"the page about the failure of {stage} could not be written: {redact(str(error))}\n")


def command(root: Path, book: str, words: Sequence[str]) -> str:
    """What a person types to go on after a failure; ``words`` are those of the build that failed, after the program."""
    more = [word for word in words if word not in FORCED] if Path(sys.argv[0]).stem == "ploomber" else []
    return " ".join([project.command(root, book), *map(shlex.quote, more)])


def below(stage: str, tasks: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The stages that wait for a stage, directly or through others."""
    found = {stage}
    for name in TopologicalSorter({name: task["upstream"] for name, task in tasks.items()}).static_order():
        found |= {name} if found & set(tasks[name]["upstream"]) else set()
    return [name for name in config.STAGES if name in found - {stage}]


def _gathered(
    root: Path, book: str, stage: str, what: str, states: Mapping[str, str], parameters: Sequence[Mapping[str, Any]]
) -> failure.Failure:
    tasks = project.tasks(root, book)
    product = tasks[stage]["product"]
    return failure.Failure(
        stage, book, what, report=product["report"], notebook=product["nb"],
        log=project.log(root, book, stage),
        command=command(root, book, sys.argv[1:]), states=states, below=below(stage, tasks),
        stages=wiring.stages(root), last=_receipt(product["receipt"]), facts=_facts(root, tasks, states, parameters),
    )  # fmt: skip


def _receipt(path: Path) -> dict[str, Any]:
    try:
        told = files.read(path)
        return told if isinstance(told, dict) and "word" in told and "facts" in told else {}
    except (OSError, ValueError):
        return {}


def _facts(
    root: Path, tasks: Mapping[str, Any], states: Mapping[str, str], parameters: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    # The table that the stage read, when ingest itself has ended well.
    read = _receipt(tasks["ingest"]["product"]["receipt"]) if states.get("ingest") in ("ran", "kept") else {}
    return {
        "commit": project.commit(root), "fingerprint": read.get("facts", {}).get("fingerprint", ""),
        "parameters": [{**one, "value": config.shown(one["value"])} for one in parameters],
        "versions": library_versions(),
    }  # fmt: skip
