"""Partitions: a folder of Parquet files, each answered as a batch of its own, here or on the workers of an engine.

One file in, one file out with the same name, by the same code as a single file. All grows in a folder aside, which
takes its place when the last partition is done. What an interruption leaves there is not done again.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from concurrent.futures import as_completed
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelbook import engine
from modelbook.dataset import folder
from modelbook.errors import DataError
from modelbook.scoring import batch
from modelbook.scoring.batch import Scored, Tell
from modelbook.whole import complete

if TYPE_CHECKING:
    from modelbook.registry.pointer import Pointed

VERSION, RUN = "version", "run.json"  # in the folder aside, beside the partitions


@dataclass
class Partition:
    """The work on a partition, by its name: answered, and told in a file that says so to whoever comes back."""

    source: Path
    aside: Path
    version: Pointed
    load: Callable[[Pointed], Any]

    @cached_property
    def _loaded(self) -> Any:
        return self.load(self.version)

    def __call__(self, name: str) -> Scored:
        done, out = self.aside / "done" / f"{name}.json", self.aside / "answers" / name
        rejects = (self.aside / "rejects" / name).with_suffix(".csv")
        given = [(stat := (self.source / name).stat()).st_size, stat.st_mtime_ns]
        if done.is_file() and (told := json.loads(done.read_text()))["given"] == given:
            return Scored(told["rows"], told["rejected"], 0.0, rejects)
        for path in (out, rejects, out.with_name(f"{out.stem}.rejects.csv")):  # of a worker that died
            path.unlink(missing_ok=True)
            path.parent.mkdir(parents=True, exist_ok=True)
        one = self._loaded
        found = batch.score(
            self.source / name, out, one.scorer, one.contract, one.number, tell=lambda *_: None, may_be_empty=True
        )
        if found.rejected:
            found.rejects.replace(rejects)
        with complete(done) as part:
            part.write_text(json.dumps({"rows": found.rows, "rejected": found.rejected, "given": given}))
        return found


def score(
    source: Path, target: Path, version: Pointed, load: Callable[[Pointed], Any], *, tell: Tell,
    name: str = engine.LOCAL, scheduler: str | None = None,
) -> Scored:  # fmt: skip
    """Answer a folder of Parquet files; ``source`` and ``target`` stand where each worker sees them by that path.

    Parameters
    ----------
    version : Pointed
        Its files are copied beside the partitions, where workers find them.
    load : callable
        Makes of it what answers, on each worker; raises where it is not what was registered.
    tell : callable
        Called with rows so far and seconds after each partition.
    name, scheduler : str
        As ``engine.opened`` takes them.

    Raises
    ------
    DataError
        When there are no rows, a file cannot be read or lacks columns, or the target is there already.
    EngineError
        When the engine cannot do it.
    """
    began, source, target = time.monotonic(), source.resolve(), target.resolve()
    aside, rejects = target.with_name(f".{target.name}.part"), target.with_name(f"{target.name}.rejects")
    _check(source, target)
    names = folder.files(source)
    target.parent.mkdir(parents=True, exist_ok=True)
    with batch.alone(target, "folder"):
        work = _begin(source, aside, rejects, version, load)
        rows, wrong = _answered(work, names, name, scheduler, lambda count: tell(count, time.monotonic() - began))
        if not rows:
            raise DataError(f"{source} has no rows", next="check its path")
        _keep(aside, target, rejects, names)
    return Scored(rows, wrong, time.monotonic() - began, rejects)


def _answered(
    work: Partition, names: list[str], engine_: str, scheduler: str | None, tell: Callable[[int], None]
) -> tuple[int, int]:
    rows = wrong = 0
    with engine.opened(engine_, scheduler, work) as it:
        for future in as_completed(map(it.submit, names)) if engine_ != engine.LOCAL else map(it.submit, names):
            found = it.answer(future)
            rows, wrong = rows + found.rows, wrong + found.rejected
            tell(rows)
    return rows, wrong


def _begin(source: Path, aside: Path, rejects: Path, version: Pointed, load: Callable[[Pointed], Any]) -> Partition:
    """The folder aside: that of an interrupted run of the same version on the same folder, or a new one."""
    told = json.dumps({"source": str(source), "version": version.number, "tags": version.tags})
    finished = (aside / "finished").exists()
    same = (aside / RUN).is_file() and (aside / RUN).read_text() == told and (aside / "answers").exists() >= finished
    if rejects.exists() and not (same and finished):
        raise DataError(f"{rejects} is there already", next="move it away, or name another folder")
    if not same:
        version.check()
        shutil.rmtree(aside, ignore_errors=True)
        shutil.copytree(version.folder, aside / VERSION)
        with complete(aside / RUN) as part:
            part.write_text(told)
    return Partition(source, aside, replace(version, folder=aside / VERSION, source=""), load)


def _keep(aside: Path, target: Path, rejects: Path, names: list[str]) -> None:
    """Rejects take their place first: where the answers are, all is."""
    (aside / "finished").touch()
    for kind in ("answers", "rejects"):  # of partitions that were taken away between two attempts
        for path in [one for one in (aside / kind).rglob("*") if one.is_file()]:
            if path.relative_to(aside / kind).with_suffix(".parquet").as_posix() not in names:
                path.unlink()
    if any(path.is_file() for path in (aside / "rejects").rglob("*")):
        (aside / "rejects").replace(rejects)
    (aside / "answers").replace(target)
    shutil.rmtree(aside)


def _check(source: Path, target: Path) -> None:
    if target.exists():
        raise DataError(f"{target} is there already", next="move it away, or name another folder")
    if target.is_relative_to(source):
        raise DataError(f"{target} is within {source}", expected="a folder beside it", next="name another folder")
