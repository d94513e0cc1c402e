"""Where a partition's log ends, where the broker's list of ends cannot be believed.

The embedded broker lists an end that leaves out all but the first record of the last batch; its fetches know better.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from kafka import KafkaConsumer, TopicPartition
from kafka.errors import OffsetOutOfRangeError

SECONDS = 5.0  # a fetch that finds nothing is answered after half a second


def reaches(connection: Mapping[str, Any], partition: TopicPartition, offset: int) -> bool:
    """Whether a log that is said to end before an offset does reach it, as a fetch from there tells.

    `connection` holds kafka-python's options for reaching the broker. Raises KafkaError where it does not answer.
    """
    client = KafkaConsumer(**connection, group_id=None, enable_auto_commit=False, auto_offset_reset="none")
    try:
        client.assign([partition])
        client.seek(partition, offset)
        deadline = time.monotonic() + SECONDS
        while (end := client.highwater(partition)) is None and time.monotonic() < deadline:
            client.poll(timeout_ms=100)
        return end is not None and end >= offset
    except OffsetOutOfRangeError:
        return False
    finally:
        client.close()
