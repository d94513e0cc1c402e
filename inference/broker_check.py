"""Whether the Kafka brokers let this program in, asked once at its start.

kafka-python's clients try again whatever the brokers say, wrong passwords and untrusted certificates included, and in
the end tell of a timeout alone. So each broker is first asked here as a client would ask it, over a plain blocking
socket; what a person must change ends the start at once, with the broker's own reason. The messages are those of
https://kafka.apache.org/protocol, in versions that every broker since 1.0 knows.
"""

from __future__ import annotations

import socket
import ssl
import struct
import time
from collections.abc import Mapping
from typing import Any

from kafka.net.sasl import get_sasl_mechanism

from inference.errors import InferenceError

ATTEMPT_SECONDS = 10.0
PAUSE_SECONDS = 0.5
MAX_REPLY_BYTES = 10_000_000  # of metadata about brokers alone; more is another protocol's bytes

_METADATA, _SASL_HANDSHAKE, _SASL_AUTHENTICATE = (3, 1), (17, 1), (36, 0)  # key and version of each request
_NO_TOPICS = struct.pack(">i", 0)
_UNSUPPORTED_MECHANISM, _ILLEGAL_STATE = 33, 34
# A broker on its way down ends connections so, too: no sign by itself that TLS does not fit.
_CUT = (ssl.SSLEOFError, ssl.SSLZeroReturnError)
_PREFIX = "FUSIONWATCH_KAFKA_"


class BrokerError(InferenceError):
    """No broker can be used. The text names those asked, their reasons and the setting to look at; no secret."""

    code = "broker_unusable"


class _RefusedError(Exception):
    """Trying again cannot help."""


def require_broker(options: Mapping[str, Any], seconds: float = 30.0) -> None:
    """Return once a broker has let in a connection with kafka-python's `options`.

    Raises BrokerError: at once where a broker refuses user or certificate, or cannot be trusted; after so many seconds
    where none answers, since it may still be starting.
    """
    deadline = time.monotonic() + seconds
    while True:
        failures = []
        for server in options["bootstrap_servers"]:
            try:
                _knock(options, server)
            except _RefusedError as error:
                raise BrokerError(f"Kafka at {server} {error}") from None
            except OSError as error:
                failures.append(f"{server}: {error}")
            else:
                return
        if time.monotonic() + PAUSE_SECONDS > deadline:
            raise BrokerError(f"no Kafka broker could be used within {seconds:.0f} s: {'; '.join(failures)}")
        time.sleep(PAUSE_SECONDS)


def _knock(options: Mapping[str, Any], server: str) -> None:
    """Connect, agree on TLS, log in, ask for the brokers. Raises _RefusedError, and OSError where it may yet work."""
    host, _, port = server.rpartition(":")
    host = host.strip("[]")
    protocol = options.get("security_protocol", "PLAINTEXT")
    with socket.create_connection((host, int(port)), timeout=ATTEMPT_SECONDS) as connection:
        try:
            if protocol.endswith("SSL"):
                connection = _context(options).wrap_socket(connection, server_hostname=host)
            with connection:
                if protocol.startswith("SASL"):
                    _log_in(connection, options)
                _ask(connection, _METADATA, _NO_TOPICS)
        except ssl.SSLError as error:
            if not isinstance(error, _CUT):
                raise _RefusedError(_tls_reason(error)) from None
            raise ConnectionError(f"it ended the connection; does it speak {protocol}?") from None
        except ConnectionError as error:
            raise ConnectionError(f"{error}; does it speak {protocol}?") from None


def _context(options: Mapping[str, Any]) -> ssl.SSLContext:
    """TLS as kafka-python sets it up."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = options["ssl_check_hostname"]
    if options["ssl_cafile"] is None:
        context.load_default_certs()
    else:
        context.load_verify_locations(options["ssl_cafile"])
    if options["ssl_certfile"] is not None:
        context.load_cert_chain(options["ssl_certfile"], options["ssl_keyfile"], options["ssl_password"])
    return context


def _tls_reason(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        why = error.verify_message
        named = "mismatch" in why  # of host name or IP address
        what, setting = ("for another host", "SSL_CHECK_HOSTNAME") if named else ("that is not trusted", "SSL_CA_FILE")
        return f"has a certificate {what} ({why}); see {_PREFIX}{setting}"
    asked = "CERTIFICATE" in (error.reason or "")  # an alert about ours
    setting = "SSL_CERTIFICATE_FILE" if asked else "SECURITY_PROTOCOL"
    return f"refused the TLS connection ({error.reason or error}); see {_PREFIX}{setting}"


def _log_in(connection: socket.socket, options: Mapping[str, Any]) -> None:
    name = options["sasl_mechanism"]
    reply = _ask(connection, _SASL_HANDSHAKE, struct.pack(">h", len(name)) + name.encode())
    (code,) = struct.unpack_from(">h", reply)
    if code == _UNSUPPORTED_MECHANISM:
        raise _RefusedError(f"offers {', '.join(_strings(reply, 2))}, not {name}; see {_PREFIX}SASL_MECHANISM")
    if code == _ILLEGAL_STATE:
        raise _RefusedError(f"asks for no user on this listener; see {_PREFIX}SECURITY_PROTOCOL")
    client = get_sasl_mechanism(name)(**options)
    try:
        while not client.is_done():
            client.receive(_authenticate(connection, client.auth_bytes(), options))
    except ValueError as error:  # the server's proof that it knows the password is wrong
        raise _RefusedError(f"does not know the password of {options['sasl_plain_username']!r}: {error}") from None


def _authenticate(connection: socket.socket, token: bytes, options: Mapping[str, Any]) -> bytes:
    """One step of the mechanism: our token for the broker's."""
    reply = _ask(connection, _SASL_AUTHENTICATE, struct.pack(">i", len(token)) + token)
    code, length = struct.unpack_from(">hh", reply)
    end = 4 + max(length, 0)
    if code:
        why = reply[4:end].decode(errors="replace") or f"error {code}"
        user = options["sasl_plain_username"]
        raise _RefusedError(f"refused user {user!r} ({why}); see {_PREFIX}SASL_USERNAME and {_PREFIX}SASL_PASSWORD")
    (size,) = struct.unpack_from(">i", reply, end)
    return reply[end + 4 : end + 4 + max(size, 0)]


def _ask(connection: socket.socket, request: tuple[int, int], body: bytes) -> bytes:
    """The body of the reply. Raises ConnectionError where there is none, _RefusedError where it is not Kafka's."""
    message = struct.pack(">hhih", *request, 1, -1) + body  # correlation id 1, no client id
    connection.sendall(struct.pack(">i", len(message)) + message)
    (size,) = struct.unpack(">i", _exactly(connection, 4))
    if not 4 <= size <= MAX_REPLY_BYTES:
        raise _RefusedError(f"does not answer as Kafka does; see {_PREFIX}SECURITY_PROTOCOL")
    return _exactly(connection, size)[4:]


def _exactly(connection: socket.socket, size: int) -> bytes:
    parts = []
    while size:
        part = connection.recv(min(size, 65536))
        if not part:
            raise ConnectionError("it ended the connection")
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def _strings(reply: bytes, offset: int) -> list[str]:
    """An array of strings."""
    (count,) = struct.unpack_from(">i", reply, offset)
    offset, found = offset + 4, []
    for _ in range(count):
        (length,) = struct.unpack_from(">h", reply, offset)
        found.append(reply[offset + 2 : offset + 2 + length].decode(errors="replace"))
        offset += 2 + length
    return found
