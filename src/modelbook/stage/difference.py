"""What changed between two runs: their making, code, data, parameters and libraries; their stages and what came out."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from modelbook.stage.record import Run, Step
from modelbook.tasks.names import HEADLINES

HEADLINE = (*HEADLINES, "pr_auc")  # metrics that are listed also when they are equal
TEXT = re.compile(r"([^\d-]*)(-?[\d,]*\.?\d+)(.*)")  # a verdict's number: "20,190", "± 0.005", "65%"
DURATION = re.compile(r"[\d.,]+ s")  # differs by itself
NO_STEP = Step("not in this run")


@dataclass(frozen=True)
class Change:
    """One thing that differs. ``a`` and ``b`` are None where a run does not have it.

    Attributes
    ----------
    about : str
        run, commit, code, data, parameter, library, processor, folds, stage, verdict or metric. Folds are listed also
        when they are the same.
    difference : float or None
        b minus a, where both are numbers (of one unit).
    """

    about: str
    name: str
    a: Any
    b: Any
    difference: float | None = None
    note: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain JSON."""
        return asdict(self)


def between(a: Run, b: Run) -> list[Change]:
    """Everything that differs from ``a`` to ``b``, causes before effects."""
    names = [*a.stages, *(name for name in b.stages if name not in a.stages)]
    steps = {name: (a.stages.get(name, NO_STEP), b.stages.get(name, NO_STEP)) for name in names}
    # What a stage found, and with which code, can be compared only where it stands in both runs.
    both = {name: pair for name, pair in steps.items() if pair[0].stands and pair[1].stands}
    return [
        *_made(a, b), *_code(steps), *_data(a, b), *_parameters(steps), *_libraries(a, b),
        *_processor(a, b), *_folds(steps), *_states(steps),
        *_verdicts(both), *(change for name, pair in steps.items() for change in _metrics(name, *pair)),
    ]  # fmt: skip


def alike(a: Run, b: Run) -> list[Change]:
    """Parameters and metrics that are the same in ``a`` and ``b``."""
    found = []
    for name, first in a.stages.items():
        second = b.stages.get(name, NO_STEP)
        told = [{one["name"]: one["value"] for one in step.parameters} for step in (first, second)]
        found += [Change("parameter", f"{name}.{key}", v, v) for key, v in told[0].items() if told[1].get(key) == v]
        if first.stands and second.stands:
            before, after = (_measured(step) if first.metrics else _told(step) for step in (first, second))
            found += [
                Change("metric", f"{name}.{key}", value, value, 0 if isinstance(value, float) else None)
                for key, value in before.items() if key not in HEADLINE and _equal(value, after.get(key))
            ]  # fmt: skip
    return found


def _made(a: Run, b: Run) -> Iterator[Change]:
    for name in ("command", "environment", "ended"):
        yield from _unless_equal("run", name, getattr(a, name), getattr(b, name))
    yield from _unless_equal("commit", "commit", a.commit, b.commit, note=_uncommitted(a, b))


def _uncommitted(a: Run, b: Run) -> str:
    with_changes = [str(run.number) for run in (a, b) if run.commit.endswith("+")]
    return f"uncommitted changes in {' and '.join(with_changes)}" if with_changes else ""


def _code(steps: Mapping[str, tuple[Step, Step]]) -> Iterator[Change]:
    for name, (a, b) in steps.items():
        for kind in ("notebook", "modules"):
            before, after = (step.code.get(kind, "")[:10] for step in (a, b))
            if before and after:
                # The build's digest for ingest covers contract and table too.
                more = ", contract or table" if (name, kind) == ("ingest", "modules") else ""
                yield from _unless_equal("code", f"{name}: {kind}{more}", before, after)


def _data(a: Run, b: Run) -> Iterator[Change]:
    yield from _unless_equal("data", "fingerprint", a.fingerprint or None, b.fingerprint or None)
    if a.rows != b.rows:
        yield Change("data", "rows", a.rows, b.rows, _minus(a.rows, b.rows))


def _parameters(steps: Mapping[str, tuple[Step, Step]]) -> Iterator[Change]:
    for stage, pair in steps.items():
        a, b = ({told["name"]: told for told in step.parameters} for step in pair)
        if not (a and b):
            continue  # the stage left none in one of the runs: nothing is known
        for name in {**a, **b}:
            before, after = (told.get(name, {}) for told in (a, b))
            origins = dict.fromkeys(told["origin"] for told in (before, after) if told.get("origin"))
            values = before.get("value"), after.get("value")
            yield from _unless_equal("parameter", f"{stage}.{name}", *values, note=", then ".join(origins))


def _libraries(a: Run, b: Run) -> Iterator[Change]:
    before, after = ({k: v for step in run.stages.values() for k, v in step.versions.items()} for run in (a, b))
    if before and after:
        for name in {**before, **after}:
            yield from _unless_equal("library", name, before.get(name), after.get(name))


def _processor(a: Run, b: Run) -> Iterator[Change]:
    """Vector instructions that only one of the runs had: they move the last digits of a fit."""
    before, after = ({name for step in run.stages.values() for name in step.processor} for run in (a, b))
    if before and after:
        for name in sorted(before ^ after):
            a_has, b_has = ("yes" if name in features else "no" for features in (before, after))
            yield Change("processor", name, a_has, b_has)


def _folds(steps: Mapping[str, tuple[Step, Step]]) -> Iterator[Change]:
    """The fold assignment of the first stage that has one in both runs."""
    for name, pair in steps.items():
        before, after = (step.digests.get("folds") for step in pair)
        if before and after:
            note = "same folds" if before == after else "other folds: their scores are not of the same rows"
            yield Change("folds", f"{name}: fold assignment", before, after, note=note)
            return


def _states(steps: Mapping[str, tuple[Step, Step]]) -> Iterator[Change]:
    for name, (a, b) in steps.items():
        reasons = dict.fromkeys(step.message for step in (a, b) if step.message)
        before, after = (None if step is NO_STEP else step.state for step in (a, b))
        yield from _unless_equal("stage", name, before, after, note="; ".join(reasons))


def _verdicts(both: Mapping[str, tuple[Step, Step]]) -> Iterator[Change]:
    for name, (a, b) in both.items():
        yield from _unless_equal("verdict", name, a.word, b.word)


def _metrics(stage: str, a: Step, b: Step) -> Iterator[Change]:
    """Measured metrics where the stage has them, else its verdict's numbers."""
    measured = bool(a.metrics or b.metrics)
    aside = ("rows",) if stage == "ingest" else ()  # told with the data
    before, after = (_measured(step) if measured else _told(step) for step in (a, b))
    for name in (name for name in {**before, **after} if name not in aside):
        values = before.get(name), after.get(name)
        known = a.stands and b.stands
        if name in HEADLINE or (known and not _equal(*values)):
            change = _minus(*values) if measured else _apart(*values)
            yield Change("metric", f"{stage}.{name}", *values, change, _intervals(name, a, b))


def _measured(step: Step) -> dict[str, Any]:
    bounds = {f"{name}_{end}" for name in step.metrics for end in ("low", "high")}
    return {name: value for name, value in step.metrics.items() if name not in bounds}


def _told(step: Step) -> dict[str, Any]:
    return {told["name"]: told["value"] for told in step.numbers if not DURATION.fullmatch(told["value"])}


def _intervals(name: str, a: Step, b: Step) -> str:
    found = [(step.metrics.get(f"{name}_low"), step.metrics.get(f"{name}_high")) for step in (a, b)]
    told = [f"{low:.3f} to {high:.3f}" for low, high in found if low is not None and high is not None]
    return ", then ".join(dict.fromkeys(told))


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, float) and isinstance(b, float):
        return round(a, 6) == round(b, 6)
    return a == b


def _minus(a: float | None, b: float | None) -> float | None:
    return None if a is None or b is None else round(b - a, 6)


def _apart(a: str | None, b: str | None) -> float | None:
    """The difference of two numbers that stand in the same words."""
    x, y = TEXT.fullmatch(a or ""), TEXT.fullmatch(b or "")
    if not (x and y) or (x[1], x[3]) != (y[1], y[3]) or "version" in x[1]:  # numbers of versions measure nothing
        return None
    return _minus(float(x[2].replace(",", "")), float(y[2].replace(",", "")))


def _unless_equal(about: str, name: str, a: Any, b: Any, note: str = "") -> Iterator[Change]:
    if a != b:
        yield Change(about, name, a, b, note=note)
