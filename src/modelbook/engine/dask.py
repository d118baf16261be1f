"""Dask: the work and each item are tasks, so that both outlive the worker that had them."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from distributed import Client

from modelbook.engine import PATIENCE, Engine, unreachable
from modelbook.engine.worker import do
from modelbook.errors import EngineError

WORKERS = 30.0  # seconds for the first worker to come, of those that are just starting


@contextmanager
def opened(scheduler: str | None, packed: bytes) -> Iterator[Engine]:
    """A cluster by its scheduler's address, or processes of this machine."""
    with _client(scheduler) as client, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sending large graph")  # once, and it survives its worker so
        try:
            client.wait_for_workers(1, timeout=WORKERS)
        except TimeoutError:
            raise EngineError(
                f"the scheduler of dask at {scheduler} has no workers", expected="at least one",
                next=f"start some: dask worker {scheduler} --nworkers 2 --nthreads 1",
            ) from None  # fmt: skip
        held, executor = client.submit(bytes, packed, pure=False), client.get_executor()
        yield Engine("dask", lambda: max(1, len(client.nthreads())), lambda item: executor.submit(do, held, item))


def _client(scheduler: str | None) -> Client:
    try:
        if scheduler:
            return Client(scheduler, timeout=PATIENCE, set_as_default=False)
        return Client(processes=True, threads_per_worker=1, dashboard_address=None, set_as_default=False)
    except (OSError, ValueError) as error:
        raise unreachable("dask", scheduler, error) from None
