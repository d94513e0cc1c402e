"""Gathers what reports of a period are made from: one read-only snapshot, in bounded memory however long the period."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, Engine, text

from migrations.schema.bins import BinsError
from monitor.domain.baseline import MOST_BINS, Gathered
from monitor.domain.cadence import Cadence
from monitor.domain.window import FUSED, IncomparableError, Reference, Summary, Window
from monitor.reports.columns import compare, latency
from monitor.reports.material import Compared, Material
from monitor.storage import baselines, summaries
from monitor.storage.views.calibration import calibration
from monitor.storage.views.models.base import Period, VerdictName
from monitor.storage.views.models.findings import Calibration
from monitor.storage.views.period import CheckOver, champions_over, checks_over, objectives_over
from monitor.storage.views.reading import reading
from monitor.storage.views.traffic import counts_by_modality, dead_letters_by_reason, modalities_now, traffic_now
from monitor.storage.views.work import alerts_of_period, champion, jobs_of_period

# Nobody waits for a report as for a page: what is slow on a large log may take its time, but not for ever.
STATEMENT_TIMEOUT_MS = 120_000
# Slots whose summaries are read for distributions: their spread says enough, and a week costs what a day does.
MOST_SLOTS = 500
MOST_INCIDENTS, MOST_JOBS = 200, 20


@dataclass(frozen=True, slots=True)
class Held:
    """What a period is held to: the calibration error's target, and labels that a verdict on it takes."""

    calibration_error: float
    minimum_labels: int


def gather(
    engine: Engine, model: str, cadence: Cadence, window: Window, *, now: datetime, held: Held, status_page: str
) -> Material:
    """All that is known of the window. Raises sqlalchemy.exc.OperationalError where a statement takes too long."""
    period = Period(start=window.start, end=window.end)
    with reading(engine) as connection:
        connection.execute(text(f"SET LOCAL statement_timeout = {STATEMENT_TIMEOUT_MS}"))
        versions = summaries.versions_of(connection, window, model)
        version = next(iter(versions), None)
        answering = champion(connection, model)
        counts = counts_by_modality(connection, model, period)
        checks = checks_over(connection, model, period)
        newest: dict[str, VerdictName] = {
            each.modality: each.verdict for each in checks if each.detector == "availability"
        }
        return Material(
            model=model,
            cadence=cadence.value,
            period=period,
            made_at=now,
            versions=versions,
            baseline=None if version is None else _baseline(connection, model, version),
            traffic=traffic_now(counts, period),
            modalities=modalities_now(answering.modalities if answering else [], counts, {}, newest),
            refused=dead_letters_by_reason(connection, period),
            checks=checks,
            incidents=alerts_of_period(connection, model, period, MOST_INCIDENTS),
            objectives=objectives_over(connection, model, period, now),
            jobs=jobs_of_period(connection, model, period, MOST_JOBS),
            champions=champions_over(connection, model, period),
            calibration=_calibration(connection, version, period, checks, held),
            compared=Compared() if version is None else _compared(connection, window, version),
            status_page=status_page,
        )


def _baseline(connection: Connection, model: str, version: str) -> str | None:
    """The baseline that the version is compared with, in words."""
    used = [each for each in baselines.listed(connection, model, version) if each.used]
    if not used:
        return None
    one = used[0]
    of = "" if one.period is None else f", of {one.period.start:%Y-%m-%d %H:%M} to {one.period.end:%Y-%m-%d %H:%M}"
    return f"baseline {one.number} of {version} ({one.origin}{of})"


def _calibration(
    connection: Connection, version: str | None, period: Period, checks: Sequence[CheckOver], held: Held
) -> Calibration:
    judged = [each.verdict for each in checks if each.detector == "calibration"]
    return calibration(
        connection,
        version,
        period,
        target=held.calibration_error,
        minimum_labels=held.minimum_labels,
        judged=judged[0] if judged else "no_data",
    )


def _compared(connection: Connection, window: Window, version: str) -> Compared:
    """Baseline beside period; a summary that cannot be read, or two encoders in one period, leave it empty."""
    try:
        reference = baselines.of_version(connection, version)
        current, slots = _current(connection, window, version, reference)
        if reference is None:
            return Compared(left_out=[f"{version} has no baseline"], slots=slots, latency_ms=latency(current))
        return compare(reference, current, slots)
    except (BinsError, IncomparableError) as error:
        return Compared(left_out=[str(error)])


def _current(
    connection: Connection, window: Window, version: str, reference: Reference | None
) -> tuple[dict[str, Summary], int]:
    """The summaries of the slots that are read, and how many those are."""
    modalities = sorted({FUSED, *(() if reference is None else reference.summaries)})
    gathered = {name: Gathered(name, MOST_BINS) for name in modalities}
    slots = 0
    for parts in summaries.sampled(connection, window, version, modalities, MOST_SLOTS):
        slots += 1
        for name, part in parts.items():
            gathered[name].add(part)
    return {name: each.summary() for name, each in gathered.items()}, slots
