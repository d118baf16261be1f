"""Ray engine: each item is a task, which Ray retries when its worker dies."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import ray

from modelbook.engine import Engine, make_unreachable_error
from modelbook.engine.worker import run_item


@contextmanager
def open_engine(scheduler: str | None, pickled_function: bytes) -> Iterator[Engine]:
    """Open a cluster by its address, or start processes on this machine."""
    try:
        ray.init(address=scheduler or "local", log_to_driver=False, logging_level=logging.ERROR)
    except Exception as error:  # Ray raises Exception itself when it does not start in time
        raise make_unreachable_error("ray", scheduler, error) from None
    try:
        function_ref = ray.put(pickled_function)
        task = ray.remote(max_retries=3)(run_item)
        yield Engine(
            "ray",
            lambda: max(1, int(ray.cluster_resources().get("CPU", 1))),
            lambda item: task.remote(function_ref, item).future(),
        )
    finally:
        ray.shutdown()
