"""Engines: the same work gives the same results on each, what is missing is told, and a dead worker loses nothing."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import cloudpickle
import pytest

from modelbook import engine
from modelbook.engine import worker
from modelbook.errors import DataError, EngineError


def refuses(item: str) -> str:
    raise DataError(f"no {item}", next="give another")


def test_an_engine_that_is_not_installed_is_told_with_what_to_install(monkeypatch):
    monkeypatch.setitem(engine.VENDORS, "dask", "nowhere_to_be_found")
    with pytest.raises(EngineError, match="the engine dask wants nowhere_to_be_found") as caught:
        engine.opened("dask", None, str)
    assert caught.value.next == "make engines (it installs modelbook[dask]), here and on each worker"


@pytest.mark.parametrize("name", ["dask", "spark", "ray"])
def test_a_scheduler_that_does_not_answer_is_told_at_once(name):
    began = time.monotonic()
    with pytest.raises(EngineError, match=rf"no scheduler of {name} answers at [a-z:/]*127\.0\.0\.1:1: .*refused"):
        engine.opened(name, f"{name}://127.0.0.1:1", str)
    assert time.monotonic() - began < 5


def test_an_error_of_the_work_is_told_as_it_is_and_one_of_the_engine_as_its_own():
    with engine.opened("local", None, refuses) as it, pytest.raises(DataError, match="no part-1"):
        it.answer(it.submit("part-1"))
    with ThreadPoolExecutor(1) as pool:
        it = engine.Engine("dask", lambda: 1, pool.submit)
        with pytest.raises(DataError, match="no part-1"):
            it.answer(pool.submit(worker.do, cloudpickle.dumps(refuses), "part-1"))
        with pytest.raises(EngineError, match=r"dask did not do its work: ZeroDivisionError: .*by zero"):
            it.answer(pool.submit(lambda: 1 // 0))
