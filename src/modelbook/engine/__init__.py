"""Engines: run a function over items on this machine, or on Dask, Spark or Ray.

Results are the same on every engine. The function is sent once, and each worker process runs one
item at a time. If a worker dies, Dask, Spark and Ray retry its item on another worker.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from modelbook.config import NONE
from modelbook.errors import EngineError, ModelbookError, ParameterError, get_first_line

LOCAL = "local"
PACKAGES = {"dask": "distributed", "spark": "pyspark", "ray": "ray"}  # by engine
ENGINES = (LOCAL, *PACKAGES)
WORKERS_VARIABLE = "MODELBOOK_WORKERS"  # overrides the number of cores
CONNECT_TIMEOUT = 10.0  # seconds to wait for a scheduler
ADDRESS = re.compile(r"(?:[a-z]+://)?\[?([^/,\[\]]+)\]?:(\d+)/?")


@dataclass(frozen=True)
class Engine:
    """Runs a function over items.

    Attributes
    ----------
    slots : callable
        Returns the number of items that run at the same time.
    submit : callable
        Submits an item and returns a future for ``get_result``.
    """

    name: str
    slots: Callable[[], int]
    submit: Callable[[Any], Future[Any]]

    def get_result(self, future: Future[Any]) -> Any:
        """Return the result of an item.

        Raises
        ------
        ModelbookError
            If the function raised it. On the local engine, any other error of the function is
            raised, too.
        EngineError
            If the engine failed or, on a cluster, the function raised another error.
        """
        try:
            result = future.result()
        except ModelbookError:
            raise
        except BrokenProcessPool as error:
            raise EngineError(
                "a worker process of the local engine died, probably for lack of memory",
                expected="memory for all workers",
                next=f"set {WORKERS_VARIABLE} to fewer processes, then run the command again",
            ) from error
        except Exception as error:  # an engine may fail in any way
            if self.name == LOCAL:
                raise
            lines = [line for line in str(error).splitlines() if line.strip()] or [""]
            raise EngineError(
                f"the engine {self.name} failed: {type(error).__name__}: {lines[0][:300]}",
                expected=(
                    "running workers with this environment's packages and access to the same paths"
                ),
                next="check the workers' logs, then run the command again",
            ) from error
        if isinstance(result, ModelbookError):  # as ``worker.run_item`` returns it
            raise result
        return result


def open_engine(
    name: str, scheduler: str | None, function: Callable[[Any], Any], *, workers: int | None = 1
) -> AbstractContextManager[Engine]:
    """Open an engine that runs a function; items still running when it closes are cancelled.

    Parameters
    ----------
    name : str
        ``local``, ``dask``, ``spark`` or ``ray``.
    scheduler : str or None
        Address of the scheduler; None or ``none`` for workers on this machine.
    function : callable
        Takes an item and returns its result.
    workers : int, optional
        Number of worker processes of the local engine; 1: run in this process; None: as many as
        there are available cores, or MODELBOOK_WORKERS.

    Raises
    ------
    ParameterError
        When a scheduler is set, but the engine is local, or MODELBOOK_WORKERS is not a number.
    EngineError
        When the engine is not installed, or no scheduler or worker responds.
    """
    check_engine(name, scheduler)
    if name == LOCAL:
        from modelbook.engine.local import count_workers, open_local_engine

        return open_local_engine(function, workers or count_workers())
    import cloudpickle

    address = None if scheduler == NONE else scheduler
    pickled_function = cloudpickle.dumps(function)
    return import_module(f"modelbook.engine.{name}").open_engine(address, pickled_function)


def check_engine(name: str, scheduler: str | None) -> None:
    """Check quickly whether an engine is available; raises as ``open_engine`` does."""
    if name == LOCAL:
        if scheduler in (None, NONE):
            return
        raise ParameterError(
            f"scheduler is set ({scheduler!r}), but the engine is {name}",
            expected=f"engine: one of {', '.join(ENGINES[1:])}",
            next="set the engine, or remove the scheduler",
        )
    if find_spec(PACKAGES[name]) is None:
        raise EngineError(
            f"the engine {name} needs the package {PACKAGES[name]}, which is not installed",
            next=f"make engines (it installs modelbook[{name}]), here and on each worker",
        )
    _check_connection(name, scheduler)


def _check_connection(name: str, scheduler: str | None) -> None:
    """Test the address with a socket, because engines retry for minutes."""
    match = ADDRESS.fullmatch(scheduler or "")
    if match is None:  # a master without an address, such as yarn or local[2]
        return
    try:
        socket.create_connection((match[1], int(match[2])), CONNECT_TIMEOUT).close()
    except (OSError, OverflowError) as error:
        raise make_unreachable_error(name, scheduler, error) from None


def make_unreachable_error(name: str, scheduler: str | None, error: Exception) -> EngineError:
    """Return the error for a scheduler that does not respond."""
    message = get_first_line(error)
    return EngineError(
        f"no {name} scheduler responds at {scheduler or 'this machine'}: {message[:200]}",
        expected="the address of a running scheduler, such as tcp://host:8786 or spark://host:7077",
        next="start the scheduler, or correct its address; engine: local needs none",
    )
