"""Errors as problem details (RFC 9457): one shape for whatever goes wrong."""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from sqlalchemy.exc import OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from starlette.exceptions import HTTPException

MEDIA_TYPE = "application/problem+json"
log = logging.getLogger(__name__)


class Problem(BaseModel):
    """A problem: `title` is the same for each of a kind, `detail` says what was wrong this time."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    errors: list[str] | None = Field(default=None, description="each parameter that is wrong, and what is allowed")


_MEANINGS = {
    401: ("no token, or none that is known", "the header Authorization must be `Bearer` and a token"),
    403: ("the token lacks the scope", "the token ci has the scopes read; this takes silence"),
    404: ("there is no such thing", "there is no finding 4711"),
    409: ("that cannot be done now", "job 3 is failed: there is nothing left to cancel"),
    413: ("the body is too large", "at most 64000 bytes are accepted"),
    415: ("another kind of body is needed", "the content type must be application/json or multipart/form-data"),
    422: ("a parameter is wrong", "1 parameter is wrong"),
    429: ("asked too often: wait as long as `Retry-After` says", "too many requests; try again in 2 s"),
    502: ("the gateway cannot be reached", "the gateway does not answer"),
    503: ("the database does not answer", "the database does not answer in time; try again shortly"),
    504: ("no answer in time; it may still come, and is logged", "no answer within 10 s"),
}


def told(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """What the OpenAPI document says of these errors."""
    return {status: _described(status) for status in statuses}


def _described(status: int) -> dict[str, Any]:
    words, detail = _MEANINGS[status]
    example = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": detail}
    if status == HTTPStatus.UNPROCESSABLE_ENTITY:
        example["errors"] = ["query minutes: Input should be less than or equal to 10080"]
    described: dict[str, Any] = {
        "description": words,
        "content": {MEDIA_TYPE: {"schema": Problem.model_json_schema(), "example": example}},
    }
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        described["headers"] = {"Retry-After": {"description": "seconds", "schema": {"type": "integer"}}}
    return described


# What any endpoint that takes a token may answer.
RESPONSES = told(401, 403, 422, 429, 503)


def problem(status: int, detail: str, errors: list[str] | None = None) -> JSONResponse:
    """A problem as a response."""
    said = None if errors is None else [_sendable(each) for each in errors]
    body = Problem(title=HTTPStatus(status).phrase, status=status, detail=_sendable(detail), errors=said)
    return JSONResponse(body.model_dump(exclude_none=True), status, media_type=MEDIA_TYPE)


def _sendable(text: str) -> str:
    """The text where what was given, a lone surrogate in JSON for one, is no UTF-8."""
    return text.encode("utf-8", "backslashreplace").decode()


def install(app: FastAPI) -> None:
    """Make every error of the app a problem."""
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(OperationalError, _database_away)
    app.add_exception_handler(PoolTimeoutError, _database_away)
    app.add_exception_handler(Exception, _unexpected)


async def _invalid(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    errors = [f"{' '.join(str(part) for part in each['loc'])}: {each['msg']}" for each in error.errors()]
    plural = "s are" if len(errors) > 1 else " is"
    return problem(HTTPStatus.UNPROCESSABLE_ENTITY, f"{len(errors)} parameter{plural} wrong", errors)


async def _http(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    detail = error.detail if error.detail != HTTPStatus(error.status_code).phrase else f"no {request.url.path} here"
    response = problem(error.status_code, detail)
    response.headers.update(error.headers or {})
    return response


async def _database_away(_request: Request, error: Exception) -> JSONResponse:
    # the driver's text may hold the host's name and statement: it belongs in the log, not in an answer
    log.warning("the database did not answer: %s", error)
    return problem(HTTPStatus.SERVICE_UNAVAILABLE, "the database does not answer in time; try again shortly")


async def _unexpected(request: Request, error: Exception) -> JSONResponse:
    log.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return problem(HTTPStatus.INTERNAL_SERVER_ERROR, "an unexpected error; the log has its traceback")
