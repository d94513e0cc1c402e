"""Sends messages and knows, when it returns, that the broker has them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kafka import KafkaProducer
from kafka.errors import MessageSizeTooLargeError

from inference.answers import Outgoing
from inference.request import MAX_MESSAGE_BYTES

# A dead letter is as large as the message it repeats; beyond this the value stays behind.
MAX_SEND_BYTES = 2 * MAX_MESSAGE_BYTES
SEND_SECONDS = 10.0


class Publisher:
    """A producer whose `send` waits for every acknowledgement."""

    def __init__(self, connection: Mapping[str, Any], client_id: str, compression: str = "none") -> None:
        """`connection` holds kafka-python's options for reaching the broker; `compression` is none, gzip, lz4 or zstd.

        Raises KafkaError where the broker cannot be reached.
        """
        self._producer = KafkaProducer(
            **connection,
            client_id=client_id,
            acks="all",
            enable_idempotence=False,  # answers are at-least-once by contract, and not every broker gives producer ids
            linger_ms=2,
            compression_type=None if compression == "none" else compression,
            max_request_size=MAX_SEND_BYTES,
            request_timeout_ms=int(SEND_SECONDS * 1000),
            delivery_timeout_ms=int(SEND_SECONDS * 1000) + 2,
            max_block_ms=int(SEND_SECONDS * 1000),
            allow_auto_create_topics=False,
        )

    def send(self, messages: Sequence[Outgoing]) -> None:
        """Send all and wait until the broker has each. Raises KafkaError where it does not: send all again."""
        futures = [self._start(message) for message in messages]
        self._producer.flush(timeout=SEND_SECONDS)
        for future in futures:
            future.get(timeout=SEND_SECONDS)

    def _start(self, message: Outgoing) -> Any:
        headers = [(name, value) for name, value in message.headers if value is not None]
        try:
            return self._producer.send(message.topic, value=message.value, key=message.key, headers=headers)
        except MessageSizeTooLargeError:
            headers.append(("value-omitted", b"too large to be repeated; read it at its origin"))
            return self._producer.send(message.topic, value=None, key=None, headers=headers)

    def close(self) -> None:
        """Let go of the broker."""
        self._producer.close(timeout=SEND_SECONDS)
