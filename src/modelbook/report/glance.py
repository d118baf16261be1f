"""A book at a glance, from receipts: which version serves, how it was judged, how it does, what monitor says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from modelbook.report.template import moment
from modelbook.report.verdict import MARKS, Verdict

if TYPE_CHECKING:
    from modelbook.registry.history import Entry
    from modelbook.stage.record import Run

Card = dict[str, str]


def cards(receipts: Mapping[str, Verdict], runs: Sequence[Run] = (), moved: Entry | None = None) -> list[Card]:
    """Four cards: name, value, what stands beside it, and when it was found.

    ``runs`` tell of earlier versions; ``moved`` is the champion's last move.
    """
    champion = version(receipts, moved)
    return [
        _champion(receipts, moved), _holdout(receipts, runs, champion), _production(receipts),
        _monitor(receipts, champion),
    ]  # fmt: skip


def version(receipts: Mapping[str, Verdict], moved: Entry | None = None) -> int | None:
    """The version that the alias champion names after its last move; without one, when deploy last ended."""
    if moved is not None:
        return moved.after
    found = receipts["deploy"].details.get("champion") if "deploy" in receipts else None
    return found if isinstance(found, int) else None


def _champion(receipts: Mapping[str, Verdict], moved: Entry | None) -> Card:
    champion, decided = version(receipts, moved), receipts.get("deploy")
    if moved is not None and champion != version(receipts):  # since deploy has ended
        return _card("champion", f"version {champion}", f"{moved.word} by {moved.by}") | {"when": moment(moved.at)}
    if decided is None:
        return _card("champion", "none yet", "deploy has not been built")
    beside = f"the gate: {decided.word} version {decided.details.get('candidate', '?')}"
    return _card("champion", f"version {champion}" if champion else "none yet", beside, decided)


def _holdout(receipts: Mapping[str, Verdict], runs: Sequence[Run], champion: int | None) -> Card:
    """The champion's first number; the candidate's, said to be that, where nothing tells the champion's."""
    judged = receipts.get("finalize")
    if judged is not None and judged.numbers and champion in (None, judged.details.get("version")):
        told = judged.numbers[0]
        return _card(f"holdout {told['name']}", told["value"], told["beside"], judged)
    for run in runs:  # the champion is of an earlier run
        step = run.stages.get("finalize")
        if step is not None and step.state == "ran" and step.numbers and step.version == champion:
            told = step.numbers[0]
            return _card(f"holdout {told['name']}", told["value"], told["beside"]) | {"when": moment(run.started)}
    if judged is None or not judged.numbers:
        return _card("holdout", "–", "finalize has not been built")
    told = judged.numbers[0]
    name = f"holdout {told['name']}, version {judged.details.get('version', '?')}"
    return _card(name, told["value"], f"{told['beside']}; not the champion's", judged)


def _production(receipts: Mapping[str, Verdict]) -> Card:
    """The number of monitor that bears the name of finalize's first."""
    watched, judged = receipts.get("monitor"), receipts.get("finalize")
    name = judged.numbers[0]["name"] if judged is not None and judged.numbers else ""
    label = f"production {name}".strip()
    if watched is None:
        return _card(label, "–", "monitor has not been built")
    told = next((number for number in watched.numbers if number["name"] == name), None)
    if told is None:
        return _card(label, "–", "no batch with outcomes was judged", watched)
    return _card(label, told["value"], told["beside"], watched)


def _monitor(receipts: Mapping[str, Verdict], champion: int | None) -> Card:
    watched = receipts.get("monitor")
    if watched is None:
        return _card("monitor", "–", "monitor has not been built")
    about = watched.details.get("version", "?")
    beside = f"about version {about}" if about == champion else f"about version {about}, not the champion"
    return _card("monitor", f"{MARKS[watched.level]} {watched.word}", beside, watched) | {"level": watched.level}


def _card(name: str, value: str, beside: str, of: Verdict | None = None) -> Card:
    when = moment(of.facts.get("started")) if of is not None else ""
    return {"name": name, "value": value, "beside": beside, "when": when, "level": ""}
