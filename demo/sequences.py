"""A data set of video features, audio features and a table whose label none of the three tells by itself."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

LABELS = ("both", "first", "neither", "second")
FEATURES = {"audio": 6, "video": 8}
CONFIG = Path(__file__).with_name("sequences.toml")


def values(rng: np.random.Generator) -> tuple[dict[str, Any], str]:
    """One row's values by modality, and its label.

    Video rises or falls, audio is high or low, and the table says yes or no: three fair coins. The label tells whether
    video and audio agree, and whether audio and table do: one alone says nothing of it, two say half.
    """
    rises, high, says = (int(bit) for bit in rng.integers(0, 2, 3))
    moving, steady = (rng.normal(0.0, 0.3, (int(rng.integers(4, 9)), size)).astype(np.float32) for size in (8, 6))
    moving[:, 0] += np.linspace(-1, 1, len(moving)) * (2 * rises - 1)
    steady[:, 1] += 2 * high - 1
    table = {"reading": float(rng.normal(2 * says - 1, 0.2)), "room": "abc"[int(rng.integers(3))]}
    agree = (rises == high, high == says)
    label = {(True, True): "both", (True, False): "first", (False, True): "second", (False, False): "neither"}[agree]
    return {"video": moving, "audio": steady, "tabular": table}, label


def npy(array: NDArray[Any]) -> bytes:
    """An array as NumPy writes it."""
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def write_sequences(
    folder: Path, rows: int, seed: int, *, progress: Callable[[int], None] = lambda _done: None
) -> Path:
    """Write so many rows, three fifths of them for training, and a configuration; returns its path.

    The same seed gives the same files. Raises FileExistsError where the folder holds something.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise FileExistsError(f"{folder}: holds files already; choose an empty folder")
    rng = np.random.default_rng(seed)
    with (folder / "annotations.jsonl").open("w", encoding="utf-8") as file:
        for number in range(rows):
            row, label = values(rng)
            for name in FEATURES:
                data = npy(row[name].astype((np.float16, np.float32)[number % 2]))
                (folder / f"{number}.{name}.npy").write_bytes(data)
                row[name] = f"{number}.{name}.npy"
            split = ("train", "train", "train", "validation", "test")[number % 5]
            file.write(json.dumps({"id": f"r{number}", "label": label, "split": split, **row}) + "\n")
            progress(number + 1)
    config = folder / "train.toml"
    config.write_text(CONFIG.read_text(encoding="utf-8"), encoding="utf-8")
    return config
