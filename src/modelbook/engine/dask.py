"""Dask engine: the function and each item are tasks, so Dask runs both again if a worker dies."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from distributed import Client

from modelbook.engine import CONNECT_TIMEOUT, Engine, make_unreachable_error
from modelbook.engine.worker import run_item
from modelbook.errors import EngineError

WORKER_TIMEOUT = 30.0  # seconds to wait for the first worker to start


@contextmanager
def open_engine(scheduler: str | None, pickled_function: bytes) -> Iterator[Engine]:
    """Open a cluster by its scheduler's address, or start processes on this machine."""
    with _make_client(scheduler) as client, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sending large graph")  # sent only once
        try:
            client.wait_for_workers(1, timeout=WORKER_TIMEOUT)
        except TimeoutError:
            raise EngineError(
                f"the dask scheduler at {scheduler} has no workers",
                expected="at least one worker",
                next=f"start workers: dask worker {scheduler} --nworkers 2 --nthreads 1",
            ) from None
        function_future = client.submit(bytes, pickled_function, pure=False)
        executor = client.get_executor()
        yield Engine(
            "dask",
            lambda: max(1, len(client.nthreads())),
            lambda item: executor.submit(run_item, function_future, item),
        )


def _make_client(scheduler: str | None) -> Client:
    try:
        if scheduler:
            return Client(scheduler, timeout=CONNECT_TIMEOUT, set_as_default=False)
        return Client(
            processes=True, threads_per_worker=1, dashboard_address=None, set_as_default=False
        )
    except (OSError, ValueError) as error:
        raise make_unreachable_error("dask", scheduler, error) from None
