"""Signature Version 4 of Amazon Web Services for requests without a body, as S3 and what speaks its protocol take it.

https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from datetime import UTC, datetime
from urllib.parse import quote

ALGORITHM = "AWS4-HMAC-SHA256"
EMPTY_SHA256 = hashlib.sha256(b"").hexdigest()


def escaped(path: str) -> str:
    """A path as it is signed and sent: every byte but unreserved characters and `/` as %XX."""
    return quote(path.encode(), safe="/-_.~")


def signed(
    method: str,
    host: str,
    path: str,
    *,
    query: Mapping[str, str] | None = None,
    region: str,
    key_id: str,
    secret: str,
    token: str | None = None,
    now: datetime,
    headers: Mapping[str, str] | None = None,
    service: str = "s3",
) -> dict[str, str]:
    """The headers to send: those given, the date, the body's digest and the signature of all of them.

    `path` is not escaped yet and begins with `/`; `host` is the header's value, with a port where it is not the
    scheme's own.
    """
    stamp = now.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")
    sent = {
        **(headers or {}),
        "Host": host,
        "x-amz-content-sha256": EMPTY_SHA256,
        "x-amz-date": stamp,
        **({"x-amz-security-token": token} if token else {}),
    }
    by_name = {name.lower(): " ".join(value.split()) for name, value in sent.items()}
    names = ";".join(sorted(by_name))
    asked = "&".join(f"{quote(k, safe='-_.~')}={quote(v, safe='-_.~')}" for k, v in sorted((query or {}).items()))
    listed = "".join(f"{name}:{by_name[name]}\n" for name in sorted(by_name))
    canonical = "\n".join((method, escaped(path), asked, listed, names, EMPTY_SHA256))
    scope = f"{stamp[:8]}/{region}/{service}/aws4_request"
    text = "\n".join((ALGORITHM, stamp, scope, hashlib.sha256(canonical.encode()).hexdigest()))
    key = f"AWS4{secret}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    signature = hmac.new(key, text.encode(), "sha256").hexdigest()
    credential = f"Credential={key_id}/{scope},SignedHeaders={names},Signature={signature}"
    return {**sent, "Authorization": f"{ALGORITHM} {credential}"}
