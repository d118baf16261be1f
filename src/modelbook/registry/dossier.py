"""The dossier of a version: the evidence kept with it, as plain data that a model card is made of."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from modelbook.contract import Contract
from modelbook.gate import Decision
from modelbook.registry.versions import Version


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
    spread = kept.get("importance_sd", {})
    return {
        "model": version.name,
        "version": version.number,
        "tags": version.tags,
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "table": _table(contract),
        "target": _named(contract, contract.target),
        "entity": _named(contract, contract.entity),
        "time": _named(contract, contract.time) if contract.time else {},
        "features": [_named(contract, name) for name in contract.inputs_],
        "sensitive": [_named(contract, name) for name in contract.named("sensitive")],
        "dropped": [{**_named(contract, name), "reason": contract.columns[name].reason or ""}
                    for name in contract.named("dropped")],
        "metrics": {name: kept.get(name, default) for name, default in _KEPT.items()},
        "importance": [{"feature": contract.label(name), "mean": mean, "sd": spread.get(name)}
                       for name, mean in _sorted(kept)],
        "slices": _labelled(contract, kept.get("slices", [])),
        "gaps": _labelled(contract, kept.get("gaps", [])),
        "slicing": [contract.label(name) for name in contract.slices],
        "approval": approval or {},
    }  # fmt: skip


def approval(decision: Decision, outcome: dict[str, Any], *, commit: str, gate: str) -> dict[str, Any]:
    """What the gate decided just now, and what came of it.

    Parameters
    ----------
    outcome : dict
        What ``versions.enact`` returned.
    commit, gate : str
        The commit whose gate decided; ``enforce`` or ``dry_run``.
    """
    return {
        "word": decision.word, "criteria": decision.table(), "reasons": decision.reasons, "commit": commit,
        "gate": gate, "at": datetime.now(UTC).isoformat(timespec="seconds"), **outcome,
    }  # fmt: skip


_KEPT: dict[str, Any] = {
    "name": "", "threshold": None, "rows": {}, "entities": {}, "periods": [], "evaluation": [], "calibration": [],
    "gain": [], "slice_rows": None,
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
