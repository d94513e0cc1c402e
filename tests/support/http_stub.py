"""A local HTTP server that answers as a script says, and keeps what it got."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SLOW = -1  # in a script: answer after the client has given up
LOST = -2  # in a script: take the message, then close without an answer
SLOW_SECONDS = 30.0
BUSY = 429  # with `Retry-After: 7`


@dataclass
class Stub:
    """`script` holds the statuses to answer with, in order; the last one is repeated."""

    url: str
    script: list[int]
    requests: list[tuple[Message, bytes]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    methods: list[str] = field(default_factory=list)

    def next_status(self) -> int:
        return self.script.pop(0) if len(self.script) > 1 else self.script[0]


@contextmanager
def answering(*script: int) -> Iterator[Stub]:
    """Listen on a free port of loopback until left."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    server.daemon_threads = True
    stub = Stub(f"http://127.0.0.1:{server.server_port}/hook", list(script))
    released = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_DELETE(self) -> None:
            self.do_POST()

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"] or 0))
            stub.paths.append(self.path)
            stub.methods.append(self.command)
            stub.requests.append((self.headers, body))
            status = stub.next_status()
            if status == LOST:
                self.close_connection = True
                return
            if status == SLOW:
                released.wait(SLOW_SECONDS)
                status = 200
            self.send_response(status)
            if status == BUSY:
                self.send_header("Retry-After", "7")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None: ...

    server.RequestHandlerClass = Handler
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield stub
    finally:
        released.set()
        server.shutdown()
        server.server_close()
        thread.join()


@dataclass(frozen=True)
class Asked:
    """One request that a server got."""

    method: str
    path: str
    headers: Message
    body: bytes


@dataclass(frozen=True)
class Reply:
    """What a server answers."""

    status: int
    body: bytes
    content_type: str = "application/json"


@contextmanager
def serving(answer: Callable[[Asked], Reply]) -> Iterator[str]:
    """Answer every GET, POST and PUT as a function says; yields the address, without a path."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    server.daemon_threads = True

    class Handler(BaseHTTPRequestHandler):
        def _reply(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            reply = answer(Asked(self.command, self.path, self.headers, body))
            self.send_response(reply.status)
            self.send_header("Content-Type", reply.content_type)
            self.send_header("Content-Length", str(len(reply.body)))
            self.end_headers()
            self.wfile.write(reply.body)

        do_GET = do_POST = do_PUT = _reply  # noqa: N815 - the names that the library looks for

        def log_message(self, format: str, *args: object) -> None: ...

    server.RequestHandlerClass = Handler
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
