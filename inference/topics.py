"""Making missing topics, for machines where nobody else does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

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
