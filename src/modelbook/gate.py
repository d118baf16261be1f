"""The gate: promote or hold, a pure function of evidence.

There are two kinds of criteria. A candidate must show that it is good: the unfavourable end of an interval has to reach
the bound. And it must not be shown to do harm (to a slice, to a group, to the truth of its answers): these fail where
the whole interval lies beyond the bound, because a small slice could never show that it is well.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from math import isfinite
from typing import TYPE_CHECKING, Any

from modelbook.tasks.names import label, told

if TYPE_CHECKING:
    import pandas as pd

    from modelbook.config import Deploy
    from modelbook.tasks.base import Task

PROMOTE, HOLD = "promote", "hold"
SAME = 1e-6  # largest difference of answers that are the same; as scoring.compiled.TOLERANCE


@dataclass(frozen=True)
class Interval:
    """A value and the ends of its 95 % interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{told(self.value)} ({told(self.low)} to {told(self.high)})"

    @property
    def sure(self) -> float:
        """The end that is nearer to 0; 0 where chance alone may be behind the value."""
        return self.low if self.low > 0 else self.high if self.high < 0 else 0.0


@dataclass(frozen=True)
class Evidence:
    """What is known of a candidate. What is None, or empty, could not be looked at.

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
    slices : tuple
        The same in each slice: name, interval; the worst has one, and each that lost more than the gate allows.
    gaps : tuple
        How far each group of a sensitive column is from the largest, in the task's first metric: name, interval.
    off : Interval or None
        How far answers are off on the whole; of a number, in standard deviations of the outcomes.
    served : str or None
        What answers in the model's place, and how it was proven.
    same : bool
        Whether its answers are the model's.
    milliseconds, megabytes : float or None
        What an answer takes, and how large that is which answers.
    names : tuple of str
        Metrics of quality, gain and difference, for people.
    """

    candidate: int
    champion: int | None
    quality: Interval
    gain: Interval
    paired_rows: int = 0
    difference: Interval | None = None
    slices: tuple[tuple[str, Interval], ...] = ()
    gaps: tuple[tuple[str, Interval], ...] = ()
    off: Interval | None = None
    served: str | None = None
    same: bool = False
    milliseconds: float | None = None
    megabytes: float | None = None
    names: tuple[str, str, str] = ("ROC AUC", "log loss", "ROC AUC")


def gather(
    task: Task, metrics: dict[str, Any], candidate: int, champion: int | None, pairs: int, differences: pd.DataFrame,
    slices: pd.DataFrame | None = None, cost: tuple[float, float] | None = None,
) -> Evidence:  # fmt: skip
    """Evidence from what a version keeps (``metrics``), from the paired comparison, which may be empty, and its cost.

    Parameters
    ----------
    differences, slices : DataFrame
        From ``evaluation.differences`` and ``evaluation.slice_differences``.
    cost : tuple of float, optional
        Milliseconds of an answer, megabytes of what answers.
    """
    rows = {row["metric"]: row for row in metrics["evaluation"]}
    headline = differences[differences["metric"] == task.headline].to_dict("records")
    return Evidence(
        candidate, champion,
        quality=_interval(rows[task.floored], "value"),
        gain=Interval(*metrics["gain"]),
        paired_rows=pairs,
        difference=_interval(headline[0], "difference") if headline else None,
        slices=_named(task, [] if slices is None else slices.to_dict("records"), "difference"),
        gaps=_named(task, [row for row in metrics.get("gaps", []) if row["metric"] == task.in_gaps[0]], "gap"),
        off=_relative(task, rows[task.off], "value", rows[task.gained]["baseline"]) if task.off in rows else None,
        milliseconds=cost[0] if cost else None,
        megabytes=cost[1] if cost else None,
        names=(label(task.floored), label(task.gained), label(task.headline)),
        **_answering(metrics.get("scorer")),
    )  # fmt: skip


@dataclass(frozen=True)
class Criterion:
    """One thing the gate asks for, and what it found; ``passed`` is None where it could not be judged."""

    name: str
    required: str
    found: str
    passed: bool | None

    @property
    def sentence(self) -> str:
        first = f"{self.name[:1].upper()}{self.name[1:]}: {self.found}"
        return f"{first}; not judged." if self.passed is None else f"{first}, required {self.required}."


@dataclass(frozen=True)
class Decision:
    """Promote or hold, with every criterion that led to it."""

    word: str
    criteria: list[Criterion]

    def table(self) -> list[dict[str, Any]]:
        """The criteria as plain rows: ``name, required, found, passed, sentence``."""
        return [{**asdict(criterion), "sentence": criterion.sentence} for criterion in self.criteria]

    @property
    def reasons(self) -> list[str]:
        """Why, in sentences: what failed for a hold, what was met for a promotion."""
        return [c.sentence for c in self.criteria if c.passed == (self.word == PROMOTE)]


def decide(evidence: Evidence, bounds: Deploy, floor: float) -> Decision:
    """Promote when no criterion fails, else hold.

    Parameters
    ----------
    bounds : Deploy
        The stage's parameters, which say what is asked.
    floor : float
        The low end of the candidate's quality must reach it.
    """
    quality, gain = evidence.quality, evidence.gain
    criteria = [
        Criterion(f"{evidence.names[0]} above the floor", f"low end at least {floor:g}", str(quality),
                  quality.low >= floor),
        Criterion(f"{evidence.names[1]} better than the baseline", "low end of the gain above 0", str(gain),
                  gain.low > 0),
    ]  # fmt: skip
    if evidence.champion is not None:
        criteria += _against_champion(evidence, bounds)
    criteria += [
        _harm("gaps between groups", evidence.gaps, bounds.fairness, "no group to compare", both=True),
        _harm("answers true on the whole", [("", evidence.off)] if evidence.off else [], bounds.calibration,
              "nothing was kept to tell by", both=True),
        Criterion("the served form answers as the model", "the same answers",
                  evidence.served or "nothing was kept to tell by", evidence.same if evidence.served else None),
        _cost("time of an answer", evidence.milliseconds, bounds.latency, "ms"),
        _cost("size of what answers", evidence.megabytes, bounds.size, "MB"),
    ]  # fmt: skip
    failed = [c for c in criteria if c.passed is not None and not c.passed]
    return Decision(HOLD if failed else PROMOTE, criteria)


def _against_champion(evidence: Evidence, bounds: Deploy) -> list[Criterion]:
    who, rows, margin = f"version {evidence.champion}", evidence.paired_rows, bounds.margin
    beside, seen = f"version {evidence.candidate} beside {who}", f"{rows:,} that neither was trained on"
    another = evidence.candidate != evidence.champion
    criteria = [
        Criterion("another version than the champion", "a new version", beside, another),
        Criterion("rows to compare on", f"at least {bounds.paired_rows:,}", seen, rows >= bounds.paired_rows),
    ]
    if evidence.difference is not None or rows >= bounds.paired_rows:  # too few rows have failed above already
        found, word = evidence.difference, "not worse" if margin >= 0 else "better"
        shown, passed = ("rows that turned out alike", False) if found is None else (str(found), found.low >= -margin)
        criteria.append(
            Criterion(f"{evidence.names[2]} {word} than {who}", f"low end at least {0 - margin:g}", shown, passed)
        )
    none = "no slice has enough rows to compare"
    return [*criteria, _harm(f"slices not worse than {who}", evidence.slices, bounds.slice_loss, none, both=False)]


def _harm(name: str, found: Iterable[tuple[str, Interval]], bound: float, none: str, *, both: bool) -> Criterion:
    """Fails where a whole interval lies beyond the bound: below ``-bound``, and with ``both`` above ``bound`` too."""
    found = list(found)
    known = [(place, one) for place, one in found if isfinite(one.low) and isfinite(one.high)]
    required = f"nothing surely beyond ±{bound:g}" if both else f"nothing surely below {0 - bound:g}"
    if not known:
        return Criterion(name, required, none, None)

    def size(one: Interval) -> tuple[float, float]:
        return (abs(one.sure), abs(one.value)) if both else (-one.sure, -one.value)

    place, worst = max(known, key=lambda pair: size(pair[1]))
    told_place = f"{place}: {worst}" if place else str(worst)
    shown = f"{told_place}, the worst of {len(found)}" if len(found) > 1 else told_place
    return Criterion(name, required, shown, size(worst)[0] <= bound)


def _cost(name: str, found: float | None, bound: float, unit: str) -> Criterion:
    required = f"at most {bound:g} {unit}"
    if found is None:
        return Criterion(name, required, "it was not measured", None)
    return Criterion(name, required, f"{found:.2g} {unit}" if found < 10 else f"{found:,.0f} {unit}", found <= bound)


def _interval(row: dict[str, Any], value: str) -> Interval:
    return Interval(row[value], row["low"], row["high"])


def _relative(task: Task, row: dict[str, Any], value: str, to: float) -> Interval:
    return Interval(*(task.relative(row[name], to) for name in (value, "low", "high")))


def _named(task: Task, rows: list[dict[str, Any]], value: str) -> tuple[tuple[str, Interval], ...]:
    """Each slice's or group's interval, by a name for people."""
    name = task.contract.label
    return tuple(
        (f"{name(row['slice'])} {row['value']}", _relative(task, row, value, row["other"]) if value == "gap"
         else _interval(row, value))
        for row in rows
    )  # fmt: skip


def _answering(scorer: dict[str, Any] | None) -> dict[str, Any]:
    if scorer is None:
        return {}
    proof = scorer["proof"]
    if proof is None:
        return {"served": "the model itself answers", "same": True}
    shown = f"{scorer['name']}: {proof['flips']} other labels in {proof['rows']:,} rows"
    return {"served": shown, "same": proof["flips"] == 0 and proof["worst"] <= SAME}
