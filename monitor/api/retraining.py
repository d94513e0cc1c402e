"""What leads to a retrain under /v1: decisions, the label queue, and what people ask for."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, HTTPException, Query
from pydantic import BaseModel

from monitor.api.access import READS, Retrainer
from monitor.api.context import Context, Cursor, Limit, Reading, Shown
from monitor.api.examples import example
from monitor.api.fields import Ending
from monitor.api.problems import RESPONSES, told
from monitor.errors import ActiveJobError, NoChampionError, ServedElsewhereError
from monitor.storage.views import retraining as views
from monitor.storage.views.models.base import Page
from monitor.storage.views.retraining import ChainView, DecisionView, LabelQueue
from monitor.tasks.policy import Policy

# Each is put together from several tables.
FewChains = Annotated[int, Query(ge=1, le=50, description="chains in a page")]

router = APIRouter(prefix="/v1", tags=["v1"], responses=RESPONSES)


class Queued(BaseModel):
    """The job that was queued."""

    job_id: int


class Approved(BaseModel):
    """An approval, and until when it stands for a shown drop."""

    approval_id: int
    expires_at: datetime


@router.get("/decisions", dependencies=READS, responses=example("decisions"))
def decisions(shown: Shown, connection: Reading, limit: Limit = 50, cursor: Cursor = None) -> Page[DecisionView]:
    """Whether a retrain was worth it, with every reason, newest first. A row is added where an answer changes."""
    return views.decisions_page(connection, shown.model, limit=limit, cursor=cursor)


@router.get("/chains", dependencies=READS, responses=example("chains"))
def chains(shown: Shown, connection: Reading, limit: FewChains = 10, cursor: Cursor = None) -> Page[ChainView]:
    """Each retrain from the first finding to the last alert that ended, newest first."""
    return views.chains_page(connection, shown.model, limit=limit, cursor=cursor)


@router.get("/labels/queue", dependencies=READS, responses=example("label_queue"))
def label_queue(
    shown: Shown, connection: Reading, closed: bool = False, limit: Limit = 50, cursor: Cursor = None
) -> LabelQueue:
    """Answers that people are asked to label, in order; with `closed` those that have their label too."""
    return views.queue(connection, shown.model, shown.clock.now(), closed=closed, limit=limit, cursor=cursor)


@router.post("/retrain", status_code=201, responses=told(409))
def retrain(caller: Retrainer, shown: Shown, given: Ending) -> Queued:
    """Queue a retrain job without waiting for the policy; the gate still decides. 409 where none can be queued."""
    try:
        return Queued(job_id=_policy(shown).request(given.reason, caller.acting(given.owner)))
    except (ActiveJobError, NoChampionError, ServedElsewhereError) as error:
        raise HTTPException(409, str(error)) from error


@router.post("/retrain/approve", status_code=201, responses=told(409))
def approve(caller: Retrainer, shown: Shown, given: Ending) -> Approved:
    """Let this stand for a shown drop in quality; every other condition still holds. 409 without a champion here."""
    try:
        made = _policy(shown).approve(given.reason, caller.acting(given.owner))
    except (NoChampionError, ServedElsewhereError) as error:
        raise HTTPException(409, str(error)) from error
    return Approved(approval_id=made.approval_id, expires_at=made.expires_at)


def _policy(shown: Context) -> Policy:
    if shown.policy is None:
        raise HTTPException(403, "this API was started without a policy: fusionwatch-monitor jobs retrain works")
    return shown.policy
