"""A group member that keeps the outcome of a join until it is read.

kafka-python 3.0 joins on its own thread, and takes the outcome only where a poll is waiting as it comes. Between two
polls it is thrown away and the group is joined anew: a member that polls seldom, because it waits for a database or a
busy machine, may never get its part, and holds up the others each time.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

from kafka import KafkaConsumer
from kafka.coordinator.base import Generation
from kafka.coordinator.consumer import ConsumerCoordinator


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


def keep_joins(consumer: KafkaConsumer) -> None:
    """Let a consumer keep the outcome of its joins; before its first poll."""
    consumer._coordinator.__class__ = _Coordinator
