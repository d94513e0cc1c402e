"""What people do with the champion's baselines under /v1."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, HTTPException, Path
from pydantic import BaseModel, ConfigDict, Field

from monitor.api.access import Promoter
from monitor.api.context import Shown
from monitor.api.fields import AwareTime, Ending, Owner, Text
from monitor.api.problems import RESPONSES, told
from monitor.domain.window import Window
from monitor.errors import BaselineError, NoChampionError

router = APIRouter(prefix="/v1", tags=["v1"], responses={**RESPONSES, **told(409)})
Number = Annotated[int, Path(ge=1, le=2**31 - 1, description="as `number` among the champion's baselines")]


class NewBaseline(BaseModel):
    """A healthy period to make a baseline of: from `start` up to, not including, `end`; 35 days at most."""

    model_config = ConfigDict(extra="forbid")

    start: AwareTime
    end: AwareTime
    pin: bool = Field(default=False, description="compare with it from now on")
    force: bool = Field(default=False, description="make it in spite of what speaks against it; audited")
    owner: Owner = None
    reason: Text


class MadeBaseline(BaseModel):
    """What was made: rows by modality, hours of day it knows by themselves, and the objections that were overruled."""

    model_version: str
    number: int
    rows: dict[str, int]
    hours: int
    labels: str
    overruled: list[str]


class Pinned(BaseModel):
    """The baseline that is, or is no longer, compared with by wish."""

    number: int
    pinned: bool
    at: datetime


@router.post("/baselines", status_code=201)
def make_baseline(caller: Promoter, shown: Shown, wanted: NewBaseline) -> MadeBaseline:
    """Make a baseline of the champion from a period's traffic. 409 with every objection, unless forced."""
    try:
        window = Window(wanted.start, wanted.end)
    except ValueError as error:
        raise HTTPException(422, f"that is no period: {error}") from error
    try:
        made = shown.baselines.make(
            window, actor=caller.acting(wanted.owner), reason=wanted.reason, pin=wanted.pin, force=wanted.force
        )
    except (BaselineError, NoChampionError) as error:
        raise HTTPException(409, str(error)) from error
    return MadeBaseline(
        model_version=made.version,
        number=made.number,
        rows=dict(made.rows),
        hours=made.hours,
        labels=made.labels,
        overruled=list(made.overruled),
    )


@router.post("/baselines/{number}/pin")
def pin_baseline(caller: Promoter, shown: Shown, number: Number, given: Ending) -> Pinned:
    """Compare the champion with this baseline from now on; 409 where it has none of this number."""
    try:
        shown.baselines.pin(number, actor=caller.acting(given.owner), reason=given.reason)
    except (BaselineError, NoChampionError) as error:
        raise HTTPException(409, str(error)) from error
    return Pinned(number=number, pinned=True, at=shown.clock.now())


@router.post("/baselines/unpin")
def unpin_baseline(caller: Promoter, shown: Shown, given: Ending) -> Pinned:
    """Compare the champion with its first baseline again; 409 where none is pinned."""
    try:
        number = shown.baselines.unpin(actor=caller.acting(given.owner), reason=given.reason)
    except (BaselineError, NoChampionError) as error:
        raise HTTPException(409, str(error)) from error
    return Pinned(number=number, pinned=False, at=shown.clock.now())
