"""Real pictures to measure shifts on: 1797 handwritten digits of 8 × 8 pixels with 17 grey levels.

`digits.npz` is the test part of "Optical Recognition of Handwritten Digits" by E. Alpaydin and C. Kaynak (1998), UCI
Machine Learning Repository, doi:10.24432/C50P49, CC BY 4.0, as scikit-learn's `load_digits` gives it, without labels.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@cache
def digits() -> Array:
    """(1797, 64) grey levels from 0 to 16."""
    with np.load(Path(__file__).with_name("digits.npz")) as stored:
        pixels: Array = stored["x"].astype(np.float64)
    return pixels


def noisy(x: Array, rng: np.random.Generator) -> Array:
    """Pixel noise of one grey level."""
    return x + rng.normal(size=x.shape)


def paler(x: Array, _: np.random.Generator) -> Array:
    """Contrast × 0.93."""
    return 0.93 * x


def shifted(x: Array, rng: np.random.Generator) -> Array:
    """A quarter of the pictures moved by a pixel to the right."""
    pictures = x.reshape(-1, 8, 8).copy()
    moved = rng.random(len(x)) < 0.25
    pictures[moved] = np.roll(pictures[moved], 1, axis=2)
    return pictures.reshape(-1, 64)


SHIFTS: dict[str, Callable[[Array, np.random.Generator], Array]] = {
    "digits_pixel_noise": noisy,
    "digits_contrast_0.93": paler,
    "digits_25%_shifted_by_a_pixel": shifted,
}
