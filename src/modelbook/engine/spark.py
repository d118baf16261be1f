"""Spark engine: each item is a job of one task, submitted from its own thread."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from pyspark.sql import SparkSession

from modelbook.engine import Engine, make_unreachable_error
from modelbook.engine.worker import run_item
from modelbook.errors import EngineError

LOCAL_MASTER = "local[*,4]"  # all cores, four attempts; local Spark tries only once by default


@contextmanager
def open_engine(scheduler: str | None, pickled_function: bytes) -> Iterator[Engine]:
    """Connect to a cluster by its master URL, or start Spark on this machine."""
    session = _make_session(scheduler)
    context = session.sparkContext
    broadcast_function = context.broadcast(pickled_function)
    slots = max(1, context.defaultParallelism)
    pool = ThreadPoolExecutor(slots)

    def run_on_cluster(item: Any) -> Any:
        return (
            context.parallelize([item], 1)
            .map(lambda element: run_item(broadcast_function.value, element))
            .collect()[0]
        )

    try:
        yield Engine("spark", lambda: slots, lambda item: pool.submit(run_on_cluster, item))
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        session.stop()


def _make_session(scheduler: str | None) -> SparkSession:
    if not (os.environ.get("JAVA_HOME") or shutil.which("java")):
        raise EngineError(
            "the engine spark needs Java: JAVA_HOME is not set, and java is not on the PATH",
            next="apt-get install default-jre-headless, or set JAVA_HOME",
        )
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    master = scheduler or LOCAL_MASTER
    spark_config: dict[str, Any] = {
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.log.level": "ERROR",
    }
    if master.startswith("local"):
        # The JVM keeps the environment of its start; Python workers need the current credentials.
        spark_config |= {
            f"spark.executorEnv.{name}": value
            for name, value in os.environ.items()
            if name.startswith("AWS_")
        }
    try:
        return (
            SparkSession.builder.master(master)
            .appName("modelbook")
            .config(map=spark_config)
            .getOrCreate()
        )
    except Exception as error:  # errors from Java have many types
        raise make_unreachable_error("spark", scheduler, error) from None
