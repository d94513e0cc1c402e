"""The channel that is always there: the program's own log."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from monitor.channels.base import ChannelKind, Delivery, Options, Outcome

_log = logging.getLogger(__name__)


class LogOptions(Options):
    """The log takes no options."""


class LogChannel:
    """Writes one line per message: pages as errors, tickets as warnings, resolves as information."""

    def send(self, message: Mapping[str, Any], dedup_key: str) -> Delivery:
        """Log the message. Never fails."""
        firing = message["state"] == "firing"
        level = (logging.ERROR if message["severity"] == "page" else logging.WARNING) if firing else logging.INFO
        _log.log(
            level,
            "%s %s %s(%s): %s [runbook %s] [key %s]",
            message["severity"],
            message["state"],
            message["alertname"],
            message["modality"],
            message["summary"],
            message["runbook"],
            dedup_key,
        )
        return Delivery(Outcome.SENT)

    def close(self) -> None:
        """Nothing to give back."""


CHANNEL = ChannelKind("log", LogOptions, lambda _: LogChannel())
