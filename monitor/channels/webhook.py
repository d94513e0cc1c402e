"""A signed JSON POST to any HTTP endpoint.

`X-Fusionwatch-Signature: sha256=<hex>` is the HMAC-SHA-256 of `<timestamp>.<body>` with the shared secret, where the
timestamp is that of `X-Fusionwatch-Timestamp` (seconds since 1970): a receiver refuses what is too old or does not
match. `Idempotency-Key` is the same on every try of one message.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import httpx
from pydantic import Field, HttpUrl, SecretStr

from monitor.channels.base import ChannelKind, Delivery, Options, Outcome
from monitor.domain.clock import Clock, SystemClock


class WebhookOptions(Options):
    """Where to post, the secret shared with that receiver (16 characters or more), and how long to wait."""

    url: HttpUrl
    secret: SecretStr = Field(min_length=16)
    timeout_seconds: float = Field(default=5.0, gt=0, le=30)


class WebhookChannel:
    """Posts messages to one address over one kept connection."""

    def __init__(self, url: str, secret: bytes, timeout_seconds: float, clock: Clock) -> None:
        self._url = url
        self._secret = secret
        self._clock = clock
        self._client = httpx.Client(timeout=timeout_seconds, follow_redirects=False)

    def send(self, message: Mapping[str, Any], dedup_key: str) -> Delivery:
        """Post once. 2xx is sent; 429, 5xx and a failed connection are to be tried again; any other answer is final."""
        body = json.dumps(message, separators=(",", ":"), sort_keys=True).encode()
        timestamp = str(int(self._clock.now().timestamp()))
        headers = {
            "Content-Type": "application/json",
            "Idempotency-Key": dedup_key,
            "X-Fusionwatch-Timestamp": timestamp,
            "X-Fusionwatch-Signature": signature(self._secret, timestamp, body),
        }
        try:
            answer = self._client.post(self._url, content=body, headers=headers)
        except httpx.TimeoutException as error:
            return Delivery(Outcome.RETRY, f"timeout: {type(error).__name__}")
        except httpx.TransportError as error:
            return Delivery(Outcome.RETRY, f"connection: {type(error).__name__}")
        if answer.is_success:
            return Delivery(Outcome.SENT)
        if answer.status_code == HTTPStatus.TOO_MANY_REQUESTS or answer.is_server_error:
            return Delivery(Outcome.RETRY, f"answered {answer.status_code}")
        return Delivery(Outcome.REFUSE, f"answered {answer.status_code}")

    def close(self) -> None:
        """Close the kept connection."""
        self._client.close()


def signature(secret: bytes, timestamp: str, body: bytes) -> str:
    """`sha256=` and the hexadecimal HMAC-SHA-256 of `<timestamp>.<body>`."""
    return "sha256=" + hmac.new(secret, timestamp.encode() + b"." + body, "sha256").hexdigest()


def _build(options: WebhookOptions) -> WebhookChannel:
    secret = options.secret.get_secret_value().encode()
    return WebhookChannel(str(options.url), secret, options.timeout_seconds, SystemClock())


CHANNEL = ChannelKind("webhook", WebhookOptions, _build)
