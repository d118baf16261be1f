"""Retrain: the book built anew on newer labelled rows up to deploy, where the gate lets the challenger in or not.

First everything that can be refused, then the values that the build goes by (``retrained``), then the build itself in a
process of its own. What came of it is read from the history, so it is told alike whatever was stopped when.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from modelbook import config
from modelbook.errors import BuildError, StoreError
from modelbook.gate import PROMOTE
from modelbook.registry import history, pointer
from modelbook.registry.promotion import WHY
from modelbook.stage import labelled, lock, plan, project, retrained
from modelbook.stage.plan import Plan, Wish

if TYPE_CHECKING:
    from modelbook.registry.pointer import Pointed

PROMOTED, HELD, DRY_GATE = "promoted", "held", "would promote"  # what the gate decided
DRY_RUN, COOLDOWN, NOTHING_NEWER, UP_TO_DATE = "dry run", "cooldown", "nothing newer", "up to date"  # nothing was built
STOPPING = 60  # seconds that a build may take to stop
TICK = 0.5  # seconds between looks at the clock


@dataclass(frozen=True)
class Outcome:
    """What came of it: a word, sentences, and the versions."""

    word: str
    sentences: list[str]
    next: str
    champion: int
    candidate: int | None = None
    as_of: int | float | None = None


def retrain(root: Path, environment: Path, wish: Wish, *, out: IO[str] | None = None) -> Outcome:
    """Rebuild a book on newer labelled rows, and let the gate decide.

    Parameters
    ----------
    environment : Path
        The book's env file.
    out : file, optional
        Where the build's progress goes; default: standard output.

    Raises
    ------
    ModelbookError
        When something is wrong with what was asked for, a batch or the table; when another retrain or build is
        running; when the build fails or its time is over. The champion stays, but where the build had moved it.
    """
    began = time.monotonic()
    book = project.parameters(root, environment)["ingest"]["book"]
    with lock.of_retrain(root, book):
        champion = _champion(root, book)
        if wish.cooldown and (early := _cooling(root, book, wish.cooldown)):
            return Outcome(COOLDOWN, [early], "Wait, or give a shorter --cooldown.", champion.number)
        made = plan.make(root, environment, champion, wish)
        told: dict[str, Any] = {"champion": champion.number, "as_of": made.as_of}
        if not made.newer:
            return Outcome(NOTHING_NEWER, made.sentences, "Wait for outcomes, or join them: --batch FILE.", **told)
        if wish.dry_run:
            return Outcome(DRY_RUN, [*made.sentences, _would(made)], "To do it, leave --dry-run out.", **told)
        _set(root, book, made)
        last = max((one.number for one in history.read(root)), default=0)
        ended = _build(root, environment, wish, wish.budget and began + wish.budget - time.monotonic(), out)
        return _outcome(root, book, made, wish, ended, last)


def _champion(root: Path, book: str) -> Pointed:
    found = pointer.aliases(root, book).get(pointer.CHAMPION)
    if found is None:
        raise StoreError(
            f"no version of {book!r} bears the alias champion", expected="a version that the gate has promoted",
            next=f"make the first one: {project.command(root, book)}; where the gate held, see the deploy report",
        )  # fmt: skip
    found.check()
    return found


def _cooling(root: Path, book: str, cooldown: float) -> str:
    """A sentence where the last decision or move was too little time ago."""
    entries = history.read(root, book)
    if not entries:
        return ""
    last = entries[-1]
    passed = datetime.now(UTC) - datetime.fromisoformat(last.at)
    if passed.total_seconds() >= cooldown:
        return ""
    told = f"{last.word}, entry {last.number} in the history, {last.at[:16].replace('T', ' ')} UTC"
    ago = _span(passed.total_seconds())
    return f"The last word about {book} ({told}) was {ago} ago; the cooldown is {_span(cooldown)}."


def _would(made: Plan) -> str:
    """What a retrain would do, in a sentence."""
    values = ", ".join(f"{name} = {config.shown(value)}" for name, value in made.values.items())
    joined = f"the table with {len(made.rows.brought):,} joined rows, " if len(made.rows.brought) else ""
    moves = "move the alias or not" if made.gate == "enforce" else "move nothing (gate: dry_run)"
    return (
        f"It would build ingest, compare, finalize and deploy on {joined}{values or 'all rows'}; "
        f"the gate would decide, and {moves}."
    )


def _set(root: Path, book: str, made: Plan) -> None:
    """Write down what the build goes by, while no build looks at it."""
    with lock.of_build(root):
        table = {"table": labelled.write(root, book, made.rows)} if len(made.rows.brought) else {}
        retrained.keep(root, book, {**made.values, **table}, made.given)


def _build(root: Path, environment: Path, wish: Wish, left: float | None, out: IO[str] | None) -> int | None:
    """Build up to deploy; returns the exit code, or None when the time was over."""
    command = [str(Path(sys.executable).with_name("ploomber")), "build", "--partially", "deploy"]
    environ = {**os.environ, "PLOOMBER_ENV_FILENAME": environment.name, WHY: wish.why}
    until = float("inf") if left is None else time.monotonic() + left
    with _ends() as heard, subprocess.Popen(command, cwd=root, env=environ, stdout=out) as process:
        while process.poll() is None and not heard and time.monotonic() < until:
            _waited(process, TICK)
        late = process.poll() is None and not heard
        if process.poll() is None:
            process.terminate()  # it stops its kernels, and ends
            if not _waited(process, STOPPING):
                process.kill()
    return None if late else process.returncode


@contextmanager
def _ends() -> Iterator[list[int]]:
    """Signals to end that were heard: the build is ended first. Ctrl-C has reached it already, and is waited for."""
    heard: list[int] = []
    if threading.current_thread() is not threading.main_thread():  # only that hears of them
        yield heard
        return
    before = {
        signal.SIGTERM: signal.signal(signal.SIGTERM, lambda number, _: heard.append(number)),
        signal.SIGINT: signal.signal(signal.SIGINT, lambda *_: None),
    }
    try:
        yield heard
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _waited(process: subprocess.Popen, seconds: float) -> bool:
    """Whether a process has ended within some seconds."""
    with suppress(subprocess.TimeoutExpired):
        process.wait(seconds)
    return process.poll() is not None


def _outcome(root: Path, book: str, made: Plan, wish: Wish, ended: int | None, last: int) -> Outcome:
    entries = [one for one in history.read(root, book) if one.number > last]
    decided = [one for one in entries if one.kind == history.DECISION][-1:]
    moved = [one for one in entries if one.kind == history.MOVE and decided and one.after == decided[0].version]
    now = pointer.aliases(root, book)[pointer.CHAMPION].number
    if ended != 0:
        raise BuildError(
            f"the budget of {_span(wish.budget or 0)} was over before the build was" if ended is None
            else f"the challenger was not built to the end (exit code {ended})",
            expected=f"a build up to deploy; the champion is version {now}",
            next="what is done is kept: type it again to go on, with a larger --budget" if ended is None
            else "mend what the build told above, and type it again: what is done is kept",
        )  # fmt: skip
    told: dict[str, Any] = {"champion": now, "as_of": made.as_of}
    if not decided:
        return _idle(root, book, made, told)
    gate = decided[0]
    word = PROMOTED if moved else DRY_GATE if gate.word == PROMOTE else HELD
    said = {
        PROMOTED: f"Version {gate.version} is the champion after version {made.champion.number}.",
        DRY_GATE: f"The gate would promote version {gate.version}; gate: dry_run leaves version {now} in place.",
        HELD: f"The gate held version {gate.version}; version {now} stays the champion.",
    }[word]
    then = {
        PROMOTED: f"{project.command(root, book)} brings explore and monitor up to date; "
        "modelbook rollback takes it back.",
        DRY_GATE: f"Read the deploy report; modelbook promote {gate.version} moves the alias.",
        HELD: "Read in the deploy report which criterion failed.",
    }[word]
    return Outcome(word, [*made.sentences, said, gate.why], then, candidate=gate.version, **told)


def _idle(root: Path, book: str, made: Plan, told: dict[str, Any]) -> Outcome:
    """Nothing was outdated: what these rows make has been judged before."""
    judged = [one for one in history.read(root, book) if one.kind == history.DECISION][-1]
    said = (
        f"What these rows make was judged already: {judged.word} for version {judged.version}, entry {judged.number}."
    )
    then = "Change what it is made of, or modelbook promote it by hand."
    return Outcome(UP_TO_DATE, [*made.sentences, said], then, candidate=judged.version, **told)


def _span(seconds: float) -> str:
    """7 d, 12 h, 30 min, 5 s: the largest unit that there is at least one of."""
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60)):
        if abs(seconds) >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} s"
