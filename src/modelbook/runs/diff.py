"""Compare two runs: code, data, parameters, libraries, stages, verdicts and metrics."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from modelbook.runs.record import BuildRun, StageRecord
from modelbook.tasks.metric_format import HEADLINE_METRICS

COMPARED_METRICS = (*HEADLINE_METRICS, "pr_auc")  # listed even if they are equal
NO_RECORD = StageRecord("not in this run")

StagePairs = Mapping[str, tuple[StageRecord, StageRecord]]


@dataclass(frozen=True)
class Change:
    """A value of two runs; ``a`` or ``b`` is None if that run has no such value.

    Attributes
    ----------
    kind : str
        run, commit, code, data, parameter, library, processor, folds, stage, verdict or metric.
    unit : str
        The unit of a number, see ``formatting.key_number``.
    """

    kind: str
    name: str
    a: Any
    b: Any
    note: str = ""
    unit: str = ""

    @property
    def difference(self) -> float | None:
        """b minus a, if both are quantities."""
        is_quantity = self.kind in ("data", "metric") and self.unit != "version"
        if is_quantity and isinstance(self.a, int | float) and isinstance(self.b, int | float):
            return round(self.b - self.a, 6)
        return None

    @property
    def is_equal(self) -> bool:
        """Whether the value is the same in both runs."""
        return self.a == self.b or self.difference == 0

    @property
    def is_always_listed(self) -> bool:
        """Whether it is listed among the changes even if it is equal."""
        metric = self.name.partition(".")[2]
        return self.kind == "folds" or (self.kind == "metric" and metric in COMPARED_METRICS)

    def to_dict(self) -> dict[str, Any]:
        """Return the change as plain JSON."""
        return asdict(self) | {"difference": self.difference}


def find_changes(a: BuildRun, b: BuildRun) -> list[Change]:
    """Return all differences from ``a`` to ``b``, causes before effects, and headline metrics."""
    return [value for value in _compare(a, b) if value.is_always_listed or not value.is_equal]


def find_unchanged(a: BuildRun, b: BuildRun) -> list[Change]:
    """Return the parameters and metrics that are equal in ``a`` and ``b``."""
    return [
        value
        for value in _compare(a, b)
        if value.kind in ("parameter", "metric") and value.is_equal and not value.is_always_listed
    ]


def _compare(a: BuildRun, b: BuildRun) -> Iterator[Change]:
    """Yield every value that is recorded for both runs, or for one of them."""
    pairs = {
        name: (a.stages.get(name, NO_RECORD), b.stages.get(name, NO_RECORD))
        for name in {**a.stages, **b.stages}
    }
    yield Change("run", "command", a.command, b.command)
    yield Change("run", "environment", a.env_file, b.env_file)
    yield Change("run", "ended", a.status, b.status)
    uncommitted = [str(run.number) for run in (a, b) if run.commit.endswith("+")]
    note = f"uncommitted changes in {' and '.join(uncommitted)}" if uncommitted else ""
    yield Change("commit", "commit", a.commit, b.commit, note)
    yield from _compare_code(pairs)
    yield Change("data", "fingerprint", a.fingerprint or None, b.fingerprint or None)
    yield Change("data", "rows", a.rows, b.rows, unit="count")
    yield from _compare_parameters(pairs)
    yield from _compare_libraries(a, b)
    yield from _compare_folds(pairs)
    yield from _compare_results(pairs)


def _compare_code(pairs: StagePairs) -> Iterator[Change]:
    for name, pair in pairs.items():
        for kind in ("notebook", "modules"):
            before, after = (stage_run.code_digests.get(kind, "")[:10] for stage_run in pair)
            if before and after:
                # The digest of ingest also covers contract and table.
                scope = ", contract or table" if (name, kind) == ("ingest", "modules") else ""
                yield Change("code", f"{name}: {kind}{scope}", before, after)


def _compare_parameters(pairs: StagePairs) -> Iterator[Change]:
    for stage, pair in pairs.items():
        a, b = (
            {parameter["name"]: parameter for parameter in stage_run.parameters}
            for stage_run in pair
        )
        if not (a and b):
            continue  # a run has no parameters of this stage
        for name in {**a, **b}:
            values = [by_name.get(name, {}) for by_name in (a, b)]
            origins = dict.fromkeys(filter(None, (value.get("origin") for value in values)))
            before, after = (value.get("value") for value in values)
            yield Change("parameter", f"{stage}.{name}", before, after, ", then ".join(origins))


def _compare_libraries(a: BuildRun, b: BuildRun) -> Iterator[Change]:
    """Compare library versions, and vector instructions, which affect the last digits of a fit."""
    before, after = (
        {k: v for stage_run in run.stages.values() for k, v in stage_run.library_versions.items()}
        for run in (a, b)
    )
    if before and after:
        for name in {**before, **after}:
            yield Change("library", name, before.get(name), after.get(name))
    in_a, in_b = (
        {name for stage_run in run.stages.values() for name in stage_run.processor}
        for run in (a, b)
    )
    if in_a and in_b:
        for name in sorted(in_a ^ in_b):
            yield Change(
                "processor",
                name,
                *("yes" if name in features else "no" for features in (in_a, in_b)),
            )


def _compare_folds(pairs: StagePairs) -> Iterator[Change]:
    """Compare the fold assignment of the first stage that has one in both runs."""
    for name, pair in pairs.items():
        before, after = (stage_run.digests.get("folds") for stage_run in pair)
        if before and after:
            is_same = before == after
            note = "different folds: scores are not computed on the same rows"
            note = "same folds" if is_same else note
            yield Change("folds", f"{name}: fold assignment", before, after, note)
            return


def _compare_results(pairs: StagePairs) -> Iterator[Change]:
    """Compare states, then verdicts and metrics, where the stage has a result in both runs."""
    for name, pair in pairs.items():
        reasons = dict.fromkeys(stage_run.message for stage_run in pair if stage_run.message)
        before, after = (None if stage_run is NO_RECORD else stage_run.state for stage_run in pair)
        yield Change("stage", name, before, after, "; ".join(reasons))
    for name, (a, b) in pairs.items():
        if a.has_result and b.has_result:
            yield Change("verdict", name, a.verdict, b.verdict)
    for name, pair in pairs.items():
        yield from _compare_metrics(name, *pair)


def _compare_metrics(stage: str, a: StageRecord, b: StageRecord) -> Iterator[Change]:
    """Compare a stage's metrics, or its verdict's key figures if it has no metrics."""
    if a.metrics or b.metrics:
        names = {**a.metrics, **b.metrics}
        bounds = {f"{name}_{end}" for name in names for end in ("low", "high")}
        for name in names:
            values = a.metrics.get(name), b.metrics.get(name)
            change = Change("metric", f"{stage}.{name}", *values, _describe_intervals(name, a, b))
            is_comparable = a.has_result and b.has_result
            if name not in bounds and (is_comparable or change.is_always_listed):
                yield change
    elif a.has_result and b.has_result:
        before, after = (
            {
                (number["name"], number.get("unit", "")): number["value"]
                for number in stage_run.numbers
            }
            for stage_run in (a, b)
        )
        for key in {**before, **after}:
            name, unit = key
            # Durations differ in every run, and the rows of ingest are listed under data.
            if unit != "s" and (stage, name) != ("ingest", "rows"):
                values = before.get(key), after.get(key)
                yield Change("metric", f"{stage}.{name}", *values, unit=unit)


def _describe_intervals(name: str, a: StageRecord, b: StageRecord) -> str:
    intervals = [
        (stage_run.metrics.get(f"{name}_low"), stage_run.metrics.get(f"{name}_high"))
        for stage_run in (a, b)
    ]
    texts = [f"{low:.3f} to {high:.3f}" for low, high in intervals if None not in (low, high)]
    return ", then ".join(dict.fromkeys(texts))
