"""TLS in front of a PostgreSQL that was built without it: what a client sees is a server with a certificate."""

from __future__ import annotations

import select
import socket
import ssl
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_SSL_REQUEST = struct.pack("!ii", 8, 80877103)  # PostgreSQL 18, Message Formats, SSLRequest
_CHUNK = 65_536


@contextmanager
def tls_in_front_of(server: Path, certificate: Path) -> Iterator[int]:
    """Listen on 127.0.0.1 with a certificate (PEM, key and chain), pass on to a Unix socket; yields the port."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=_serve, args=(listening, server, context), daemon=True).start()
        yield listening.getsockname()[1]
        listening.shutdown(socket.SHUT_RDWR)  # wakes who accepts


def _serve(listening: socket.socket, server: Path, context: ssl.SSLContext) -> None:
    with suppress(OSError):
        while True:
            client, _ = listening.accept()
            threading.Thread(target=_pass_on, args=(client, server, context), daemon=True).start()


def _pass_on(plain: socket.socket, server: Path, context: ssl.SSLContext) -> None:
    """One connection, until either side ends it. A client that does not ask for TLS, or breaks it off, is let go."""
    with suppress(OSError), plain, socket.socket(socket.AF_UNIX) as behind:
        if plain.recv(len(_SSL_REQUEST), socket.MSG_WAITALL) != _SSL_REQUEST:
            return
        plain.sendall(b"S")
        with context.wrap_socket(plain, server_side=True) as client:
            behind.connect(str(server))
            other = {client: behind, behind: client}
            while True:
                ready = [client] if client.pending() else select.select([client, behind], [], [])[0]
                for source in ready:
                    if not (chunk := source.recv(_CHUNK)):
                        return
                    other[source].sendall(chunk)
