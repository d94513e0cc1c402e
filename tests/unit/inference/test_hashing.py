from __future__ import annotations

import hashlib
import hmac

import pytest

from inference.hashing import Hasher

KEY = bytes(range(32))


def test_digest_is_hmac_sha_256() -> None:
    assert Hasher("k1", KEY).digest(b"raw") == hmac.new(KEY, b"raw", hashlib.sha256).digest()


def test_text_is_hashed_as_utf_8() -> None:
    hasher = Hasher("k1", KEY)
    assert hasher.digest("é") == hasher.digest("é".encode())
    assert len(hasher.digest("\ud800")) == 32


def test_another_key_gives_another_digest() -> None:
    assert Hasher("k1", KEY).digest(b"raw") != Hasher("k2", KEY[::-1]).digest(b"raw")


@pytest.mark.parametrize(("key_id", "key"), [("k1", b"short"), ("k1", b""), ("", KEY)])
def test_a_weak_or_nameless_key_is_refused(key_id: str, key: bytes) -> None:
    with pytest.raises(ValueError, match="HMAC key"):
        Hasher(key_id, key)
