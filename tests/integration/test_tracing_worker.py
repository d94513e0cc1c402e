"""A real worker's spans, and the trace that its answers go on in."""

from __future__ import annotations

from pathlib import Path

from tests.integration.test_tracing import SAMPLED, SPAN, TRACE, received, texts
from tests.support.http_stub import answering
from tests.support.worker import WorkerProcess, producer, read_all, request, running, wait_until


def test_a_workers_spans_reach_the_collector(database: str, broker: str, tmp_path: Path) -> None:
    with answering(200) as collector, producer(broker) as send:
        tracing = {"OTLP_ENDPOINT": collector.url.removesuffix("/hook"), "TRACE_RATIO": "1"}
        worker = WorkerProcess("traced", database, broker, tmp_path / "log", tracing)
        with running(worker):
            send(worker.topics["requests"], request("traced"), headers=[("traceparent", SAMPLED)])
            (answer,) = read_all(broker, worker.topics["predictions"], lambda found: len(found) >= 1, 60)
            assert worker.stop() == 0
        wait_until(lambda: "write_predictions" in received(collector), 60, "no spans arrived")
    spans = received(collector)
    topics = worker.topics
    (process,) = spans[f"process {topics['requests']}"]
    assert [(link.trace_id.hex(), link.span_id.hex()) for link in process.links] == [(TRACE, SPAN)]
    assert texts(process)["messaging.consumer.group.name"] == worker.settings()["CONSUMER_GROUP"]
    for name in ("decode image", "fuse", "write_predictions"):
        (span,) = spans[name]
        assert (span.trace_id, span.parent_span_id) == (process.trace_id, process.span_id)
    assert any(name.startswith("encode ") for name in spans)
    assert f"poll {topics['requests']}" in spans
    (sent,) = spans[f"send {topics['predictions']}"]
    assert (sent.trace_id.hex(), sent.parent_span_id.hex()) == (TRACE, SPAN)
    traceparent = dict(answer.headers)["traceparent"].decode()
    assert traceparent.split("-")[1:3] == [TRACE, sent.span_id.hex()]
