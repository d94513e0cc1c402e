"""What is fuzzed: each target takes bytes from outside, and has to answer with a value or a refusal of its own."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
from PIL import Image
from sqlalchemy import Engine

from inference import feedback, observations
from inference.errors import Refusal
from inference.hashing import Hasher
from inference.modalities.base import Decoded, modalities
from inference.request import Request, RequestParser
from inference.settings import WorkerSettings
from migrations.settings import PREFIX, DatabaseSettings, SettingsError
from monitor.domain.access import Scope
from monitor.settings import MonitorSettings
from tests.integration.api.served import client_of
from tests.support import seed, tokens
from tests.unit.inference import messages, test_observations

LONGEST_DETAIL = 1000  # of a refusal: it becomes a header and a row
SECRET = "marked-secret-0123456789"
SECRETS = {"DATABASE_URL", "HMAC_KEY", "KAFKA_SASL_PASSWORD", "RECEIVERS"}


@dataclass(frozen=True)
class Target:
    """`check` raises where the answer to an input is not as promised; `share` of all inputs go to it."""

    name: str
    share: float
    seeds: Sequence[bytes]
    check: Callable[[bytes], None]


def _message(
    parse: Callable[[Any], object], accepted: type, examples: Sequence[dict[str, Any]], share: float
) -> Target:
    """A message parser, by both formats: the first byte of an input says which."""
    seeds = [b"j" + json.dumps(each).encode() for each in examples]
    seeds += [b"m" + msgspec.msgpack.encode(each) for each in examples]

    def check(data: bytes) -> None:
        kind = b"application/msgpack" if data[:1] == b"m" else b"application/json"
        parsed = parse(messages.record(data[1:], ("content-type", kind)))
        assert isinstance(parsed, accepted | Refusal), parsed
        assert not isinstance(parsed, Refusal) or len(parsed.detail) <= LONGEST_DETAIL

    return Target(accepted.__name__.lower(), share, seeds, check)


def parsers() -> list[Target]:
    """Requests, labels and observations."""
    label = {
        **{"schema_version": 1, "request_id": "r1", "label": "cat", "labelled_at": "2026-03-01T12:00:00Z"},
        **{"source": "human_review", "annotator": "ann", "verdict": "correct", "sampling_probability": 0.25},
    }
    request = messages.message(correlation_id="c", source="s", expected_modalities=["image", "text"])
    observation = test_observations.message(latency_ms={"total": 1.0}, route="fused", agreement=True)
    hasher, wires = Hasher("k", b"k" * 32), {name: each.wire for name, each in modalities().items()}
    return [
        _message(RequestParser(wires).parse, Request, [messages.message(), request], 0.385),
        _message(lambda record: feedback.parse(record, hasher), feedback.Label, [label], 0.2),
        _message(
            lambda record: observations.parse(record, 1_000_000),
            observations.Observation,
            [test_observations.message(), observation],
            0.2,
        ),
    ]


def _pictures() -> list[bytes]:
    pixels = np.random.default_rng(0).integers(0, 255, (16, 16, 3), np.uint8)
    found = []
    for kind, options in (("JPEG", {}), ("JPEG", {"progressive": True}), ("PNG", {}), ("WEBP", {}), ("GIF", {})):
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, kind, **options)
        found.append(buffer.getvalue())
    return found


def decoders() -> list[Target]:
    """Every modality's decoder; what it keeps must be measurable and of a known size."""
    array = io.BytesIO()
    np.save(array, np.zeros((4, 8), np.float32))
    examples: dict[str, list[bytes]] = {
        "image": _pictures(),
        "text": [b"a red circle", "é𝔘".encode()],
        "tabular": [b'{"age": 3, "kind": "a", "none": null}'],
    }

    def target(name: str) -> Target:
        kind = modalities()[name]

        def check(data: bytes) -> None:
            given = data if kind.wire is bytes else data.decode("utf-8", "surrogateescape")
            assert isinstance(kind.decode(given), Decoded)

        return Target(name, 0.2 / len(modalities()), examples.get(name, [array.getvalue()]), check)

    return [target(name) for name in sorted(modalities())]


def settings() -> Target:
    """Both programs' settings: one value is mutated, and a secret of another is never told."""
    good = {
        **{"DATABASE_URL": f"postgresql+psycopg2://u:{SECRET}@h/d", "HMAC_KEY": SECRET * 2, "HMAC_KEY_ID": "k"},
        **{"CHECKPOINT": "/c", "KAFKA_BOOTSTRAP_SERVERS": "h:9092", "KAFKA_SASL_PASSWORD": SECRET},
        "DETECTORS": '["pairing"]',
        "RECEIVERS": json.dumps({"hook": {"channel": "webhook", "url": "http://x", "secret": SECRET}}),
        "ROUTES": '[{"matchers": ["severity=page"], "receiver": "hook"}]',
        **{"SLOS": '{"availability.text": {"target": 0.98}}', "HOP_SECONDS": "300", "CANARY_STEPS": "[10, 100]"},
    }
    programs: tuple[type[DatabaseSettings], ...] = (WorkerSettings, MonitorSettings)

    def check(data: bytes) -> None:
        key, _, value = data.partition(b"=")
        name = key.decode("ascii", "replace")
        shown = value.replace(b"\0", b"").decode("utf-8", "surrogateescape")
        given = {f"{PREFIX}{each}": old for each, old in good.items()}
        if name in good:
            given[f"{PREFIX}{name}"] = shown
        before = dict(os.environ)
        os.environ.update(given)
        try:
            for program in programs:
                try:
                    program.from_environment()
                except SettingsError as error:
                    # what a mutation put into a setting that is no secret is shown
                    if SECRET in str(error) and (name in SECRETS or SECRET not in shown):
                        raise AssertionError("a secret is told") from None
        finally:
            os.environ.clear()
            os.environ.update(before)

    return Target("settings", 0.01, [f"{key}={value}".encode() for key, value in good.items()], check)


def api(engine: Engine) -> Target:
    """The API's bodies and queries, with a token that may do everything: whatever comes, no answer is above 499."""
    client = client_of(engine, tokens.of({"all": ("a-token-of-tests-1", " ".join(Scope))}))
    ended = {"owner": "ann", "reason": "new camera"}
    silence = {"matchers": {"modality": "image"}, "end": seed.at("16:00").isoformat(), **ended}
    seeds = [f"/v1/silences {json.dumps(silence)}".encode(), f"/v1/alerts/1/acknowledge {json.dumps(ended)}".encode()]
    seeds += [
        f"/v1/{path} ".encode() for path in ("findings?limit=5&cursor=9", "series?minutes=60&modality=image", "history")
    ]

    def check(data: bytes) -> None:
        path, _, body = data.partition(b" ")
        # what a client cannot write as a URL never leaves it
        address = "/v1/" + _address(path.removeprefix(b"/v1/"))
        headers = {**tokens.bearer("a-token-of-tests-1"), "content-type": "application/json"}
        answer = client.request("POST" if body else "GET", address, content=body or None, headers=headers)
        assert answer.status_code < 500, (answer.status_code, answer.text)

    return Target("api", 0.005, seeds, check)


def _address(path: bytes) -> str:
    """A path and query as ASCII that a URL may hold."""
    return "".join(chr(each) for each in path if 33 <= each < 127 and chr(each) not in '#\\"<>^`{|}[]')
