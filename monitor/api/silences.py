"""Silences and acknowledgements under /v1: what people say of alerts."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Path
from pydantic import BaseModel, ConfigDict, Field

from monitor.api.access import READS, Silencer
from monitor.api.context import Cursor, Limit, Shown
from monitor.api.examples import example
from monitor.api.fields import Ending, Owner, Plain, Text, Time
from monitor.api.problems import RESPONSES, told
from monitor.domain.silence import Kind, Silence
from monitor.errors import SilenceError
from monitor.storage.views.models.base import Page

Id = Annotated[int, Path(ge=1, le=2**63 - 1)]
router = APIRouter(prefix="/v1", tags=["v1"], responses=RESPONSES)


class SilenceView(BaseModel):
    """A silence or maintenance window; `end` is when it ended where that was early."""

    silence_id: int
    kind: Kind
    matchers: Mapping[str, str]
    start: datetime
    end: datetime
    owner: str
    reason: str


class NewSilence(BaseModel):
    """A silence to make: from `start`, by default now, until `end`, 30 days at most."""

    model_config = ConfigDict(extra="forbid")

    matchers: dict[Plain, Plain] = Field(
        default_factory=dict,
        description="label to value, all must be equal: alertname, modality, model_version, severity",
    )
    kind: Kind = Field(default=Kind.SILENCE, description="a maintenance window may do without matchers")
    start: Time | None = None
    end: Time
    owner: Owner = None
    reason: Text


class Acknowledgement(BaseModel):
    """Who looks after an alert."""

    model_config = ConfigDict(extra="forbid")

    owner: Owner = None


class Acknowledged(BaseModel):
    """The alert, and who looks after it."""

    alert_id: int
    alert: str
    acknowledged_by: str


@router.get("/silences", dependencies=READS, responses=example("silences"))
def silences(shown: Shown, ended: bool = False, limit: Limit = 50, cursor: Cursor = None) -> Page[SilenceView]:
    """Silences that hold or will hold, newest first; with `ended` those that are over too."""
    found = shown.silences.listed(ended=ended, before=cursor, limit=limit + 1)
    following = found[limit - 1].silence_id if len(found) > limit else None
    return Page(items=[_view(each) for each in found[:limit]], next_cursor=following)


@router.post("/silences", status_code=201)
def add_silence(caller: Silencer, shown: Shown, wanted: NewSilence) -> SilenceView:
    """Tell nobody of alerts that equal every matcher. What still fires at the end is told once."""
    try:
        given = {**dict(wanted), "owner": wanted.owner or caller.acting()}
        return _view(shown.silences.add(**given, actor=caller.acting(wanted.owner)))
    except SilenceError as error:
        raise HTTPException(422, str(error)) from error


@router.delete("/silences/{silence_id}", responses=told(409))
def end_silence(caller: Silencer, shown: Shown, silence_id: Id, ending: Ending) -> SilenceView:
    """End a silence now; 409 where there is none, or it is over."""
    try:
        return _view(shown.silences.end(silence_id, actor=caller.acting(ending.owner), reason=ending.reason))
    except SilenceError as error:
        raise HTTPException(409, str(error)) from error


@router.post("/alerts/{alert_id}/acknowledge", responses=told(409))
def acknowledge(caller: Silencer, shown: Shown, alert_id: Id, given: Acknowledgement) -> Acknowledged:
    """Look after a firing alert, which then is not repeated; 409 where it does not fire."""
    try:
        owner = given.owner or caller.acting()
        name = shown.silences.acknowledge(alert_id, owner=owner, actor=caller.acting(given.owner))
    except SilenceError as error:
        raise HTTPException(409, str(error)) from error
    return Acknowledged(alert_id=alert_id, alert=name, acknowledged_by=owner)


def _view(silence: Silence) -> SilenceView:
    fields: dict[str, Any] = {name: getattr(silence, name) for name in SilenceView.model_fields}
    return SilenceView.model_validate(fields)
