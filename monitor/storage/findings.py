"""Findings: one row per window, version, detector, modality and revision."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, func, insert, select, text
from sqlalchemy.dialects.postgresql import distinct_on

from migrations.schema.monitoring import findings
from monitor.domain.attribution import Before
from monitor.domain.finding import Finding, Verdict
from monitor.domain.window import Window

LOOK_BACK = timedelta(days=1)  # a run of drift that paused for longer has ended


def lock(connection: Connection, model: str) -> None:
    """Make evaluations of one model take turns until this transaction ends, whichever monitor runs them."""
    connection.execute(text("SELECT pg_advisory_xact_lock(hashtext('evaluate'), hashtext(:model))"), {"model": model})


def store(connection: Connection, model: str, found: Sequence[Finding], revision: int = 0) -> list[int]:
    """Write findings and return their ids in order. Raises IntegrityError where one is there already."""
    rows = [
        {
            "model": model,
            "model_version": one.model_version,
            "detector": one.detector,
            "modality": one.modality,
            "window_start": one.window.start,
            "window_end": one.window.end,
            "revision": revision,
            "verdict": str(one.verdict),
            "value": one.value,
            "p_value": one.p_value,
            "effect": one.effect,
            "interval_low": None if one.interval is None else one.interval[0],
            "interval_high": None if one.interval is None else one.interval[1],
            "threshold": one.threshold,
            "n_reference": one.n_reference,
            "n_current": one.n_current,
            "baseline_id": one.baseline_id,
            "explanation": one.explanation,
            "details": dict(one.details),
        }
        for one in found
    ]
    if not rows:
        return []
    statement = insert(findings).returning(findings.c.finding_id, sort_by_parameter_order=True)
    return list(connection.scalars(statement, rows))


def last(connection: Connection, model: str, detector: str, modality: str) -> tuple[datetime, Verdict] | None:
    """The end of the newest window a detector judged, and its verdict."""
    row = connection.execute(
        select(findings.c.window_end, findings.c.verdict)
        .where(
            findings.c.model == model,
            findings.c.detector == detector,
            findings.c.modality == modality,
        )
        .order_by(findings.c.window_end.desc(), findings.c.finding_id.desc())
        .limit(1)
    ).first()
    return None if row is None else (row.window_end, Verdict(row.verdict))


def latest(connection: Connection, model: str, version: str, until: datetime) -> dict[tuple[str, str], Before]:
    """By detector and modality, what the newest window of a version that ended before `until` said."""
    rows = connection.execute(
        select(
            findings.c.detector,
            findings.c.modality,
            findings.c.verdict,
            findings.c.details["since"].astext.label("since"),
        )
        .ext(distinct_on(findings.c.detector, findings.c.modality))
        .where(
            findings.c.model == model,
            findings.c.model_version == version,
            findings.c.window_end < until,
            findings.c.window_end >= until - LOOK_BACK,
        )
        .order_by(
            findings.c.detector,
            findings.c.modality,
            findings.c.window_end.desc(),
            findings.c.revision.desc(),
            findings.c.finding_id.desc(),
        )
    )
    return {
        (row.detector, row.modality): Before(
            Verdict(row.verdict), None if row.since is None else datetime.fromisoformat(row.since)
        )
        for row in rows
    }


@dataclass(frozen=True, slots=True)
class About:
    """A finding with its revision."""

    finding: Finding
    revision: int


def about(connection: Connection, model: str, detector: str, since: datetime) -> list[About]:
    """The newest revision of a detector's findings about the model as a whole, of windows that end after `since`."""
    rows = connection.execute(
        select(findings)
        .ext(distinct_on(findings.c.window_end))
        .where(findings.c.model == model, findings.c.detector == detector, findings.c.window_end > since)
        .order_by(findings.c.window_end, findings.c.revision.desc(), findings.c.finding_id.desc())
    )
    return [About(_finding(row), row.revision) for row in rows]


def judged(
    connection: Connection, model: str, model_version: str, ends: Sequence[datetime]
) -> dict[datetime, tuple[int, list[Finding]]]:
    """By end, the newest revision of the windows that ended then, and each detector's newest finding of a version."""
    rows = connection.execute(
        select(findings)
        .ext(distinct_on(findings.c.window_end, findings.c.detector, findings.c.modality))
        .where(
            findings.c.model == model,
            findings.c.model_version == model_version,
            findings.c.window_end.in_(ends),
        )
        .order_by(findings.c.window_end, findings.c.detector, findings.c.modality, findings.c.revision.desc())
    )
    found: dict[datetime, tuple[int, list[Finding]]] = {}
    for row in rows:
        newest, kept = found.setdefault(row.window_end, (row.revision, []))
        kept.append(_finding(row))
        found[row.window_end] = max(newest, row.revision), kept
    return found


# Windows that tell how large windows are.
LEAST_TYPICAL, MOST_TYPICAL = 3, 200


def typical_rows(connection: Connection, model: str, detector: str, model_version: str) -> int | None:
    """The median number of rows in a version's newest windows of a detector's largest modality; None of too few."""
    rows = func.max(findings.c.n_current).label("rows")
    newest = (
        select(rows)
        .where(
            findings.c.model == model,
            findings.c.detector == detector,
            findings.c.model_version == model_version,
            findings.c.verdict.in_(["ok", "drift"]),
        )
        .group_by(findings.c.window_end)
        .order_by(findings.c.window_end.desc())
        .limit(MOST_TYPICAL)
        .subquery()
    )
    query = select(func.count(), func.percentile_disc(0.5).within_group(newest.c.rows)).select_from(newest)
    count, median = connection.execute(query).one()
    return int(median) if count >= LEAST_TYPICAL else None


@dataclass(frozen=True, slots=True)
class Kept:
    """A finding with its id."""

    finding_id: int
    finding: Finding


def newest_windows(
    connection: Connection, model: str, model_version: str, detector: str, count: int
) -> list[list[Kept]]:
    """The findings of the newest windows that ended together, the oldest window first, each in its newest revision.

    Windows are those that `detector` judged, which must be one that judges every window; what was said of other
    versions is left out.
    """
    ends = connection.scalars(
        select(findings.c.window_end)
        .distinct()
        .where(findings.c.model == model, findings.c.detector == detector)
        .order_by(findings.c.window_end.desc())
        .limit(count)
    ).all()
    by_end: dict[datetime, list[Kept]] = {end: [] for end in reversed(ends)}
    rows = connection.execute(
        select(findings)
        .ext(distinct_on(findings.c.window_end, findings.c.detector, findings.c.modality))
        .where(findings.c.model == model, findings.c.model_version == model_version, findings.c.window_end.in_(by_end))
        .order_by(findings.c.window_end, findings.c.detector, findings.c.modality, findings.c.revision.desc())
    )
    for row in rows:
        by_end[row.window_end].append(Kept(row.finding_id, _finding(row)))
    return list(by_end.values())


def _finding(row: Row[Any]) -> Finding:
    known = row.interval_low is not None and row.interval_high is not None
    return Finding(
        detector=row.detector,
        modality=row.modality,
        window=Window(row.window_start, row.window_end),
        verdict=Verdict(row.verdict),
        value=row.value,
        p_value=row.p_value,
        effect=row.effect,
        interval=(row.interval_low, row.interval_high) if known else None,
        threshold=row.threshold,
        n_reference=row.n_reference,
        n_current=row.n_current,
        baseline_id=row.baseline_id,
        model_version=row.model_version,
        explanation=row.explanation,
        details=row.details,
    )
