"""What every channel is: it delivers one message to one receiver and says how that went."""

from __future__ import annotations

import importlib
import logging
import pkgutil
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from functools import cache
from typing import Any, Protocol

from pydantic import BaseModel, ConfigDict

import monitor.channels

_log = logging.getLogger(__name__)


class Outcome(StrEnum):
    """`sent`; `retry` later with the same key; `refuse`: no retry can help."""

    SENT = "sent"
    RETRY = "retry"
    REFUSE = "refuse"


@dataclass(frozen=True, slots=True)
class Delivery:
    """How a delivery went, in words why it did not, and how long the receiver wants to be left alone."""

    outcome: Outcome
    reason: str = ""
    retry_after: timedelta | None = None


class Channel(Protocol):
    """A way to one receiver."""

    def send(self, message: Mapping[str, Any], dedup_key: str) -> Delivery:
        """Deliver one message (monitor.alerts.message). The key is the same whenever the same message is tried."""
        ...

    def close(self) -> None:
        """Give back connections."""
        ...


class Options(BaseModel):
    """Base of a channel's options, which a receiver's settings fill."""

    model_config = ConfigDict(extra="forbid", frozen=True)


@dataclass(frozen=True, slots=True)
class ChannelKind:
    """The constant `CHANNEL` of each module of this package. `build` takes an instance of `options`.

    `one_by_one` says that the receiver groups by itself, and keeps one incident for each alert: it gets each in a
    message of its own. Otherwise alerts of a group come together, with all but the first in `grouped`. `resend` is set
    where the receiver takes an alert for resolved that it does not hear of again: what fires is sent so often.
    """

    name: str
    options: type[Options]
    build: Callable[[Any], Channel]
    one_by_one: bool = False
    resend: timedelta | None = None


@cache
def kinds() -> Mapping[str, ChannelKind]:
    """Every kind of channel by name, found by scanning this package for modules with a `CHANNEL`."""
    modules = (
        importlib.import_module(f"{monitor.channels.__name__}.{info.name}")
        for info in pkgutil.iter_modules(monitor.channels.__path__)
    )
    found = [module.CHANNEL for module in modules if hasattr(module, "CHANNEL")]
    return {kind.name: kind for kind in found}


def attempt(channel: Channel, receiver: str, message: Mapping[str, Any], dedup_key: str) -> Delivery:
    """Send, whatever the channel's own library may do: an error is a delivery to be tried again.

    Its text is not logged, as it may hold addresses and tokens; its type and place are.
    """
    try:
        return channel.send(message, dedup_key)
    except Exception as error:  # noqa: BLE001 - the edge to other libraries: one's failure must not stop the others
        last = traceback.extract_tb(error.__traceback__)[-1]
        _log.error("channel of receiver %s failed: %s in %s:%s", receiver, type(error).__name__, last.name, last.lineno)
        return Delivery(Outcome.RETRY, f"channel error: {type(error).__name__}")
