"""Spark: each item is a job of one task, begun from a thread of its own."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from pyspark.sql import SparkSession

from modelbook.engine import Engine, unreachable
from modelbook.engine.worker import do
from modelbook.errors import EngineError

HERE = "local[*,4]"  # all cores, and four attempts: without that number, Spark on one machine makes but one


@contextmanager
def opened(scheduler: str | None, packed: bytes) -> Iterator[Engine]:
    """A cluster by its master's address, or this machine."""
    session = _session(scheduler)
    context = session.sparkContext
    held, slots = context.broadcast(packed), max(1, context.defaultParallelism)
    pool = ThreadPoolExecutor(slots)

    def one(item: Any) -> Any:
        return context.parallelize([item], 1).map(lambda each: do(held.value, each)).collect()[0]

    def submit(item: Any) -> Future[Any]:
        return pool.submit(one, item)

    try:
        yield Engine("spark", lambda: slots, submit)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        session.stop()


def _session(scheduler: str | None) -> SparkSession:
    if not (os.environ.get("JAVA_HOME") or shutil.which("java")):
        raise EngineError("the engine spark wants Java, and there is none here",
                          next="apt-get install default-jre-headless, or set JAVA_HOME")  # fmt: skip
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    quiet: dict[str, Any] = {
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.log.level": "ERROR",
    }
    try:
        return SparkSession.builder.master(scheduler or HERE).appName("modelbook").config(map=quiet).getOrCreate()
    except Exception as error:  # as Java tells it
        raise unreachable("spark", scheduler, error) from None
