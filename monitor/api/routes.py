"""The JSON API under /v1: what only reads."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, HTTPException, Path, Query

from monitor.api.access import READS
from monitor.api.context import Cursor, Limit, Minutes, Name, Reading, Shown
from monitor.api.examples import example
from monitor.api.problems import RESPONSES, told
from monitor.errors import BaselineError
from monitor.storage.baselines import missing as baselines_missing
from monitor.storage.views import baselines as baseline_views
from monitor.storage.views import findings as finding_views
from monitor.storage.views import promises as promise_views
from monitor.storage.views import slos as slo_views
from monitor.storage.views import traffic as traffic_views
from monitor.storage.views import work as work_views
from monitor.storage.views.models.base import Page, VerdictName
from monitor.storage.views.models.champion import BaselineCheck, BaselineView
from monitor.storage.views.models.findings import Calibration, FindingDetail, FindingView, Series, WindowView
from monitor.storage.views.models.objectives import Promise, Slos
from monitor.storage.views.models.overview import Overview
from monitor.storage.views.models.traffic import DeadLetters, TrafficSeries
from monitor.storage.views.models.work import AlertView, EventView, JobView
from monitor.storage.views.work import AlertState
from monitor.tasks.baselines import compared

Id = Annotated[int, Path(ge=1, le=2**63 - 1)]
router = APIRouter(prefix="/v1", tags=["v1"], responses=RESPONSES, dependencies=READS)


@router.get("/overview", responses=example("overview"))
def overview(shown: Shown, connection: Reading) -> Overview:
    """How the model is now: the sentence, and the facts that it is made from."""
    return shown.overview(connection)


@router.get("/series", responses=example("series"))
def series(
    shown: Shown, connection: Reading, minutes: Minutes = 60, detector: Name = None, modality: Name = None
) -> list[Series]:
    """Values, thresholds and verdicts over time of each detector and modality."""
    period = shown.period(minutes)
    return finding_views.series(connection, shown.model, period, detector=detector, modality=modality)


@router.get("/traffic", responses=example("traffic"))
def traffic(shown: Shown, connection: Reading, minutes: Minutes = 60) -> TrafficSeries:
    """Requests by route and modality rows by status over time."""
    return traffic_views.traffic_series(connection, shown.model, shown.aligned(minutes), shown.timing.slot_seconds)


@router.get("/findings", responses=example("findings"))
def findings(
    shown: Shown,
    connection: Reading,
    limit: Limit = 50,
    cursor: Cursor = None,
    detector: Name = None,
    modality: Name = None,
    verdict: Annotated[VerdictName | None, Query()] = None,
) -> Page[FindingView]:
    """Findings, newest first."""
    return finding_views.findings_page(
        connection, shown.model, limit=limit, cursor=cursor, detector=detector, modality=modality, verdict=verdict
    )


@router.get("/findings/{finding_id}", responses={**example("finding"), **told(404)})
def finding(connection: Reading, finding_id: Id) -> FindingDetail:
    """One finding with all that its detector kept."""
    if (found := finding_views.finding(connection, finding_id)) is None:
        raise HTTPException(404, f"there is no finding {finding_id}")
    return found


@router.get("/alerts", responses=example("alerts"))
def alerts(
    shown: Shown, connection: Reading, state: AlertState = "any", limit: Limit = 50, cursor: Cursor = None
) -> Page[AlertView]:
    """Alerts, newest first; `open` means pending or firing."""
    return work_views.alerts_page(connection, shown.model, state=state, limit=limit, cursor=cursor)


@router.get("/promises", responses=example("promises"))
def promises(shown: Shown, connection: Reading) -> list[Promise]:
    """How many alarms about gradual change may be false, beside how many fired, and how far calibration is."""
    return promise_views.promises(connection, shown.model, shown.clock.now())


@router.get("/slos", responses=example("slos"))
def slos(shown: Shown, connection: Reading) -> Slos:
    """Objectives with their burn rates and the budget left, as last judged; and figures that have a target."""
    return slo_views.slos(connection, shown.model, shown.targets.trends, shown.clock.now())


@router.get("/baselines", responses=example("baselines"))
def baselines(shown: Shown, connection: Reading, limit: Limit = 50, cursor: Cursor = None) -> Page[BaselineView]:
    """What each version of the model may be compared with, and which is in use, newest first."""
    return baseline_views.baselines_page(connection, shown.model, limit=limit, cursor=cursor)


@router.get("/baselines/{baseline_id}/compare/{other}", responses={**example("compared"), **told(404, 409)})
def compare_baselines(shown: Shown, connection: Reading, baseline_id: Id, other: Id) -> list[BaselineCheck]:
    """What the detectors say of one baseline beside another; 409 where their encoders differ."""
    if missing := baselines_missing(connection, shown.model, (baseline_id, other)):
        raise HTTPException(404, f"there is no baseline {missing[0]}")
    try:
        found = compared(connection, baseline_id, other, shown.clock)
    except BaselineError as error:
        raise HTTPException(409, str(error)) from error
    fields = BaselineCheck.model_fields
    return [BaselineCheck.model_validate({name: getattr(each, name) for name in fields}) for each in found]


@router.get("/jobs", responses=example("jobs"))
def jobs(shown: Shown, connection: Reading, limit: Limit = 50, cursor: Cursor = None) -> Page[JobView]:
    """Retrain jobs, newest first."""
    return work_views.jobs_page(connection, shown.model, limit=limit, cursor=cursor)


@router.get("/jobs/{job_id}", responses={**example("job"), **told(404)})
def job(shown: Shown, connection: Reading, job_id: Id) -> JobView:
    """One job: what it was asked, how far it is, what came of it."""
    if (found := work_views.job(connection, shown.model, job_id)) is None:
        raise HTTPException(404, f"there is no job {job_id}")
    return found


@router.get("/windows", responses=example("windows"))
def windows(shown: Shown, connection: Reading, limit: Limit = 50, cursor: Cursor = None) -> Page[WindowView]:
    """Windows by the time they end, newest first: how many checks said what, and which say drift."""
    return finding_views.windows_page(connection, shown.model, limit=limit, cursor=cursor)


@router.get("/history", responses=example("history"))
def history(connection: Reading, limit: Limit = 50, cursor: Cursor = None) -> Page[EventView]:
    """The audit log: who promoted, rejected or changed what, newest first."""
    return work_views.history_page(connection, limit=limit, cursor=cursor)


@router.get("/calibration", responses=example("calibration"))
def calibration(shown: Shown, connection: Reading, minutes: Minutes = 1440) -> Calibration:
    """Accuracy, calibration error and reliability bins of the champion over labels received in these minutes."""
    return shown.calibration(connection, minutes)


@router.get("/dead-letters", responses=example("dead_letters"))
def dead_letters(shown: Shown, connection: Reading, minutes: Minutes = 1440) -> DeadLetters:
    """Refused messages by reason; their original bytes are in the dead-letter topic."""
    return traffic_views.dead_letters_by_reason(connection, shown.period(minutes))
