"""A LightGBM model through LightGBM's own C functions: no import of its Python package, and no copy of a row.

The functions are documented under "C API" in LightGBM's documentation; the library is the one that the Python package
brings along. Importing that package takes longer than everything else that a service loads.
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from modelbook.errors import CompileError

DOUBLE, ROW_MAJOR, NORMAL, ALL = 1, 1, 0, -1  # names in the C API: DTYPE_FLOAT64, is_row_major, PREDICT_NORMAL
ONE_THREAD = b"num_threads=1"  # who has many rows asks from several threads, for more than the trees


class Booster:
    """A model of ``LGBMClassifier`` or ``LGBMRegressor``, from the text that ``model_to_string`` gives.

    ``one`` writes into memory that the object owns: it is for one thread.
    """

    def __init__(self, path: Path, width: int) -> None:
        self._library, self._width = library(), width
        self._handle, rounds = ctypes.c_void_p(), ctypes.c_int()
        create = self._library.LGBM_BoosterCreateFromModelfile
        self._call(create, str(path).encode(), ctypes.byref(rounds), ctypes.byref(self._handle))
        classes, features = ctypes.c_int(), ctypes.c_int()
        self._call(self._library.LGBM_BoosterGetNumClasses, self._handle, ctypes.byref(classes))
        self._call(self._library.LGBM_BoosterGetNumFeature, self._handle, ctypes.byref(features))
        if features.value != width:
            raise CompileError(f"{path.name} wants {features.value} columns", expected=f"{width} columns")
        self.outputs = classes.value
        self._prepare()

    def _prepare(self) -> None:
        self._row = bytearray(8 * self._width)
        self._pack = struct.Struct(f"{self._width}d").pack_into
        self._input = (ctypes.c_char * len(self._row)).from_buffer(self._row)
        self._output, self._length = (ctypes.c_double * self.outputs)(), ctypes.c_int64()
        self._length_at = ctypes.byref(self._length)
        self._fast = ctypes.c_void_p()
        begin = self._library.LGBM_BoosterPredictForMatSingleRowFastInit
        width = ctypes.c_int32(self._width)
        self._call(begin, self._handle, NORMAL, 0, ALL, DOUBLE, width, ONE_THREAD, ctypes.byref(self._fast))
        self._predict = self._library.LGBM_BoosterPredictForMatSingleRowFast

    def one(self, values: Sequence[float]) -> list[float]:
        """One row's numbers."""
        self._pack(self._row, 0, *values)
        if self._predict(self._fast, self._input, self._length_at, self._output):
            self._fail()
        return self._output[:]

    def many(self, rows: np.ndarray) -> np.ndarray:
        """Many rows' numbers; shape (rows, outputs)."""
        rows = np.ascontiguousarray(rows, dtype="float64")
        out, length = np.empty((len(rows), self.outputs)), ctypes.c_int64()
        self._call(
            self._library.LGBM_BoosterPredictForMat, self._handle, ctypes.c_void_p(rows.ctypes.data), DOUBLE,
            ctypes.c_int32(len(rows)), ctypes.c_int32(self._width), ROW_MAJOR, NORMAL, 0, ALL, ONE_THREAD,
            ctypes.byref(length), ctypes.c_void_p(out.ctypes.data),
        )  # fmt: skip
        return out

    def __del__(self) -> None:
        for free, handle in (("LGBM_FastConfigFree", "_fast"), ("LGBM_BoosterFree", "_handle")):
            if getattr(self, handle, None):
                getattr(self._library, free)(getattr(self, handle))

    def _call(self, function: ctypes._NamedFuncPointer, *arguments: object) -> None:
        if function(*arguments):
            self._fail()

    def _fail(self) -> None:
        raise CompileError(f"LightGBM: {self._library.LGBM_GetLastError().decode(errors='replace')}")


@cache
def library() -> ctypes.CDLL:
    """LightGBM's library.

    Raises
    ------
    CompileError
        When it is not installed.
    """
    spec = find_spec("lightgbm")
    found = sorted(Path(spec.origin).parent.rglob("lib_lightgbm.*")) if spec and spec.origin else []
    if not found:
        raise CompileError("LightGBM's library is not installed", next="install the locked requirements")
    loaded = ctypes.CDLL(str(found[0]))
    loaded.LGBM_GetLastError.restype = ctypes.c_char_p
    return loaded
