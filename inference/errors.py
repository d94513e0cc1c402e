"""Errors on two axes: a stable code that others may match on, and whether trying again can help."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Code(StrEnum):
    """Why a message was refused, a modality's model output was not used, or a program gave up. Values are stable."""

    MESSAGE_EMPTY = "message_empty"
    MESSAGE_TOO_LARGE = "message_too_large"
    UNKNOWN_CONTENT_TYPE = "unknown_content_type"
    NOT_DECODABLE = "not_decodable"
    UNKNOWN_SCHEMA_VERSION = "unknown_schema_version"
    REQUEST_ID_MISSING = "request_id_missing"
    REQUEST_ID_TOO_LONG = "request_id_too_long"
    REQUEST_ID_INVALID = "request_id_invalid"
    PRODUCED_AT_INVALID = "produced_at_invalid"
    CAPTURED_AT_INVALID = "captured_at_invalid"
    LABELLED_AT_INVALID = "labelled_at_invalid"
    LABELLED_IN_FUTURE = "labelled_in_future"
    FIELD_INVALID = "field_invalid"
    FIELD_UNKNOWN = "field_unknown"
    PROBABILITIES_INVALID = "probabilities_invalid"
    CLASSES_DIFFER = "classes_differ"
    MODEL_VERSION_UNKNOWN = "model_version_unknown"
    TOO_MANY_VERSIONS = "too_many_versions"
    NO_MODALITY = "no_modality"
    UNKNOWN_MODALITY = "unknown_modality"
    BASE64_INVALID = "base64_invalid"
    NO_USABLE_MODALITY = "no_usable_modality"
    NOT_STORABLE = "not_storable"
    MODEL_NOT_FINITE = "model_not_finite"
    MODEL_FAILED = "model_failed"


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a message goes to the dead-letter topic. `detail` is safe to log: it repeats nothing of the input's data."""

    code: Code
    detail: str


class InferenceError(Exception):
    """Base of this program's errors."""

    code = "inference_error"
    retryable = False


class StaleWriteError(InferenceError):
    """Another worker has moved a partition's offset: this worker's rows of it must not be written."""

    code = "stale_write"


class StoppingError(InferenceError):
    """The program was asked to stop, and its deadline passed, while an action was still failing."""

    code = "stopping"
