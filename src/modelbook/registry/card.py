"""Versions told in tables and words: who stands before the gate, and what became of it."""

from __future__ import annotations

from typing import Any

import pandas as pd

from modelbook.registry.versions import Version
from modelbook.tasks.names import judged, label, told


def versions(candidate: Version, champion: Version | None) -> pd.DataFrame:
    """Candidate and champion side by side; columns ``fact, candidate`` and, where there is one, ``champion``."""
    sides = {"candidate": _facts(candidate)} | ({"champion": _facts(champion)} if champion else {})
    facts = list(dict.fromkeys(fact for side in sides.values() for fact in side))
    return pd.DataFrame(sides, index=facts).fillna("").rename_axis("fact").reset_index()


def criteria(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """The gate's criteria; columns ``criterion, required, found, passed``."""
    table = pd.DataFrame(rows)[["name", "required", "found", "passed"]].rename(columns={"name": "criterion"})
    return table.assign(passed=[judged(one) for one in table["passed"]])


def outcome(done: dict[str, Any]) -> pd.DataFrame:
    """What the alias names after the decision; columns ``fact, value``."""
    facts = {
        "champion": "none" if done["champion"] is None else f"version {done['champion']}",
        "alias moved": "yes" if done["moved"] else "no",
        "golden rows answered exactly, in a clean process": f"{done['golden_rows']}",
        "requests are answered by": _served(done["scorer"]),
    }
    return pd.DataFrame({"fact": list(facts), "value": list(facts.values())})


def story(word: str, reasons: list[str], candidate: Version, done: dict[str, Any], gate: str) -> dict[str, Any]:
    """Sentences, key numbers and next step of the decision."""
    first = candidate.metrics["evaluation"][0]  # the headline
    span = f"{told(first['low'])} to {told(first['high'])}"
    named = "no version" if done["champion"] is None else f"version {done['champion']}"
    said = f"The gate says {word} for version {candidate.number}."
    if gate == "dry_run":
        said = f"The gate would {word} version {candidate.number}; in this dry run the alias stays."
    served = "" if done["champion"] is None else f" It is served by {_served(done['scorer'])}."
    sentences = [
        said,
        *reasons[:3],
        f"The alias champion names {named}; {done['golden_rows']} golden rows came back exactly from a clean process."
        f"{served}",
    ]
    numbers = [
        {"name": f"{label(first['metric'])}, candidate", "value": told(first["value"]), "beside": span},
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
    if scorer == "none":
        return "nothing"
    name = scorer.partition(":")[0].removeprefix("compiled, ")
    return scorer if name == "the model itself" else f"its compiled form ({name})"


def _facts(version: Version) -> dict[str, str]:
    tags = version.tags
    kept = [row["metric"] for row in version.metrics["evaluation"] if row["metric"] in tags]
    return {
        "version": str(version.number),
        "model": tags.get("model", ""),
        **({"threshold": tags["threshold"]} if "threshold" in tags else {}),
        **{label(name): tags[name] for name in kept},
        "commit": tags.get("commit", ""),
        "fingerprint": tags.get("fingerprint", "")[:12],
    }
