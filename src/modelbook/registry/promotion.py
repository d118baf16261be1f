"""Promotion: a version takes the champion's place, the version before gets it back, or one takes part beside it.

First the proof, then one transaction that moves the alias and writes the history: at any moment the champion is a
version that was proven, and the history says how it came there.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelbook.errors import PromotionError, ProofError
from modelbook.gate import HOLD, PROMOTE
from modelbook.registry import connection, history, pointer
from modelbook.registry.history import ROLL_BACK, Entry
from modelbook.registry.pointer import CHALLENGER, CHAMPION, DIGEST, Pointed
from modelbook.registry.store import uri
from modelbook.tasks.names import HEADLINES

WHY = "MODELBOOK_WHY"  # the reason of whoever has the gate asked; it is kept before the gate's own
WON = "promote the challenger"  # what an A/B says of a version that may

if TYPE_CHECKING:
    from modelbook.gate import Decision
    from modelbook.registry.versions import Version


def enact(
    root: Path, candidate: Version, champion: Version | None, decision: Decision, *, enforce: bool, commit: str
) -> dict[str, Any]:
    """Write the gate's decision down, carry it out, and prove whatever the alias names then in a clean process.

    Parameters
    ----------
    champion : Version or None
        The champion that the gate compared with.
    enforce : bool
        Whether a promotion moves the alias.

    Returns
    -------
    dict
        ``champion`` (version number or None), ``moved``, ``golden_rows`` answered exactly (0 without a champion),
        ``scorer`` (what will answer requests), ``history`` (number of the last entry).

    Raises
    ------
    ProofError
        When the candidate, or on a hold the champion, does not give its golden rows' answers back; nothing moves.
    PromotionError
        When another version has become champion meanwhile.
    """
    asked = os.environ.get(WHY, "").strip().rstrip(".")
    told = [*([f"{asked}."] if asked else []), *decision.reasons[:3]]  # all of them are in the evidence
    model, why = candidate.name, " ".join(told)
    evidence = _kept(candidate.tags) | {"criteria": decision.table(), "gate": "enforce" if enforce else "dry_run"}
    wrote = history.decided(root, model, decision.word, candidate.number, why, evidence, commit)
    moved = decision.word == PROMOTE and enforce
    now = candidate if moved else champion
    proven = prove(root, model, now.number) if now else 0
    if moved:
        evidence = _kept(candidate.tags) | {"decision": wrote.number, "golden_rows": proven}
        before = champion.number if champion else None
        wrote = history.move(root, model, PROMOTE, candidate.number, why, evidence, commit, instead_of=before)
    served = now.tags.get("scorer", "the model itself: it was registered before there was a scorer") if now else "none"
    return {
        "champion": now.number if now else None, "moved": moved, "golden_rows": proven, "scorer": served,
        "history": wrote.number,
    }  # fmt: skip


def promote(
    root: Path, model: str, number: int, *, why: str, override: str, commit: str, tried: dict[str, Any] | None = None
) -> Entry | None:
    """Let a version take the champion's place, when the gate has let it through.

    Parameters
    ----------
    why, override : str
        Free text, kept in the history; ``override`` says why the gate's word does not count.
    tried : dict, optional
        The A/B as ``monitoring.decision.story`` tells it: it has to promote the version as well.

    Returns
    -------
    Entry or None
        What was written; None when the version is the champion already.

    Raises
    ------
    PromotionError
        When there is no such version, or the gate held it, never judged it, or compared it with another champion; or
        the A/B does not promote it.
    StoreError
        When its files are not those that were registered.
    ProofError
        When it does not give its golden rows' answers back in a clean process.
    """
    chosen, before = _known(root, model, number), _champion(root, model)
    if number == before:
        return None
    if tried is not None:
        _won(number, tried)
    judged = history.judged(history.read(root, model), number)
    if not override:
        _passed(model, number, judged, before)
    told = [f"The gate was overridden: {override}"] if override else []
    told += [why] if why else [] if override or judged is None else [judged.why]
    more: dict[str, Any] = {"decision": judged.number if judged else None}
    more |= ({"override": override} if override else {}) | ({"ab": tried} if tried else {})
    return _moved(root, chosen, PROMOTE, " ".join(told), more, commit, before)


def roll_back(root: Path, model: str, *, why: str, commit: str) -> Entry:
    """Give the champion's place back to the version before it.

    Raises
    ------
    PromotionError
        When the history knows of no version before it.
    StoreError, ProofError
        When the files of that version are not those that were registered, or it does not answer as it must.
    """
    entries, before = history.read(root, model), _champion(root, model)
    known = history.champion(entries)
    to = history.former(entries) if before == known else known  # another tool's move is one that can be taken back
    if to is None:
        raise PromotionError(
            f"the history of {model} has no version before the champion"
            + (f", version {before}" if before else ": there is none"),
            expected="a version that was champion before",
            next="look at modelbook history; modelbook promote V names one",
        )  # fmt: skip
    why = why or f"Version {before} was taken back."
    return _moved(root, _known(root, model, to), ROLL_BACK, why, {}, commit, before)


def challenge(root: Path, model: str, number: int | None, *, why: str, commit: str) -> Entry:
    """Let a version share the champion's traffic, when it proves itself; None ends that.

    Raises
    ------
    PromotionError
        When there is no such version, it is the champion, or there is no challenger to end with.
    StoreError, ProofError
        When its files are not those that were registered, or it does not answer as it must.
    """
    if number is None:
        if CHALLENGER not in pointer.aliases(root, model):
            raise PromotionError(
                f"{model} has no challenger", expected="a version that bears the alias challenger",
                next="modelbook challenge V names one",
            )  # fmt: skip
        return history.challenge(root, model, None, why or "The challenge was ended.", {}, commit)
    chosen = _known(root, model, number)
    if number == _champion(root, model):
        raise PromotionError(
            f"version {number} of {model} is the champion itself", expected="another version",
            next="look at modelbook history for the versions that there are",
        )  # fmt: skip
    evidence = _proven(root, chosen)
    return history.challenge(root, model, number, why or "It takes part beside the champion.", evidence, commit)


def prove(root: Path, model: str, number: int) -> int:
    """Ask a version its golden rows in a clean process; returns how many it answered exactly.

    Raises
    ------
    ProofError
        When it cannot be loaded there, or an answer differs.
    """
    named = f"models:/{model}/{number}"
    told = _in_a_clean_process(root, named)
    if told.returncode and "OperationalError" in told.stderr:  # the database went away, which says nothing of the model
        with connection.looking(root):  # waits for one that is being restarted
            pass
        told = _in_a_clean_process(root, named)
    answer = told.stdout.strip().splitlines()[-1:] or ["{}"]
    result = json.loads(answer[0]) if told.returncode == 0 else {}
    if result.get("difference") != 0:
        what = f"differs by {result['difference']:g}" if result else f"does not load: {told.stderr.strip()[-500:]}"
        raise ProofError(
            f"{named} {what} in a clean process", expected="its golden rows' answers, exactly",
            next="the alias stays with the version that has it; build finalize again, or promote another version",
        )  # fmt: skip
    return result["rows"]


def _in_a_clean_process(root: Path, named: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "modelbook.registry.prove", named],
        env={**os.environ, **dict.fromkeys(("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"), uri(root))},
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def _moved(
    root: Path, chosen: Pointed, word: str, why: str, more: dict[str, Any], commit: str, before: int | None
) -> Entry:
    evidence = _proven(root, chosen) | more
    return history.move(root, chosen.name, word, chosen.number, why, evidence, commit, instead_of=before)


def _proven(root: Path, chosen: Pointed) -> dict[str, Any]:
    """What speaks for a version whose files are whole and whose golden rows came back."""
    chosen.check()
    return _kept(chosen.tags) | {"golden_rows": prove(root, chosen.name, chosen.number)}


def _won(number: int, tried: dict[str, Any]) -> None:
    """Raise where the A/B does not promote a version."""
    about = tried["versions"]["challenger"]
    if about != number or tried["word"] != WON:
        told = f"the A/B of version {about} says: {tried['word']}. {tried['sentences'][0]}"
        raise PromotionError(
            told if about == number else f"the A/B is about version {about}, not {number}",
            expected=f"an A/B that says: {WON}, version {number}", next=tried["next"],
        )  # fmt: skip


def _passed(model: str, number: int, judged: Entry | None, champion: int | None) -> None:
    """Raise where the gate has not let a version through."""
    way = f'modelbook promote {number} --override "why the gate does not count" does it all the same, and keeps why'
    if judged is None:
        raise PromotionError(
            f"the gate has not judged version {number} of {model}", expected="its decision to promote",
            next=f"build the book, which asks the gate: modelbook build; or: {way}",
        )  # fmt: skip
    if judged.word == HOLD:
        raise PromotionError(
            f"the gate held version {number} of {model}: {judged.why}", expected="its decision to promote", next=way
        )
    if judged.before != champion:
        told = [f"version {one}" if one else "no champion" for one in (judged.before, champion)]
        raise PromotionError(
            f"the gate compared version {number} of {model} with {told[0]}; by now there is {told[1]}",
            expected="a decision about the champion of now",
            next=f"ask the gate again: ploomber build --partially deploy --force; or: {way}",
        )


def _known(root: Path, model: str, number: int) -> Pointed:
    found = pointer.version(root, model, number)
    if found is None:
        raise PromotionError(
            f"model {model!r} has no version {number}", expected="a version that finalize has registered",
            next="look at modelbook history; build the book to register one: modelbook build",
        )  # fmt: skip
    return found


def _champion(root: Path, model: str) -> int | None:
    found = pointer.aliases(root, model).get(CHAMPION)
    return found.number if found else None


def _kept(tags: dict[str, str]) -> dict[str, Any]:
    """What of a version's tags is evidence."""
    names = ("model", *HEADLINES, "run_id", "fingerprint", "data_version", "commit", "scorer", DIGEST)
    return {name: tags[name] for name in names if name in tags}
