"""Observations: what a model that is served elsewhere answered, as its team tells it on a topic of its own.

They hold what the log and the summaries need and never an input: a key that is not known refuses the message, so that
an input sent by mistake goes no further than the dead-letter topic. An embedding that cannot be used is left out with
a reason, and the rest of its message counts.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from inference import wire
from inference.errors import Code, Refusal
from inference.modalities.base import Status
from inference.outcome import ModalityOutcome, Vector
from inference.projection import FUSED
from inference.record import Record
from inference.sent_embedding import vector
from inference.wire import RefusedError

MAX_CLASSES = 1000
MAX_MODALITIES = 16
MAX_STATISTICS = 64
SUM_TOLERANCE = 1e-3  # what rounding to three digits leaves of a sum of one
# sums of such statistics over a window stay finite in single precision
MAX_STATISTIC, MAX_MILLISECONDS = 1e12, 1e9
LATENCIES = ("queue", "preprocess", "encode", "fuse", "total")
ERROR_CODES = (Code.MODEL_FAILED, Code.MODEL_NOT_FINITE, Code.NO_USABLE_MODALITY)
ABOUT = ("schema_version", "request_id", "produced_at", "model_version", "correlation_id", "source")
ANSWER = ("probabilities", "error_code", "route", "agreement", "latency_ms")
INPUTS = ("modalities", "expected_modalities", "fused_embedding", "fused_dtype", "encoder_fingerprints")
FIELDS = frozenset((*ABOUT, *ANSWER, *INPUTS))
PART_FIELDS = frozenset(("status", "reason", "digest", "key_id", "captured_at", "quality", "embedding", "dtype"))
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}", re.ASCII)
_DIGEST = re.compile(r"[0-9a-fA-F]{64}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Observation:
    """A well-formed observation.

    `probabilities` is by class, None where the model gave no usable answer, for the reason `error`. `embeddings` maps
    modalities and `fused` to (d,) float32, `encoders` the same names to what the sender calls their encoders.
    `left_out` says of which names an embedding could not be used, and why. `latency_ms` is what the sender measured.
    """

    request_id: str
    produced_at: datetime
    model_version: str
    correlation_id: str | None
    source: str | None
    probabilities: Mapping[str, float] | None
    error: Code | None
    route: str | None
    expected: tuple[str, ...] | None
    modalities: Mapping[str, ModalityOutcome]
    embeddings: Mapping[str, Vector] = field(repr=False)
    encoders: Mapping[str, str]
    left_out: Mapping[str, str]
    agreement: bool | None
    latency_ms: Mapping[str, float]


def parse(record: Record, max_bytes: int) -> Observation | Refusal:
    """An observation message, or why it is none. Never raises, whatever the bytes."""
    try:
        message = wire.decode(record, max_bytes)
        wire.check_version(message)
        _known_keys(message, FIELDS, "the message")
        return _observation(message)
    except RefusedError as error:
        return error.refusal


def _observation(message: Mapping[str, Any]) -> Observation:
    request_id = wire.request_id(message)
    produced_at = wire.timestamp(message.get("produced_at"))
    if produced_at is None:
        raise RefusedError(Code.PRODUCED_AT_INVALID, "produced_at must be an RFC 3339 time with its offset from UTC")
    probabilities = _probabilities(message.get("probabilities"))
    sent = _object(message.get("modalities"), "modalities", MAX_MODALITIES)
    if not sent:
        raise RefusedError(Code.NO_MODALITY, "modalities must say what became of at least one")
    parts = {_name(name, "modalities"): _object(part, f"modalities.{name}") for name, part in sent.items()}
    left_out: dict[str, str] = {}
    return Observation(
        request_id=request_id,
        produced_at=produced_at,
        model_version=_model_version(message),
        correlation_id=wire.short_text(message, "correlation_id"),
        source=wire.short_text(message, "source"),
        probabilities=probabilities,
        error=_error(message, answered=probabilities is not None),
        route=_route(message),
        expected=_expected(message.get("expected_modalities")),
        modalities={name: _part(name, part) for name, part in sorted(parts.items())},
        embeddings=_embeddings(message, parts, answered=probabilities is not None, left_out=left_out),
        encoders=_encoders(message.get("encoder_fingerprints")),
        left_out=left_out,
        agreement=_agreement(message),
        latency_ms=_latency(message.get("latency_ms")),
    )


def _known_keys(given: Mapping[Any, Any], known: frozenset[str], where: str) -> None:
    if unknown := len(given.keys() - known):
        detail = f"{unknown} unknown key(s) in {where}; known: {', '.join(sorted(known))}"
        raise RefusedError(Code.FIELD_UNKNOWN, detail)


def _object(value: object, name: str, most: int = MAX_STATISTICS) -> dict[Any, Any]:
    """An optional object of a bounded size; empty where it is absent."""
    if value is None:
        return {}
    if not isinstance(value, dict) or len(value) > most:
        raise RefusedError(Code.FIELD_INVALID, f"{name} must be an object of at most {most} keys")
    return value


def _name(value: object, where: str) -> str:
    if not isinstance(value, str) or not _NAME.fullmatch(value) or value == FUSED:
        raise RefusedError(Code.FIELD_INVALID, f"names in {where} must be 1-64 of A-Z a-z 0-9 _ . - and not {FUSED!r}")
    return value


def _code(message: Mapping[str, Any], key: str, where: str) -> str | None:
    """An optional short code: free text might repeat an input."""
    value = message.get(key)
    if value is not None and (not isinstance(value, str) or not _NAME.fullmatch(value)):
        raise RefusedError(Code.FIELD_INVALID, f"{where} must be a code of 1-64 characters out of A-Z a-z 0-9 _ . -")
    return value


def _number(value: object, lowest: float, highest: float, where: str) -> float:
    if type(value) not in (int, float) or not lowest <= value <= highest:  # type: ignore[operator]  # false for NaN
        raise RefusedError(Code.FIELD_INVALID, f"{where} must be a number from {lowest:g} to {highest:g}")
    return float(value)  # type: ignore[arg-type]  # an int or a float


def _model_version(message: Mapping[str, Any]) -> str:
    version = wire.short_text(message, "model_version")
    if not version:
        raise RefusedError(Code.FIELD_INVALID, "model_version must not be empty")
    return version


def _probabilities(value: object) -> dict[str, float] | None:
    if value is None:
        return None
    wanted = f"probabilities must be null or map 1-{MAX_CLASSES} class names to numbers in [0, 1]"
    if not isinstance(value, dict) or not 1 <= len(value) <= MAX_CLASSES:
        raise RefusedError(Code.PROBABILITIES_INVALID, wanted)
    for name, share in value.items():
        named = isinstance(name, str) and 1 <= len(name) <= wire.FIELD_CHARACTERS and wire.storable(name)
        if not named or type(share) not in (int, float) or not 0 <= share <= 1:  # false for NaN
            raise RefusedError(Code.PROBABILITIES_INVALID, wanted)
    total = math.fsum(value.values())
    if abs(total - 1) > SUM_TOLERANCE:
        raise RefusedError(Code.PROBABILITIES_INVALID, f"probabilities add up to {total:.6g}, not to 1")
    return {name: float(share) for name, share in value.items()}


def _error(message: Mapping[str, Any], *, answered: bool) -> Code | None:
    value = message.get("error_code")
    if answered:
        if value is not None:
            raise RefusedError(Code.FIELD_INVALID, "error_code says why probabilities are null; here they are not")
        return None
    if value is None:
        return Code.MODEL_FAILED
    if value not in ERROR_CODES:
        raise RefusedError(Code.FIELD_INVALID, f"error_code must be one of {', '.join(ERROR_CODES)}")
    return Code(value)


def _route(message: Mapping[str, Any]) -> str | None:
    """Its form; whether it names modalities of the model is asked where the model is known."""
    value = message.get("route")
    if value is None or value == FUSED or value == "cached":
        return value
    if isinstance(value, str) and value.startswith("fallback:") and len(value) <= wire.FIELD_CHARACTERS:
        return value
    raise RefusedError(Code.FIELD_INVALID, "route must be fused, cached, or fallback:<modality>[+<modality>...]")


def _expected(value: object) -> tuple[str, ...] | None:
    if value is None:
        return None
    if not isinstance(value, list) or len(value) > MAX_MODALITIES:
        raise RefusedError(Code.FIELD_INVALID, f"expected_modalities must be a list of at most {MAX_MODALITIES} names")
    return tuple(sorted({_name(name, "expected_modalities") for name in value}))


def _agreement(message: Mapping[str, Any]) -> bool | None:
    value = message.get("agreement")
    if value is not None and not isinstance(value, bool):
        raise RefusedError(Code.FIELD_INVALID, "agreement must be true, false or null")
    return value


def _latency(value: object) -> dict[str, float]:
    given = _object(value, "latency_ms")
    _known_keys(given, frozenset(LATENCIES), "latency_ms")
    return {name: _number(ms, 0, MAX_MILLISECONDS, f"latency_ms.{name}") for name, ms in given.items()}


def _encoders(value: object) -> dict[str, str]:
    given = _object(value, "encoder_fingerprints")
    for name, fingerprint in given.items():
        if name != FUSED:
            _name(name, "encoder_fingerprints")
        if not fingerprint or wire.short_text(given, name) is None:
            raise RefusedError(Code.FIELD_INVALID, "encoder_fingerprints must map names to texts")
    return given


def _part(name: str, part: Mapping[str, Any]) -> ModalityOutcome:
    where = f"modalities.{name}"
    _known_keys(part, PART_FIELDS, where)
    if part.get("status") not in list(Status):
        raise RefusedError(Code.FIELD_INVALID, f"{where}.status must be one of {', '.join(Status)}")
    captured_at = None
    if part.get("captured_at") is not None:
        captured_at = wire.timestamp(part["captured_at"])
        if captured_at is None:
            detail = f"{where}.captured_at must be an RFC 3339 time with its offset from UTC"
            raise RefusedError(Code.CAPTURED_AT_INVALID, detail)
    digest, key_id = part.get("digest"), _code(part, "key_id", f"{where}.key_id")
    if digest is not None and (not isinstance(digest, str) or not _DIGEST.fullmatch(digest) or key_id is None):
        detail = f"{where}.digest must be an HMAC-SHA-256 as 64 hexadecimal digits, with key_id, the key's name"
        raise RefusedError(Code.FIELD_INVALID, detail)
    quality = _object(part.get("quality"), f"{where}.quality")
    return ModalityOutcome(
        status=Status(part["status"]),
        reason=_code(part, "reason", f"{where}.reason"),
        digest=None if digest is None else bytes.fromhex(digest),
        captured_at=captured_at,
        quality={
            _name(key, f"{where}.quality"): _number(value, -MAX_STATISTIC, MAX_STATISTIC, f"{where}.quality.{key}")
            for key, value in quality.items()
        },
        key_id=None if digest is None else key_id,
    )


def _embeddings(
    message: Mapping[str, Any], parts: Mapping[str, Mapping[str, Any]], *, answered: bool, left_out: dict[str, str]
) -> dict[str, Vector]:
    """The embeddings that can be used; `left_out` gets the reasons of the others."""
    given = {name: (part.get("embedding"), part.get("dtype"), part["status"]) for name, part in parts.items()}
    given[FUSED] = (message.get("fused_embedding"), message.get("fused_dtype"), Status.PRESENT if answered else None)
    found = {}
    for name, (value, dtype, status) in given.items():
        if value is None:
            continue
        taken = vector(value, dtype) if status == Status.PRESENT else "not_present"
        if isinstance(taken, str):
            left_out[name] = taken
        else:
            found[name] = taken
    return found
