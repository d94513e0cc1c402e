"""What audio and video share: a sequence of feature vectors, as the bytes of a NumPy `.npy` file.

The header is read by itself (NumPy enhancement proposal 1) and limits hold before an array is made; nothing is
unpickled.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from inference.modalities.base import Decoded, Modality, Prepared, Preprocessing, Status

# Two sequences of that size, as base64, fit one message with room for the rest.
MAX_BYTES = 4_000_000
MAX_FRAMES = 8192
MAX_FEATURES = 4096
MAX_MAGNITUDE = 1e6  # sums of squares stay finite in single precision
DTYPES = {"<f2": 2, "<f4": 4}
QUALITY = ("frames", "level", "spread", "change", "still_share")

_MAGIC = b"\x93NUMPY"
_HEADER_BYTES = 4096  # of shape and type, which need a hundred
_DESCR = re.compile(rb"'descr'\s*:\s*'([^']{1,16})'")
_ORDER = re.compile(rb"'fortran_order'\s*:\s*(True|False)")
_SHAPE = re.compile(rb"'shape'\s*:\s*\(([0-9, ]{0,64})\)")

Frames = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class _Header:
    dtype: str
    fortran: bool
    shape: tuple[int, ...]
    start: int


def decode(data: bytes) -> Decoded:
    """A sequence (frames, features) float32, or why there is none."""
    if not data:
        return Decoded(Status.MISSING, "empty")
    if len(data) > MAX_BYTES:
        return Decoded(Status.REJECTED, "too_large")
    header = _header(data)
    if header is None:
        return Decoded(Status.CORRUPT, "undecodable")
    if header.dtype not in DTYPES:
        return Decoded(Status.REJECTED, "type_not_allowed")
    if refused := _unfit(header.shape):
        return refused
    if len(data) - header.start != int(np.prod(header.shape)) * DTYPES[header.dtype]:
        return Decoded(Status.CORRUPT, "truncated")
    raw = np.frombuffer(data, header.dtype, offset=header.start)
    frames = np.ascontiguousarray(raw.reshape(header.shape, order="F" if header.fortran else "C"), np.float32)
    if not np.isfinite(frames).all():
        return Decoded(Status.CORRUPT, "not_finite")
    if np.abs(frames).max() > MAX_MAGNITUDE:
        return Decoded(Status.REJECTED, "values_too_large")
    return Decoded(Status.PRESENT, value=frames)


def _unfit(shape: tuple[int, ...]) -> Decoded | None:
    if len(shape) != 2:
        return Decoded(Status.REJECTED, "shape_not_allowed")
    if 0 in shape:
        return Decoded(Status.MISSING, "empty")
    if shape[0] > MAX_FRAMES:
        return Decoded(Status.REJECTED, "too_many_frames")
    return Decoded(Status.REJECTED, "too_many_features") if shape[1] > MAX_FEATURES else None


def _header(data: bytes) -> _Header | None:
    """What the file says of its array; None where it says nothing that can be read."""
    if not data.startswith(_MAGIC) or len(data) < 12 or data[6] not in (1, 2, 3):
        return None
    width = 2 if data[6] == 1 else 4  # of the header's length, which came to be too short
    start = 8 + width + int.from_bytes(data[8 : 8 + width], "little")
    if start - 8 - width > _HEADER_BYTES:
        return None
    text = data[8 + width : start]
    descr, order, shape = (pattern.search(text) for pattern in (_DESCR, _ORDER, _SHAPE))
    if descr is None or order is None or shape is None:
        return None
    sizes = [part.strip() for part in shape[1].split(b",")]
    try:
        dimensions = tuple(int(part) for part in sizes if part)
    except ValueError:
        return None
    return _Header(descr[1].decode("ascii", "replace"), order[1] == b"True", dimensions, start)


def measure(frames: Frames) -> NDArray[np.float32]:
    """(5,) statistics named in `QUALITY` of a sequence (T, features).

    `frames` counts them; `level` is the mean of all values; `spread` the standard deviation over time, a mean over
    features; `change` the mean squared difference of successive frames by twice the variance, half of von Neumann's
    ratio (1941): 1 of noise, near 0 of what moves slowly; `still_share` the share of frames equal to the one before, as
    of a frozen picture or of silence.
    """
    if not frames.size:
        return np.array([len(frames), 0.0, 0.0, 0.0, 0.0], np.float32)
    variance = frames.var(axis=0, dtype=np.float64)
    spread = float(np.sqrt(variance).mean())
    if len(frames) < 2:
        return np.array([len(frames), frames.mean(), 0.0, 0.0, 0.0], np.float32)
    steps = np.diff(frames, axis=0)
    squares = float(np.einsum("ij,ij->", steps, steps, dtype=np.float64)) / steps.size
    change = squares / (2 * float(variance.mean())) if spread > 0 else 0.0
    still = float((~steps.any(axis=1)).mean())
    return np.array([len(frames), frames.mean(dtype=np.float64), spread, change, still], np.float32)


def sequence_modality(name: str) -> Modality:
    """The modality of that name whose values are feature sequences."""

    def prepare(sequences: Sequence[Frames], preprocessing: Preprocessing) -> list[Prepared]:
        return [Prepared(preprocessing.frames(name, frames), measure(frames)) for frames in sequences]

    return Modality(name, bytes, QUALITY, decode, prepare, blank=np.zeros((1, 0), np.float32))
