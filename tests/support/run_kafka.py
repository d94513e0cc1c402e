"""`make kafka`: an Apache Kafka in the foreground, for people and for runs that outlive one test."""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import threading
from pathlib import Path

from tests.support.apache_kafka import MECHANISMS, PASSWORD, USER, Broker, apache_kafka
from tests.support.kafka_jars import KafkaSetupError


def main() -> int:
    """Start, say how to use it, and wait for Ctrl-C or SIGTERM."""
    parser = argparse.ArgumentParser(prog="make kafka", description=__doc__)
    parser.add_argument("--port", type=int, default=9092, help="another one is taken where it is in use")
    parser.add_argument("--secure", action="store_true", help="also listen with TLS and SASL")
    options = parser.parse_args()
    stop = threading.Event()
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, lambda *_: stop.set())
    with tempfile.TemporaryDirectory(prefix="fusionwatch-kafka-") as folder:
        print("starting Apache Kafka (the first time Maven fetches it)", flush=True)
        try:
            with apache_kafka(Path(folder), secure=options.secure, port=options.port, quick_start=False) as broker:
                print(_usage(broker), flush=True)
                stop.wait()
                print("stopping; its data goes with it", flush=True)
        except KafkaSetupError as error:
            print(error, file=sys.stderr)
            return 1
    return 0


def _usage(broker: Broker) -> str:
    lines = [
        f"Apache Kafka answers on {broker.address}; Ctrl-C stops it; its log is {broker.log}",
        f"  tests on it:  KAFKA_BOOTSTRAP_SERVERS={broker.address} make test-kafka",
        f"  a worker:     FUSIONWATCH_KAFKA_BOOTSTRAP_SERVERS={broker.address} FUSIONWATCH_CREATE_TOPICS=true",
    ]
    if broker.certificates is not None:
        others = ", ".join(f"{name} {broker.listeners[name]}" for name in broker.secure_listeners)
        lines += [
            f"  with TLS and SASL: {others} (MUTUAL: TLS that asks for a client's certificate)",
            f"  user {USER}, password {PASSWORD}, by {', '.join(MECHANISMS)}",
            f"  certificates and keys: {broker.certificates.authority.parent}",
        ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
