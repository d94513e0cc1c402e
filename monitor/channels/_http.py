"""What channels over HTTP share: addresses and tokens as options, one POST, and what its answer means."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from datetime import UTC, timedelta
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Annotated, Any

import httpx
from pydantic import AfterValidator, Field, HttpUrl, SecretStr, TypeAdapter, ValidationError

from monitor.channels.base import Delivery, Options, Outcome
from monitor.domain.clock import Clock

# Credentials can be put right within the day that a message is tried; requests that a receiver calls wrong cannot.
_LATER = {
    HTTPStatus.UNAUTHORIZED: "the receiver refuses the credentials",
    HTTPStatus.FORBIDDEN: "the receiver refuses the credentials",
    HTTPStatus.PROXY_AUTHENTICATION_REQUIRED: "the proxy refuses the credentials",
    HTTPStatus.REQUEST_TIMEOUT: "",
    HTTPStatus.TOO_EARLY: "",
    HTTPStatus.TOO_MANY_REQUESTS: "",
}
# A receiver may not hold a page back for longer than that.
LONGEST_WAIT = timedelta(hours=1)

for _name in ("httpx", "httpcore"):  # they log addresses and headers, and those hold tokens
    logging.getLogger(_name).setLevel(logging.WARNING)


def _address(given: SecretStr) -> SecretStr:
    try:
        TypeAdapter(HttpUrl).validate_python(given.get_secret_value())
        httpx.URL(given.get_secret_value())
    except (ValidationError, httpx.InvalidURL):
        raise ValueError("needs an address that begins with http:// or https://") from None
    return given


def _token(given: SecretStr) -> SecretStr:
    text = given.get_secret_value()
    if not text or not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError("needs printable ASCII characters without spaces")
    return given


# Secret, since the path or the user part of an address may be all that a sender needs.
Address = Annotated[SecretStr, AfterValidator(_address)]
Token = Annotated[SecretStr, AfterValidator(_token)]


class HttpOptions(Options):
    """What every channel over HTTP has: how long to wait for a connection, and for each part of an answer."""

    timeout_seconds: float = Field(default=5.0, gt=0, le=30)


class Poster:
    """Posts to one receiver."""

    def __init__(self, timeout_seconds: float, clock: Clock, auth: tuple[str, str] | None = None) -> None:
        """`auth` are the user and the password of basic authentication."""
        self._clock = clock
        self._client = httpx.Client(timeout=timeout_seconds, follow_redirects=False, auth=auth)

    def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> Delivery:
        """Post once. The answer's body is never read: its status says all, and it may have no end."""
        try:
            with self._client.stream(
                "POST", url, content=body, headers={"Content-Type": "application/json", **headers}
            ) as answer:
                return self._read(answer.status_code, answer.headers)
        except httpx.TimeoutException as error:
            return Delivery(Outcome.RETRY, f"timeout: {type(error).__name__}")
        except httpx.HTTPError as error:
            return Delivery(Outcome.RETRY, f"connection: {type(error).__name__}")

    def close(self) -> None:
        """Give back connections."""
        self._client.close()

    def _read(self, status: int, headers: Mapping[str, str]) -> Delivery:
        if HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
            return Delivery(Outcome.SENT)
        why = _LATER.get(HTTPStatus(status), "") if status in list(HTTPStatus) else ""
        reason = f"answered {status}: {why}" if why else f"answered {status}"
        if status in _LATER or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            return Delivery(Outcome.RETRY, reason, self._retry_after(headers.get("Retry-After")))
        return Delivery(Outcome.REFUSE, reason)

    def _retry_after(self, given: str | None) -> timedelta | None:
        """The header Retry-After (RFC 9110, 10.2.3): seconds, or a date. None where it is neither."""
        if given is None:
            return None
        if given.strip().isdecimal():
            wait = timedelta(seconds=min(int(given.strip()[:9]), LONGEST_WAIT.total_seconds()))
        else:
            try:
                date = parsedate_to_datetime(given)
            except ValueError:
                return None
            wait = date.replace(tzinfo=date.tzinfo or UTC) - self._clock.now()
        return min(max(wait, timedelta(0)), LONGEST_WAIT)


def encode(value: Any) -> bytes:
    """JSON in ASCII, the same bytes for the same value; what is not finite is no JSON and becomes null."""
    return json.dumps(_finite(value), separators=(",", ":"), sort_keys=True, allow_nan=False).encode()


def _finite(value: Any) -> Any:
    if isinstance(value, float) and value - value != 0:
        return None
    if isinstance(value, Mapping):
        return {key: _finite(each) for key, each in value.items()}
    return [_finite(each) for each in value] if isinstance(value, list | tuple) else value
