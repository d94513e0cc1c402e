"""A local server that speaks as much of S3 as reading takes, and checks each request's signature by itself.

The check is written from the receiver's side, out of the request as it came over the wire: what a signer escapes,
sorts or leaves out wrongly does not pass.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

KEY_ID, SECRET, REGION = "AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "eu-west-3"
CREDENTIAL = re.compile(
    r"AWS4-HMAC-SHA256 Credential=(\S+?)/(\d{8})/([a-z0-9-]+)/(s3)/aws4_request, ?"
    r"SignedHeaders=([a-z0-9;-]+), ?Signature=([0-9a-f]{64})"
)


def refusal(method: str, target: str, headers: Message, secret: str, now: datetime | None = None) -> str | None:
    """The code with which S3 would refuse the request; None where its signature is right."""
    match = CREDENTIAL.fullmatch(headers.get("Authorization", ""))
    if match is None:
        return "AccessDenied"
    _, day, region, service, names, signature = match.groups()
    stamp = headers["x-amz-date"]
    at = datetime.strptime(stamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    if now is not None and abs((now - at).total_seconds()) > 900:
        return "RequestTimeTooSkewed"
    must = {"host", *(name.lower() for name in headers if name.lower().startswith("x-amz-"))}
    if not must <= set(names.split(";")) or not stamp.startswith(day):
        return "AccessDenied"
    path, _, query = target.partition("?")
    canonical = [method, path, query]
    canonical += [f"{name}:{headers[name].strip()}" for name in names.split(";")]
    canonical += ["", names, headers["x-amz-content-sha256"]]
    hashed = hashlib.sha256("\n".join(canonical).encode()).hexdigest()
    key = b"AWS4" + secret.encode()
    for part in (day, region, service, "aws4_request"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    text = f"AWS4-HMAC-SHA256\n{stamp}\n{day}/{region}/{service}/aws4_request\n{hashed}"
    right = hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
    return None if hmac.compare_digest(right, signature) else "SignatureDoesNotMatch"


@dataclass
class Bucket:
    """`objects` by path below the server's root; `failures` are statuses to answer with first."""

    url: str
    objects: dict[str, bytes]
    failures: list[int] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)


@contextmanager
def serving(objects: Mapping[str, bytes]) -> Iterator[Bucket]:
    """Listen on a free port of loopback until left."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    server.daemon_threads = True
    bucket = Bucket(f"http://127.0.0.1:{server.server_port}", dict(objects))

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            bucket.asked.append(self.path)
            if bucket.failures:
                return self.answer(bucket.failures.pop(0), b"<Error><Code>SlowDown</Code></Error>")
            if code := refusal("GET", self.path, self.headers, SECRET, datetime.now(UTC)):
                return self.answer(403, f"<Error><Code>{code}</Code></Error>".encode())
            name = unquote(self.path).lstrip("/")
            if name in bucket.objects:
                return self.answer(200, bucket.objects[name])
            known = {each.partition("/")[0] for each in bucket.objects}
            code = "NoSuchKey" if name.partition("/")[0] in known else "NoSuchBucket"
            return self.answer(404, f"<Error><Code>{code}</Code></Error>".encode())

        def answer(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None: ...

    server.RequestHandlerClass = Handler
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield bucket
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
