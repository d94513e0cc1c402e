from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from inference.cache import OVERHEAD_BYTES, CacheKey, PredictionCache
from inference.outcome import Prediction


def prediction(label: str = "a", width: int = 4) -> Prediction:
    return Prediction(
        model_version="v1",
        classes=("a", "b"),
        route="fused",
        error=None,
        label=label,
        confidence=0.9,
        probabilities=np.array([0.9, 0.1], np.float32),
        agreement=True,
        embeddings={"fused": np.zeros(width, np.float32)},
        quality={},
        preprocess_ms=1.0,
        encode_ms=2.0,
        fuse_ms=3.0,
        contribution={"text": 0.5},
        contribution_ms=4.0,
    )


def key(name: str, version: str = "v1") -> CacheKey:
    return CacheKey.of(version, {"text": name.encode(), "image": b"i"})


def test_a_hit_says_that_it_is_one_and_took_no_model_time() -> None:
    cache = PredictionCache(100_000)
    cache.put(key("x"), prediction())
    found = cache.get(key("x"))
    assert found is not None
    assert (found.route, found.label, found.encode_ms, found.fuse_ms) == ("cached", "a", 0.0, 0.0)
    assert (found.contribution, found.contribution_ms) == ({}, 0.0)
    assert found.embeddings.keys() == {"fused"}
    assert cache.get(key("y")) is None


def test_another_model_version_knows_nothing_of_it() -> None:
    cache = PredictionCache(100_000)
    cache.put(key("x"), prediction())
    assert cache.get(key("x", "v2")) is None


def test_the_order_of_modalities_does_not_matter() -> None:
    assert CacheKey.of("v", {"a": b"1", "b": b"2"}) == CacheKey.of("v", {"b": b"2", "a": b"1"})


def test_what_was_used_longest_ago_goes_first() -> None:
    one = OVERHEAD_BYTES + 8 + 16
    cache = PredictionCache(2 * one)
    cache.put(key("a"), prediction())
    cache.put(key("b"), prediction())
    assert cache.get(key("a")) is not None
    cache.put(key("c"), prediction())
    assert cache.get(key("b")) is None
    assert cache.get(key("a")) is not None
    assert cache.get(key("c")) is not None


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(1, 500)), max_size=60))
def test_its_bytes_are_bounded_whatever_comes(puts: list[tuple[int, int]]) -> None:
    limit = 10_000
    cache = PredictionCache(limit)
    for name, width in puts:
        cache.put(key(str(name)), prediction(width=width))
        held = sum(size for _, size in cache._held.values())
        assert held == cache._bytes <= limit
