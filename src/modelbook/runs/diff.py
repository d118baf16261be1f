"""Compare two runs: code, data, parameters, libraries, stages, verdicts and metrics."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from modelbook.runs.record import BuildRun, StageRun
from modelbook.tasks.metric_format import HEADLINE_METRICS

COMPARED_METRICS = (*HEADLINE_METRICS, "pr_auc")  # listed even if they are equal
NUMBER_TEXT = re.compile(r"([^\d-]*)(-?[\d,]*\.?\d+)(.*)")  # "20,190", "± 0.005", "65%"
DURATION = re.compile(r"[\d.,]+ s")  # differs in every run
NO_STAGE_RUN = StageRun("not in this run")


@dataclass(frozen=True)
class Change:
    """One difference between two runs; ``a`` or ``b`` is None if that run has no such value.

    Attributes
    ----------
    kind : str
        run, commit, code, data, parameter, library, processor, folds, stage, verdict or metric.
        Folds are listed even if they are equal.
    difference : float or None
        b minus a, if both are numbers with the same unit.
    """

    kind: str
    name: str
    a: Any
    b: Any
    difference: float | None = None
    note: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return the change as plain JSON."""
        return asdict(self)


def find_changes(a: BuildRun, b: BuildRun) -> list[Change]:
    """Return all differences from ``a`` to ``b``, causes before effects."""
    names = [*a.stages, *(name for name in b.stages if name not in a.stages)]
    steps = {
        name: (a.stages.get(name, NO_STAGE_RUN), b.stages.get(name, NO_STAGE_RUN)) for name in names
    }
    # Verdicts and metrics can be compared only if the stage has a result in both runs.
    comparable = {
        name: pair for name, pair in steps.items() if pair[0].has_result and pair[1].has_result
    }
    return [
        *_run_changes(a, b),
        *_code_changes(steps),
        *_data_changes(a, b),
        *_parameter_changes(steps),
        *_library_changes(a, b),
        *_processor_changes(a, b),
        *_fold_changes(steps),
        *_state_changes(steps),
        *_verdict_changes(comparable),
        *(change for name, pair in steps.items() for change in _metric_changes(name, *pair)),
    ]


def find_unchanged(a: BuildRun, b: BuildRun) -> list[Change]:
    """Return the parameters and metrics that are equal in ``a`` and ``b``."""
    unchanged = []
    for name, first in a.stages.items():
        second = b.stages.get(name, NO_STAGE_RUN)
        parameters = [
            {parameter["name"]: parameter["value"] for parameter in step.parameters}
            for step in (first, second)
        ]
        unchanged += [
            Change("parameter", f"{name}.{key}", parameter_value, parameter_value)
            for key, parameter_value in parameters[0].items()
            if parameters[1].get(key) == parameter_value
        ]
        if first.has_result and second.has_result:
            before, after = (
                _metric_values(step) if first.metrics else _verdict_numbers(step)
                for step in (first, second)
            )
            unchanged += [
                Change(
                    "metric", f"{name}.{key}", value, value, 0 if isinstance(value, float) else None
                )
                for key, value in before.items()
                if key not in COMPARED_METRICS and _is_equal(value, after.get(key))
            ]
    return unchanged


def _run_changes(a: BuildRun, b: BuildRun) -> Iterator[Change]:
    yield from _change_if_different("run", "command", a.command, b.command)
    yield from _change_if_different("run", "environment", a.env_file, b.env_file)
    yield from _change_if_different("run", "ended", a.status, b.status)
    yield from _change_if_different(
        "commit", "commit", a.commit, b.commit, note=_uncommitted_note(a, b)
    )


def _uncommitted_note(a: BuildRun, b: BuildRun) -> str:
    with_changes = [str(run.number) for run in (a, b) if run.commit.endswith("+")]
    return f"uncommitted changes in {' and '.join(with_changes)}" if with_changes else ""


def _code_changes(steps: Mapping[str, tuple[StageRun, StageRun]]) -> Iterator[Change]:
    for name, (a, b) in steps.items():
        for kind in ("notebook", "modules"):
            before, after = (step.code_digests.get(kind, "")[:10] for step in (a, b))
            if before and after:
                # The digest of ingest also covers contract and table.
                more = ", contract or table" if (name, kind) == ("ingest", "modules") else ""
                yield from _change_if_different("code", f"{name}: {kind}{more}", before, after)


def _data_changes(a: BuildRun, b: BuildRun) -> Iterator[Change]:
    yield from _change_if_different(
        "data", "fingerprint", a.fingerprint or None, b.fingerprint or None
    )
    if a.rows != b.rows:
        yield Change("data", "rows", a.rows, b.rows, _subtract(a.rows, b.rows))


def _parameter_changes(steps: Mapping[str, tuple[StageRun, StageRun]]) -> Iterator[Change]:
    for stage, pair in steps.items():
        a, b = ({parameter["name"]: parameter for parameter in step.parameters} for step in pair)
        if not (a and b):
            continue  # a run has no parameters of this stage
        for name in {**a, **b}:
            before, after = (by_name.get(name, {}) for by_name in (a, b))
            origins = dict.fromkeys(
                parameter["origin"] for parameter in (before, after) if parameter.get("origin")
            )
            values = before.get("value"), after.get("value")
            yield from _change_if_different(
                "parameter", f"{stage}.{name}", *values, note=", then ".join(origins)
            )


def _library_changes(a: BuildRun, b: BuildRun) -> Iterator[Change]:
    before, after = (
        {k: v for step in run.stages.values() for k, v in step.library_versions.items()}
        for run in (a, b)
    )
    if before and after:
        for name in {**before, **after}:
            yield from _change_if_different("library", name, before.get(name), after.get(name))


def _processor_changes(a: BuildRun, b: BuildRun) -> Iterator[Change]:
    """Vector instructions of only one of the runs; they affect the last digits of a fit."""
    before, after = (
        {name for step in run.stages.values() for name in step.processor} for run in (a, b)
    )
    if before and after:
        for name in sorted(before ^ after):
            a_has, b_has = ("yes" if name in features else "no" for features in (before, after))
            yield Change("processor", name, a_has, b_has)


def _fold_changes(steps: Mapping[str, tuple[StageRun, StageRun]]) -> Iterator[Change]:
    """Compare the fold assignment of the first stage that has one in both runs."""
    for name, pair in steps.items():
        before, after = (step.digests.get("folds") for step in pair)
        if before and after:
            note = (
                "same folds"
                if before == after
                else "different folds: scores are not computed on the same rows"
            )
            yield Change("folds", f"{name}: fold assignment", before, after, note=note)
            return


def _state_changes(steps: Mapping[str, tuple[StageRun, StageRun]]) -> Iterator[Change]:
    for name, (a, b) in steps.items():
        reasons = dict.fromkeys(step.message for step in (a, b) if step.message)
        before, after = (None if step is NO_STAGE_RUN else step.state for step in (a, b))
        yield from _change_if_different("stage", name, before, after, note="; ".join(reasons))


def _verdict_changes(comparable: Mapping[str, tuple[StageRun, StageRun]]) -> Iterator[Change]:
    for name, (a, b) in comparable.items():
        yield from _change_if_different("verdict", name, a.word, b.word)


def _metric_changes(stage: str, a: StageRun, b: StageRun) -> Iterator[Change]:
    """Compare a stage's metrics, or its verdict's key figures if it has no metrics."""
    has_metrics = bool(a.metrics or b.metrics)
    excluded = ("rows",) if stage == "ingest" else ()  # listed under data
    before, after = (
        _metric_values(step) if has_metrics else _verdict_numbers(step) for step in (a, b)
    )
    for name in (name for name in {**before, **after} if name not in excluded):
        values = before.get(name), after.get(name)
        has_results = a.has_result and b.has_result
        if name in COMPARED_METRICS or (has_results and not _is_equal(*values)):
            change = _subtract(*values) if has_metrics else _subtract_text(*values)
            yield Change("metric", f"{stage}.{name}", *values, change, _interval_note(name, a, b))


def _metric_values(step: StageRun) -> dict[str, Any]:
    bounds = {f"{name}_{end}" for name in step.metrics for end in ("low", "high")}
    return {name: value for name, value in step.metrics.items() if name not in bounds}


def _verdict_numbers(step: StageRun) -> dict[str, Any]:
    return {
        number["name"]: number["value"]
        for number in step.numbers
        if not DURATION.fullmatch(number["value"])
    }


def _interval_note(name: str, a: StageRun, b: StageRun) -> str:
    intervals = [
        (step.metrics.get(f"{name}_low"), step.metrics.get(f"{name}_high")) for step in (a, b)
    ]
    texts = [
        f"{low:.3f} to {high:.3f}"
        for low, high in intervals
        if low is not None and high is not None
    ]
    return ", then ".join(dict.fromkeys(texts))


def _is_equal(a: Any, b: Any) -> bool:
    if isinstance(a, float) and isinstance(b, float):
        return round(a, 6) == round(b, 6)
    return a == b


def _subtract(a: float | None, b: float | None) -> float | None:
    return None if a is None or b is None else round(b - a, 6)


def _subtract_text(a: str | None, b: str | None) -> float | None:
    """Return the difference of two formatted numbers with the same prefix and unit."""
    x, y = NUMBER_TEXT.fullmatch(a or ""), NUMBER_TEXT.fullmatch(b or "")
    # Version numbers are not quantities.
    if not (x and y) or (x[1], x[3]) != (y[1], y[3]) or "version" in x[1]:
        return None
    return _subtract(float(x[2].replace(",", "")), float(y[2].replace(",", "")))


def _change_if_different(kind: str, name: str, a: Any, b: Any, note: str = "") -> Iterator[Change]:
    if a != b:
        yield Change(kind, name, a, b, note=note)
