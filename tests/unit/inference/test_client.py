"""How a group's member asks for messages, by whether any come."""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace
from unittest import mock

import pytest
from kafka import KafkaConsumer
from kafka.consumer.fetcher import Fetcher
from kafka.coordinator.consumer import ConsumerCoordinator

from inference.client import Client, _Coordinator, _Fetcher
from inference.fetching import Fetching


class _Told:
    """A client whose library is told what each poll brings, and notes how it was asked."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, fetching: Fetching) -> None:
        self.brings: dict[str, list[str]] = {}
        self.asked: list[tuple[float, int, int]] = []
        self.fetcher = SimpleNamespace(
            config={"fetch_max_wait_ms": fetching.wait_ms, "fetch_min_bytes": fetching.min_bytes},
            ask_ahead=mock.Mock(),
        )
        self.client = mock.Mock(_fetching=fetching, _quiet=False, _fetcher=self.fetcher)
        self.client.__class__ = Client
        self.client._ask = partial(Client._ask, self.client)
        monkeypatch.setattr(KafkaConsumer, "poll", self._poll)

    def _poll(self, timeout_ms: float, *_: object) -> dict[str, list[str]]:
        config = self.fetcher.config
        self.asked.append((timeout_ms, config["fetch_max_wait_ms"], config["fetch_min_bytes"]))
        return self.brings

    def poll(self, timeout_ms: float, brings: dict[str, list[str]]) -> tuple[float, int, int]:
        """How the library was asked by a poll that brings this."""
        self.brings = brings
        assert Client.poll(self.client, timeout_ms) is brings
        return self.asked[-1]


SOME: dict[str, list[str]] = {"topic": ["message"]}


def test_where_nothing_comes_the_first_message_is_asked_for_at_once_and_then_they_are_gathered_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told = _Told(monkeypatch, Fetching(20, 9000))
    assert told.poll(200, SOME) == (60, 20, 9000)
    assert told.poll(200, {}) == (60, 20, 9000)
    assert told.poll(200, {}) == (200, 500, 1)
    assert told.poll(200, SOME) == (200, 500, 1)
    assert told.poll(200, SOME) == (60, 20, 9000)


def test_a_poll_that_did_not_wait_says_nothing_of_the_traffic(monkeypatch: pytest.MonkeyPatch) -> None:
    told = _Told(monkeypatch, Fetching(20, 9000))
    told.poll(0, {})
    assert told.poll(200, {}) == (60, 20, 9000)
    told.poll(0, {})
    assert told.poll(200, SOME) == (200, 500, 1)


def test_where_nothing_is_gathered_nothing_is_asked_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    told = _Told(monkeypatch, Fetching())
    assert told.poll(200, SOME) == (200, 500, 1)
    told.fetcher.ask_ahead.assert_not_called()


def test_what_was_polled_is_not_lost_to_a_failure_to_ask_for_more(monkeypatch: pytest.MonkeyPatch) -> None:
    told = _Told(monkeypatch, Fetching(20, 9000))
    told.fetcher.ask_ahead.side_effect = RuntimeError("closed")
    told.poll(200, SOME)
    told.fetcher.ask_ahead.assert_called_once()


@pytest.mark.parametrize(("known", "connected", "looked_for"), [(1, True, 0), (1, False, 1), (None, True, 1)])
def test_a_coordinator_that_is_known_and_connected_is_not_looked_for(
    monkeypatch: pytest.MonkeyPatch, known: int | None, connected: bool, looked_for: int
) -> None:
    found = mock.Mock(return_value=True)
    monkeypatch.setattr(ConsumerCoordinator, "ensure_coordinator_ready", found)
    coordinator = _Coordinator.__new__(_Coordinator)
    coordinator.coordinator_id = known
    coordinator._client = mock.Mock(connected=mock.Mock(return_value=connected))
    assert coordinator.ensure_coordinator_ready(100)
    assert found.call_count == looked_for


@pytest.mark.parametrize(("ahead", "under_way", "sent"), [(True, True, 1), (True, False, 2), (False, True, 2)])
def test_what_was_asked_ahead_and_is_under_way_is_not_asked_for_again_by_the_next_poll(
    monkeypatch: pytest.MonkeyPatch, ahead: bool, under_way: bool, sent: int
) -> None:
    asked = mock.Mock(return_value=[])
    monkeypatch.setattr(Fetcher, "send_fetches", asked)
    monkeypatch.setattr(Fetcher, "in_flight_fetches", lambda _: under_way)
    fetcher = _Fetcher.__new__(_Fetcher)
    fetcher._manager = mock.Mock()
    if ahead:
        fetcher.ask_ahead()
    for _poll in range(2):
        fetcher.send_fetches()
    assert asked.call_count == sent
