"""Opsgenie, by its Alert API: an alert there for each alert here, which is closed with it.

202 is accepted, 422 is wrong and not to be tried again, 429 and 5xx are (https://docs.opsgenie.com/docs/alert-api,
https://docs.opsgenie.com/docs/response).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from pydantic import SecretStr

from monitor.channels._http import Address, HttpOptions, Poster, Token, encode
from monitor.channels._text import facts, incident, links, others, shorten, title
from monitor.channels.base import ChannelKind, Delivery
from monitor.domain.clock import SystemClock

ALIAS, MESSAGE, DESCRIPTION, ENTITY, TAG, NOTE = 512, 130, 15_000, 512, 50, 25_000  # characters
DETAIL = 500  # of each detail; eleven at most stay below the 8000 of all together
PRIORITY = {"page": "P1", "ticket": "P3"}


class OpsgenieOptions(HttpOptions):
    """The key of an API integration. Accounts in the EU: https://api.eu.opsgenie.com."""

    api_key: Token
    url: Address = SecretStr("https://api.opsgenie.com")


class OpsgenieChannel:
    """Creates and closes alerts of one account."""

    def __init__(self, options: OpsgenieOptions) -> None:
        self._url = options.url.get_secret_value().rstrip("/") + "/v2/alerts"
        self._headers = {"Authorization": f"GenieKey {options.api_key.get_secret_value()}"}
        self._poster = Poster(options.timeout_seconds, SystemClock())

    def send(self, message: Mapping[str, Any], dedup_key: str) -> Delivery:
        """Create or close the alert. Sent twice it is still one: its alias names it."""
        alias = incident(message, ALIAS)
        if message["state"] == "firing":
            return self._poster.post(self._url, encode(_create(message, alias)), self._headers)
        close = {"source": "fusionwatch", "note": shorten(message["summary"], NOTE)}
        path = f"{self._url}/{quote(alias, safe='')}/close?identifierType=alias"
        return self._poster.post(path, encode(close), self._headers)

    def close(self) -> None:
        """Give back connections."""
        self._poster.close()


def _create(message: Mapping[str, Any], alias: str) -> dict[str, Any]:
    details = {**facts(message), **links(message), "model": message["model"], "runbook": message["runbook"]}
    return {
        "message": shorten(title(message), MESSAGE),
        "alias": alias,
        "description": shorten("\n".join([message["summary"], *others(message)]), DESCRIPTION),
        "tags": [shorten(message[name], TAG) for name in ("severity", "alertname", "modality")],
        "details": {name: shorten(value, DETAIL) for name, value in details.items()},
        "entity": shorten(message["modality"], ENTITY),
        "source": "fusionwatch",
        "priority": PRIORITY[message["severity"]],
    }


CHANNEL = ChannelKind("opsgenie", OpsgenieOptions, OpsgenieChannel, one_by_one=True)
