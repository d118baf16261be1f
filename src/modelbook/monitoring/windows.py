"""The verdict over several windows: what the newest one shows, and what has shown in N of the last M.

A single window may mislead. So a rule that asks to watch is heard at once, and stays while N of the last M windows show
it; a loss of quality asks to retrain only when N of the last M windows with outcomes show it, or one shows a grave one.
Pure functions; the idea of N of M is that of Nagios' soft states and of Databricks' mlops-stacks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import median

from modelbook.config import Monitor
from modelbook.monitoring.verdict import HEALTHY, LOSS, RETRAIN, SLICE, WATCH, Finding, judge
from modelbook.monitoring.watch import Watched

FACTOR = 3  # times the usual rows, or that part of them, that is worth a look
EARLIER = 2  # windows that make up what is usual


@dataclass(frozen=True)
class Window:
    """One window that was judged: its findings, and whether outcomes were in."""

    name: str
    rows: int
    performed: bool
    findings: tuple[Finding, ...]

    def of(self, kind: str) -> Finding | None:
        """The finding of a kind."""
        return next((one for one in self.findings if one.kind == kind), None)


def judged(watched: Watched, params: Monitor) -> Window:
    """A window with its findings."""
    return Window(watched.batch, watched.rows, len(watched.metrics) > 0, tuple(judge(watched, params)))


def over(windows: Sequence[Window], params: Monitor) -> list[Finding]:
    """What the last windows ask for together, oldest window first; one healthy finding where they ask for nothing.

    Nothing at all where there is no window.
    """
    recent = list(windows[-params.windows :])
    if not recent:
        return []
    kinds = dict.fromkeys(one.kind for window in recent for one in window.findings if one.word != HEALTHY)
    found = [*_volume(windows), *_lost(windows, params)]
    found += [one for kind in kinds if kind != LOSS for one in _standing(kind, recent, params)]
    return found or [Finding(HEALTHY, f"Batch {recent[-1].name}: no rule asks for attention.")]


def _standing(kind: str, recent: list[Window], params: Monitor) -> list[Finding]:
    """A finding that the newest window shows, or enough of the recent ones; of a slice, only the latter."""
    shown = [one for one in (window.of(kind) for window in recent) if one]
    enough = len(shown) >= params.needed
    now = recent[-1].of(kind) is not None and not kind.startswith(SLICE)
    return [_counted(shown, len(recent), WATCH)] if enough or now else []


def _lost(windows: Sequence[Window], params: Monitor) -> list[Finding]:
    told = [window for window in windows if window.performed][-params.windows :]
    shown = [one for one in (window.of(LOSS) for window in told) if one]
    if not shown:
        return []
    grave = told[-1].of(LOSS)
    if len(shown) >= params.needed or (grave and grave.grave):
        return [_counted(shown, len(told), RETRAIN)]
    if not grave:
        return []
    once = f" It shows in {len(shown)} of {params.needed} windows that are needed; watch the next one."
    return [replace(grave, word=WATCH, sentence=grave.sentence + once)]


def _counted(shown: list[Finding], among: int, word: str) -> Finding:
    seen = f" That shows in {len(shown)} of the last {among} windows." if len(shown) > 1 else ""
    return replace(shown[-1], word=word, sentence=shown[-1].sentence + seen)


def _volume(windows: Sequence[Window]) -> list[Finding]:
    *earlier, last = windows
    if len(earlier) < EARLIER:
        return []
    usual = median(window.rows for window in earlier)
    if usual / FACTOR <= last.rows <= usual * FACTOR:
        return []
    return [Finding(WATCH, f"Batch {last.name} has {last.rows:,} rows; {usual:,.0f} are usual.", "volume")]
