"""What a signed-in person does on the pages: acknowledge an alert, silence it, end a silence."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from fastapi import APIRouter, HTTPException, Path
from fastapi.responses import RedirectResponse

from monitor.api.context import Shown
from monitor.domain.silence import Kind
from monitor.errors import SilenceError
from monitor.storage.views.reading import reading
from monitor.storage.views.work import alert
from monitor.web.session import Form, Writer

Id = Annotated[int, Path(ge=1, le=2**63 - 1)]
# How long a silence may be, in hours, as the page offers it.
LENGTHS = {1: "1 hour", 4: "4 hours", 12: "12 hours", 24: "1 day", 72: "3 days", 168: "7 days", 720: "30 days"}
router = APIRouter(include_in_schema=False)


@router.post("/alerts/{alert_id}/acknowledge")
def acknowledge(shown: Shown, writer: Writer, alert_id: Id) -> RedirectResponse:
    """Look after a firing alert; 409 where it does not fire, or somebody does already."""
    try:
        shown.silences.acknowledge(alert_id, actor=writer.actor, owner=writer.name)
    except SilenceError as error:
        raise HTTPException(409, str(error)) from error
    return RedirectResponse(f"/alerts/{alert_id}", 303)


@router.post("/alerts/{alert_id}/silence")
def silence(shown: Shown, writer: Writer, alert_id: Id, form: Form) -> RedirectResponse:
    """Hold back this alert, or all of its modality, from now on for as long as was chosen."""
    if (hours := form.get("hours", "")) not in map(str, LENGTHS):
        raise HTTPException(422, f"hours: one of {', '.join(map(str, LENGTHS))}, not {hours!r}")
    with reading(shown.engine) as connection:
        found = alert(connection, shown.model, alert_id)
    if found is None:
        raise HTTPException(404, f"there is no alert {alert_id}")
    matchers = {"modality": found.modality}
    if form.get("what") != "modality":
        matchers["alertname"] = found.alertname
    try:
        shown.silences.add(
            matchers,
            kind=Kind.SILENCE,
            start=None,
            end=shown.silences.now() + timedelta(hours=int(hours)),
            owner=str(writer.name),
            actor=writer.actor,
            reason=form.get("reason", ""),
        )
    except SilenceError as error:
        raise HTTPException(422, str(error)) from error
    return RedirectResponse("/alerts#silences", 303)


@router.post("/silences/{silence_id}/end")
def end(shown: Shown, writer: Writer, silence_id: Id) -> RedirectResponse:
    """End a silence now; 409 where there is none, or it is over."""
    try:
        shown.silences.end(silence_id, actor=writer.actor, reason="ended on the status page")
    except SilenceError as error:
        raise HTTPException(409, str(error)) from error
    return RedirectResponse("/alerts#silences", 303)
