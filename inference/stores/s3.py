"""A store in a bucket of S3, or of what speaks its protocol, such as MinIO and Ceph: `s3://bucket/prefix`.

Objects are read by plain HTTP requests, signed where there is a key and without a signature where there is none
(a public bucket). The bucket is part of the path, which every such service understands.
"""

from __future__ import annotations

from datetime import UTC, datetime
from http import HTTPStatus
from urllib.parse import urlsplit
from xml.etree import ElementTree

import urllib3

from inference.stores import sigv4
from inference.stores.base import MAX_OBJECT_BYTES, Access, StoreError, StoreKind

_AGAIN = urllib3.Retry(
    connect=2, read=2, status=3, other=0, redirect=0, backoff_factor=0.2, status_forcelist=(429, 500, 502, 503, 504),
    raise_on_status=False,
)  # fmt: skip


class S3Bucket:
    """Reads objects below a prefix of one bucket."""

    def __init__(self, bucket: str, prefix: str, access: Access) -> None:
        """Raises StoreError where the endpoint is no address."""
        endpoint = urlsplit(access.endpoint or f"https://s3.{access.region}.amazonaws.com")
        if endpoint.scheme not in ("http", "https") or not endpoint.netloc:
            raise StoreError(f"s3://{bucket}: the endpoint {access.endpoint!r} is none; https://host or http://host is")
        self._endpoint = f"{endpoint.scheme}://{endpoint.netloc}"
        self._host = endpoint.netloc
        self._root = f"{endpoint.path.rstrip('/')}/{bucket}/{f'{prefix}/' if prefix else ''}"
        self._access = access
        self._pool = urllib3.PoolManager(maxsize=8, timeout=access.timeout_seconds, retries=_AGAIN)
        self.where = f"s3://{bucket}/{prefix} at {self._endpoint}"

    def read(self, name: str) -> bytes | None:
        """An object's bytes; None where the bucket has none of that name. Raises StoreError otherwise."""
        path = self._root + name
        url = self._endpoint + sigv4.escaped(path)
        try:
            answer = self._pool.request("GET", url, headers=self._headers(path), preload_content=False)
            try:
                content = answer.read(MAX_OBJECT_BYTES + 1)
            finally:
                answer.release_conn()
        except urllib3.exceptions.HTTPError as error:
            raise StoreError(f"{name}: {self._endpoint} does not answer: {type(error).__name__}") from error
        if answer.status == HTTPStatus.OK:
            if len(content) > MAX_OBJECT_BYTES:
                raise StoreError(f"{name}: larger than {MAX_OBJECT_BYTES} bytes")
            return content
        code = _code(content)
        if answer.status == HTTPStatus.NOT_FOUND and code != "NoSuchBucket":
            return None
        raise StoreError(f"{name}: {self.where} answered {answer.status} {code}".rstrip())

    def _headers(self, path: str) -> dict[str, str]:
        access = self._access
        if not access.key_id:
            return {}
        return sigv4.signed(
            "GET",
            self._host,
            path,
            region=access.region,
            key_id=access.key_id,
            secret=access.secret,
            token=access.token,
            now=datetime.now(UTC),
        )


def _code(content: bytes) -> str:
    """The error's name in the service's answer; empty where it is not of that form."""
    try:
        return ElementTree.fromstring(content).findtext("Code") or ""
    except ElementTree.ParseError:
        return ""


def _build(address: str, access: Access) -> S3Bucket:
    bucket, _, prefix = address.partition("/")
    if not bucket:
        raise StoreError("s3://: expected a bucket, as in s3://bucket/prefix")
    return S3Bucket(bucket, prefix.strip("/"), access)


STORE = StoreKind("s3", _build)
