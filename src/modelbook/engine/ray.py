"""Ray: each item is a task, which Ray begins anew where its worker died."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import ray

from modelbook.engine import Engine, unreachable
from modelbook.engine.worker import do


@contextmanager
def opened(scheduler: str | None, packed: bytes) -> Iterator[Engine]:
    """A cluster by its address, or processes of this machine."""
    try:
        ray.init(address=scheduler or "local", log_to_driver=False, logging_level=logging.ERROR)
    except Exception as error:  # it raises that very class where it did not start in time
        raise unreachable("ray", scheduler, error) from None
    try:
        held, task = ray.put(packed), ray.remote(max_retries=3)(do)
        yield Engine(
            "ray",
            lambda: max(1, int(ray.cluster_resources().get("CPU", 1))),
            lambda item: task.remote(held, item).future(),
        )
    finally:
        ray.shutdown()
