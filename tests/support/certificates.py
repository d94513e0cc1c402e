"""A certificate authority of one's own, and files that Kafka and its clients take."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

KEY_PASSWORD = "password-of-the-client-key"


@dataclass(frozen=True, slots=True)
class Certificates:
    """Paths of PEM files. `server` holds key and chain together, as Kafka's PEM key store wants them."""

    authority: Path
    server: Path
    client: Path
    client_key: Path
    client_key_encrypted: Path
    other_authority: Path


def certificates(folder: Path) -> Certificates:
    """Make an authority, a server's certificate for 127.0.0.1, a client's, and an authority that signed neither."""
    folder.mkdir(parents=True, exist_ok=True)
    authority, other = trustme.CA(), trustme.CA()
    server = authority.issue_cert("127.0.0.1")
    client = authority.issue_cert("worker@fusionwatch.test")
    made = Certificates(*(folder / f"{name}.pem" for name in Certificates.__dataclass_fields__))
    authority.cert_pem.write_to_path(str(made.authority))
    other.cert_pem.write_to_path(str(made.other_authority))
    made.server.write_bytes(_key(server) + _chain(server))
    made.client.write_bytes(_chain(client))
    made.client_key.write_bytes(_key(client))
    made.client_key_encrypted.write_bytes(_key(client, KEY_PASSWORD))
    return made


def _chain(leaf: trustme.LeafCert) -> bytes:
    return b"".join(pem.bytes() for pem in leaf.cert_chain_pems)


def _key(leaf: trustme.LeafCert, password: str | None = None) -> bytes:
    """The key as PKCS#8, the one form that Kafka reads."""
    key = load_pem_private_key(leaf.private_key_pem.bytes(), password=None)
    locked = NoEncryption() if password is None else BestAvailableEncryption(password.encode())
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, locked)
