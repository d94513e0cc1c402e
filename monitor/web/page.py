"""What every page has: the frame with its one navigation, who looks, and the words of the templates."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from fastapi import Depends, Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from sqlalchemy import Connection

from monitor.api.context import Context, Reading, Shown
from monitor.domain.progress import in_words
from monitor.storage.views.work import firing_alerts
from monitor.web import words
from monitor.web.session import Visitor, sign_in_path, visitor

HERE = Path(__file__).parent
# How far back plots may look, in minutes; the first that holds so many windows is shown at first.
RANGES = {15: "15 min", 60: "1 h", 360: "6 h", 1440: "24 h", 10_080: "7 d"}
WINDOWS_AT_FIRST = 120
TABS = {
    "/": "Overview",
    "/modalities": "Modalities",
    "/drift": "Drift",
    "/calibration": "Calibration",
    "/alerts": "Alerts",
    "/retraining": "Retraining",
    "/rollouts": "Rollouts",
    "/refused": "Refused",
    "/reports": "Reports",
    "/history": "History",
}


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=select_autoescape(),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(words=words, progress=in_words, tabs=TABS)
    environment.filters.update(
        begin=words.begin,
        share=words.share,
        number=words.number,
        count=words.count,
        modality=words.modality,
        listed=words.listed,
    )
    return environment


_templates = _environment()


@dataclass(frozen=True, slots=True)
class Desk:
    """What a handler of a page works with: the app's context, a snapshot of the database, and who looks."""

    shown: Context
    connection: Connection
    visitor: Visitor
    sign_in: str

    def render(self, template: str, *, here: str, title: str, status: int = 200, **data: Any) -> HTMLResponse:
        """The page of a template under the tab `here`; `data` is what the template shows besides the frame."""
        text = _templates.get_template(template).render(
            here=here,
            title=title,
            now=self.shown.clock.now(),
            model=self.shown.model,
            timing=self.shown.timing,
            version=self.shown.version,
            visitor=self.visitor,
            sign_in=self.sign_in,
            writable=bool(self.shown.access.keyring),
            firing=firing_alerts(self.connection, self.shown.model),
            vocabulary=words.vocabulary(),
            **data,
        )
        return HTMLResponse(text, status)

    def missing(self, what: str, here: str) -> HTMLResponse:
        """404 as a page."""
        return self.render("missing.html", here=here, title="Not there", status=404, what=what)


def plain(template: str, status: int = 200, **data: Any) -> HTMLResponse:
    """A page without the navigation, for where the database is not at hand."""
    return HTMLResponse(_templates.get_template(template).render(**data), status)


def _desk(request: Request, shown: Shown, looking: Annotated[Visitor, Depends(visitor)], connection: Reading) -> Desk:
    return Desk(shown, connection, looking, sign_in_path(request.url.path))


At = Annotated[Desk, Depends(_desk)]


def first_range(hop_seconds: int) -> int:
    """Minutes that plots show at first."""
    wanted = WINDOWS_AT_FIRST * hop_seconds / 60
    return next((minutes for minutes in RANGES if minutes >= wanted), max(RANGES))
