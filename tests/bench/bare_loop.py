"""The same model behind the same broker and nothing else: the loop that a team writes before it has a worker.

With kafka-python's own ways it polls, decodes, tokenizes, runs the model and answers, one after the other. It keeps no
log, digests nothing, waits for no batch-mates, shares its partitions with no other, and loses or repeats what it has in
hand when it ends. A `WorkerProcess` with this module runs it on the worker's settings.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import msgspec
import torch
from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from inference.collate import collate
from inference.modalities.base import modalities
from inference.models.card import ModelCard, load_card
from inference.models.checkpoint import load_checkpoint
from inference.predictor import Predictor
from inference.settings import WorkerSettings


def main() -> None:
    """Serve until the process is ended; its page answers once it can read."""
    settings = WorkerSettings.from_environment()
    torch.set_num_threads(settings.torch_threads)
    card, cpu = load_card(settings.checkpoint), torch.device("cpu")
    predictor = Predictor(load_checkpoint(settings.checkpoint, cpu, settings.families()), cpu)
    consumer = KafkaConsumer(
        bootstrap_servers=settings.kafka_bootstrap_servers,
        group_id=settings.consumer_group,
        auto_offset_reset="earliest",
    )
    producer = KafkaProducer(bootstrap_servers=settings.kafka_bootstrap_servers)
    topic = settings.topic_requests
    consumer.assign([TopicPartition(topic, number) for number in consumer.partitions_for_topic(topic)])
    page = HTTPServer((settings.worker_host, settings.worker_port), _Page)
    threading.Thread(target=page.serve_forever, daemon=True).start()
    while True:
        polled = consumer.poll(timeout_ms=200, max_records=settings.batch_size)
        if polled:
            records = [record.value for part in polled.values() for record in part]
            for answer in _answers(records, card, predictor):
                producer.send(settings.topic_predictions, msgspec.json.encode(answer))


def _answers(records: Sequence[bytes], card: ModelCard, predictor: Predictor) -> list[dict[str, Any]]:
    """An answer to each request, with the fields by which a worker's latency is measured."""
    begun, known = time.perf_counter(), modalities()
    requests = [msgspec.msgpack.decode(record) for record in records]
    rows = [
        card.prepare({name: known[name].decode(sent["data"]).value for name, sent in request["modalities"].items()})
        for request in requests
    ]
    ready = collate(rows, card.blanks)
    passing = time.perf_counter()
    output = predictor.run(ready)
    ended = time.perf_counter()
    took = {"encode": (ended - passing) * 1000, "fuse": 0.0, "total": (ended - begun) * 1000}
    return [
        {"request_id": request["request_id"], "label": card.labels[label], "latency_ms": took}
        for request, label in zip(requests, output.probabilities.argmax(1).tolist(), strict=True)
    ]


class _Page(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        """200 to whatever is asked."""
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Nothing: the log is the loop's."""


if __name__ == "__main__":
    main()
