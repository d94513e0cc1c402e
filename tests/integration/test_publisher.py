"""A producer of answers sends a batch at once, and leaves the processor to others where it waits for its broker."""

from __future__ import annotations

import time
from pathlib import Path
from unittest import mock

import pytest
from kafka.admin import KafkaAdminClient, NewTopic

from inference import publisher as publishing
from inference.answers import Outgoing
from inference.publisher import Publisher
from tests.support.brokers import restartable
from tests.support.worker import RUN, read_all


def test_waiting_for_a_broker_that_does_not_answer_costs_next_to_nothing(tmp_path: Path) -> None:
    with restartable("embedded", tmp_path) as broker:
        publisher = _publisher(broker.address)
        broker.pause()
        sent = []
        for number in range(12):  # a request each, of which kafka-python by default has five under way at most
            sent.append(publisher.start([Outgoing("answers", b"%d" % number, b"", ())]))
            time.sleep(0.02)
        used, began = time.process_time(), time.monotonic()
        time.sleep(1.0)
        assert time.process_time() - used < 0.3 * (time.monotonic() - began)
        broker.resume()
        for sending in sent:
            sending.wait()
        publisher.close()
        assert len(read_all(broker.address, "answers", lambda found: len(found) >= 13)) == 13


def test_connecting_anew_to_a_broker_that_stands_still_costs_next_to_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publishing, "SEND_SECONDS", 1.0)
    with restartable("embedded", tmp_path) as broker:
        publisher = _publisher(broker.address)
        broker.pause()
        _sending(publisher, 2.0)  # the connection is given up, and the next one is being made
        used, began = time.process_time(), time.monotonic()
        _sending(publisher, 2.0)
        assert time.process_time() - used < 0.3 * (time.monotonic() - began)
        broker.resume()
        publisher.close()


def test_the_sender_is_told_of_a_batch_of_answers_once(broker: str) -> None:
    topic, many = f"batch-{RUN}", 40
    publisher = _publisher(broker, topic)
    with mock.patch.object(publisher._producer._sender, "wakeup", wraps=publisher._producer._sender.wakeup) as told:
        publisher.send([Outgoing(topic, b"%d" % number, b"", ()) for number in range(many)])
        told.assert_called_once()
    publisher.close()
    assert len(read_all(broker, topic, lambda found: len(found) > many)) == many + 1


def _publisher(broker: str, topic: str = "answers") -> Publisher:
    """One that has sent, and hence knows its topic."""
    admin = KafkaAdminClient(bootstrap_servers=broker)
    admin.create_topics([NewTopic(topic, 4, 1)])
    admin.close()
    publisher = Publisher({"bootstrap_servers": [broker]}, "test")
    publisher.send([Outgoing(topic, b"first", b"", ())])
    return publisher


def _sending(publisher: Publisher, seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        publisher.start([Outgoing("answers", b"more", b"", ())])
        time.sleep(0.1)
