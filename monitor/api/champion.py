"""What people do with the champion and its challenger under /v1: promote, roll back, try, stop."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, HTTPException
from pydantic import BaseModel, Field

from monitor.api.access import Promoter
from monitor.api.context import Context, Shown
from monitor.api.fields import STORABLE, Ending
from monitor.api.problems import RESPONSES, told
from monitor.errors import NoChampionError, PromotionError
from monitor.tasks.champions import Moved
from monitor.tasks.rollouts import Rollouts

router = APIRouter(prefix="/v1", tags=["v1"], responses={**RESPONSES, **told(409)})
_REFUSED = (PromotionError, NoChampionError)


class OfVersion(Ending):
    """A registered version of the model, and why."""

    version: Annotated[str, Field(min_length=1, max_length=200, pattern=STORABLE)]


class ChampionMoved(BaseModel):
    """The champion before and after."""

    before: str
    after: str


class RolloutChanged(BaseModel):
    """The rollout that began or ended, and its challenger."""

    rollout_id: int
    version: str


@router.post("/champion/promote")
def promote(caller: Promoter, shown: Shown, given: OfVersion) -> ChampionMoved:
    """Make a version champion by hand, past gate and canary; workers follow within seconds. 409 where it cannot be."""
    try:
        moved = shown.champions.promote(given.version, actor=caller.acting(given.owner), reason=given.reason)
    except _REFUSED as error:
        raise HTTPException(409, str(error)) from error
    return _moved(moved)


@router.post("/champion/rollback")
def roll_back(caller: Promoter, shown: Shown, given: Ending) -> ChampionMoved:
    """Make the former champion answer again; workers take it up within seconds. 409 where there is none."""
    try:
        moved = shown.champions.roll_back(actor=caller.acting(given.owner), reason=given.reason)
    except _REFUSED as error:
        raise HTTPException(409, str(error)) from error
    return _moved(moved)


@router.post("/rollouts", status_code=201)
def start_rollout(caller: Promoter, shown: Shown, given: OfVersion) -> RolloutChanged:
    """Send a version through the stages that the settings name. 409 where it cannot be, or one is under way."""
    try:
        begun = _rollouts(shown).start(given.version, actor=caller.acting(given.owner), reason=given.reason)
    except _REFUSED as error:
        raise HTTPException(409, str(error)) from error
    return RolloutChanged(rollout_id=begun, version=given.version)


@router.post("/rollouts/stop")
def stop_rollout(caller: Promoter, shown: Shown, given: Ending) -> RolloutChanged:
    """End the open rollout: the champion answers everything again within seconds. 409 where there is none."""
    try:
        ended = _rollouts(shown).stop(actor=caller.acting(given.owner), reason=given.reason)
    except _REFUSED as error:
        raise HTTPException(409, str(error)) from error
    return RolloutChanged(rollout_id=ended.rollout_id, version=ended.version)


def _moved(moved: Moved) -> ChampionMoved:
    return ChampionMoved(before=moved.before, after=moved.after)


def _rollouts(shown: Context) -> Rollouts:
    if shown.rollouts is None:
        raise HTTPException(403, "this API was started without rollouts: fusionwatch-monitor champion try works")
    return shown.rollouts
