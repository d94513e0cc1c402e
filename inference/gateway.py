"""A request over HTTP goes the way of all requests: to Kafka, through a worker, and its answer back.

One caller is let in: the monitor's API, by a shared secret. What users may do is decided there.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import uuid
from datetime import UTC, datetime
from typing import Any

import msgspec
from fastapi import FastAPI, Request, Response
from kafka.errors import KafkaError
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from inference.answers import CONTENT_TYPE, Outgoing
from inference.clock import ClockTolerance
from inference.errors import Refusal
from inference.feedback import MAX_LABEL_BYTES, parse
from inference.hashing import KEY_BYTES, Hasher
from inference.publisher import Publisher
from inference.record import Record
from inference.request import MAX_MESSAGE_BYTES
from inference.waiting import BusyError, Reply, TwiceError, Waiting
from inference.wire import JSON_TYPE, REQUEST_ID_CHARACTERS, SCHEMA_VERSION, storable

_FIELDS = frozenset({"request_id", "correlation_id", "source", "modalities", "expected_modalities"})
_EDGES = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class GatewayMetrics:
    """What the gateway counts."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self.requests = Counter(
            "fusion_gateway_requests",
            "Requests by what came of them: answered, refused, timeout, busy, twice, unsent, invalid",
            ["outcome"],
            registry=registry,
        )
        self.labels = Counter(
            "fusion_gateway_labels",
            "Labels by what came of them: sent, refused, unsent",
            ["outcome"],
            registry=registry,
        )
        self.seconds = Histogram(
            "fusion_gateway_seconds", "From a request's arrival to its answer", buckets=_EDGES, registry=registry
        )
        self.waiting = Gauge("fusion_gateway_waiting", "Requests that wait for their answer now", registry=registry)


class RefusedError(Exception):
    """Ends a request with a status, a stable code and words."""

    def __init__(self, status: int, code: str, detail: str) -> None:
        super().__init__(detail)
        self.status, self.code, self.detail = status, code, detail


class Gateway:
    """Sends requests and labels, and waits for answers."""

    def __init__(
        self,
        publisher: Publisher,
        waiting: Waiting,
        metrics: GatewayMetrics,
        *,
        requests: str,
        labels: str,
        timeout_seconds: float,
    ) -> None:
        self._publisher = publisher
        self._waiting = waiting
        self._metrics = metrics
        self._requests = requests
        self._labels = labels
        self._timeout = timeout_seconds
        # labels are checked here so that who sends one is told; digests are made where they are kept, with the real key
        self._unkept = Hasher("unkept", bytes(KEY_BYTES))
        metrics.waiting.set_function(lambda: len(waiting))

    async def predict(self, body: bytes) -> bytes:
        """The answer to a request, as the worker wrote it. Raises RefusedError."""
        message = _request(body)
        value = msgspec.json.encode(message)
        if len(value) > MAX_MESSAGE_BYTES:
            raise RefusedError(413, "message_too_large", f"at most {MAX_MESSAGE_BYTES} bytes are accepted")
        try:
            with self._waiting.opened(message["request_id"]) as future:
                await self._send(self._requests, message["request_id"], value)
                reply: Reply = await asyncio.wait_for(future, self._timeout)
        except BusyError:
            raise RefusedError(429, "busy", "as many requests wait for an answer as are allowed") from None
        except TwiceError:
            raise RefusedError(409, "twice", "a request of this id waits for its answer already") from None
        except TimeoutError:
            raise RefusedError(
                504, "timeout", f"no answer within {self._timeout:g} s to {message['request_id']}; it may still come"
            ) from None
        if reply.answer is None:
            raise RefusedError(422, reply.code, reply.detail)
        return reply.answer

    async def label(self, body: bytes) -> None:
        """Hand a label to its topic; returns once the broker has it. Raises RefusedError."""
        now = datetime.now(UTC)
        if len(body) > MAX_LABEL_BYTES:
            raise RefusedError(413, "message_too_large", f"at most {MAX_LABEL_BYTES} bytes are accepted")
        parsed = parse(Record("", 0, 0, None, body, (), 0.0, now), self._unkept, ClockTolerance())
        if isinstance(parsed, Refusal):
            raise RefusedError(422, parsed.code, parsed.detail)
        await self._send(self._labels, parsed.request_id, body)

    async def _send(self, topic: str, key: str, value: bytes) -> None:
        message = Outgoing(topic, key.encode(), value, ((CONTENT_TYPE, JSON_TYPE.encode()),))
        try:
            await asyncio.to_thread(self._publisher.send, [message])
        except KafkaError as error:
            raise RefusedError(503, "unsent", f"the broker did not take it: {type(error).__name__}") from None


def _request(body: bytes) -> dict[str, Any]:
    try:
        given = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise RefusedError(422, "not_decodable", "the body is no JSON") from None
    if not isinstance(given, dict) or not set(given) <= _FIELDS:
        raise RefusedError(422, "field_invalid", f"the body must be an object of {', '.join(sorted(_FIELDS))}")
    request_id = given.get("request_id") or uuid.uuid4().hex
    if not isinstance(request_id, str) or len(request_id) > REQUEST_ID_CHARACTERS or not storable(request_id):
        raise RefusedError(422, "request_id_invalid", f"request_id must be 1-{REQUEST_ID_CHARACTERS} characters")
    produced = datetime.now(UTC).isoformat()
    return {**given, "schema_version": SCHEMA_VERSION, "request_id": request_id, "produced_at": produced}


def create_app(gateway: Gateway, metrics: GatewayMetrics, secret: str, ready: Any) -> FastAPI:
    """The gateway's HTTP interface; `ready` says what is wrong, or None."""
    app = FastAPI(title="fusionwatch gateway", docs_url=None, redoc_url=None, openapi_url=None)
    expected = f"Bearer {secret}".encode()

    @app.exception_handler(RefusedError)
    async def _refused(_request: Request, error: RefusedError) -> Response:
        return _json({"code": error.code, "detail": error.detail}, error.status)

    async def _body(request: Request) -> bytes:
        given = request.headers.get("authorization", "").encode("utf-8", "surrogateescape")
        if not hmac.compare_digest(given, expected):
            raise RefusedError(401, "secret", "the gateway's secret is wrong")
        body = bytearray()
        async for part in request.stream():
            body += part
            if len(body) > MAX_MESSAGE_BYTES:
                raise RefusedError(413, "message_too_large", f"at most {MAX_MESSAGE_BYTES} bytes are accepted")
        return bytes(body)

    @app.post("/predict")
    async def predict(request: Request) -> Response:
        body = await _body(request)
        started = asyncio.get_running_loop().time()
        try:
            answer = await gateway.predict(body)
        except RefusedError as error:
            metrics.requests.labels(_OUTCOMES.get(error.status, "invalid")).inc()
            raise
        metrics.requests.labels("answered").inc()
        metrics.seconds.observe(asyncio.get_running_loop().time() - started)
        return Response(answer, media_type=JSON_TYPE)

    @app.post("/labels", status_code=202)
    async def labels(request: Request) -> Response:
        body = await _body(request)
        try:
            await gateway.label(body)
        except RefusedError as error:
            metrics.labels.labels("unsent" if error.status == 503 else "refused").inc()
            raise
        metrics.labels.labels("sent").inc()
        return _json({"status": "sent"}, 202)

    @app.get("/healthz")
    async def healthz() -> Response:
        return _json({"status": "ok"}, 200)

    @app.get("/readyz")
    async def readyz() -> Response:
        problem = ready()
        return _json({"status": problem or "ok"}, 503 if problem else 200)

    @app.get("/metrics")
    async def exposed() -> Response:
        return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST)

    return app


_OUTCOMES = {409: "twice", 413: "invalid", 422: "refused", 429: "busy", 503: "unsent", 504: "timeout"}


def _json(content: dict[str, Any], status: int) -> Response:
    return Response(json.dumps(content), status, media_type=JSON_TYPE)
