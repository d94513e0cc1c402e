"""A producer of answers that waits for its broker leaves the processor to others."""

from __future__ import annotations

import time
from pathlib import Path

from kafka.admin import KafkaAdminClient, NewTopic

from inference.answers import Outgoing
from inference.publisher import Publisher
from tests.support.brokers import restartable
from tests.support.worker import read_all


def test_waiting_for_a_broker_that_does_not_answer_costs_next_to_nothing(tmp_path: Path) -> None:
    with restartable("embedded", tmp_path) as broker:
        admin = KafkaAdminClient(bootstrap_servers=broker.address)
        admin.create_topics([NewTopic("answers", 1, 1)])
        admin.close()
        publisher = Publisher({"bootstrap_servers": [broker.address]}, "test")
        publisher.send([Outgoing("answers", b"first", b"", ())])
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
