"""The on-call person's end of the webhook: a local HTTP server that checks signatures and keeps what it was told."""

from __future__ import annotations

import hmac
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from monitor.channels.webhook import signature

MAX_BODY_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Notification:
    """One message as it came in: when, and its JSON body."""

    received_at: datetime
    body: dict[str, Any]


@dataclass(slots=True)
class Receiver:
    """What has come in so far. `refused` counts messages whose signature was wrong.

    `status` is what a message is answered with; those that were answered with an error count as `unavailable`.
    """

    url: str
    notifications: list[Notification] = field(default_factory=list)
    refused: int = 0
    status: HTTPStatus = HTTPStatus.NO_CONTENT
    unavailable: int = 0

    def find(self, alertname: str, state: str, modality: str | None = None) -> Notification | None:
        """The first message of that alert in that state, if one has come."""
        for told in list(self.notifications):
            body = told.body
            if body["alertname"] == alertname and body["state"] == state and modality in (None, body["modality"]):
                return told
        return None


@contextmanager
def listen(secret: str) -> Iterator[Receiver]:
    """Listen on a free port of loopback until left."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    receiver = Receiver(f"http://127.0.0.1:{server.server_port}/alerts")
    server.RequestHandlerClass = _handler(receiver, secret.encode())
    thread = threading.Thread(target=server.serve_forever, name="webhook-receiver", daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        server.server_close()


def _handler(receiver: Receiver, secret: bytes) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(min(int(self.headers.get("Content-Length", 0)), MAX_BODY_BYTES))
            timestamp, key = (self.headers.get(name, "") for name in ("X-Fusionwatch-Timestamp", "Idempotency-Key"))
            expected = signature(secret, timestamp, key, body)
            if not hmac.compare_digest(expected, self.headers.get("X-Fusionwatch-Signature", "")):
                receiver.refused += 1
                self._reply(HTTPStatus.UNAUTHORIZED)
                return
            if receiver.status < HTTPStatus.MULTIPLE_CHOICES:
                receiver.notifications.append(Notification(datetime.now(UTC), json.loads(body)))
            else:
                receiver.unavailable += 1
            self._reply(receiver.status)

        def _reply(self, status: HTTPStatus) -> None:
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing: the story's view tells what came in."""

    return Handler
