"""What the summary cards of a book show: champion, metric on holdout and latest batch, monitoring.

The texts are in ``templates/summary_cards.html.j2``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from modelbook.formatting import KeyNumber
from modelbook.stage.verdict import Verdict

if TYPE_CHECKING:
    from modelbook.registry.history import HistoryEntry
    from modelbook.runs.record import BuildRun

Receipts = Mapping[str, Verdict]


def summarize_book(
    receipts: Receipts, runs: Sequence[BuildRun] = (), last_move: HistoryEntry | None = None
) -> dict[str, Any]:
    """Return champion, headline metric on holdout and latest batch, and the receipts.

    ``runs`` supply the metrics of earlier versions; ``last_move`` is the champion's last move.
    """
    champion = get_champion_version(receipts, last_move)
    deploy = receipts.get("deploy")
    was_moved_before = deploy is not None and deploy.details.get("was_champion", False)
    is_moved_since = champion != get_champion_version(receipts)
    headline = _get_headline_number(receipts.get("finalize"))
    name = headline["name"] if headline else ""
    monitor_numbers = receipts["monitor"].numbers if "monitor" in receipts else ()
    return {
        **{stage: receipts.get(stage) for stage in ("deploy", "finalize", "monitor")},
        "champion": champion,
        # A move that the last run of deploy did not make.
        "move": last_move if was_moved_before or is_moved_since else None,
        "holdout": _find_holdout_metric(receipts, runs, champion),
        "headline": name,
        "latest_batch": next(
            (number for number in monitor_numbers if number["name"] == name), None
        ),
    }


def get_champion_version(receipts: Receipts, last_move: HistoryEntry | None = None) -> int | None:
    """Return the champion's version after its last move, or else as of the last deploy."""
    if last_move is not None:
        return last_move.champion_after
    champion = receipts["deploy"].details.get("champion") if "deploy" in receipts else None
    return champion if isinstance(champion, int) else None


def _find_holdout_metric(
    receipts: Receipts, runs: Sequence[BuildRun], champion: int | None
) -> dict[str, Any] | None:
    """Return the champion's headline metric, its version and its time; else the candidate's."""
    finalize = receipts.get("finalize")
    number = _get_headline_number(finalize)
    candidate = finalize.details.get("version") if finalize else None
    if number is None or champion not in (None, candidate):
        for run in runs:  # the champion may come from an earlier run
            stage_run = run.stages.get("finalize")
            if (
                stage_run
                and stage_run.numbers
                and stage_run.state == "ran"
                and stage_run.version == champion
            ):
                return {"number": stage_run.numbers[0], "version": champion, "when": run.started}
    if finalize is None or number is None:
        return None
    return {"number": number, "version": candidate, "when": finalize.facts.get("started")}


def _get_headline_number(receipt: Verdict | None) -> KeyNumber | None:
    return dict(receipt.numbers[0]) if receipt is not None and receipt.numbers else None
