"""Topics: making those that are missing, for machines where nobody else does, and telling one from another."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from kafka import KafkaConsumer
from kafka.admin import KafkaAdminClient, NewTopic
from kafka.errors import TopicAlreadyExistsError


def create_missing(connection: Mapping[str, Any], topics: Mapping[str, int]) -> list[str]:
    """Make each topic that is missing, with so many partitions; returns those made. Raises KafkaError."""
    admin = KafkaAdminClient(**connection)
    try:
        missing = sorted(topics.keys() - set(admin.list_topics()))
        made = []
        for name in missing:
            try:
                admin.create_topics([NewTopic(name, num_partitions=topics[name], replication_factor=1)])
            except TopicAlreadyExistsError:  # another worker was faster
                continue
            made.append(name)
        return made
    finally:
        admin.close()


def topic_id(consumer: KafkaConsumer, topic: str) -> UUID | None:
    """The id of a topic as the consumer last heard of it; None where its broker gives none, or no such topic is there.

    kafka-python keeps it among the cluster's metadata, to which it has no public door.
    """
    found: UUID | None = consumer._cluster.topic_id(topic)
    return found if found is not None and found.int else None
