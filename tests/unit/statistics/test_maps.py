"""The frozen maps: what they see, that they survive storage, and what they refuse."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from migrations.schema.feature_map import FeatureError, FeatureMap
from migrations.schema.pairing_map import PairingError, PairingMap
from tests.support.synthetic import World, pairs

RNG_SEED = 20260101
Maps = tuple[FeatureMap, FeatureMap]
Paired = tuple[PairingMap, Maps]


@pytest.fixture(scope="module")
def fitted() -> FeatureMap:
    world, rng = World(), np.random.default_rng(RNG_SEED)
    return FeatureMap.fit(world.rows(600, rng)).rescaled(world.rows(600, rng))


def test_features_of_fresh_rows_have_mean_zero_and_unit_variance(fitted: FeatureMap) -> None:
    features = fitted.transform(World().rows(4000, np.random.default_rng(1)))
    assert features.dtype == np.float32
    assert features.shape == (4000, fitted.width) == (4000, 128)
    assert np.abs(features.mean(axis=0)).max() < 0.3
    assert 0.8 < features.std(axis=0).mean() < 1.2


@pytest.mark.parametrize("change", ["mean", "spread", "noise", "shape"])
def test_means_of_features_show_more_than_a_mean_shift(fitted: FeatureMap, change: str) -> None:
    world, rng = World(), np.random.default_rng(2)
    latent = world.latent(4000, rng)
    centre = latent.mean(axis=0)
    changed = {
        "mean": latent + 0.3,
        "spread": centre + 1.2 * (latent - centre),
        "noise": latent,
        # same mean and covariance, other shape: each direction becomes two-valued
        "shape": centre + np.sign(latent - centre) * latent.std(axis=0),
    }[change]
    before = fitted.transform(world.embed(latent, rng)).mean(axis=0)
    noise = 1.3 * world.noise if change == "noise" else None
    after = fitted.transform(world.embed(changed, rng, noise=noise)).mean(axis=0)
    again = fitted.transform(world.rows(4000, rng)).mean(axis=0)
    assert np.linalg.norm(after - before) > 3 * np.linalg.norm(again - before)


def test_maps_survive_storage(fitted: FeatureMap) -> None:
    rows = World().rows(10, np.random.default_rng(3))
    again = FeatureMap.from_arrays(fitted.to_arrays())
    assert np.array_equal(again.transform(rows), fitted.transform(rows))
    assert again.fingerprint() == fitted.fingerprint()
    assert fitted.rescaled(rows).fingerprint() != fitted.fingerprint()


def test_half_precision_embeddings_are_taken(fitted: FeatureMap) -> None:
    rows = World().rows(50, np.random.default_rng(3))
    assert np.allclose(fitted.transform(rows.astype(np.float16)), fitted.transform(rows), atol=0.5)


def test_constant_dimensions_and_duplicate_rows_are_no_obstacle() -> None:
    rows = np.repeat(World().rows(20, np.random.default_rng(4)), 4, axis=0)
    rows[:, 7] = 3.0
    assert np.isfinite(FeatureMap.fit(rows).transform(rows)).all()


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        (np.ones((4, 3)), "at least 8 rows"),
        (np.full((20, 3), np.nan), "NaN"),
        (np.ones((20, 3)), "alike"),
    ],
)
def test_unusable_rows_are_refused_with_a_reason(rows: NDArray[Any], reason: str) -> None:
    with pytest.raises(FeatureError, match=reason):
        FeatureMap.fit(rows)


def test_rows_of_another_width_or_with_nan_are_not_transformed(fitted: FeatureMap) -> None:
    with pytest.raises(FeatureError, match="fitted on"):
        fitted.transform(np.ones((2, 5)))
    with pytest.raises(FeatureError, match="NaN"):
        fitted.transform(np.full((2, 96), np.nan))


def features_of(
    n: int, rng: np.random.Generator, maps: Maps, mispaired: float = 0.0
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    image, text = pairs(n, rng, mispaired=mispaired)
    return maps[0].transform(image), maps[1].transform(text)


@pytest.fixture(scope="module")
def paired() -> Paired:
    image, text = pairs(800, np.random.default_rng(RNG_SEED))
    maps = FeatureMap.fit(image), FeatureMap.fit(text)
    return PairingMap.fit(maps[0].transform(image), maps[1].transform(text)), maps


def test_residuals_are_centred_on_true_pairs_and_fall_on_wrong_ones(paired: Paired) -> None:
    pairing, maps = paired
    rng = np.random.default_rng(5)
    right = pairing.residuals(*features_of(2000, rng, maps))
    wrong = pairing.residuals(*features_of(2000, rng, maps, mispaired=1.0))
    assert np.all(np.abs(right.mean(axis=0)) < 0.4 * right.std(axis=0))
    assert np.all(wrong.mean(axis=0) < right.mean(axis=0) - 3 * right.std(axis=0))


def test_independent_sides_give_no_pairing_to_see() -> None:
    rng = np.random.default_rng(6)
    pairing = PairingMap.fit(rng.normal(size=(800, 32)), rng.normal(size=(800, 32)))
    assert pairing.rho.max() < 0.35


def test_known_correlation_is_recovered() -> None:
    rng = np.random.default_rng(7)
    x = rng.normal(size=(4000, 4))
    y = rng.normal(size=(4000, 4))
    y[:, 0] = 0.8 * x[:, 2] + 0.6 * y[:, 0]
    pairing = PairingMap.fit(x, y)
    assert pairing.rho[0] == pytest.approx(0.8, abs=0.03)
    # the information in bits that the pair shares: -½ log(1 - ρ²), in nats
    scores = pairing.residuals(x, y)
    assert np.abs(scores.mean(axis=0)).max() < 0.01


def test_pairing_refuses_what_it_cannot_use(paired: Paired) -> None:
    pairing, _ = paired
    with pytest.raises(PairingError, match="at least 32 pairs"):
        PairingMap.fit(np.ones((10, 3)), np.ones((10, 3)))
    with pytest.raises(PairingError, match="NaN"):
        PairingMap.fit(np.full((64, 3), np.nan), np.ones((64, 3)))
    with pytest.raises(PairingError, match="expected"):
        pairing.residuals(np.ones((2, 3)), np.ones((2, 3)))
    again = PairingMap.from_arrays(pairing.to_arrays())
    assert np.array_equal(again.rho, pairing.rho)
