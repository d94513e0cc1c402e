"""An embedding as a message carries it: numbers, or little-endian bytes with their type. Unfit ones get a reason."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from inference.outcome import Vector

MAX_WIDTH = 8192
MAX_MAGNITUDE = 1e6  # sums of their squares stay finite in single precision
_DTYPES = {"float16": "<f2", "float32": "<f4"}


def vector(value: object, dtype: object) -> Vector | str:
    """A (d,) embedding, or why it cannot be used."""
    raw: NDArray[Any]
    if isinstance(value, bytes):
        if not isinstance(dtype, str) or dtype not in _DTYPES:
            return "dtype_unknown"
        if len(value) % int(_DTYPES[dtype][-1]):
            return "bytes_do_not_fit"
        raw = np.frombuffer(value, _DTYPES[dtype])
    elif isinstance(value, list):
        if len(value) > MAX_WIDTH:
            return "too_wide"
        try:
            raw = np.array(value)
        except ValueError:  # lists of different lengths
            return "not_numbers"
        if raw.ndim != 1 or raw.dtype.kind not in "fiu":
            return "empty" if raw.size == 0 else "not_numbers"
    else:
        return "not_numbers"
    if not 1 <= len(raw) <= MAX_WIDTH:
        return "too_wide" if len(raw) else "empty"
    wide = raw.astype(np.float64)
    if not np.isfinite(wide).all():
        return "not_finite"
    if np.abs(wide).max() > MAX_MAGNITUDE:
        return "too_large"
    taken: Vector = wide.astype(np.float32)
    return taken
