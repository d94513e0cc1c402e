"""Cameras move the picture statistics that they are meant to move."""

from __future__ import annotations

import numpy as np
import pytest

from demo.cameras import CAMERAS, NEW_CAMERA, Picture, gain_and_noise
from demo.scenes import draw_scene


@pytest.fixture(scope="module")
def picture() -> Picture:
    return draw_scene(np.random.default_rng(1)).image


def brightness(picture: Picture) -> float:
    return float(picture.mean())


def roughness(picture: Picture) -> float:
    """Mean absolute difference of horizontal neighbours."""
    return float(np.abs(np.diff(picture.astype(float), axis=1)).mean())


def shoot(name: str, picture: Picture) -> Picture:
    return CAMERAS[name](picture, np.random.default_rng(0))


@pytest.mark.parametrize("name", sorted(CAMERAS))
def test_every_camera_gives_a_picture_and_leaves_its_input_alone(name: str, picture: Picture) -> None:
    before = picture.copy()
    after = shoot(name, picture)
    assert after.shape == picture.shape
    assert after.dtype == np.uint8
    assert np.array_equal(picture, before)
    assert np.array_equal(after, picture) == (name == "unchanged")


def test_new_camera_is_darker_and_noisier(picture: Picture) -> None:
    after = NEW_CAMERA(picture, np.random.default_rng(0))
    assert brightness(after) < 0.6 * brightness(picture)
    assert roughness(after) / brightness(after) > 2.5 * roughness(picture) / brightness(picture)


def test_gain_and_noise_have_their_units(picture: Picture) -> None:
    rng = np.random.default_rng(0)
    flat = np.full((64, 64, 3), 128, dtype=np.uint8)
    shot = gain_and_noise(0.5, 0.1)(flat, rng).astype(float) / 255.0
    assert shot.mean() == pytest.approx(0.251, abs=0.005)
    assert shot.std() == pytest.approx(0.1, abs=0.01)


def test_single_effects(picture: Picture) -> None:
    assert roughness(shoot("blurred", picture)) < 0.5 * roughness(picture)
    assert roughness(shoot("noisy", picture)) > 2 * roughness(picture)
    assert brightness(shoot("dark", picture)) == pytest.approx(0.3 * brightness(picture), rel=0.05)
    grey = shoot("greyscale", picture)
    assert np.array_equal(grey[..., 0], grey[..., 2])
    assert np.array_equal(shoot("channels swapped", picture)[..., 0], picture[..., 2])
    assert np.array_equal(shoot("flipped", picture)[:, 0], picture[:, -1])
