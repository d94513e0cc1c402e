"""What the sequential monitor remembers, and the findings that it reads again."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, delete, func, select, tuple_
from sqlalchemy.dialects.postgresql import distinct_on

from migrations.schema.monitoring import alerts, findings, sequential_state
from migrations.upsert import replacing, upsert_all
from monitor.domain.finding import Finding, Verdict
from monitor.domain.window import Window

Key = tuple[str, str]  # detector and modality: what names a series


@dataclass(frozen=True, slots=True)
class Remembered:
    """A series' state after the window that ended then, as JSON, and the baseline that it was compared with."""

    baseline_id: int | None
    window_end: datetime
    state: Mapping[str, Any]


def load(connection: Connection, model: str) -> dict[Key, Remembered]:
    """Every series of a model."""
    rows = connection.execute(select(sequential_state).where(sequential_state.c.model == model))
    return {(row.detector, row.modality): Remembered(row.baseline_id, row.window_end, row.state) for row in rows}


def save(connection: Connection, model: str, series: Mapping[Key, Remembered], now: datetime) -> None:
    """Write the states of some series."""
    rows = [
        {
            "model": model,
            "detector": detector,
            "modality": modality,
            "baseline_id": one.baseline_id,
            "window_end": one.window_end,
            "state": dict(one.state),
            "updated_at": now,
        }
        for (detector, modality), one in series.items()
    ]
    upsert_all(connection, replacing(sequential_state), rows)


def forget(connection: Connection, model: str, keys: Iterable[Key]) -> None:
    """Remove series."""
    gone = list(keys)
    if not gone:
        return
    named = tuple_(sequential_state.c.detector, sequential_state.c.modality)
    connection.execute(delete(sequential_state).where(sequential_state.c.model == model, named.in_(gone)))


def judged(
    connection: Connection,
    model: str,
    after: datetime,
    before: datetime,
    length: timedelta,
    *,
    without: Collection[str] = (),
) -> list[Finding]:
    """The newest revision of each finding on windows of `length` that end between, not at, both times.

    Only windows that end on a multiple of their length, so that no two share a row; oldest first. Those of the
    detectors named by `without` are left where they are.
    """
    width = int(length.total_seconds())
    rows = connection.execute(
        select(findings)
        .ext(distinct_on(findings.c.window_end, findings.c.detector, findings.c.modality))
        .where(
            findings.c.model == model,
            findings.c.detector.not_in(sorted(without)),
            findings.c.window_end > after,
            findings.c.window_end < before,
            # the same of the start, which the unique index begins with
            findings.c.window_start > after - length,
            findings.c.window_start < before - length,
            findings.c.window_end - findings.c.window_start == length,
            func.mod(func.extract("epoch", findings.c.window_end), width) == 0,
        )
        .order_by(
            findings.c.window_end,
            findings.c.detector,
            findings.c.modality,
            findings.c.revision.desc(),
            findings.c.finding_id.desc(),
        )
    )
    return [_finding(row) for row in rows.mappings()]


def _finding(row: Mapping[Any, Any]) -> Finding:
    low, high = row["interval_low"], row["interval_high"]
    shared = ("detector", "modality", "value", "p_value", "effect", "threshold", "n_reference", "n_current")
    return Finding(
        window=Window(row["window_start"], row["window_end"]),
        verdict=Verdict(row["verdict"]),
        interval=None if low is None or high is None else (low, high),
        **{name: row[name] for name in (*shared, "baseline_id", "model_version", "explanation", "details")},
    )


def open_modalities(connection: Connection, model: str, alertname: str) -> set[str]:
    """The modalities that have an open alert of that name."""
    return set(
        connection.scalars(
            select(alerts.c.modality).where(
                alerts.c.labels["model"].astext == model, alerts.c.alertname == alertname, alerts.c.state != "resolved"
            )
        )
    )
