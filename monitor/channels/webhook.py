"""A signed JSON POST to any HTTP endpoint.

`X-Fusionwatch-Signature: sha256=<hex>` is the HMAC-SHA-256 of `<timestamp>.<key>.<body>` with the shared secret, where
the timestamp is that of `X-Fusionwatch-Timestamp` (seconds since 1970, anew on each try) and the key that of
`Idempotency-Key`, the same on every try of one message: a receiver refuses what does not match or is more than five
minutes old or ahead, and takes a key once. docs/alerts.md has the code.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from typing import Any

from pydantic import Field, SecretStr

from monitor.channels._http import Address, HttpOptions, Poster, encode
from monitor.channels.base import ChannelKind, Delivery
from monitor.domain.clock import Clock, SystemClock


class WebhookOptions(HttpOptions):
    """Where to post, and the secret shared with that receiver (16 characters or more)."""

    url: Address
    secret: SecretStr = Field(min_length=16)


class WebhookChannel:
    """Posts messages to one address."""

    def __init__(self, url: str, secret: bytes, timeout_seconds: float, clock: Clock) -> None:
        self._url = url
        self._secret = secret
        self._clock = clock
        self._poster = Poster(timeout_seconds, clock)

    def send(self, message: Mapping[str, Any], dedup_key: str) -> Delivery:
        """Post the message as it is, once."""
        body = encode(message)
        timestamp = str(int(self._clock.now().timestamp()))
        headers = {
            "Idempotency-Key": dedup_key,
            "X-Fusionwatch-Timestamp": timestamp,
            "X-Fusionwatch-Signature": signature(self._secret, timestamp, dedup_key, body),
        }
        return self._poster.post(self._url, body, headers)

    def close(self) -> None:
        """Give back connections."""
        self._poster.close()


def signature(secret: bytes, timestamp: str, key: str, body: bytes) -> str:
    """`sha256=` and the hexadecimal HMAC-SHA-256 of `<timestamp>.<key>.<body>`."""
    return "sha256=" + hmac.new(secret, f"{timestamp}.{key}.".encode() + body, "sha256").hexdigest()


def _build(options: WebhookOptions) -> WebhookChannel:
    secret = options.secret.get_secret_value().encode()
    return WebhookChannel(options.url.get_secret_value(), secret, options.timeout_seconds, SystemClock())


CHANNEL = ChannelKind("webhook", WebhookOptions, _build)
