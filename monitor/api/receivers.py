"""Receivers under /v1: their names, and a test message to one of them."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, HTTPException, Path
from pydantic import BaseModel, ConfigDict, Field

from monitor.api.access import READS, Silencer
from monitor.api.context import Shown
from monitor.api.examples import example
from monitor.api.problems import RESPONSES, told
from monitor.channels.base import Outcome
from monitor.errors import ReceiverError

router = APIRouter(prefix="/v1", tags=["v1"], responses=RESPONSES)


class TestMessage(BaseModel):
    """As what the test is told; `resolve` says that it is over."""

    model_config = ConfigDict(extra="forbid")

    severity: Literal["page", "ticket"] = "page"
    resolve: bool = False


class Tested(BaseModel):
    """What came of a test: `sent`, `retry` where a later try may do better, `refuse` where none can."""

    receiver: str
    outcome: Outcome
    reason: str = Field(description="why it was not sent")


@router.get("/receivers", dependencies=READS, responses=example("receivers"))
def receivers(shown: Shown) -> list[str]:
    """The names of those who are told of alerts."""
    return shown.receivers.names


@router.post("/receivers/{name}/test", responses=told(404))
def fire(_caller: Silencer, shown: Shown, name: Annotated[str, Path(max_length=200)], wanted: TestMessage) -> Tested:
    """Send a message that says it is a test; 404 where there is no such receiver."""
    try:
        delivery = shown.receivers.test(name, severity=wanted.severity, over=wanted.resolve)
    except ReceiverError as error:
        raise HTTPException(404, str(error)) from error
    return Tested(receiver=name, outcome=delivery.outcome, reason=delivery.reason)
