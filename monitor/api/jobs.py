"""What people do with jobs under /v1."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, HTTPException, Path
from pydantic import BaseModel

from monitor.api.access import Retrainer
from monitor.api.context import Shown
from monitor.api.fields import Ending
from monitor.api.problems import RESPONSES, told
from monitor.errors import JobStateError

router = APIRouter(prefix="/v1", tags=["v1"], responses=RESPONSES)


class Cancelled(BaseModel):
    """The job, and the state in which it was cancelled."""

    job_id: int
    was: str


@router.post("/jobs/{job_id}/cancel", responses=told(409))
def cancel(
    caller: Retrainer, shown: Shown, job_id: Annotated[int, Path(ge=1, le=2**63 - 1)], given: Ending
) -> Cancelled:
    """End a job; its trainer stops at its next heartbeat. 409 where there is none, or it is over."""
    try:
        job = shown.cancelling.cancel(job_id, actor=caller.acting(given.owner), reason=given.reason)
    except JobStateError as error:
        raise HTTPException(409, str(error)) from error
    return Cancelled(job_id=job_id, was=str(job.state))
