"""Worker side of an engine: load the function once per process, and run one item at a time."""

from __future__ import annotations

import os
from functools import lru_cache
from threading import Lock
from typing import Any

import cloudpickle

from modelbook.errors import ModelbookError

_LOCK = Lock()  # models and their libraries are not thread-safe


@lru_cache(maxsize=1)
def _load_function(pickled_function: bytes) -> Any:
    os.environ.setdefault("PYCARET_CUSTOM_LOGGING_PATH", os.devnull)  # else it writes a log file
    return cloudpickle.loads(pickled_function)


def run_item(pickled_function: bytes, item: Any) -> Any:
    """Run one item.

    Modelbook's errors are returned as results: engines would retry an item that raises, and Spark
    would pass on only the error's text.
    """
    with _LOCK:
        try:
            return _load_function(pickled_function)(item)
        except ModelbookError as error:
            return error
