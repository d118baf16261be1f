"""The gate: promote or hold, a pure function of evidence."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from modelbook.tasks.names import label, told

if TYPE_CHECKING:
    import pandas as pd

    from modelbook.tasks.base import Task

PROMOTE, HOLD = "promote", "hold"


@dataclass(frozen=True)
class Interval:
    """A value and the ends of its 95 % interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{told(self.value)} ({told(self.low)} to {told(self.high)})"


@dataclass(frozen=True)
class Evidence:
    """What is known of a candidate.

    Attributes
    ----------
    candidate, champion : int or None
        Version numbers; no champion for a book's first model.
    quality : Interval
        Of the candidate on its holdout, in the metric that has a floor.
    gain : Interval
        How much less the candidate is off than the baseline, on the same rows; above zero is better.
    paired_rows : int
        Rows that neither was trained on; 0 without a champion.
    difference : Interval or None
        How much better the candidate is than the champion on those rows, in the headline metric.
    names : tuple of str
        Metrics of quality, gain and difference, for people.
    """

    candidate: int
    champion: int | None
    quality: Interval
    gain: Interval
    paired_rows: int = 0
    difference: Interval | None = None
    names: tuple[str, str, str] = ("ROC AUC", "log loss", "ROC AUC")


def gather(
    task: Task, metrics: dict[str, Any], candidate: int, champion: int | None, pairs: int, differences: pd.DataFrame
) -> Evidence:
    """Evidence from what a version keeps (``metrics``) and from the paired comparison, which may be empty."""
    found = {row["metric"]: row for row in metrics["evaluation"]}[task.floored]
    rows = differences[differences["metric"] == task.headline].to_dict("records")
    paired = Interval(*(rows[0][name] for name in ("difference", "low", "high"))) if rows else None
    return Evidence(
        candidate, champion,
        quality=Interval(found["value"], found["low"], found["high"]),
        gain=Interval(*metrics["gain"]),
        paired_rows=pairs,
        difference=paired,
        names=(label(task.floored), label(task.gained), label(task.headline)),
    )  # fmt: skip


@dataclass(frozen=True)
class Criterion:
    """One thing the gate asks for, and what it found."""

    name: str
    required: str
    found: str
    passed: bool


@dataclass(frozen=True)
class Decision:
    """Promote or hold, with every criterion that led to it."""

    word: str
    criteria: list[Criterion]

    def table(self) -> list[dict[str, Any]]:
        """The criteria as plain rows: ``name, required, found, passed``."""
        return [asdict(criterion) for criterion in self.criteria]

    @property
    def reasons(self) -> list[str]:
        """Why, in sentences: what failed for a hold, what was met for a promotion."""
        which = [c for c in self.criteria if c.passed == (self.word == PROMOTE)]
        return [f"{c.name[:1].upper()}{c.name[1:]}: {c.found}, required {c.required}." for c in which]


def decide(evidence: Evidence, *, floor: float, margin: float, paired_rows: int) -> Decision:
    """Promote when every criterion passes, else hold.

    Parameters
    ----------
    floor : float
        The low end of the candidate's quality must reach it.
    margin : float
        What the candidate may lose against the champion, by the low end of the paired difference.
    paired_rows : int
        Fewest rows for that comparison.
    """
    criteria = [
        Criterion(
            f"{evidence.names[0]} above the floor",
            f"low end at least {floor:g}",
            str(evidence.quality),
            evidence.quality.low >= floor,
        ),
        Criterion(
            f"{evidence.names[1]} better than the baseline",
            "low end of the gain above 0",
            str(evidence.gain),
            evidence.gain.low > 0,
        ),
    ]
    if evidence.champion is not None:
        criteria += _against_champion(evidence, margin, paired_rows)
    return Decision(PROMOTE if all(c.passed for c in criteria) else HOLD, criteria)


def _against_champion(evidence: Evidence, margin: float, paired_rows: int) -> list[Criterion]:
    who, rows = f"version {evidence.champion}", evidence.paired_rows
    beside, seen = f"version {evidence.candidate} beside {who}", f"{rows:,} that neither was trained on"
    another = evidence.candidate != evidence.champion
    criteria = [
        Criterion("another version than the champion", "a new version", beside, another),
        Criterion("rows to compare on", f"at least {paired_rows:,}", seen, rows >= paired_rows),
    ]
    if evidence.difference is not None or rows >= paired_rows:  # too few rows have failed above already
        found = evidence.difference
        shown, passed = ("rows that turned out alike", False) if found is None else (str(found), found.low >= -margin)
        criteria.append(
            Criterion(f"{evidence.names[2]} not worse than {who}", f"low end at least -{margin:g}", shown, passed)
        )
    return criteria
