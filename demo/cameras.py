"""What can happen between a scene and the model: cameras that change the picture without changing what it shows."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

Picture = NDArray[np.uint8]
Camera = Callable[[Picture, np.random.Generator], Picture]


def gain_and_noise(gain: float, noise: float) -> Camera:
    """Exposure times `gain`, then Gaussian sensor noise of deviation `noise` (in units of full scale)."""

    def shoot(picture: Picture, rng: np.random.Generator) -> Picture:
        light = picture.astype(np.float32) * np.float32(gain / 255.0)
        light += np.float32(noise) * rng.standard_normal(picture.shape, dtype=np.float32)
        return np.asarray(np.clip(light, 0.0, 1.0) * 255.0 + 0.5).astype(np.uint8)

    return shoot


def unchanged(picture: Picture, rng: np.random.Generator) -> Picture:  # noqa: ARG001  # one signature for all
    """The camera that the model was trained on."""
    return picture


def out_of_focus(sigma: float) -> Camera:
    """Gaussian blur of `sigma` pixels."""

    def shoot(picture: Picture, rng: np.random.Generator) -> Picture:  # noqa: ARG001
        return np.asarray(Image.fromarray(picture).filter(ImageFilter.GaussianBlur(sigma)))

    return shoot


def compressed(picture: Picture, rng: np.random.Generator) -> Picture:  # noqa: ARG001
    """JPEG at quality 15."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, format="JPEG", quality=15)
    with Image.open(buffer) as image:
        return np.asarray(image.convert("RGB"))


def greyscale(picture: Picture, rng: np.random.Generator) -> Picture:  # noqa: ARG001
    """Luma only, in all three channels."""
    return np.asarray(Image.fromarray(picture).convert("L").convert("RGB"))


def channels_swapped(picture: Picture, rng: np.random.Generator) -> Picture:  # noqa: ARG001
    """Red and blue exchanged, as after a BGR decoder."""
    return np.ascontiguousarray(picture[..., ::-1])


def flipped(picture: Picture, rng: np.random.Generator) -> Picture:  # noqa: ARG001
    """Mirrored left to right: every marginal statistic stays, "left of" becomes wrong."""
    return np.ascontiguousarray(picture[:, ::-1])


NEW_CAMERA = gain_and_noise(0.45, 0.07)
"""Darker and noisier: the demo model's accuracy falls from 0.98 to 0.72 while its confidence stays at 0.94.

Retraining brings 0.89-0.90 back. With more noise (0.10: 0.52) less of the picture is left to learn from.
"""

CAMERAS: dict[str, Camera] = {
    "unchanged": unchanged,
    "new": NEW_CAMERA,
    "noisy": gain_and_noise(1.0, 0.15),
    "dark": gain_and_noise(0.3, 0.0),
    "blurred": out_of_focus(2.0),
    "compressed": compressed,
    "greyscale": greyscale,
    "channels swapped": channels_swapped,
    "flipped": flipped,
}
