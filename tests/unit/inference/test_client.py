"""How a group's member asks for messages, by whether any come."""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace
from unittest import mock

import pytest
from kafka import KafkaConsumer

from inference.client import Client
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
