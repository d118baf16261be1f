"""What runs on a worker: the work, unpacked once for a process, and one item at a time."""

from __future__ import annotations

import os
from functools import lru_cache
from threading import Lock
from typing import Any

import cloudpickle

from modelbook.errors import ModelbookError

_ONE = Lock()  # models and their libraries are not made for several threads


@lru_cache(maxsize=1)
def _work(packed: bytes) -> Any:
    os.environ.setdefault("PYCARET_CUSTOM_LOGGING_PATH", os.devnull)  # else it writes a file where the worker stands
    return cloudpickle.loads(packed)


def do(packed: bytes, item: Any) -> Any:
    """What comes of an item; an error of Modelbook is an answer, so that no engine takes it for a failure to repeat."""
    with _ONE:
        try:
            return _work(packed)(item)
        except ModelbookError as error:
            return error
