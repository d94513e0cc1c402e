"""The champion and its challengers under /v1: what only reads."""

from __future__ import annotations

from fastapi import APIRouter

from monitor.api.access import READS
from monitor.api.context import Cursor, Limit, Reading, Shown
from monitor.api.examples import example
from monitor.api.problems import RESPONSES
from monitor.storage.views import rollouts as views
from monitor.storage.views.models.base import Page
from monitor.storage.views.rollouts import ChampionState, RolloutView

router = APIRouter(prefix="/v1", tags=["v1"], responses=RESPONSES, dependencies=READS)


@router.get("/champion", responses=example("champion"))
def champion(shown: Shown, connection: Reading) -> ChampionState:
    """The version that answers, what a rollback would bring back, its challenger, and each change of champion."""
    return views.champion_state(connection, shown.model)


@router.get("/rollouts", responses=example("rollouts"))
def rollouts(shown: Shown, connection: Reading, limit: Limit = 20, cursor: Cursor = None) -> Page[RolloutView]:
    """Challengers in shadow and canary with their checks, newest first."""
    return views.rollouts_page(connection, shown.model, limit=limit, cursor=cursor)
