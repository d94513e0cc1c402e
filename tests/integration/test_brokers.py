"""A broker that a test takes away keeps its data, whichever kind the run uses."""

from __future__ import annotations

from kafka.admin import KafkaAdminClient, NewTopic

from tests.support.apache_kafka import answers
from tests.support.brokers import RestartableBroker
from tests.support.worker import producer, read_all


def test_a_broker_comes_back_with_its_data_under_the_same_address(restartable_broker: RestartableBroker) -> None:
    broker = restartable_broker
    admin = KafkaAdminClient(bootstrap_servers=broker.address)
    admin.create_topics([NewTopic("kept", 1, 1)])
    admin.close()
    for name in (b"before", b"after"):
        with producer(broker.address) as send:
            send("kept", name)
        broker.pause()
        assert not answers(broker.address)
        broker.resume()
    messages = read_all(broker.address, "kept", lambda found: len(found) == 2)
    assert [message.value for message in messages] == [b"before", b"after"]
