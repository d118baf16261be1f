"""Where windows come from: the batches of a build, a file, or a span of the journal; each watched as the champion's."""

from __future__ import annotations

import re
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from modelbook import dataset, tasks
from modelbook.config import Monitor
from modelbook.contract import Contract
from modelbook.errors import DataError, StoreError
from modelbook.monitoring import watch
from modelbook.monitoring.watch import Watched

if TYPE_CHECKING:
    from modelbook.journal import Journal
    from modelbook.registry.versions import Version

SECONDS = {"m": 60, "h": 3600, "d": 86_400}
MOST_DRAWN = 200_000  # rows of a folder that are judged: a tenth of the drift that asks to watch is far beyond chance
KEPT = ("feature", "target")  # the roles of what a journal holds


def champion(root: Path, book: str) -> Version:
    """The version in service.

    Raises
    ------
    StoreError
        When there is none.
    """
    from modelbook.registry import versions

    found = versions.champion(root, book)
    if found is None:
        raise StoreError(
            f"no version of {book!r} bears the alias champion", expected="a version that the gate has promoted",
            next="build the pipeline: modelbook build; where the gate held, see the deploy report",
        )  # fmt: skip
    return found


def of_build(root: Path, book: str, version: Version, params: Monitor) -> list[Watched]:
    """The batches that ingest set aside."""
    path = root / "data" / book / "batches.parquet"
    if not path.is_file():
        raise DataError(f"there is no {path.relative_to(root)}", next="build the book: modelbook build")
    return _watched(root, dataset.by_period(pd.read_parquet(path), version.contract), version, params)


def of_file(root: Path, file: str, version: Version, params: Monitor) -> list[Watched]:
    """One batch, of all rows of a file; it bears the file's name.

    Of a folder of Parquet files with more rows than ``MOST_DRAWN`` so many are drawn at random, and it says so.
    """
    if (root / file).is_dir():
        from modelbook.dataset import folder

        drawn, total = folder.draw(root / file, MOST_DRAWN, params.seed)
        found = _watched(root, {Path(file).name: drawn}, version, params)
        return [replace(one, drawn_from=total) for one in found] if total > len(drawn) else found
    batch = dataset.read(file, root, version.contract)
    return _watched(root, {Path(file).stem: batch}, version, params)


def _watched(root: Path, batches: dict[str, pd.DataFrame], version: Version, params: Monitor) -> list[Watched]:
    from modelbook.registry import versions

    return watch.watch_all(
        batches, versions.load(root, version), version.reference, version.contract,
        metrics=version.metrics, params=params, tell=lambda *_: None,
    )  # fmt: skip


def of_journal(journal: Journal, since: float, until: float, version: Version, params: Monitor) -> list[Watched]:
    """What the champion answered from a time on, with the outcomes known so far; ``until`` is now.

    A clock that was put back has left answers that are later than now: they are among them.
    It is judged by the answers that were given, and as far as a journal goes: it holds no entity, period or slice
    that is no feature. Nothing where nothing was answered.
    """
    rows = [row for row in journal.window(since) if row["version"] == version.number]
    if not rows:
        return []
    contract = narrowed(version.contract)
    batch = pd.DataFrame([row["inputs"] for row in rows]).reindex(columns=contract.inputs_)
    outcomes = pd.Series([row["outcome"] for row in rows], dtype=object)
    if outcomes.notna().any():
        batch[contract.target] = outcomes
    name = f"{moment(since)} to {moment(max(until, rows[-1]['at']))}"
    return [watch.watch(
        name, contract.conform(batch), scores(rows, contract), version.reference, contract,
        importance=version.metrics["importance"], threshold=version.metrics["threshold"], params=params,
    )]  # fmt: skip


def narrowed(contract: Contract) -> Contract:
    """A contract of features and target alone."""
    told = contract.model_dump(exclude_defaults=True)
    told["columns"] = {name: one for name, one in told["columns"].items() if contract.columns[name].role in KEPT}
    told["slices"] = [name for name in contract.slices if name in told["columns"]]
    return Contract.model_validate(told | {"key": []})


def scores(rows: list[dict[str, Any]], contract: Contract) -> Any:
    """What rows of a journal were answered, as ``Scored.score`` holds it."""
    task = tasks.of(contract)
    if not contract.classes:
        return pd.Series([row["prediction"] for row in rows], dtype=float).to_numpy()
    return task.scores(pd.DataFrame([list(row["probabilities"].values()) for row in rows]).to_numpy(dtype=float))


def moment(at: float) -> str:
    """A time in words, UTC."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S")


def since(told: str, now: float | None = None) -> float:
    """Seconds since 1970 of a time (UTC where it names no zone), or of ``7d``, ``12h``, ``30m`` ago.

    Raises
    ------
    ValueError
        When it is none of these.
    """
    if span := re.fullmatch(r"(\d+)([mhd])", told):
        return (time.time() if now is None else now) - int(span[1]) * SECONDS[span[2]]
    found = datetime.fromisoformat(told)
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
