"""Versions told in tables and words: who stands before the gate, and what became of it."""

from __future__ import annotations

from typing import Any

import pandas as pd

from modelbook.registry.versions import Version


def versions(candidate: Version, champion: Version | None) -> pd.DataFrame:
    """Candidate and champion side by side; columns ``fact, candidate`` and, where there is one, ``champion``."""
    told = {"candidate": _facts(candidate)} | ({"champion": _facts(champion)} if champion else {})
    return pd.DataFrame(told, index=list(told["candidate"])).rename_axis("fact").reset_index()


def criteria(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """The gate's criteria; columns ``criterion, required, found, passed``."""
    table = pd.DataFrame(rows).rename(columns={"name": "criterion"})
    return table.assign(passed=table["passed"].map({True: "yes", False: "no"}))


def outcome(done: dict[str, Any]) -> pd.DataFrame:
    """What the alias names after the decision; columns ``fact, value``."""
    facts = {
        "champion": "none" if done["champion"] is None else f"version {done['champion']}",
        "alias moved": "yes" if done["moved"] else "no",
        "golden rows answered exactly, in a clean process": f"{done['golden_rows']}",
        "served by": done["scorer"],
    }
    return pd.DataFrame({"fact": list(facts), "value": list(facts.values())})


def story(word: str, reasons: list[str], candidate: Version, done: dict[str, Any], gate: str) -> dict[str, Any]:
    """Sentences, key numbers and next step of the decision."""
    auc = next(row for row in candidate.metrics["evaluation"] if row["metric"] == "roc_auc")
    span = f"{auc['low']:.3f} to {auc['high']:.3f}"
    named = "no version" if done["champion"] is None else f"version {done['champion']}"
    first = f"The gate says {word} for version {candidate.number}."
    if gate == "dry_run":
        first = f"The gate would {word} version {candidate.number}; in this dry run the alias stays."
    served = "" if done["champion"] is None else f" It is served by {_served(done['scorer'])}."
    sentences = [
        first,
        *reasons[:3],
        f"The alias champion names {named}; {done['golden_rows']} golden rows came back exactly from a clean process."
        f"{served}",
    ]
    numbers = [
        {"name": "ROC AUC, candidate", "value": f"{auc['value']:.3f}", "beside": span},
        {"name": "candidate", "value": f"version {candidate.number}", "beside": candidate.tags.get("model", "")},
        {"name": "champion", "value": named, "beside": "moved just now" if done["moved"] else "unchanged"},
        {"name": "golden rows", "value": str(done["golden_rows"]), "beside": "answered exactly"},
    ]  # fmt: skip
    after = (
        "Go on to monitor."
        if word == "promote"
        else "Read the criterion that failed; improve the candidate, or leave the champion in place."
    )
    return {"sentences": sentences, "numbers": numbers, "next": after}


def _served(scorer: str) -> str:
    """What answers requests, and for the model itself the reason why nothing faster does."""
    name = scorer.partition(":")[0].removeprefix("compiled, ")
    return scorer if name == "the model itself" else f"its compiled form ({name})"


def _facts(version: Version) -> dict[str, str]:
    tags = version.tags
    kept = {"roc_auc": "ROC AUC", "pr_auc": "PR AUC", "log_loss": "log loss", "brier": "Brier score"}
    return {
        "version": str(version.number),
        "model": tags.get("model", ""),
        "threshold": tags.get("threshold", ""),
        **{label: tags.get(name, "") for name, label in kept.items()},
        "commit": tags.get("commit", ""),
        "fingerprint": tags.get("fingerprint", "")[:12],
    }
