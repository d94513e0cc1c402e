"""Stores of raw inputs: every kind by one suite; signatures by published examples and by a server that checks them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from email.message import Message
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from inference.hashing import Hasher
from inference.labelled import LabelledRow
from inference.modalities.base import modalities
from inference.resolver import FromInputs, Resolver
from inference.stores import sigv4
from inference.stores.base import Access, Store, StoreError, kinds, open_store
from inference.stores.s3 import S3Bucket
from inference.training.store import Inputs, Messages
from tests.support import s3_stub
from tests.support.s3_stub import KEY_ID, REGION, SECRET

NAMES = {"a.json": b"{}", "deep/er.bin": bytes(range(256)), "sp ace+&ü=~.txt": b"odd", "empty": b""}
HASHER = Hasher("k1", b"k" * 32)
DAY = datetime(2013, 5, 24, tzinfo=UTC)


def access(url: str, **changes: Any) -> Access:
    return Access(**{"endpoint": url, "region": REGION, "key_id": KEY_ID, "secret": SECRET, **changes})


@pytest.fixture(scope="module")
def bucket() -> Iterator[s3_stub.Bucket]:
    with s3_stub.serving({f"inputs/team a/{name}": content for name, content in NAMES.items()}) as server:
        yield server


@pytest.fixture(params=sorted(kinds()))
def store(request: pytest.FixtureRequest, bucket: s3_stub.Bucket, tmp_path: Path) -> Store:
    """Each kind of store with the same objects."""
    if request.param == "s3":
        return open_store("s3://inputs/team a/", access(bucket.url))
    for name, content in NAMES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    return open_store(str(tmp_path))


def test_every_kind_reads_what_is_there_and_says_what_is_not(store: Store) -> None:
    assert {name: store.read(name) for name in NAMES} == NAMES
    assert store.read("no such") is None
    assert store.read("a.json/below") is None
    assert store.where
    assert SECRET not in store.where


def test_an_address_that_no_kind_knows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"ftp://x: expected the path of a folder or one of file://, s3://"):
        open_store("ftp://x")
    with pytest.raises(StoreError, match="expected a folder"):
        open_store(str(tmp_path / "none"))
    with pytest.raises(StoreError, match="expected a bucket"):
        open_store("s3:///prefix")


def test_a_folder_gives_nothing_from_outside(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "secret").write_bytes(b"x")
    with pytest.raises(StoreError, match="not within"):
        open_store(str(tmp_path / "in")).read("../secret")


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"secret": "another"}, "403 SignatureDoesNotMatch"),
        ({"key_id": "", "secret": ""}, "403 AccessDenied"),
    ],
)
def test_a_bucket_that_refuses_is_told_with_its_reason(
    bucket: s3_stub.Bucket, changes: dict[str, str], code: str
) -> None:
    with pytest.raises(StoreError, match=code) as refused:
        open_store("s3://inputs/team a", access(bucket.url, **changes)).read("a.json")
    assert "another" not in str(refused.value)


def test_a_bucket_that_is_not_there_is_no_missing_object(bucket: s3_stub.Bucket) -> None:
    with pytest.raises(StoreError, match="404 NoSuchBucket"):
        open_store("s3://output", access(bucket.url)).read("a.json")
    with pytest.raises(StoreError, match="does not answer"):
        S3Bucket("b", "", access("http://127.0.0.1:1", timeout_seconds=0.5)).read("x")


def test_a_bucket_that_is_busy_is_asked_again(bucket: s3_stub.Bucket) -> None:
    bucket.failures += [503, 500]
    asked = len(bucket.asked)
    assert open_store("s3://inputs/team a", access(bucket.url, token="t0ken")).read("a.json") == b"{}"
    assert bucket.asked[asked:] == ["/inputs/team%20a/a.json"] * 3


@pytest.mark.parametrize(
    ("path", "query", "headers", "signature"),
    [
        (
            "/test.txt",
            {},
            {"Range": "bytes=0-9"},
            "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
        ),
        ("/", {"lifecycle": ""}, {}, "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"),
        (
            "/",
            {"max-keys": "2", "prefix": "J"},
            {},
            "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
        ),
    ],
)
def test_signatures_are_those_that_amazon_published(
    path: str, query: dict[str, str], headers: dict[str, str], signature: str
) -> None:
    """The worked examples of "Signature Calculations for the Authorization Header" in the S3 API's reference."""
    host = "examplebucket.s3.amazonaws.com"
    signed = sigv4.signed(
        "GET",
        host,
        path,
        query=query,
        region="us-east-1",
        key_id=KEY_ID,
        secret=SECRET,
        now=DAY,
        headers=headers,
    )
    assert signed["Authorization"].endswith(f"Signature={signature}")
    assert "Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request" in signed["Authorization"]
    wire = Message()
    for name, value in signed.items():
        wire[name] = value
    target = path + ("?" + "&".join(f"{name}={value}" for name, value in query.items()) if query else "")
    assert s3_stub.refusal("GET", target, wire, SECRET) is None, "the server's own check agrees with the examples"
    assert s3_stub.refusal("GET", target + "x", wire, SECRET) == "SignatureDoesNotMatch"


def test_inputs_are_found_by_digest_and_checked_after_reading(tmp_path: Path) -> None:
    picture = tmp_path / "p.png"
    Image.fromarray(np.full((8, 8, 3), 7, np.uint8)).save(picture)
    image, text = picture.read_bytes(), "a red square"

    def row(name: str, **inputs: bytes | str) -> LabelledRow:
        return LabelledRow(name, "yes", {m: ("k1", HASHER.digest(data)) for m, data in inputs.items()})

    rows = [row("good", image=image, text=text), row("half", text=text)]
    rows += [row("gone", image=b"gone", text=text), row("changed", image=image, text="changed")]
    rows += [row("bytes", image=image, text="bytes"), LabelledRow("odd", "maybe", {})]
    objects = {HASHER.digest(data).hex(): raw for data, raw in ((image, image), (text, text.encode()))}
    objects |= {HASHER.digest("changed").hex(): b"not that", HASHER.digest("bytes").hex(): b"\xff\xfe"}
    with s3_stub.serving({f"inputs/{name}": content for name, content in objects.items()}) as server:
        source = FromInputs(Inputs(open_store("s3://inputs", access(server.url))))
        chosen = {name: modalities()[name] for name in ("image", "text")}
        resolved = Resolver(source, chosen, ("no", "yes"), HASHER).resolve(rows)
    (example,) = resolved.examples
    assert (example.key, example.caption, example.label) == ("good", text, 1)
    assert resolved.reasons == {
        "half": "modality_missing",
        "gone": "not_in_store",
        "changed": "digest_differs",
        "bytes": "digest_differs",
        "odd": "unknown_label",
    }
    assert resolved.faults == 3
    nowhere = FromInputs(Inputs(S3Bucket("inputs", "", access("http://127.0.0.1:1", timeout_seconds=0.2))))
    assert Resolver(nowhere, chosen, ("no", "yes"), HASHER).resolve(rows[:1]).reasons == {"good": "unreadable"}


def test_labels_of_a_store_name_the_line_that_is_wrong() -> None:
    lines = b'{"request_id": "a", "label": "yes"}\n{"request_id": "b"}\n'
    with s3_stub.serving({"old/labels.jsonl": lines, "new/labels.jsonl": lines.splitlines()[0]}) as server:
        with pytest.raises(StoreError, match=r"s3://old/ .*labels.jsonl:2: expected an object"):
            Messages(open_store("s3://old", access(server.url))).labels()
        assert Messages(open_store("s3://new", access(server.url))).labels() == {"a": "yes"}
