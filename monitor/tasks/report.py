"""Makes the reports that are due, once each, and tells of the weekly one; and makes those that people ask for."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sqlalchemy import Engine

from monitor.alerts.message import Links, direct
from monitor.alerts.names import ALL, WEEKLY_REPORT
from monitor.alerts.routes import Route, chosen
from monitor.alerts.stages import SENT
from monitor.channels.base import Channel, Outcome, attempt
from monitor.domain.cadence import SCHEDULED, Cadence, due
from monitor.domain.clock import Clock
from monitor.domain.signals import TICKET
from monitor.domain.window import Window
from monitor.errors import ReportError
from monitor.reports.advice import headline
from monitor.reports.material import Material
from monitor.reports.run import Renderer, StoppedError
from monitor.storage import reports
from monitor.storage.reports import Claim, Retry, Untold
from monitor.telemetry import Metrics

_log = logging.getLogger(__name__)

RUNBOOK = "weekly-report"
# A receiver that cannot be reached for so long hears of no report of last week any more.
TELL_WITHIN = timedelta(days=1)
MOST_ASKED = timedelta(days=92)


@dataclass(frozen=True, slots=True)
class Plan:
    """What is reported on and when: `delay` after a period's end, for what comes late; kept for `keep`."""

    cadences: Sequence[Cadence] = SCHEDULED
    delay: timedelta = timedelta(hours=1)
    keep: timedelta = timedelta(days=180)
    retry: Retry = field(default=Retry(lost=timedelta(hours=1), pause=timedelta(minutes=10), most=3))


@dataclass(frozen=True, slots=True)
class Made:
    """A report that is kept, with its files, and what is missing from it."""

    report_id: int
    headline: str
    files: Mapping[str, bytes]
    error: str | None


class Making:
    """Makes one report, whoever wants it. `gather` reads what is known of a period (`monitor.tasks.reporting`)."""

    def __init__(
        self,
        engine: Engine,
        model: str,
        gather: Callable[[Cadence, Window, datetime], Material],
        renderer: Renderer,
        metrics: Metrics,
        clock: Clock,
    ) -> None:
        self.engine = engine
        self.model = model
        self.clock = clock
        self._gather = gather
        self._renderer = renderer
        self._metrics = metrics

    def stop(self) -> None:
        """End the report under way; it is made anew after the next start."""
        self._renderer.stop()

    def asked(self, window: Window) -> Made:
        """The report of a period that somebody asks for; made anew where there was one. Raises ReportError."""
        now = self.clock.now()
        if window.start >= now:
            raise ReportError(f"--from: {window.start.isoformat()} has not come yet")
        if window.length > MOST_ASKED:
            raise ReportError(f"a report is of {MOST_ASKED.days} days at most, not {window.length.days}")
        with self.engine.begin() as connection:
            mine = reports.claim(connection, self.model, Cadence.ASKED, window, now=now)
        assert mine is not None, "what is asked for is begun whatever there was"
        made = self.make(mine, Cadence.ASKED, window)
        if made is None:
            raise ReportError("somebody asked for the same report meanwhile: that one is kept")
        return made

    def make(self, mine: Claim, cadence: Cadence, window: Window) -> Made | None:
        """Make a report that was claimed, and keep it; None where another process took it over meanwhile."""
        try:
            material = self._gather(cadence, window, self.clock.now())
            rendered = self._renderer.render(material)
        except Exception as error:
            words = str(error) if isinstance(error, StoppedError) else type(error).__name__
            self._count(cadence, "failed")
            with self.engine.begin() as connection:
                reports.fail(connection, mine, error=words, now=self.clock.now())
            raise
        told = headline(material)
        with self.engine.begin() as connection:
            kept = reports.keep(
                connection, mine, rendered.files, headline=told, error=rendered.error, now=self.clock.now()
            )
        self._count(cadence, "incomplete" if rendered.error else "done")
        return Made(mine.report_id, told, rendered.files, rendered.error) if kept else None

    def _count(self, cadence: Cadence, result: str) -> None:
        self._metrics.reports.labels(str(cadence), result).inc()


class Reports:
    """The task: one report in a run, so that an absence is caught up with step by step."""

    def __init__(
        self,
        making: Making,
        plan: Plan,
        *,
        routes: tuple[Route, ...],
        channels: Mapping[str, Channel],
        links: Links,
        metrics: Metrics,
    ) -> None:
        """`routes` and `channels` are those of alerts: they say who hears of the weekly report."""
        labels = {"alertname": WEEKLY_REPORT, "severity": TICKET, "modality": ALL}
        self._making = making
        self._plan = plan
        self._channels = {receiver: channels[receiver] for receiver in chosen(routes, labels)}
        self._links = links
        self._metrics = metrics

    def run(self) -> None:
        """Make the oldest report that is due, tell of the newest weekly one, and drop what is old."""
        engine, model, now = self._making.engine, self._making.model, self._making.clock.now()
        with engine.begin() as connection:
            reports.forget(connection, model, now - self._plan.keep)
            reports.give_up(connection, model, now=now, retry=self._plan.retry)
        try:
            self._make(now)
        except StoppedError:
            return
        self._tell(now)

    def stop(self) -> None:
        """End the report under way."""
        self._making.stop()

    def _make(self, now: datetime) -> None:
        model = self._making.model
        with self._making.engine.connect() as connection:
            known = reports.first_version(connection, model)
        if known is None:
            return
        wanted = [(cadence, each) for cadence in self._plan.cadences for each in due(cadence, now, self._plan.delay)]
        for cadence, window in wanted:
            if window.end <= max(known, now - self._plan.keep):
                continue
            with self._making.engine.begin() as connection:
                mine = reports.claim(connection, model, cadence, window, now=now, retry=self._plan.retry)
            if mine is not None:
                made = self._making.make(mine, cadence, window)
                _log.info("%s report %d: %s", cadence, mine.report_id, "taken over" if made is None else made.headline)
                return

    def _tell(self, now: datetime) -> None:
        """Send the newest weekly report's ticket to who has not had it. At least once; the key tells a second one."""
        with self._making.engine.connect() as connection:
            newest = reports.newest_weekly(connection, self._making.model)
        if newest is None or now - newest.finished_at > TELL_WITHIN:
            return
        for receiver in self._channels.keys() - newest.told.keys():
            message, key = self._ticket(newest), f"report-{newest.report_id}"
            delivery = attempt(self._channels[receiver], receiver, message, key)
            if delivery.outcome is Outcome.SENT:
                self._metrics.notifications.labels(receiver, SENT).inc()
            else:
                self._metrics.notification_failures.labels(receiver, str(delivery.outcome)).inc()
                _log.warning("the weekly report was not told to %s: %s", receiver, delivery.reason)
            if delivery.outcome is not Outcome.RETRY:
                with self._making.engine.begin() as connection:
                    reports.mark_told(connection, newest.report_id, receiver, str(delivery.outcome))

    def _ticket(self, one: Untold) -> dict[str, object]:
        page = address(self._links.dashboard, one.report_id)
        first, last = one.period.start, one.period.end - timedelta(days=1)
        told = direct(
            WEEKLY_REPORT,
            f"The week of {first:%d %b} to {last:%d %b}: {one.headline} Report: {page}",
            model=self._making.model,
            since=one.period.end,
            resolved_at=None,
            links=Links(page, self._links.runbooks),
            runbook=RUNBOOK,
            severity=TICKET,
        )
        return {**told, "alert_id": None, "fingerprint": f"{told['fingerprint']}-{one.report_id}"}


def address(status_page: str, report_id: int) -> str:
    """Where a report's summary is read."""
    return f"{status_page.rstrip('/')}/reports/{report_id}/summary.html"
