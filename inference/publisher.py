"""Sends messages and knows when the broker has them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kafka import KafkaProducer
from kafka.errors import KafkaError, MessageSizeTooLargeError
from kafka.net.compat import KafkaNetClient
from kafka.producer.record_accumulator import RecordAccumulator

from inference.answers import Outgoing
from inference.request import MAX_MESSAGE_BYTES

# A dead letter is as large as the message it repeats; beyond this the value stays behind.
MAX_SEND_BYTES = 2 * MAX_MESSAGE_BYTES
SEND_SECONDS = 10.0
CONNECTION_LOOK_SECONDS = 0.1  # whatever comes over the connection ends the wait
# Answers are small and many: larger batches cost the broker and this process less.
BATCH_BYTES = 256_000
# As good as no limit: what is sent is bounded by what was read.
REQUESTS_IN_FLIGHT = 1_000


class _Together(RecordAccumulator):  # type: ignore[misc]  # the library ships no types
    """Never has the sender woken for a single message: it would send a batch's first by itself, the rest after it."""

    def append(self, *args: Any, **options: Any) -> tuple[Any, bool, bool, bool]:
        future, _full, _new, aborted = super().append(*args, **options)
        return future, False, False, aborted


class _Patient(KafkaNetClient):  # type: ignore[misc]
    """Has the sender wait for a connection that is being made, or takes no more for now.

    By itself it asks without a pause, and takes that time from every other thread.
    """

    def connection_delay(self, node_id: Any) -> float:
        return max(CONNECTION_LOOK_SECONDS, float(super().connection_delay(node_id)))


class Sending:
    """Messages on their way to the broker."""

    def __init__(self, messages: Sequence[Outgoing], futures: Sequence[Any], failure: KafkaError | None) -> None:
        self.messages = messages
        self._futures = futures
        self._failure = failure

    def wait(self) -> None:
        """Wait until the broker has each. Raises KafkaError where it does not: send all again."""
        if self._failure is not None:
            raise self._failure
        for future in self._futures:
            future.get(timeout=SEND_SECONDS)


NOTHING = Sending((), (), None)


class Publisher:
    """A producer whose messages count once every one is acknowledged. Safe for several threads."""

    def __init__(self, connection: Mapping[str, Any], client_id: str, compression: str = "none") -> None:
        """`connection` holds kafka-python's options for reaching the broker; `compression` is none, gzip, lz4 or zstd.

        Raises KafkaError where the broker cannot be reached.
        """
        self._producer = KafkaProducer(
            **connection,
            client_id=client_id,
            acks="all",
            enable_idempotence=False,  # answers are at-least-once by contract, and not every broker gives producer ids
            linger_ms=0,  # a batch of answers is handed over at once: there is nothing to wait for
            max_in_flight_requests_per_connection=REQUESTS_IN_FLIGHT,
            batch_size=BATCH_BYTES,
            compression_type=None if compression == "none" else compression,
            max_request_size=MAX_SEND_BYTES,
            request_timeout_ms=int(SEND_SECONDS * 1000),
            delivery_timeout_ms=int(SEND_SECONDS * 1000) + 2,
            max_block_ms=int(SEND_SECONDS * 1000),
            allow_auto_create_topics=False,
            metrics_enabled=False,
        )
        self._producer._accumulator.__class__ = _Together
        self._producer._sender._client.__class__ = _Patient

    def start(self, messages: Sequence[Outgoing]) -> Sending:
        """Hand messages over for sending; what fails is told by `Sending.wait`."""
        futures: list[Any] = []
        try:
            for message in messages:
                futures.append(self._start(message))  # noqa: PERF401  # what was sent before a failure is kept
        except KafkaError as error:
            return Sending(messages, futures, error)
        finally:
            self._producer._sender.wakeup()
        return Sending(messages, futures, None)

    def send(self, messages: Sequence[Outgoing]) -> None:
        """Send all and wait until the broker has each. Raises KafkaError where it does not: send all again."""
        self.start(messages).wait()

    def _start(self, message: Outgoing) -> Any:
        headers = [(name, value) for name, value in message.headers if value is not None]
        try:
            return self._producer.send(message.topic, value=message.value, key=message.key, headers=headers)
        except MessageSizeTooLargeError:
            headers.append(("value-omitted", b"too large to be repeated; read it at its origin"))
            return self._producer.send(message.topic, value=b"", headers=headers)

    def close(self) -> None:
        """Let go of the broker."""
        self._producer.close(timeout=SEND_SECONDS)
