"""The gate: promote or hold, a pure function of evidence."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

PROMOTE, HOLD = "promote", "hold"


@dataclass(frozen=True)
class Interval:
    """A value and the ends of its 95 % interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f})"


@dataclass(frozen=True)
class Evidence:
    """What is known of a candidate.

    Attributes
    ----------
    candidate, champion : int or None
        Version numbers; no champion for a book's first model.
    roc_auc : Interval
        Of the candidate on its holdout.
    gain : Interval
        Log loss of the baseline minus the candidate's, on the same rows; above zero is better.
    paired_rows : int
        Rows that neither was trained on; 0 without a champion.
    difference : Interval or None
        ROC AUC of candidate minus champion on those rows.
    """

    candidate: int
    champion: int | None
    roc_auc: Interval
    gain: Interval
    paired_rows: int = 0
    difference: Interval | None = None


def gather(
    metrics: dict[str, Any], candidate: int, champion: int | None, pairs: int, differences: dict[str, Any] | None
) -> Evidence:
    """Evidence from what a version keeps (``metrics``) and the ROC AUC row of the paired comparison, if any."""
    found = {row["metric"]: row for row in metrics["evaluation"]}["roc_auc"]
    paired = Interval(*(differences[name] for name in ("difference", "low", "high"))) if differences else None
    return Evidence(
        candidate, champion,
        roc_auc=Interval(found["value"], found["low"], found["high"]),
        gain=Interval(*metrics["gain"]),
        paired_rows=pairs,
        difference=paired,
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
        told = [c for c in self.criteria if c.passed == (self.word == PROMOTE)]
        return [f"{c.name[:1].upper()}{c.name[1:]}: {c.found}, required {c.required}." for c in told]


def decide(evidence: Evidence, *, floor: float, margin: float, paired_rows: int) -> Decision:
    """Promote when every criterion passes, else hold.

    Parameters
    ----------
    floor : float
        The low end of the candidate's ROC AUC must reach it.
    margin : float
        ROC AUC that the candidate may lose against the champion, by the low end of the paired difference.
    paired_rows : int
        Fewest rows for that comparison.
    """
    criteria = [
        Criterion(
            "ROC AUC above the floor",
            f"low end at least {floor:g}",
            str(evidence.roc_auc),
            evidence.roc_auc.low >= floor,
        ),
        Criterion(
            "log loss better than the baseline",
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
        told, passed = ("no rows of both classes", False) if found is None else (str(found), found.low >= -margin)
        criteria.append(Criterion(f"ROC AUC not worse than {who}", f"low end at least -{margin:g}", told, passed))
    return criteria
