"""Engines: where a piece of work is done for item after item. In this process, or on Dask, Spark or Ray.

The work is the same on each, and so are its results; it travels once, and each process of a worker does one item at a
time. An item whose worker died is begun anew on another one, by the engine's own means.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from modelbook.config import NONE
from modelbook.errors import EngineError, ModelbookError, ParameterError

LOCAL = "local"
VENDORS = {"dask": "distributed", "spark": "pyspark", "ray": "ray"}  # the package that each wants
NAMES = (LOCAL, *VENDORS)
PATIENCE = 10.0  # seconds for a scheduler to answer
ADDRESS = re.compile(r"(?:[a-z]+://)?\[?([^/,\[\]]+)\]?:(\d+)/?")

Work = Callable[[Any], Any]


@dataclass(frozen=True)
class Engine:
    """What does a piece of work.

    Attributes
    ----------
    slots : callable
        How many items are done at a time, now.
    submit : callable
        Begins an item; its future is for ``answer``.
    """

    name: str
    slots: Callable[[], int]
    submit: Callable[[Any], Future[Any]]

    def answer(self, future: Future[Any]) -> Any:
        """What came of an item.

        Raises
        ------
        ModelbookError
            As the work did.
        EngineError
            When the engine could not do it.
        """
        try:
            found = future.result()
        except ModelbookError:
            raise
        except Exception as error:  # an engine may fail in any way
            if self.name == LOCAL:
                raise
            lines = [line for line in str(error).splitlines() if line.strip()] or [""]
            raise EngineError(
                f"{self.name} did not do its work: {type(error).__name__}: {lines[0][:300]}",
                expected="workers with the packages of this environment, that see the same paths and stay alive",
                next="see the workers' logs; then begin again",
            ) from error
        if isinstance(found, ModelbookError):  # Spark would tell its text alone
            raise found
        return found


def opened(name: str, scheduler: str | None, work: Work) -> AbstractContextManager[Engine]:
    """An engine that does ``work``; what was begun and not waited for is given up in the end.

    Parameters
    ----------
    name : str
        ``local, dask, spark`` or ``ray``.
    scheduler : str or None
        Its address; None or ``none`` for workers on this machine.
    work : callable
        Takes an item, and gives what came of it.

    Raises
    ------
    ParameterError
        When there is a scheduler, but no engine.
    EngineError
        When the engine is not installed, or no scheduler or worker answers.
    """
    check(name, scheduler)
    if name == LOCAL:
        return _here(work)
    import cloudpickle

    address = None if scheduler == NONE else scheduler
    return import_module(f"modelbook.engine.{name}").opened(address, cloudpickle.dumps(work))


def check(name: str, scheduler: str | None) -> None:
    """Whether an engine is there, as far as can be told in seconds; raises as ``opened`` does."""
    if name == LOCAL:
        if scheduler in (None, NONE):
            return
        raise ParameterError(
            f"scheduler = {scheduler!r} is nobody's: engine = {name!r}", expected=f"engine: one of {NAMES[1:]}",
            next="name the engine, or leave the scheduler out",
        )  # fmt: skip
    if find_spec(VENDORS[name]) is None:
        raise EngineError(
            f"the engine {name} wants {VENDORS[name]}, and that is not installed",
            next=f"make engines (it installs modelbook[{name}]), here and on each worker",
        )
    _reach(name, scheduler)


@contextmanager
def _here(work: Work) -> Iterator[Engine]:
    def submit(item: Any) -> Future[Any]:
        done = Future[Any]()
        try:
            done.set_result(work(item))
        except Exception as error:
            done.set_exception(error)
        return done

    yield Engine(LOCAL, lambda: 1, submit)


def _reach(name: str, scheduler: str | None) -> None:
    """Engines try for minutes what a socket tells at once."""
    found = ADDRESS.fullmatch(scheduler or "")
    if found is None:  # a master without an address, as yarn or local[2]
        return
    try:
        socket.create_connection((found[1], int(found[2])), PATIENCE).close()
    except (OSError, OverflowError) as error:
        raise unreachable(name, scheduler, error) from None


def unreachable(name: str, scheduler: str | None, error: Exception) -> EngineError:
    """The error of a scheduler that does not answer."""
    told = str(error).splitlines()[0] if str(error) else type(error).__name__
    return EngineError(
        f"no scheduler of {name} answers at {scheduler or 'this machine'}: {told[:200]}",
        expected="the address of a scheduler that runs, such as tcp://host:8786 or spark://host:7077",
        next="start it, or correct the address; the engine local needs none",
    )
