"""The webhook's signature: any receiver can check it with the standard library."""

from __future__ import annotations

import hashlib
import hmac

from monitor.channels.webhook import signature

SECRET = b"0123456789abcdef"


def test_it_is_the_hmac_of_timestamp_dot_key_dot_body() -> None:
    expected = hmac.new(SECRET, b'1700000000.k-1.{"a":1}', hashlib.sha256).hexdigest()
    assert signature(SECRET, "1700000000", "k-1", b'{"a":1}') == f"sha256={expected}"


def test_it_changes_with_secret_timestamp_key_and_body() -> None:
    made = {
        signature(SECRET, "1", "k", b"{}"),
        signature(SECRET, "2", "k", b"{}"),
        signature(SECRET, "1", "l", b"{}"),
        signature(SECRET, "1", "k", b"[]"),
        signature(b"another secret here", "1", "k", b"{}"),
    }
    assert len(made) == 5
