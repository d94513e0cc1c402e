"""Prometheus Alertmanager, by its API v2 (`POST /api/v2/alerts`): it groups, routes, silences and repeats.

An alert is named by its labels, and is over at its `endsAt`. One that fires is sent with an `endsAt` some minutes ahead
and again long before that, as Prometheus does, so that alerts of a monitor that is gone end by themselves. One that is
over is sent with the time at which it was.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Self

from pydantic import Field, SecretStr, model_validator

from monitor.channels._http import Address, HttpOptions, Poster, Token, encode
from monitor.channels._text import facts, links
from monitor.channels.base import ChannelKind, Delivery
from monitor.domain.clock import Clock, SystemClock

RESEND = timedelta(minutes=1)  # Prometheus' --rules.alert.resend-delay
NAMES = ("alertname", "severity", "model", "modality", "flapping")


class AlertmanagerOptions(HttpOptions):
    """Alertmanager's address without `/api`, and where it asks for them a user and a password, or a bearer's token.

    An alert that is not sent again for `resolve_seconds` is over: while the monitor is away for less, none ends.
    """

    url: Address
    username: str | None = None
    password: SecretStr | None = None
    token: Token | None = None
    resolve_seconds: int = Field(default=900, ge=240, le=86400)

    @model_validator(mode="after")
    def _one_way_in(self) -> Self:
        if (self.username is None) != (self.password is None):
            raise ValueError("username and password go together")
        if self.username is not None and self.token is not None:
            raise ValueError("give either username and password or token")
        return self


class AlertmanagerChannel:
    """Sends alerts to one Alertmanager."""

    def __init__(self, options: AlertmanagerOptions, clock: Clock) -> None:
        self._url = options.url.get_secret_value().rstrip("/") + "/api/v2/alerts"
        token, password = options.token, options.password
        self._headers = {"Authorization": f"Bearer {token.get_secret_value()}"} if token else {}
        auth = (options.username or "", password.get_secret_value()) if password else None
        self._resolve = timedelta(seconds=options.resolve_seconds)
        self._clock = clock
        self._poster = Poster(options.timeout_seconds, clock, auth)

    def send(self, message: Mapping[str, Any], dedup_key: str) -> Delivery:
        """Send the alert as it is now. Sent twice it is still one: labels name it."""
        ends = message["resolved_at"] or (self._clock.now() + self._resolve).isoformat()
        alert: dict[str, Any] = {
            "labels": labels(message),
            "annotations": described(message),
            "startsAt": message["since"],
            "endsAt": ends,
        }
        if (page := links(message).get("status page")) is not None:
            alert["generatorURL"] = page
        return self._poster.post(self._url, encode([alert]), self._headers)

    def close(self) -> None:
        """Give back connections."""
        self._poster.close()


def labels(message: Mapping[str, Any]) -> dict[str, str]:
    """What names the alert. Not the model's version: an alert that outlives a promotion would seem to be another."""
    return {"service": "fusionwatch"} | {name: message[name] for name in NAMES if message.get(name)}


def described(message: Mapping[str, Any]) -> dict[str, str]:
    """What may change while the alert stays the same."""
    told = {
        name.replace(" ", "_"): value for name, value in facts(message).items() if name not in ("since", "resolved at")
    }
    return told | {"summary": message["summary"], "runbook": message["runbook"], "dashboard": message["dashboard"]}


def _build(options: AlertmanagerOptions) -> AlertmanagerChannel:
    return AlertmanagerChannel(options, SystemClock())


CHANNEL = ChannelKind("alertmanager", AlertmanagerOptions, _build, one_by_one=True, resend=RESEND)
