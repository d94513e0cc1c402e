"""The chain of the audit log: each row holds the digest of the one before, so that a row removed or changed shows.

A trigger numbers and links the rows under a lock on the chain's head, whoever writes them; another refuses to change
or remove any. Who may rewrite the whole log, head included, could link it anew: so a head is to be kept elsewhere too.

Source: Haber and Stornetta (1991), How to time-stamp a digital document, Journal of Cryptology 3.
"""

from __future__ import annotations

import hashlib

GENESIS = bytes(32)  # what the first row has for the digest of the row before


def row_digest(previous: bytes, *fields: str) -> bytes:
    """SHA-256 (32 bytes) over the digest of the row before and a row's fields, each after its length in four bytes.

    Fields as text: number, `at` in microseconds since 1970, actor, action, subject, details as PostgreSQL writes JSONB,
    login.
    """
    written = hashlib.sha256(previous)
    for field in fields:
        encoded = field.encode()
        written.update(len(encoded).to_bytes(4, "big") + encoded)
    return written.digest()
