"""Keyed digests of raw inputs: equal inputs can be told, inputs cannot be guessed back without the key."""

from __future__ import annotations

import hashlib
import hmac

KEY_BYTES = 32  # the digest's own length: a shorter key would be the weakest part (RFC 2104)


class Hasher:
    """HMAC-SHA-256 under one key. `key_id` is stored beside each digest, so that keys can be rotated."""

    def __init__(self, key_id: str, key: bytes) -> None:
        """Raises ValueError where the key has fewer than 32 bytes or the id is empty."""
        if len(key) < KEY_BYTES:
            raise ValueError(f"the HMAC key has {len(key)} bytes; at least {KEY_BYTES} are needed")
        if not key_id:
            raise ValueError("the HMAC key needs an id")
        self.key_id = key_id
        self._key = key

    def digest(self, data: bytes | str) -> bytes:
        """The 32-byte digest of an input; text is taken as UTF-8, lone surrogates included."""
        raw = data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data
        return hmac.digest(self._key, raw, hashlib.sha256)
