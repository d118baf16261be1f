"""Predict with a LightGBM model through LightGBM's C API, without importing its Python package.

See "C API" in LightGBM's documentation; the library is the one in the Python package. Importing
that package takes longer than everything else that the service loads.
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
from modelbook.formatting import format_count

# Names in the C API: DTYPE_FLOAT64, is_row_major, PREDICT_NORMAL, PREDICT_RAW_SCORE.
DTYPE_FLOAT64 = 1
ROW_MAJOR = 1
PREDICT_NORMAL = 0
PREDICT_RAW = 1
ALL_ITERATIONS = -1
SINGLE_THREAD = b"num_threads=1"  # batches run in several threads already


class NativeBooster:
    """A model of LightGBM, loaded from its text; ``is_raw`` predicts sums without their link.

    ``predict_one`` writes into buffers of the object, so it is not thread-safe.
    """

    def __init__(self, text: str, width: int, *, is_raw: bool = False) -> None:
        self._library = load_library()
        self._width = width
        self._prediction_type = PREDICT_RAW if is_raw else PREDICT_NORMAL
        self._handle, rounds = ctypes.c_void_p(), ctypes.c_int()
        self._call_library(
            self._library.LGBM_BoosterLoadModelFromString,
            text.encode(),
            ctypes.byref(rounds),
            ctypes.byref(self._handle),
        )
        feature_count = self._get_count(self._library.LGBM_BoosterGetNumFeature)
        if feature_count != width:
            raise CompileError(
                f"the booster needs {format_count(feature_count, 'column')}", expected=f"{width}"
            )
        self.output_count = self._get_count(self._library.LGBM_BoosterGetNumClasses)
        self._init_single_row()

    def _get_count(self, function: ctypes._NamedFuncPointer) -> int:
        count = ctypes.c_int()
        self._call_library(function, self._handle, ctypes.byref(count))
        return count.value

    def _init_single_row(self) -> None:
        self._row_buffer = bytearray(8 * self._width)
        self._pack_row = struct.Struct(f"{self._width}d").pack_into
        self._input = (ctypes.c_char * len(self._row_buffer)).from_buffer(self._row_buffer)
        self._output = (ctypes.c_double * self.output_count)()
        self._output_length = ctypes.c_int64()
        self._output_length_ref = ctypes.byref(self._output_length)
        self._single_row_handle = ctypes.c_void_p()
        self._call_library(
            self._library.LGBM_BoosterPredictForMatSingleRowFastInit,
            self._handle,
            self._prediction_type,
            0,
            ALL_ITERATIONS,
            DTYPE_FLOAT64,
            ctypes.c_int32(self._width),
            SINGLE_THREAD,
            ctypes.byref(self._single_row_handle),
        )
        # PyDLL keeps the interpreter lock: a prediction takes microseconds, and after a release the
        # event loop would wait for the thread that took the lock, such as the journal's.
        row_library = ctypes.PyDLL(self._library._name)
        self._predict_single_row = row_library.LGBM_BoosterPredictForMatSingleRowFast

    def predict_one(self, values: Sequence[float]) -> list[float]:
        """Predict one encoded row."""
        self._pack_row(self._row_buffer, 0, *values)
        if self._predict_single_row(
            self._single_row_handle, self._input, self._output_length_ref, self._output
        ):
            self._raise_last_error()
        return self._output[:]

    def predict_many(self, rows: np.ndarray) -> np.ndarray:
        """Predict many encoded rows; shape (rows, outputs)."""
        rows = np.ascontiguousarray(rows, dtype="float64")
        out = np.empty((len(rows), self.output_count))
        length = ctypes.c_int64()
        self._call_library(
            self._library.LGBM_BoosterPredictForMat,
            self._handle,
            ctypes.c_void_p(rows.ctypes.data),
            DTYPE_FLOAT64,
            ctypes.c_int32(len(rows)),
            ctypes.c_int32(self._width),
            ROW_MAJOR,
            self._prediction_type,
            0,
            ALL_ITERATIONS,
            SINGLE_THREAD,
            ctypes.byref(length),
            ctypes.c_void_p(out.ctypes.data),
        )
        return out

    def __del__(self) -> None:
        if getattr(self, "_single_row_handle", None):  # not if loading failed
            self._library.LGBM_FastConfigFree(self._single_row_handle)
        if getattr(self, "_handle", None):
            self._library.LGBM_BoosterFree(self._handle)

    def _call_library(self, function: ctypes._NamedFuncPointer, *arguments: object) -> None:
        if function(*arguments):
            self._raise_last_error()

    def _raise_last_error(self) -> None:
        raise CompileError(
            f"LightGBM: {self._library.LGBM_GetLastError().decode(errors='replace')}"
        )


@cache
def load_library() -> ctypes.CDLL:
    """Load LightGBM's shared library.

    Raises
    ------
    CompileError
        When LightGBM is not installed.
    """
    spec = find_spec("lightgbm")
    library_paths = (
        sorted(Path(spec.origin).parent.rglob("lib_lightgbm.*")) if spec and spec.origin else []
    )
    if not library_paths:
        raise CompileError(
            "LightGBM's library is not installed", next="install the locked requirements"
        )
    library = ctypes.CDLL(str(library_paths[0]))
    library.LGBM_GetLastError.restype = ctypes.c_char_p
    return library
