"""XGBoost's C library called directly.

The same compiled code as ``xgboost.Booster`` and so the same bits, without importing the Python package (half a second
and 80 MB) and without its work around each call.
"""

from __future__ import annotations

import ctypes
import importlib.util
import json
from ctypes import POINTER, byref, c_char_p, c_float, c_uint64, c_void_p
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kedge.errors import BundleError

PREDICT, CONTRIBUTIONS = 0, 2  # XGBoost's codes for the type of a prediction
ENDED = {"training": False, "iteration_begin": 0, "iteration_end": 0, "strict_shape": False}


class Booster:
    """A model saved by XGBoost, ready to predict on ``threads`` threads. Safe to use from several threads at once.

    Raises:
        BundleError: XGBoost cannot read the file; its own first line says why.
    """

    def __init__(self, file: Path, threads: int) -> None:
        self._library = library()
        self._handle = c_void_p()
        self._file = file
        self._call("XGBoosterCreate", None, c_uint64(0), byref(self._handle))
        self._call("XGBoosterLoadModel", self._handle, str(file).encode())
        self._call("XGBoosterSetParam", self._handle, b"nthread", str(threads).encode())
        self._threads = threads
        config = {"type": PREDICT, "missing": float("nan"), "cache_id": 0} | ENDED
        self._dense = json.dumps(config).encode()

    def __del__(self) -> None:
        if getattr(self, "_handle", None):
            self._library.XGBoosterFree(self._handle)

    @property
    def features(self) -> int:
        """How many columns the model takes."""
        count = c_uint64()
        self._call("XGBoosterGetNumFeature", self._handle, byref(count))
        return count.value

    def to_json(self) -> bytes:
        """The model in XGBoost's documented JSON form."""
        size, text = c_uint64(), POINTER(ctypes.c_char)()
        self._call("XGBoosterSaveModelToBuffer", self._handle, b'{"format": "json"}', byref(size), byref(text))
        return ctypes.string_at(text, size.value)

    def predict(self, matrix: NDArray[np.float32]) -> NDArray[np.float32]:
        """The prediction of each row; shape (n,), of several classes (n, classes), float32 as XGBoost computes it."""
        scores = self._predict("XGBoosterPredictFromDense", _interface(matrix), self._dense, None)
        return scores[:, 0] if scores.ndim == 2 and scores.shape[1] == 1 else scores

    def contributions(self, matrix: NDArray[np.float32], feature_types: list[str]) -> NDArray[np.float32]:
        """SHAP values of each row and the bias last, on the margin's scale; shape (n, k + 1), of several
        classes (n, classes, k + 1)."""
        config = json.dumps({"missing": float("nan"), "nthread": self._threads}).encode()
        table = c_void_p()
        self._call("XGDMatrixCreateFromDense", _interface(matrix), config, byref(table))
        try:
            types = (c_char_p * len(feature_types))(*(kind.encode() for kind in feature_types))
            self._call("XGDMatrixSetStrFeatureInfo", table, b"feature_type", types, c_uint64(len(feature_types)))
            wanted = json.dumps({"type": CONTRIBUTIONS} | ENDED).encode()
            flat = self._predict("XGBoosterPredictFromDMatrix", table, wanted)
        finally:
            self._library.XGDMatrixFree(table)
        return flat

    def _predict(self, name: str, *arguments: object) -> NDArray[np.float32]:
        shape, dimensions, result = POINTER(c_uint64)(), c_uint64(), POINTER(c_float)()
        self._call(name, self._handle, *arguments, byref(shape), byref(dimensions), byref(result))
        sizes = tuple(shape[axis] for axis in range(dimensions.value))
        return np.ctypeslib.as_array(result, sizes).copy() if all(sizes) else np.empty(sizes, np.float32)

    def _call(self, name: str, *arguments: object) -> None:
        if getattr(self._library, name)(*arguments) != 0:
            said = self._library.XGBGetLastError().decode(errors="replace")
            reason = next((line for line in said.splitlines() if line.strip()), said)
            raise BundleError(f"{self._file}: XGBoost refuses it in {name}: {reason[:300]}")


@cache
def library() -> ctypes.CDLL:
    """XGBoost's shared library, as its package brings it."""
    path = packaged("xgboost", "libxgboost.so")
    if path is None:
        raise BundleError("XGBoost is not installed here: no xgboost/lib/libxgboost.so; install xgboost-cpu")
    loaded = ctypes.CDLL(str(path))
    loaded.XGBGetLastError.restype = c_char_p
    return loaded


def packaged(package: str, file: str) -> Path | None:
    """A shared library in a package's folder ``lib``, found without importing the package; None: it is not there."""
    found = importlib.util.find_spec(package)
    folders = (found.submodule_search_locations or ()) if found is not None else ()
    places = (Path(folder) / "lib" / file for folder in folders)
    return next((path for path in places if path.is_file()), None)


def _interface(matrix: NDArray[np.float32]) -> bytes:
    """The array as numpy's ``__array_interface__`` in JSON, which XGBoost reads in place."""
    if matrix.dtype != np.float32 or not matrix.flags.c_contiguous:
        raise TypeError(f"a C-contiguous float32 matrix is needed, got {matrix.dtype}")
    described = {"data": [matrix.ctypes.data, True], "shape": matrix.shape, "typestr": "<f4", "version": 3}
    return json.dumps(described).encode()
