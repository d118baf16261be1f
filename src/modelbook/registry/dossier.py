"""The dossier of a version: the evidence kept with it, as plain data that a model card is made of."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pandas as pd

from modelbook import tasks
from modelbook.contract import Contract
from modelbook.dataset.rule import RULES
from modelbook.registry.versions import Version
from modelbook.tasks.base import Task

if TYPE_CHECKING:
    from modelbook.gate import Decision  # finalize makes a dossier too, and a changed gate is no reason to fit again


def gather(version: Version, approval: dict[str, Any] | None = None) -> dict[str, Any]:
    """Everything that a model card tells, by the names of ``report.card``; what was not kept is empty.

    Parameters
    ----------
    version : Version
        The version that the card is about.
    approval : dict, optional
        What the gate said of it, from ``approval``; none before it was asked.
    """
    contract, kept = version.contract, version.metrics
    task, spread = tasks.of(contract), kept.get("importance_sd", {})
    slices, gaps = _labelled(contract, kept.get("slices", [])), _labelled(contract, kept.get("gaps", []))
    return {
        "model": version.name,
        "task": task.name,
        "version": version.number,
        "tags": version.tags,
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "table": _table(contract),
        "target": _named(contract, contract.target),
        "entity": _named(contract, contract.entity) if contract.entity else {"label": "row"},
        "time": _named(contract, contract.time) if contract.time else {},
        "features": [_named(contract, name) for name in contract.inputs_],
        "sensitive": [_named(contract, name) for name in contract.named("sensitive")],
        "dropped": [{**_named(contract, name), "reason": contract.columns[name].reason or ""}
                    for name in contract.named("dropped")],
        "split": RULES[kept.get("split", "group")].promise(contract),
        "metrics": {name: kept.get(name, default) for name, default in _KEPT.items()},
        "importance": [{"feature": contract.label(name), "mean": mean, "sd": spread.get(name)}
                       for name, mean in _sorted(kept)],
        "slices": slices,
        "gaps": gaps,
        "words": _words(task, kept, slices, gaps),
        "slicing": [contract.label(name) for name in contract.slices],
        "approval": approval or {},
    }  # fmt: skip


def approval(decision: Decision, outcome: dict[str, Any], *, commit: str, gate: str) -> dict[str, Any]:
    """What the gate decided just now, and what came of it.

    Parameters
    ----------
    outcome : dict
        What ``promotion.enact`` returned.
    commit, gate : str
        The commit whose gate decided; ``enforce`` or ``dry_run``.
    """
    return {
        "word": decision.word, "criteria": decision.table(), "reasons": decision.reasons, "commit": commit,
        "gate": gate, "at": datetime.now(UTC).isoformat(timespec="seconds"), **outcome,
    }  # fmt: skip


def _words(
    task: Task, kept: dict[str, Any], slices: list[dict[str, Any]], gaps: list[dict[str, Any]]
) -> dict[str, Any]:
    """What the task says of the numbers: sentences, and the headline's name and value."""
    rows, threshold = {row["metric"]: row for row in kept.get("evaluation", [])}, kept.get("threshold")
    return task.words() | {
        "share": bool(task.classes),
        "headline": rows.get(task.headline, {}),
        "caption": task.caption(threshold) if rows else "",
        "quality": task.quality(rows, threshold) if rows else "",
        "off": task.off_words(rows) if task.off in rows else "",
        "weakest": task.weakest(pd.DataFrame(slices), str) if rows else "",
        "gaps": [_gap(task, row) for row in gaps if row["metric"] == task.in_gaps[0]],
    }


def _gap(task: Task, row: dict[str, Any]) -> str:
    sure = row["low"] > 0 or row["high"] < 0
    why = "more than chance explains" if sure else "chance may explain it"
    return f"{task.gap_words(row)} ({task.gap_span(row)}; {why})."


_KEPT: dict[str, Any] = {
    "name": "", "threshold": None, "rows": {}, "entities": {}, "periods": [], "evaluation": [], "calibration": [],
    "gain": [], "slice_rows": None, "beside": [], "told": {},
}  # fmt: skip


def _table(contract: Contract) -> dict[str, Any]:
    names = ("title", "question", "source", "licence", "use", "not_for", "limits", "contact")
    return {name: getattr(contract, name) for name in names}


def _named(contract: Contract, name: str) -> dict[str, str]:
    return {"name": name, "label": contract.label(name), "meaning": contract.columns[name].meaning}


def _labelled(contract: Contract, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{**row, "slice": contract.label(row["slice"])} for row in rows]


def _sorted(kept: dict[str, Any]) -> list[tuple[str, float]]:
    return sorted(kept.get("importance", {}).items(), key=lambda pair: -pair[1])
