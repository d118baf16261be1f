"""Promote a version to champion, roll back to the previous one, or set a challenger.

The version is verified first. Then the history records the move, and the alias follows. So the
champion is always a verified version, and the history records how it was chosen.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelbook.errors import PromotionError, ReproductionError
from modelbook.gate import HOLD, PROMOTE
from modelbook.redaction import redact_uri
from modelbook.registry import aliases, clean_process, connection, history
from modelbook.registry.aliases import DIGEST_TAG, RegisteredVersion
from modelbook.registry.history import ROLL_BACK, HistoryEntry
from modelbook.registry.location import get_registry_uri, get_tracking_uri
from modelbook.stage import build_token
from modelbook.tasks.metric_format import HEADLINE_METRICS

REASON_VARIABLE = "MODELBOOK_WHY"  # reason of the user who runs the gate, recorded first
# Another type of processor adds in another order, which changes the last digits.
GOLDEN_TOLERANCE = 1e-9
NO_SCORER = "the fitted pipeline: this version was registered without a scorer"
AB_APPROVAL = "promote the challenger"  # result of an A/B test that allows a promotion

if TYPE_CHECKING:
    from subprocess import CompletedProcess

    from modelbook.gate import Decision
    from modelbook.registry.versions import ModelVersion


def apply_decision(
    root: Path,
    candidate: ModelVersion,
    champion: ModelVersion | None,
    decision: Decision,
    *,
    enforce: bool,
    commit: str,
) -> dict[str, Any]:
    """Record the gate's decision, apply it, and verify the resulting champion in a clean process.

    Only in a build: by hand nothing is recorded, because a recorded decision approves a promotion.
    Nor is an approval of the champion itself, which leaves nothing to decide.

    Parameters
    ----------
    champion : ModelVersion or None
        Champion that the gate compared with.
    enforce : bool
        Whether a promotion moves the alias.

    Returns
    -------
    dict
        ``champion`` (version number or None), ``moved``, ``golden_rows`` reproduced (0
        without a champion), ``scorer`` (description), ``history`` (number of the last entry, or
        None where nothing is recorded), ``monitored`` (number of the candidate's model that
        monitoring evaluates: in a sandbox the champion is another model's), ``was_champion``
        (whether the candidate is the champion already) and ``earlier_promotion`` (how it became
        the champion then, else None): ``entry`` (number), ``action``, ``at``, ``user``,
        ``previous`` (champion before, or None), ``override`` (reason to promote it against the
        gate; empty without one) and ``approval`` (``entry`` and ``at`` of the gate's last approval,
        or None).

    Raises
    ------
    ReproductionError
        When the candidate, or on a hold the champion, does not reproduce its golden rows; the alias
        does not move.
    PromotionError
        When the champion has changed in the meantime, or by hand with ``enforce``.
    """
    in_build = build_token.is_build(root)
    if enforce and not in_build:
        raise PromotionError(
            f"enforce = True in a run by hand; version {candidate.number} of {candidate.name} "
            "was not promoted",
            expected="the gate of a build, which alone moves the alias",
            next=f"modelbook build; or, by hand: modelbook promote {candidate.number}",
        )
    is_champion = candidate.is_same_version(champion)
    moves_alias = decision.action == PROMOTE and enforce and not is_champion
    served = candidate if moves_alias else champion
    earlier_promotion = (
        _describe_promotion(history.read_history(root, candidate.name), candidate.number)
        if is_champion
        else None
    )
    entry = None
    if in_build and not (is_champion and decision.action == PROMOTE):
        previous = champion.number if champion and champion.name == candidate.name else None
        entry = _record_decision(root, candidate, previous, decision, commit, enforce=enforce)
    golden_rows = verify_golden_rows(root, served.model_uri) if served else 0
    if moves_alias and entry:
        entry = history.set_champion(
            root,
            candidate.name,
            PROMOTE,
            candidate.number,
            entry.reason,
            _select_evidence_tags(candidate.tags)
            | {"decision": entry.number, "golden_rows": golden_rows},
            commit,
            expected_champion=entry.champion_before,
        )
    is_same_model = served is not None and served.name == candidate.name  # not in a sandbox
    return {
        "champion": served.number if served else None,
        "moved": moves_alias,
        "golden_rows": golden_rows,
        "scorer": served.tags.get("scorer", NO_SCORER) if served else "none",
        "history": entry.number if entry else None,
        "monitored": served.number if served and is_same_model else candidate.number,
        "was_champion": is_champion,
        "earlier_promotion": earlier_promotion,
    }


def _describe_promotion(entries: list[HistoryEntry], version: int) -> dict[str, Any] | None:
    """How a version became the champion; None without a recorded move."""
    moves = [
        entry
        for entry in entries
        if entry.kind == history.ALIAS_CHANGE and entry.champion_after == version
    ]
    if not moves:
        return None
    move = moves[-1]
    approvals = [
        {"entry": entry.number, "at": entry.timestamp}
        for entry in entries
        if entry.kind == history.DECISION
        and entry.version == version
        and entry.action == PROMOTE
        and entry.number < move.number
    ]
    override = move.evidence.get("override", "")
    return {
        "entry": move.number,
        "action": move.action,
        "at": move.timestamp,
        "user": move.user,
        "previous": move.champion_before,
        "override": override,
        "approval": approvals[-1] if approvals and not override else None,
    }


def _record_decision(
    root: Path,
    candidate: ModelVersion,
    champion: int | None,
    decision: Decision,
    commit: str,
    *,
    enforce: bool,
) -> HistoryEntry:
    """Record the gate's decision: its explanation with the user's reason, and all criteria."""
    user_reason = os.environ.get(REASON_VARIABLE, "").strip().rstrip(".")
    evidence = _select_evidence_tags(candidate.tags) | {
        "criteria": decision.to_records(),
        "gate": "enforce" if enforce else "dry_run",
    }
    return history.record_decision(
        root,
        candidate.name,
        decision.action,
        candidate.number,
        decision.explain(user_reason),
        evidence,
        commit,
        expected_champion=champion,
    )


def promote(
    root: Path,
    model_name: str,
    version: int,
    *,
    reason: str,
    override: str,
    commit: str,
    ab_result: dict[str, Any] | None = None,
) -> HistoryEntry | None:
    """Promote a version to champion when the gate has approved it.

    Parameters
    ----------
    reason, override : str
        Free text for the history; ``override`` is the reason to promote without approval.
    ab_result : dict, optional
        Result of the A/B test, which must also promote the version.

    Returns
    -------
    HistoryEntry or None
        The recorded entry; None when the version is the champion already.

    Raises
    ------
    PromotionError
        When the version does not exist, or the gate held it, has not evaluated it, or compared it
        with another champion; or when the A/B test does not promote it.
    StoreError
        When its files do not match the registered digest.
    ReproductionError
        When it does not reproduce its golden rows in a clean process.
    """
    candidate = aliases.require_version(root, model_name, version, PromotionError)
    champion = aliases.find_champion_number(root, model_name)
    if version == champion:
        return None
    if ab_result is not None:
        _require_ab_approval(version, ab_result)
    entries = history.read_history(root, model_name)
    decision = history.find_last_decision(entries, version)
    imported = history.find_last_import(entries, version)
    is_approved_by_source = decision is None and _is_approved_by_source(
        root, model_name, imported, champion
    )
    if not override and not is_approved_by_source:
        _require_gate_approval(model_name, version, decision, champion, imported)
    reasons = [f"The gate was overridden: {override}"] if override else []
    if reason or not override:
        reasons.append(reason or _find_approval_reason(decision, imported))
    extra_evidence: dict[str, Any] = {"decision": decision.number if decision else None}
    if override:
        extra_evidence["override"] = override
    if ab_result:
        extra_evidence["ab"] = ab_result
    return _verify_and_move(
        root, candidate, PROMOTE, " ".join(reasons), extra_evidence, commit, champion
    )


def roll_back(root: Path, model_name: str, *, reason: str, commit: str) -> HistoryEntry:
    """Restore the previous champion.

    Raises
    ------
    PromotionError
        When the history has no previous champion.
    StoreError, ReproductionError
        When its files do not match the registered digest, or it does not reproduce its golden rows.
    """
    entries = history.read_history(root, model_name)
    champion = aliases.find_champion_number(root, model_name)
    recorded_version = history.find_recorded_champion(entries)
    target_version = (
        history.find_rollback_target(entries) if champion == recorded_version else recorded_version
    )  # undo a move by another tool
    if target_version is None:
        raise PromotionError(
            f"the history of {model_name} has no previous champion"
            + (f" before version {champion}" if champion else ", and no champion"),
            expected="a version that was champion before",
            next="list the versions: modelbook history; promote one: modelbook promote V",
        )
    reason = reason or f"Version {champion} was rolled back."
    return _verify_and_move(
        root,
        aliases.require_version(root, model_name, target_version, PromotionError),
        ROLL_BACK,
        reason,
        {},
        commit,
        champion,
    )


def set_challenger(
    root: Path, model_name: str, version: int | None, *, reason: str, commit: str
) -> HistoryEntry:
    """Set the challenger, which shares the champion's traffic; None ends the challenge.

    Raises
    ------
    PromotionError
        When the version does not exist or is the champion, or there is no challenge to end.
    StoreError, ReproductionError
        When its files do not match the registered digest, or it does not reproduce its golden rows.
    """
    if version is None:
        aliases.require_challenger(root, model_name, PromotionError)
        return history.set_challenger(
            root, model_name, None, reason or "The challenge was ended.", {}, commit
        )
    candidate = aliases.require_version(root, model_name, version, PromotionError)
    if version == aliases.find_champion_number(root, model_name):
        raise PromotionError(
            f"version {version} of {model_name} is the champion",
            expected="another version",
            next="list the versions: modelbook history",
        )
    evidence = _collect_evidence(root, candidate)
    return history.set_challenger(
        root, model_name, version, reason or "It shares the champion's traffic.", evidence, commit
    )


def verify_golden_rows(root: Path, model_uri: str) -> int:
    """Check in a clean process that a model reproduces its golden rows; return their number.

    Raises
    ------
    ReproductionError
        When the model cannot be loaded, or a prediction differs.
    """
    process = _run_golden_check(root, model_uri)
    if (
        process.returncode and "OperationalError" in process.stderr
    ):  # of the database, not the model
        connection.check_connection(root)  # waits for a restarting server
        process = _run_golden_check(root, model_uri)
    last_lines = process.stdout.strip().splitlines()[-1:] or ["{}"]
    result = json.loads(last_lines[0]) if process.returncode == 0 else {}
    if not result.get("difference", float("inf")) <= GOLDEN_TOLERANCE:
        problem = (
            f"differs by {result['difference']:g}"
            if result
            else f"does not load: {process.stderr.strip()[-500:]}"
        )
        raise ReproductionError(
            f"{model_uri} {problem} in a clean process",
            expected=f"the predictions of its golden rows, within {GOLDEN_TOLERANCE:g}",
            next="the alias was not moved; build finalize again, or promote another version",
        )
    return result["rows"]


def _run_golden_check(root: Path, model_uri: str) -> CompletedProcess[str]:
    return clean_process.run_module(
        "modelbook.registry.golden_check",
        [model_uri],
        libraries=["mlflow.pyfunc", "numpy", "pandas"],
        environment={
            **os.environ,
            "MLFLOW_TRACKING_URI": get_tracking_uri(root),
            "MLFLOW_REGISTRY_URI": get_registry_uri(root),
        },
    )


def _verify_and_move(
    root: Path,
    candidate: RegisteredVersion,
    action: str,
    reason: str,
    extra_evidence: dict[str, Any],
    commit: str,
    expected_champion: int | None,
) -> HistoryEntry:
    evidence = _collect_evidence(root, candidate) | extra_evidence
    return history.set_champion(
        root,
        candidate.name,
        action,
        candidate.number,
        reason,
        evidence,
        commit,
        expected_champion=expected_champion,
    )


def _collect_evidence(root: Path, candidate: RegisteredVersion) -> dict[str, Any]:
    """Verify a version's files and golden rows; return the evidence for the history."""
    candidate.verify_files()
    return _select_evidence_tags(candidate.tags) | {
        "golden_rows": verify_golden_rows(root, candidate.model_uri)
    }


def _require_ab_approval(version: int, ab_result: dict[str, Any]) -> None:
    """Raise PromotionError unless the A/B test promotes the version."""
    challenger = ab_result["versions"]["challenger"]
    if challenger != version or ab_result["status"] != AB_APPROVAL:
        problem = (
            f"the A/B test of version {challenger} has the result: {ab_result['status']}. "
            f"{ab_result['sentences'][0]}"
        )
        raise PromotionError(
            problem
            if challenger == version
            else f"the A/B test is about version {challenger}, not {version}",
            expected=f"an A/B test with the result: {AB_APPROVAL}, version {version}",
            next=ab_result["next"],
        )


def _find_approval_reason(decision: HistoryEntry | None, imported: HistoryEntry | None) -> str:
    """Return why a version was approved: by this project's gate, else by that of its source."""
    if decision is not None:
        return decision.reason
    assert imported is not None
    return f"Approved in {imported.evidence['source']}: {imported.evidence['gate']['reason']}"


def _is_approved_by_source(
    root: Path, model_name: str, imported: HistoryEntry | None, champion: int | None
) -> bool:
    """Return whether the gate that approved an imported version compared it with this champion."""
    gate = (imported.evidence.get("gate") or {}) if imported else {}
    if gate.get("action") != PROMOTE:
        return False
    current = aliases.find_version(root, model_name, champion) if champion else None
    return gate.get("champion_digest") == (current.source_digest if current else None)


def _require_gate_approval(
    model_name: str,
    version: int,
    decision: HistoryEntry | None,
    champion: int | None,
    imported: HistoryEntry | None,
) -> None:
    """Raise PromotionError unless the gate has approved the version."""
    run_gate = (
        f"modelbook import {redact_uri(imported.export_uri)}"
        if imported
        else "ploomber build --partially deploy --force"
    )
    override_hint = (
        f'modelbook promote {version} --override "REASON" promotes it without approval, and '
        "records the reason"
    )
    if decision is None:
        raise PromotionError(
            f"the gate has not evaluated version {version} of {model_name}",
            expected="the decision promote",
            next=override_hint
            if imported  # too few rows here, or the source's gate compared another champion
            else f"build the book, which runs the gate: modelbook build; or: {override_hint}",
        )
    if decision.action == HOLD:
        raise PromotionError(
            f"the gate held version {version} of {model_name}: {decision.reason}",
            expected="the decision promote",
            next=override_hint,
        )
    if decision.champion_before != champion:
        champion_names = [
            f"version {number}" if number else "no champion"
            for number in (decision.champion_before, champion)
        ]
        raise PromotionError(
            f"the gate compared version {version} of {model_name} with {champion_names[0]}; "
            f"the champion now is {champion_names[1]}",
            expected="a decision against the current champion",
            next=f"run the gate again: {run_gate}; or: {override_hint}",
        )


def _select_evidence_tags(tags: dict[str, str]) -> dict[str, Any]:
    """Select the tags of a version that the history records as evidence."""
    names = (
        "model",
        *HEADLINE_METRICS,
        "run_id",
        "fingerprint",
        "data_version",
        "commit",
        "scorer",
        DIGEST_TAG,
    )
    return {name: tags[name] for name in names if name in tags}
