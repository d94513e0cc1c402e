"""Whether anything has moved: every check over time, and for one modality its windows and what moved."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from fastapi import APIRouter, Path, Query
from fastapi.responses import HTMLResponse

from monitor.api.context import MAX_MINUTES, Minutes, Name
from monitor.api.fields import AwareTime
from monitor.storage.views.findings import newest_checks, series
from monitor.storage.views.models.base import Period
from monitor.storage.views.models.findings import FindingView, Series
from monitor.storage.views.overview import CHECK_WINDOWS
from monitor.storage.views.windows import details_of, recent_windows
from monitor.storage.views.work import champion
from monitor.web import moved, words
from monitor.web.compared import compared_with
from monitor.web.page import RANGES, At, Desk, first_range

WINDOWS = 30
FUSED = "fused"
Chosen = Annotated[int | None, Query(ge=1, le=MAX_MINUTES)]
router = APIRouter(include_in_schema=False)


@router.get("/series")
def points(
    desk: At, minutes: Minutes = 60, until: AwareTime | None = None, detector: Name = None, modality: Name = None
) -> list[Series]:
    """What the plots of a page are drawn from: the minutes that end at `until`, by default now."""
    end = desk.shown.clock.now() if until is None else until
    period = Period(start=end - timedelta(minutes=minutes), end=end)
    return series(desk.connection, desk.shown.model, period, detector=detector, modality=modality)


@router.get("/drift")
def drift(desk: At, minutes: Chosen = None) -> HTMLResponse:
    """Every check: its newest verdict, and its values over the minutes that end now."""
    answering = champion(desk.connection, desk.shown.model)
    now = desk.shown.clock.now()
    checks = _checks(desk)
    return desk.render(
        "drift.html",
        here="/drift",
        title="Drift",
        ranges=RANGES,
        minutes=minutes or first_range(desk.shown.timing.hop_seconds),
        checks=checks,
        names=_names(checks),
        compared=compared_with(answering, now) if answering else "",
    )


@router.get("/drift/{modality}")
def drift_of(
    desk: At,
    modality: Annotated[str, Path(max_length=64, pattern=r"^[A-Za-z0-9_+:. -]+$")],
    minutes: Chosen = None,
) -> HTMLResponse:
    """One modality: what moved in its newest windows, its values over time, and its windows side by side."""
    every = _checks(desk)
    answering = champion(desk.connection, desk.shown.model)
    if modality not in {*_names(every), *(answering.modalities if answering else ())}:
        return desk.missing(f"No check of “{modality}” has run lately.", "/drift")
    checks = [each for each in every if each.modality == modality]
    now = desk.shown.clock.now()
    rows = recent_windows(desk.connection, desk.shown.model, [modality], now, _horizon(desk), WINDOWS)
    return desk.render(
        "drift_of.html",
        here="/drift",
        title=f"{words.modality(modality)}: drift",
        name=modality,
        names=_names(every),
        ranges=RANGES,
        minutes=minutes or first_range(desk.shown.timing.hop_seconds),
        checks=checks,
        told=_what_moved(desk, checks, answering.class_names if answering else []),
        rows=rows,
        detectors=sorted({detector for row in rows for detector, _ in row.cells}),
        compared=compared_with(answering, now) if answering else "",
    )


def _horizon(desk: Desk) -> timedelta:
    timing = desk.shown.timing
    return timedelta(seconds=timing.window_seconds + WINDOWS * timing.hop_seconds)


def _checks(desk: Desk) -> list[FindingView]:
    horizon = timedelta(seconds=desk.shown.timing.window_seconds * CHECK_WINDOWS)
    return newest_checks(desk.connection, desk.shown.model, desk.shown.clock.now(), horizon)


def _names(checks: list[FindingView]) -> list[str]:
    """Modalities that were checked: inputs first, then what is made of them."""
    return sorted(
        {each.modality for each in checks}, key=lambda name: (name == "all", name == FUSED, "+" in name, name)
    )


def _what_moved(
    desk: Desk, checks: list[FindingView], class_names: list[str]
) -> list[tuple[FindingView, list[moved.Table]]]:
    drifting = [each for each in checks if each.verdict == "drift"]
    details = details_of(desk.connection, [each.finding_id for each in drifting])
    return [(each, moved.moved(each, class_names)) for each in details]
