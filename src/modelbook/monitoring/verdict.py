"""The findings on one window: stated rules on effect sizes, intervals and minimum counts; each reason a sentence.

A window is a batch, or a span of the journal. What follows from several windows is ``windows.over``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from modelbook.config import Monitor
from modelbook.monitoring.latest import WORDS
from modelbook.monitoring.watch import Watched
from modelbook.tasks.names import label, told

ORDER = list(WORDS)
HEALTHY, WATCH, RETRAIN = ORDER
LEVELS = {HEALTHY: "good", WATCH: "watch", RETRAIN: "bad"}
GRAVE = 2  # times the limit of a loss: one window is enough
LOSS = "loss"
SLICE = "slice"
COPIES = 0.05  # share of rows that repeat another one, beyond what chance explains, that is worth a look


@dataclass(frozen=True)
class Finding:
    """One reason: the verdict it asks for, and the rule that it comes from."""

    word: str
    sentence: str
    kind: str = ""
    grave: bool = False


def judge(watched: Watched, params: Monitor) -> list[Finding]:
    """The findings on one window; one that says healthy where nothing is wrong."""
    if watched.rows < params.min_rows:
        many = "1 row" if watched.rows == 1 else f"{watched.rows:,} rows"
        told = f"Batch {watched.batch} has {many}, fewer than the {params.min_rows:,} that are judged."
        return [Finding(WATCH, told, "rows")]
    found = [
        *_quality(watched), *_drift(watched, params), *_performance(watched, params), *_slices(watched, params),
    ]  # fmt: skip
    return found or [Finding(HEALTHY, f"Batch {watched.batch}: no rule asks for attention.")]


def overall(findings: list[Finding]) -> str:
    """The worst word of all findings; watch where there are none, for nothing was judged."""
    return max((finding.word for finding in findings), key=ORDER.index, default=WATCH)


def _quality(watched: Watched) -> list[Finding]:
    found, count = [], len(watched.violations)
    if count:
        places = "1 place" if count == 1 else f"{count:,} places"
        told = f"Batch {watched.batch} breaks the contract in {places}; above all, {_most(watched)}."
        found.append(Finding(WATCH, told, "contract"))
    share, allowed = watched.copies
    if share >= COPIES + 2 * allowed:  # which values there are may have changed, and with it how often rows agree
        found.append(Finding(WATCH, (
            f"Batch {watched.batch}: {share:.0%} of its rows repeat another row in every feature; the reference lets "
            f"expect at most {allowed:.1%} ({COPIES:.0%} more asks to watch)."
        ), "copies"))  # fmt: skip
    return found


def _most(watched: Watched) -> str:
    """What most rows violate, in words without their values; a column that is not there concerns all of them."""
    table = watched.violations
    rows = table["row"].isna().map({True: watched.rows, False: 1})
    often = table.assign(rows=rows).groupby(["rule", "column"])["rows"].sum()
    rule, column = sorted(often[often == often.max()].index, reverse=True)[0]
    return f"{column}: {rule}"


def _drift(watched: Watched, params: Monitor) -> list[Finding]:
    found = []
    if watched.drifted_share >= params.drift_share:
        drifted = int(watched.columns["drifted"].sum())
        found.append(Finding(WATCH, (
            f"Batch {watched.batch}: {drifted} of {len(watched.columns)} columns have drifted; they carry "
            f"{watched.drifted_share:.0%} of the model's importance ({params.drift_share:.0%} asks to watch)."
        ), "drift"))  # fmt: skip
    for which, said in {"outcome": "the outcome itself has", "score": "what the model answers has"}.items():
        moved = watched.moved(which)
        if moved.score >= max(params.drift, moved.chance):
            found.append(Finding(WATCH, (
                f"Batch {watched.batch}: {said} drifted, distance {moved.score:.2f} ({params.drift:g} asks to watch; "
                f"chance explains {moved.chance:.2f})."
            ), f"{which} drift"))  # fmt: skip
    return found


def _performance(watched: Watched, params: Monitor) -> list[Finding]:
    task, rows = watched.task, {row["metric"]: row for row in watched.metrics.to_dict("records")}
    if not rows:
        return _expected(watched, params)
    found = []
    # Worse by the margin, and the whole interval beyond the reference: not a matter of sample size alone.
    lost, sure, said = task.lost(rows[task.headline])
    if lost >= params.loss and sure:
        said = f"Batch {watched.batch}: {said} ({task.limit(params.loss)} asks to retrain)."
        found.append(Finding(RETRAIN, said, LOSS, grave=lost >= GRAVE * params.loss))
    off, said = task.bias(rows)
    if abs(off) >= params.bias and not rows[task.off]["low"] <= 0 <= rows[task.off]["high"]:
        found.append(Finding(WATCH, f"Batch {watched.batch}: {said} ({params.bias:.1%} asks to watch).", "bias"))
    return found


def _expected(watched: Watched, params: Monitor) -> list[Finding]:
    """Before outcomes are in: what the answers let expect. It is an estimate, so it asks for no more than a look."""
    if watched.expected is None:
        return []
    lost, sure, said = watched.task.lost(watched.expected)
    if lost < params.loss or not sure:
        return []
    return [Finding(WATCH, f"Batch {watched.batch}: too few outcomes yet; by its answers, {said}.", "expected loss")]


def _slices(watched: Watched, params: Monitor) -> list[Finding]:
    """Slices that have lost twice what the whole may lose: they have fewer rows, and there are many of them."""
    found = []
    for row in watched.slices.to_dict("records"):
        lost, sure, said = watched.task.lost(row)
        if lost >= GRAVE * params.loss and sure:
            where = f"{row['slice']} is {row['group']}"
            found.append(Finding(WATCH, f"Batch {watched.batch}: where {where}, {said}.", f"{SLICE} {where}"))
    return found


NEXT = {
    HEALTHY: "Nothing to do until the next batch.",
    WATCH: "Look at the drifted columns with whoever makes the table; watch the next batch.",
    RETRAIN: "Build again on newer rows, and let the gate decide: modelbook retrain.",
}
NO_BATCH = "Set later periods aside as batches: a time column in the contract, and train_until below its last value."


def story(findings: list[Finding], watched: list[Watched], version: int) -> dict[str, Any]:
    """Word, level, sentences, key numbers and next step of the verdict that findings over all windows ask for."""
    word = overall(findings)
    rows = sum(one.rows for one in watched)
    sentences = [f"Version {version} is judged on {rows:,} rows in {len(watched)} batches: {word}."]
    if not watched:
        sentences = [f"There is no batch yet to judge version {version} on."]
    sentences += [_drawn(one, one.drawn_from) for one in watched if one.drawn_from]
    worst = sorted(findings, key=lambda finding: -ORDER.index(finding.word))
    sentences += [finding.sentence for finding in worst[:2]]
    sentences += [_compared(one) for one in watched[-2:] if len(one.metrics)]
    return {
        "word": word, "level": LEVELS[word], "sentences": sentences[:5],
        "numbers": _numbers(watched), "next": NEXT[word] if watched else NO_BATCH,
        "findings": [f"{finding.word}: {finding.sentence}" for finding in findings],
    }  # fmt: skip


def _drawn(one: Watched, total: int) -> str:
    return f"Batch {one.batch}: {one.rows:,} of its {total:,} rows were judged, drawn at random from all of them."


def _compared(one: Watched) -> str:
    row = one.metric(one.task.headline)
    now = f"{label(one.task.headline)} {told(row['value'])} ({told(row['low'])} to {told(row['high'])})"
    return f"Batch {one.batch}: {now}; the holdout had {told(row['reference'])}."


def _numbers(watched: list[Watched]) -> list[dict[str, str]]:
    if not watched:
        return []
    last = watched[-1]
    row = last.metric(last.task.headline)
    drifted = int(last.columns["drifted"].sum()) if len(last.columns) else 0
    found = [
        {
            "name": f"rows, batch {last.batch}",
            "value": f"{last.rows:,}",
            "beside": f"{len(last.violations):,} contract violations",
        },
        {
            "name": "columns drifted",
            "value": str(drifted),
            "beside": f"{last.drifted_share:.0%} of the model's importance",
        },
    ]
    if row is not None:
        beside = f"holdout {told(row['reference'])}"
        found.append({"name": label(last.task.headline), "value": told(row["value"]), "beside": beside})
    return found
