"""Requests and labels under /v1: sent to the gateway, and so to Kafka, as any other; answers come back the same way."""

from __future__ import annotations

import base64
import binascii
import io
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

import multipart
from fastapi import APIRouter, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from monitor.api.access import Labeller, Predictor
from monitor.api.context import Context, Shown
from monitor.api.examples import body_example, example
from monitor.api.fields import STORABLE, AwareTime
from monitor.api.gateway import Gateway
from monitor.api.problems import RESPONSES, told

MAX_IMAGE_BYTES = 10_000_000
# An image as base64, a text and the fields, which a message may hold; a multipart body is smaller.
MAX_BODY_BYTES = 15_000_000
_BASE64_CHARACTERS = MAX_IMAGE_BYTES * 4 // 3 + 4
RequestId = Annotated[str, Field(pattern=r"^[!-~]{1,128}$", description="1 to 128 printable characters, no spaces")]
Short = Annotated[str, Field(min_length=1, max_length=256, pattern=STORABLE)]

router = APIRouter(prefix="/v1", tags=["v1"], responses={**RESPONSES, **told(409, 413, 502)})


class NewRequest(BaseModel):
    """An image, a text, or both: what is missing is a modality that is missing."""

    model_config = ConfigDict(extra="forbid")

    image: str | None = Field(
        default=None,
        max_length=_BASE64_CHARACTERS,
        description="JPEG, PNG or WebP as base64, 10 MB at most",
        json_schema_extra={"contentEncoding": "base64"},
    )
    text: str | None = Field(default=None, max_length=64_000)
    request_id: RequestId | None = Field(default=None, description="made where none is given")
    correlation_id: Short | None = None
    source: Short | None = Field(default=None, description="camera, app, region")

    @field_validator("image")
    @classmethod
    def _decodable(cls, image: str | None) -> str | None:
        if image is not None:
            try:
                binascii.a2b_base64(image, strict_mode=True)
            except ValueError:
                raise ValueError("this is no base64") from None
        return image

    @model_validator(mode="after")
    def _something(self) -> NewRequest:
        if self.image is None and self.text is None:
            raise ValueError("a request needs an image or a text")
        return self

    def message(self) -> dict[str, Any]:
        """What the gateway takes."""
        given = {"image": self.image, "text": self.text}
        fields = self.model_dump(include={"request_id", "correlation_id", "source"}, exclude_none=True)
        return {**fields, "modalities": {name: {"data": data} for name, data in given.items() if data is not None}}


class Prediction(BaseModel):
    """The worker's answer. `prediction` and its figures are null where the model's output cannot be used."""

    model_config = ConfigDict(protected_namespaces=())

    schema_version: int
    request_id: str
    model_version: str
    route: str = Field(description="fused, fallback:image, fallback:text, cached, cascade")
    prediction: str | None
    confidence: float | None
    probabilities: dict[str, float] | None
    modalities: dict[str, str] = Field(description="present, missing, corrupt, rejected or stale, by modality")
    degraded: bool
    latency_ms: dict[str, float]
    attention: list[Any] | None = None
    correlation_id: str | None = None
    error_code: str | None = None


class NewLabel(BaseModel):
    """What a request turned out to be. Late, repeated and unknown request ids are normal."""

    model_config = ConfigDict(extra="forbid")

    request_id: RequestId
    label: Short
    labelled_at: AwareTime | None = Field(default=None, description="now where it is not given")
    source: Literal["human_review", "ground_truth", "user"] = "human_review"
    verdict: Short | None = Field(default=None, description="may say false_positive")
    annotator: Short | None = Field(default=None, description="kept as a digest alone")
    sampling_probability: float | None = Field(
        default=None, ge=1e-9, le=1, description="with which a queue chose the request to be labelled"
    )


class LabelSent(BaseModel):
    """The broker has the label; it counts once a worker has written it."""

    request_id: str


_BODIES = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": NewRequest.model_json_schema(), "example": body_example("predict")},
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "additionalProperties": False,
                    "properties": {
                        "image": {"type": "string", "contentMediaType": "application/octet-stream"},
                        "text": {"type": "string", "maxLength": 64_000},
                        "request_id": {"type": "string", "pattern": "^[!-~]{1,128}$"},
                        "correlation_id": {"type": "string", "minLength": 1, "maxLength": 256},
                        "source": {"type": "string", "minLength": 1, "maxLength": 256},
                    },
                }
            },
        },
    }
}


@router.post(
    "/predict", response_model=Prediction, responses={**example("prediction"), **told(415, 504)}, openapi_extra=_BODIES
)
async def predict(_caller: Predictor, shown: Shown, request: Request) -> Response:
    """Send a request and wait for its answer; both are logged as any other. 504: it may still be answered."""
    gateway = _gateway(shown)
    message = _parsed(request.headers.get("content-type", ""), await request.body()).message()
    return Response(await gateway.post("/predict", message), media_type="application/json")


@router.post("/labels", status_code=202)
async def send_label(_caller: Labeller, shown: Shown, given: NewLabel) -> LabelSent:
    """Send a label; it counts once a worker has written it, a moment later."""
    gateway = _gateway(shown)
    labelled_at = given.labelled_at or datetime.now(UTC)
    fields = given.model_dump(exclude_none=True, exclude={"labelled_at"})
    await gateway.post("/labels", {"schema_version": 1, **fields, "labelled_at": labelled_at.isoformat()})
    return LabelSent(request_id=given.request_id)


def _gateway(shown: Context) -> Gateway:
    if shown.gateway is None:
        raise HTTPException(502, "this API has no gateway: FUSIONWATCH_GATEWAY_URL is not set")
    return shown.gateway


def _parsed(content_type: str, body: bytes) -> NewRequest:
    """Raises RequestValidationError with what is wrong, HTTPException 415 for another kind of body."""
    kind, options = multipart.parse_options_header(content_type)
    try:
        if kind == "application/json":
            return NewRequest.model_validate_json(body)
        if kind == "multipart/form-data":
            return NewRequest.model_validate(_fields(body, options.get("boundary", "")))
    except ValidationError as error:
        raise RequestValidationError([{**each, "loc": ("body", *each["loc"])} for each in error.errors()]) from None
    raise HTTPException(415, "the content type must be application/json or multipart/form-data")


def _fields(body: bytes, boundary: str) -> dict[str, str]:
    """The form's fields, its image as base64. Raises HTTPException 422 where it cannot be read."""
    if not boundary:
        raise HTTPException(422, "the content type names no boundary")
    found: dict[str, str] = {}
    try:
        for part in multipart.MultipartParser(
            io.BytesIO(body), boundary, len(body), part_limit=8, memory_limit=MAX_BODY_BYTES, spool_limit=MAX_BODY_BYTES
        ):
            if part.name in found:
                raise HTTPException(422, f"the field {part.name[:40]!r} is given twice")
            found[part.name] = base64.b64encode(part.raw).decode() if part.name == "image" else part.raw.decode()
    except (multipart.MultipartError, UnicodeDecodeError) as error:
        raise HTTPException(422, f"the form cannot be read: {type(error).__name__}") from None
    return found
