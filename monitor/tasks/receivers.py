"""Test messages: does a receiver get what it is sent, before the first page has to show it?"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from monitor.alerts.message import Links, direct
from monitor.channels.base import Channel, Delivery, attempt
from monitor.domain.clock import Clock
from monitor.domain.signals import PAGE
from monitor.errors import ReceiverError

ALERTNAME = "TestAlert"


class Receivers:
    """The receivers of one model. A channel is built for each message, and closed after it."""

    def __init__(
        self, builders: Mapping[str, Callable[[], Channel]], *, model: str, links: Links, clock: Clock
    ) -> None:
        self._builders = builders
        self._model = model
        self._links = links
        self._clock = clock

    @property
    def names(self) -> list[str]:
        """The receivers, sorted."""
        return sorted(self._builders)

    def test(self, receiver: str, *, severity: str = PAGE, over: bool = False) -> Delivery:
        """Send a message that says it is a test, or that the test is over; neither alert nor outbox know of it.

        Raises ReceiverError where there is no such receiver.
        """
        if receiver not in self._builders:
            raise ReceiverError(f"there is no receiver {receiver!r}; there are {', '.join(self.names)}")
        now = self._clock.now()
        told = direct(
            ALERTNAME,
            f"This is a test of the receiver {receiver}: nothing is wrong",
            model=self._model,
            since=now,
            resolved_at=now if over else None,
            links=self._links,
            runbook="",
        )
        told |= {"severity": severity, "runbook": self._links.dashboard}
        channel = self._builders[receiver]()
        try:
            return attempt(channel, receiver, told, f"{told['fingerprint']}-{told['state']}-{now.isoformat()}")
        finally:
            channel.close()
