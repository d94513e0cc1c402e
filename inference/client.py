"""kafka-python's consumer as a member of a group, five habits of it changed.

kafka-python 3.0 joins on its own thread, and takes the outcome only where a poll is waiting as it comes. Between two
polls it is thrown away and the group is joined anew: a member that polls seldom, because it waits for a database or a
busy machine, may never get its part, and holds up the others each time. `Client` keeps it until it is read.

Where a poll had to wait for messages, it returns them and asks for no more until the next poll. Here the broker
gathers the next ones while these are dealt with.

It asks in one way, whatever the traffic. Gathering what comes within some milliseconds is worth it while something
comes; while nothing does, it is fifty empty answers a second, and the first message waits for mates that may not come.

While a heartbeat that is due has no answer, a poll waits for nothing: with a broker that stands still it asks without a
pause, and takes that time from every other thread. Here it waits a little.

Each poll has its own thread for the network do four things one after the other and waits for each, though for two
there is mostly nothing to do: finding a coordinator that is known, and asking for what has just been asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from contextlib import suppress
from typing import Any

from kafka import AsyncConsumerRebalanceListener, KafkaConsumer
from kafka.consumer.fetcher import Fetcher
from kafka.coordinator.base import Generation
from kafka.coordinator.consumer import ConsumerCoordinator

from inference.fetching import Fetching
from inference.membership import SESSION_SECONDS
from inference.request import MAX_MESSAGE_BYTES

# A topic that was made a moment ago may look empty to a member that joins; partitions may be added at any time.
METADATA_MS = 10_000
AT_ONCE = Fetching()
HEARTBEAT_LOOK_SECONDS = 0.1
QUIET_WAITS = 3  # the traffic has ended where a broker gathered for so long, and nothing came


class _Unread:
    """A join that has ended well, as the library sees one that is still under way: it waits for it, at no time."""

    is_done = False

    def __init__(self, ended: Any) -> None:
        self._ended = ended

    def add_callback(self, told: Callable[[Any], None]) -> None:
        self._ended.add_callback(told)

    def add_errback(self, told: Callable[[BaseException], None]) -> None:
        self._ended.add_errback(told)

    def __await__(self) -> Generator[Any, Any, Any]:
        ended: Generator[Any, Any, Any] = self._ended.__await__()
        return ended


class _Coordinator(ConsumerCoordinator):  # type: ignore[misc]  # the library ships no types
    @property
    def _join_task(self) -> Any:
        task = self.__dict__["_join_task"]
        if task is None or not task.is_done or not task.succeeded():
            return task
        if self._generation is Generation.NO_GENERATION or self.coordinator_unknown():
            return task  # lost since then: it must be joined anew
        return _Unread(task)

    @_join_task.setter
    def _join_task(self, task: Any) -> None:
        self.__dict__["_join_task"] = task

    def ensure_coordinator_ready(self, timeout_ms: float | None = None) -> bool:
        """As the library's; asks its thread only where the coordinator is not known or not connected."""
        known = self.coordinator_id
        if known is not None and self._client.connected(known):
            return True
        return bool(super().ensure_coordinator_ready(timeout_ms))

    def time_to_next_poll(self) -> float:
        """As the library's, in seconds, but never none: heartbeats are sent by a thread of their own."""
        return max(HEARTBEAT_LOOK_SECONDS, float(super().time_to_next_poll()))


class _Fetcher(Fetcher):  # type: ignore[misc]
    _asked_ahead = False

    def ask_ahead(self) -> None:
        """Have the next messages asked for, without waiting until they are."""
        self._asked_ahead = True
        self._manager.call_soon(self._send_fetches_async)

    def send_fetches(self) -> Any:
        """As the library's; nothing where that was asked ahead and is under way."""
        asked, self._asked_ahead = self._asked_ahead, False
        return [] if asked and self.in_flight_fetches() else super().send_fetches()


class Client(KafkaConsumer):  # type: ignore[misc]
    """A subscribed member that commits nothing by itself and goes nowhere by itself where it has no position."""

    def __init__(
        self,
        connection: Mapping[str, Any],
        *,
        group: str,
        topic: str,
        client_id: str,
        poll_seconds: float,
        fetching: Fetching,
        listener: AsyncConsumerRebalanceListener,
    ) -> None:
        """`connection` holds kafka-python's options for reaching the broker. Raises KafkaError where it cannot be."""
        super().__init__(
            **connection,
            client_id=client_id,
            group_id=group,
            enable_auto_commit=False,
            auto_offset_reset="none",  # a client that goes elsewhere by itself loses messages without a word
            allow_auto_create_topics=False,
            max_poll_interval_ms=int(poll_seconds * 1000),
            session_timeout_ms=int(SESSION_SECONDS * 1000),
            heartbeat_interval_ms=2_000,
            fetch_max_wait_ms=fetching.wait_ms,
            fetch_min_bytes=fetching.min_bytes,
            metadata_max_age_ms=METADATA_MS,
            fetch_max_bytes=2 * MAX_MESSAGE_BYTES,
            max_partition_fetch_bytes=MAX_MESSAGE_BYTES,
            metrics_enabled=False,  # nobody reads them
        )
        self._fetching = fetching
        self._quiet = False
        self._coordinator.__class__ = _Coordinator
        self._fetcher.__class__ = _Fetcher
        self.subscribe([topic], listener=listener)

    def poll(self, timeout_ms: float = 0, max_records: int | None = None, update_offsets: bool = True) -> Any:
        """As the library's; returns sooner, with nothing, where the traffic has just ended."""
        if not self._fetching.gathers:
            return super().poll(timeout_ms, max_records, update_offsets)
        ends = QUIET_WAITS * self._fetching.wait_ms
        found = super().poll(timeout_ms if self._quiet else min(timeout_ms, ends), max_records, update_offsets)
        if found or timeout_ms >= ends:  # a poll that did not wait says nothing of the traffic
            self._ask(self._fetching if found else AT_ONCE)
        if found:
            with suppress(Exception):  # what was polled must not be lost; what is wrong, the next poll meets too
                self._fetcher.ask_ahead()
        return found

    def _ask(self, fetching: Fetching) -> None:
        """Have fetches answered like this from the next one on."""
        self._quiet = fetching is AT_ONCE
        self._fetcher.config |= {"fetch_max_wait_ms": fetching.wait_ms, "fetch_min_bytes": fetching.min_bytes}
