"""PagerDuty, by its Events API v2: an incident for each alert, which is resolved with the alert.

202 is accepted, 400 is wrong and not to be tried again, 429 and 5xx are
(https://developer.pagerduty.com/docs/events-api-v2-overview).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field, SecretStr

from monitor.channels._http import Address, HttpOptions, Poster, encode
from monitor.channels._text import facts, incident, links, others, shorten
from monitor.channels.base import ChannelKind, Delivery
from monitor.domain.clock import SystemClock

KEY, SUMMARY = 255, 1024  # characters of dedup_key and payload.summary
EVENT = 512_000  # bytes of an event
SEVERITY = {"page": "critical", "ticket": "warning"}


class PagerDutyOptions(HttpOptions):
    """The integration's key (32 characters). Accounts in the EU: https://events.eu.pagerduty.com/v2/enqueue."""

    routing_key: SecretStr = Field(min_length=32, max_length=32)
    url: Address = SecretStr("https://events.pagerduty.com/v2/enqueue")


class PagerDutyChannel:
    """Sends events to one integration."""

    def __init__(self, options: PagerDutyOptions) -> None:
        self._url = options.url.get_secret_value()
        self._routing_key = options.routing_key.get_secret_value()
        self._poster = Poster(options.timeout_seconds, SystemClock())

    def send(self, message: Mapping[str, Any], dedup_key: str) -> Delivery:
        """Trigger or resolve the alert's incident. Sent twice it is still one: the incident's key names it."""
        event: dict[str, Any] = {
            "routing_key": self._routing_key,
            "event_action": "trigger" if message["state"] == "firing" else "resolve",
            "dedup_key": incident(message, KEY),
            "client": "fusionwatch",
            "client_url": message["dashboard"],
            "links": [{"href": url, "text": name} for name, url in links(message).items()],
            "payload": {
                "summary": shorten(message["summary"], SUMMARY),
                "source": message["model"],
                "severity": SEVERITY[message["severity"]],
                "timestamp": message["since"],
                "component": message["modality"],
                "group": message["model"],
                "class": message["alertname"],
                "custom_details": {
                    **facts(message),
                    "summary": message["summary"],
                    "runbook": message["runbook"],
                    "also": others(message),
                },
            },
        }
        body = encode(event)
        if len(body) > EVENT:
            event["payload"]["custom_details"] = {"runbook": message["runbook"]}
            body = encode(event)
        return self._poster.post(self._url, body, {})

    def close(self) -> None:
        """Give back connections."""
        self._poster.close()


CHANNEL = ChannelKind("pagerduty", PagerDutyOptions, PagerDutyChannel, one_by_one=True)
