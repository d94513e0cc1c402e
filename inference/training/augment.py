"""Random changes to training examples, so that a model learns what does not matter."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from inference.training.data import LabelledExample
from inference.training.fit_settings import Augmentation

Pixels = NDArray[np.uint8]


def augmented(example: LabelledExample, how: Augmentation, rng: np.random.Generator) -> LabelledExample:
    """The example, changed as `how` says; the same generator state gives the same change. Labels are never changed."""
    image, caption = example.image, example.caption
    if image is not None:
        image = _picture(image, how, rng)
    if caption is not None and how.words:
        caption = without_words(caption, how.words, rng)
    return replace(example, image=image, caption=caption)


def _picture(pixels: Pixels, how: Augmentation, rng: np.random.Generator) -> Pixels:
    if how.crop:
        pixels = cropped(pixels, how.crop, rng)
    if how.flip and rng.random() < how.flip:
        pixels = np.ascontiguousarray(pixels[:, ::-1])
    if how.brightness:
        factor = 1.0 + rng.uniform(-how.brightness, how.brightness)
        pixels = (pixels * np.float32(factor) + 0.5).clip(0, 255).astype(np.uint8)
    return pixels


def cropped(pixels: Pixels, most: float, rng: np.random.Generator) -> Pixels:
    """(H, W, 3) without up to a share `most` < 1 of its height and of its width, at a random place."""
    height, width = pixels.shape[:2]
    lost = (rng.uniform(0.0, most, size=2) * (height, width)).astype(int)
    top, left = (int(rng.integers(0, each + 1)) for each in lost)
    return np.ascontiguousarray(pixels[top : top + height - lost[0], left : left + width - lost[1]])


def without_words(text: str, share: float, rng: np.random.Generator) -> str:
    """The text with each word left out with probability `share`, but never all of them."""
    words = text.split()
    kept = [word for word, fate in zip(words, rng.random(len(words)), strict=True) if fate >= share]
    return " ".join(kept) if kept else words[int(rng.integers(len(words)))]
