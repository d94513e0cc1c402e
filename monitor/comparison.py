"""Comparing two files of rows: what `fusionwatch-monitor compare` does."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from monitor.detectors import Score, compare

# An .npz names the modalities of a pair so.
PAIR = ("image", "text")


def compare_files(detector: str, reference: Path, current: Path, options: Sequence[str] = ()) -> Score:
    """The score of two .npy files, or of two .npz files with `image` and `text`; `options` are "key=value".

    Raises ValueError on a file that cannot be read, and as `compare` does.
    """
    return compare(detector, read_rows(reference), read_rows(current), **parse_options(options))


def read_rows(path: Path) -> Any:
    """The array of an .npy file, or the pair of arrays of an .npz file. Never unpickles. Raises ValueError."""
    try:
        found = np.load(path, allow_pickle=False)
        if not isinstance(found, np.lib.npyio.NpzFile):
            return found
        with found:
            return _pair(found, path)
    except (OSError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} cannot be read: {error}") from None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _pair(found: np.lib.npyio.NpzFile, path: Path) -> tuple[NDArray[Any], NDArray[Any]]:
    if missing := [name for name in PAIR if name not in found]:
        raise ValueError(f"an .npz holds the arrays image and text; {path.name} lacks {' and '.join(missing)}")
    return found[PAIR[0]], found[PAIR[1]]


def parse_options(given: Sequence[str]) -> dict[str, Any]:
    """{"alpha": 0.01} from ["alpha=0.01"]. Raises ValueError where a value is no number and not "none"."""
    options: dict[str, Any] = {}
    for each in given:
        key, found, value = each.partition("=")
        if not found or not key.strip():
            raise ValueError(f"an option is written key=value, got {each!r}")
        options[key.strip()] = _number(key.strip(), value.strip())
    return options


def _number(key: str, value: str) -> int | float | None:
    if value.lower() == "none":
        return None
    try:
        return int(value)
    except ValueError:
        pass
    try:
        return float(value)
    except ValueError:
        raise ValueError(f"option {key} must be a number, got {value!r}") from None


def as_fields(detector: str, score: Score) -> dict[str, Any]:
    """A score as plain values that JSON can hold, the verdict first."""
    return {"detector": detector, "verdict": score.verdict.value, **{
        name: value for name, value in asdict(score).items() if name != "verdict"
    }}  # fmt: skip
