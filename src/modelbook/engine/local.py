"""Workers on this machine: forked from this process, with its imported modules.

Each runs on one thread. The results are the same with any number of workers, and in this process.
"""

from __future__ import annotations

import multiprocessing
import os
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any

import cloudpickle
from threadpoolctl import threadpool_limits

from modelbook.engine import LOCAL, WORKERS_VARIABLE, Engine
from modelbook.errors import ParameterError

_forked_function: dict[str, Callable[[Any], Any]] = {}  # of a worker, set when it is forked


def count_workers() -> int:
    """The number of cores that this process may use, or the value of MODELBOOK_WORKERS."""
    if value := os.environ.get(WORKERS_VARIABLE):
        if not value.isdecimal():
            raise ParameterError(
                f"{WORKERS_VARIABLE} = {value!r}",
                expected="a number of processes",
                next="correct the environment variable, or unset it",
            )
        return max(1, int(value))
    has_affinity = hasattr(os, "sched_getaffinity")
    return len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count() or 1


@contextmanager
def open_local_engine(function: Callable[[Any], Any], workers: int) -> Iterator[Engine]:
    """Run items in forked workers; in this process with one, or where it cannot fork."""
    if workers == 1 or "fork" not in multiprocessing.get_all_start_methods():
        yield Engine(LOCAL, lambda: 1, lambda item: _run_here(function, item))
        return
    context = multiprocessing.get_context("fork")
    with (
        warnings.catch_warnings(),
        ProcessPoolExecutor(
            workers,
            mp_context=context,
            initializer=_forked_function.update,
            initargs=({LOCAL: function},),
        ) as pool,
    ):
        # Python warns about forks with threads: the workers use no locks that these may hold.
        warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
        try:
            yield Engine(LOCAL, lambda: workers, lambda item: _submit(pool, item))
        finally:
            pool.shutdown(cancel_futures=True)


def _run_here(function: Callable[[Any], Any], item: Any) -> Future[Any]:
    future = Future[Any]()
    try:
        with threadpool_limits(1):
            future.set_result(function(item))
    except Exception as error:
        future.set_exception(error)
    return future


def _submit(pool: ProcessPoolExecutor, item: Any) -> Future[Any]:
    """Submit an item; its result, or what it raised, is pickled by value."""
    future = Future[Any]()

    def pass_on(finished: Future[bytes]) -> None:
        try:
            result, error = cloudpickle.loads(finished.result())
        except BaseException as broken:  # the pool: a worker has died, or it was cancelled
            result = None
            error = broken
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)

    try:
        pool.submit(_run_forked, item).add_done_callback(pass_on)
    except BrokenProcessPool as error:  # a worker has died already
        future.set_exception(error)
    return future


def _run_forked(item: Any) -> bytes:
    try:
        with threadpool_limits(1):
            return cloudpickle.dumps((_forked_function[LOCAL](item), None))
    except Exception as error:
        return cloudpickle.dumps((None, error))
