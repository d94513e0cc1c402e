"""A program that starts says whether its Kafka can be used."""

from __future__ import annotations

import socket
import threading

import pytest

from demo.servers import free_port
from inference.broker_check import BrokerError, require_broker


def test_a_broker_that_answers_is_enough(broker: str) -> None:
    require_broker({"bootstrap_servers": [f"127.0.0.1:{free_port()}", broker]}, 0)


def test_without_a_broker_each_address_is_named_with_its_reason() -> None:
    nobody = f"127.0.0.1:{free_port()}"
    with pytest.raises(BrokerError, match=r"no Kafka broker could be used within 1 s") as raised:
        require_broker({"bootstrap_servers": [nobody, "no-such-host.invalid:9092"]}, 1)
    assert f"{nobody}: [Errno 111] Connection refused" in str(raised.value)
    assert "no-such-host.invalid:9092: [Errno " in str(raised.value)


def test_a_broker_that_is_still_starting_is_waited_for(broker: str) -> None:
    """A listener that ends its first connections, then hands them on to the broker."""
    host, port = broker.split(":")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ended = threading.Event()

        def serve() -> None:
            for _ in range(2):
                listener.accept()[0].close()
            ended.set()
            client, _ = listener.accept()
            with client, socket.create_connection((host, int(port))) as upstream:
                upstream.sendall(client.recv(4096))
                client.sendall(upstream.recv(65536))

        thread = threading.Thread(target=serve)
        thread.start()
        require_broker({"bootstrap_servers": [f"127.0.0.1:{listener.getsockname()[1]}"]}, 60)
        thread.join(timeout=20)
        assert ended.is_set()
