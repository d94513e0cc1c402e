"""How the model is now: the facts, and the sentence made from them."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import Field

from monitor.storage.views.models.base import Period, Read, Timing
from monitor.storage.views.models.champion import Champion
from monitor.storage.views.models.findings import FindingView
from monitor.storage.views.models.traffic import Latency, ModalityNow, Traffic
from monitor.storage.views.models.work import AlertView, JobView


class Facts(Read):
    """All that the page's first sentence is made from."""

    now: datetime
    model: str
    window: Period = Field(description="the availability window that traffic, latency and modalities are counted in")
    timing: Timing
    champion: Champion | None
    traffic: Traffic
    latency: Latency
    modalities: list[ModalityNow]
    checks: list[FindingView] = Field(description="the newest finding of each detector and modality")
    last_evaluated: datetime | None = Field(description="end of the newest window that the monitor judged")
    alerts: list[AlertView] = Field(description="pending and firing, pages first")
    active_job: JobView | None


class Sentence(Read):
    """How the model is, in words. `todo` says what to do, where there is something to do."""

    mood: Literal["well", "notice", "problem", "unknown"]
    text: str
    todo: str | None = None


class Overview(Facts):
    """The facts and the sentence made from them."""

    sentence: Sentence
