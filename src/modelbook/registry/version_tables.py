"""Tables and summaries of versions: candidate, champion, gate criteria and promotion."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from modelbook.formatting import KeyNumber, capitalize_first, format_count, format_time, key_number
from modelbook.gate import HOLD, PROMOTE
from modelbook.registry.versions import ModelVersion
from modelbook.scoring.compilation import COMPILED_PREFIX
from modelbook.tasks.metric_format import format_passed, metric_label

if TYPE_CHECKING:
    from modelbook.gate import Decision


def make_version_table(candidate: ModelVersion, champion: ModelVersion | None) -> pd.DataFrame:
    """Compare candidate and champion; columns ``property, candidate`` and, if any, ``champion``.

    Only ``property, champion`` where the candidate is the champion itself.
    """
    versions = {} if candidate.is_same_version(champion) else {"candidate": candidate}
    if champion:
        versions["champion"] = champion
    columns = {name: _collect_properties(version) for name, version in versions.items()}
    names = list(dict.fromkeys(name for properties in columns.values() for name in properties))
    return pd.DataFrame(columns, index=names).fillna("").rename_axis("property").reset_index()


def make_criteria_table(criteria: list[dict[str, Any]]) -> pd.DataFrame:
    """Return the gate's criteria; columns ``criterion, required, observed, passed, power``."""
    table = pd.DataFrame(criteria)[["name", "required", "observed", "passed", "power"]].rename(
        columns={"name": "criterion"}
    )
    passed = [format_passed(row["passed"], row.get("is_certain", True)) for row in criteria]
    return table.assign(passed=passed)


def make_promotion_table(promotion_result: dict[str, Any]) -> pd.DataFrame:
    """Return champion, golden rows and scorer after the decision; columns ``property, value``."""
    champion = promotion_result["champion"]
    properties = {
        "champion": "none" if champion is None else f"version {champion}",
        "alias moved": "yes" if promotion_result["moved"] else "no",
        "golden rows reproduced in a new process": f"{promotion_result['golden_rows']}",
        "served by": _describe_scorer(promotion_result["scorer"]),
    }
    return pd.DataFrame({"property": list(properties), "value": list(properties.values())})


def summarize_decision(
    decision: Decision,
    candidate: ModelVersion,
    promotion_result: dict[str, Any],
    gate_mode: str,
    consequences: list[str],
) -> dict[str, Any]:
    """Summarise the decision: sentences, key numbers and next step.

    Parameters
    ----------
    consequences : list of str
        Sentences on changed decisions (flagged rows, cost), from ``Task.describe_consequences``.
    """
    standing = describe_standing(promotion_result)
    if standing:
        sentences = [*standing, *_describe_reevaluation(decision)]
    else:
        sentences = _describe_decision(decision, candidate, gate_mode, consequences)
    champion = promotion_result["champion"]
    champion_sentence = "The alias champion points to no version."
    if champion is not None:
        golden_rows = format_count(promotion_result["golden_rows"], "stored test row")
        champion_sentence = (
            f"The alias champion points to version {champion}; a new process reproduced its "
            f"predictions for {golden_rows} (golden rows). Requests are scored by "
            f"{_describe_scorer(promotion_result['scorer'])}."
        )
    return {
        "sentences": [*sentences, champion_sentence + _describe_significant_gaps(candidate)],
        "numbers": _list_key_numbers(candidate, promotion_result),
        "next": _describe_next_step(decision, candidate, promotion_result, gate_mode),
    }


def describe_standing(promotion_result: dict[str, Any]) -> list[str]:
    """Since when, and by whose decision, the candidate is the champion; empty if it became it now.

    Parameters
    ----------
    promotion_result : dict
        Result of ``promotion.apply_decision``.
    """
    if not promotion_result["was_champion"]:
        return []
    number, promotion = promotion_result["champion"], promotion_result["earlier_promotion"]
    if promotion is None:
        return [f"The gate has nothing to decide: version {number} is the champion already."]
    since = format_time(promotion["at"])
    first = f"The gate has nothing to decide: version {number} has been the champion since {since}."
    user = promotion["user"]
    entry = f"entry {promotion['entry']} of the history"
    if promotion["override"]:
        return [first, f"{user} promoted it against the gate ({entry}): {promotion['override']}"]
    approval = promotion["approval"]
    if approval is None:
        return [first, f"The alias was moved by {user} ({promotion['action']}, {entry})."]
    return [
        first,
        f"The gate had approved it on {format_time(approval['at'])} (entry {approval['entry']}); "
        f"the alias was moved by {user} ({promotion['action']}, {entry}).",
    ]


def _describe_decision(
    decision: Decision, candidate: ModelVersion, gate_mode: str, consequences: list[str]
) -> list[str]:
    action = decision.action
    subject = f"version {candidate.number}: {decision.summary}"
    sentence = f"The gate {action}s {subject}."
    if gate_mode == "dry_run":
        sentence = f"The gate would {action} {subject}. In this dry run the alias stays."
    return [*consequences[:1], sentence, *consequences[1:], *decision.main_reasons]


def _describe_reevaluation(decision: Decision) -> list[str]:
    """What the gate finds about the champion itself."""
    sentence = f"Evaluated again, without a comparison with itself: {decision.summary}."
    return [sentence, *(decision.main_reasons if decision.action == HOLD else [])]


def _describe_next_step(
    decision: Decision, candidate: ModelVersion, promotion_result: dict[str, Any], gate_mode: str
) -> str:
    if decision.action == PROMOTE and promotion_result["was_champion"]:
        return "A new decision needs a new version: change the data or the parameters, and build."
    if decision.action == PROMOTE and gate_mode != "dry_run":
        return "Go on to monitor; then follow the steps in the brief."
    if decision.action == PROMOTE:
        if promotion_result["history"] is None:  # a run by hand, which approves nothing
            return "Build with gate: enforce to move the alias."
        command = f"modelbook promote {candidate.number} --book {candidate.name}"
        return f"Move the alias with {command}, or build again with gate: enforce."
    champion = promotion_result["champion"]
    status = (
        "no version is in production yet"
        if champion is None
        else f"version {champion} stays the champion"
    )
    if promotion_result["was_champion"]:
        status += f" unless it is rolled back: modelbook rollback --book {candidate.name}"
    steps = [": ".join(filter(None, (row.name, row.remedy))) for row in decision.failed]
    return f"{capitalize_first('; '.join(steps))}. Then build again; {status}."


def _describe_significant_gaps(candidate: ModelVersion) -> str:
    """Describe the significant gaps between groups, also those that no criterion covers."""
    gaps = candidate.metrics.get("gaps_by_significance") or {}
    significant, inconclusive = gaps.get("conclusive", []), gaps.get("inconclusive", [])
    if not significant:
        return ""
    counted = format_count(len(significant), "gap between groups is", "gaps between groups are")
    sentence = f" {counted} significant"
    if inconclusive:
        sentence += f", {format_count(len(inconclusive), 'is', 'are')} inconclusive"
    return f"{sentence}; the model owner reviews them before use, see the brief."


def _list_key_numbers(candidate: ModelVersion, promotion_result: dict[str, Any]) -> list[KeyNumber]:
    headline = candidate.metrics["evaluation"][0]
    return [
        key_number(
            f"{metric_label(headline['metric'])}, candidate",
            headline["value"],
            interval=(headline["low"], headline["high"]),
        ),
        key_number(
            "candidate", candidate.number, "version", context=candidate.tags.get("model", "")
        ),
        key_number(
            "champion",
            promotion_result["champion"],
            "version",
            context="alias moved" if promotion_result["moved"] else "unchanged",
        ),
        key_number(
            "golden rows",
            promotion_result["golden_rows"],
            "count",
            context="no champion to verify"
            if promotion_result["champion"] is None
            else "reproduced",
        ),
    ]


def _describe_scorer(scorer_tag: str) -> str:
    """Describe what scores requests; for a fitted pipeline, with the reason."""
    if scorer_tag == "none":
        return "no version"
    if not scorer_tag.startswith(COMPILED_PREFIX):
        return scorer_tag
    name = scorer_tag.removeprefix(COMPILED_PREFIX).partition(":")[0]
    return f"a compiled copy of its model ({name})"


def _collect_properties(version: ModelVersion) -> dict[str, str]:
    tags = version.tags
    tagged_metrics = [
        row["metric"] for row in version.metrics["evaluation"] if row["metric"] in tags
    ]
    return {
        "version": str(version.number),
        "model": tags.get("model", ""),
        **({"threshold": tags["threshold"]} if "threshold" in tags else {}),
        **{metric_label(name): tags[name] for name in tagged_metrics},
        "commit": tags.get("commit", ""),
        "fingerprint": tags.get("fingerprint", "")[:12],
    }
