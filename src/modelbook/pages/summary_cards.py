"""Summary cards of a book: champion, holdout metric, production metric, monitoring verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from modelbook.pages.templating import format_time
from modelbook.stage.verdict import LEVEL_SYMBOLS, Verdict

if TYPE_CHECKING:
    from modelbook.registry.history import HistoryEntry
    from modelbook.runs.record import BuildRun

SummaryCard = dict[str, str]


def build_cards(
    receipts: Mapping[str, Verdict],
    runs: Sequence[BuildRun] = (),
    last_move: HistoryEntry | None = None,
) -> list[SummaryCard]:
    """Build four cards, each with name, value, context and time.

    ``runs`` supply the metrics of earlier versions; ``last_move`` is the champion's last move.
    """
    champion = champion_version(receipts, last_move)
    return [
        _champion_card(receipts, last_move),
        _holdout_card(receipts, runs, champion),
        _production_card(receipts),
        _monitor_card(receipts, champion),
    ]


def champion_version(
    receipts: Mapping[str, Verdict], last_move: HistoryEntry | None = None
) -> int | None:
    """Return the champion's version after its last move, or else as of the last deploy."""
    if last_move is not None:
        return last_move.champion_after
    champion = receipts["deploy"].details.get("champion") if "deploy" in receipts else None
    return champion if isinstance(champion, int) else None


def _champion_card(receipts: Mapping[str, Verdict], last_move: HistoryEntry | None) -> SummaryCard:
    champion, deploy_receipt = champion_version(receipts, last_move), receipts.get("deploy")
    if last_move is not None and champion != champion_version(receipts):  # moved after deploy
        return _make_card(
            "champion", f"version {champion}", f"{last_move.action} by {last_move.user}"
        ) | {"when": format_time(last_move.timestamp)}
    if deploy_receipt is None:
        return _make_card("champion", "none yet", "deploy has not been built")
    context = (
        f"the gate: {deploy_receipt.word} version {deploy_receipt.details.get('candidate', '?')}"
    )
    return _make_card(
        "champion", f"version {champion}" if champion else "none yet", context, deploy_receipt
    )


def _holdout_card(
    receipts: Mapping[str, Verdict], runs: Sequence[BuildRun], champion: int | None
) -> SummaryCard:
    """Return the champion's headline metric; the candidate's, labelled as such, if unknown."""
    finalize_receipt = receipts.get("finalize")
    if (
        finalize_receipt is not None
        and finalize_receipt.numbers
        and champion in (None, finalize_receipt.details.get("version"))
    ):
        key_number = finalize_receipt.numbers[0]
        return _make_card(
            f"holdout {key_number['name']}",
            key_number["value"],
            key_number["beside"],
            finalize_receipt,
        )
    for run in runs:  # the champion may come from an earlier run
        step = run.stages.get("finalize")
        if step is not None and step.state == "ran" and step.numbers and step.version == champion:
            key_number = step.numbers[0]
            return _make_card(
                f"holdout {key_number['name']}", key_number["value"], key_number["beside"]
            ) | {"when": format_time(run.started)}
    if finalize_receipt is None or not finalize_receipt.numbers:
        return _make_card("holdout", "–", "finalize has not been built")
    key_number = finalize_receipt.numbers[0]
    name = f"holdout {key_number['name']}, version {finalize_receipt.details.get('version', '?')}"
    return _make_card(
        name, key_number["value"], f"{key_number['beside']}; not the champion's", finalize_receipt
    )


def _production_card(receipts: Mapping[str, Verdict]) -> SummaryCard:
    """Return finalize's headline metric as measured by monitor."""
    monitor_receipt, finalize_receipt = receipts.get("monitor"), receipts.get("finalize")
    name = (
        finalize_receipt.numbers[0]["name"]
        if finalize_receipt is not None and finalize_receipt.numbers
        else ""
    )
    label = f"production {name}".strip()
    if monitor_receipt is None:
        return _make_card(label, "–", "monitor has not been built")
    key_number = next(
        (number for number in monitor_receipt.numbers if number["name"] == name), None
    )
    if key_number is None:
        return _make_card(label, "–", "no batch with outcomes was evaluated", monitor_receipt)
    return _make_card(label, key_number["value"], key_number["beside"], monitor_receipt)


def _monitor_card(receipts: Mapping[str, Verdict], champion: int | None) -> SummaryCard:
    monitor_receipt = receipts.get("monitor")
    if monitor_receipt is None:
        return _make_card("monitor", "–", "monitor has not been built")
    version = monitor_receipt.details.get("version", "?")
    context = (
        f"about version {version}"
        if version == champion
        else f"about version {version}, not the champion"
    )
    return _make_card(
        "monitor",
        f"{LEVEL_SYMBOLS[monitor_receipt.level]} {monitor_receipt.word}",
        context,
        monitor_receipt,
    ) | {"level": monitor_receipt.level}


def _make_card(name: str, value: str, context: str, receipt: Verdict | None = None) -> SummaryCard:
    when = format_time(receipt.facts.get("started")) if receipt is not None else ""
    return {"name": name, "value": value, "beside": context, "when": when, "level": ""}
