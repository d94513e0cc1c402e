"""The windows of one modality side by side, and a finding's neighbours in its series."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import Connection, select

from migrations.schema.monitoring import findings
from monitor.alerts.names import BURN_RATE, GRADUAL, GRADUAL_PAGE
from monitor.storage.views.models.base import Read
from monitor.storage.views.models.findings import FindingDetail, FindingView

MAX_CELLS = 600
# These judge by their own clock: they have no place in a row of one window's checks.
_OTHER_CLOCKS = (*BURN_RATE.values(), GRADUAL, GRADUAL_PAGE)


class WindowRow(Read):
    """The checks of the windows that end at one time, by detector and modality."""

    end: datetime
    cells: dict[tuple[str, str], FindingView]


class Neighbours(Read):
    """Ids of the findings of the same series before and after, where there are any."""

    before: int | None
    after: int | None


def recent_windows(
    connection: Connection, model: str, modalities: Sequence[str], now: datetime, horizon: timedelta, limit: int
) -> list[WindowRow]:
    """At most `limit` newest windows whose checks are of these modalities, newest first, started within `horizon`.

    Of a window that was judged again the newest revision counts.
    """
    shown = [findings.c[name] for name in FindingView.model_fields]
    query = (
        select(*shown)
        .where(
            findings.c.model == model,
            findings.c.modality.in_(modalities),
            findings.c.detector.not_in(_OTHER_CLOCKS),
            findings.c.window_start >= now - horizon,
            findings.c.window_start <= now,
        )
        .order_by(findings.c.window_end.desc(), findings.c.finding_id)
        .limit(MAX_CELLS)
    )
    rows: dict[datetime, dict[tuple[str, str], FindingView]] = {}
    for row in connection.execute(query).mappings():
        found = FindingView.model_validate(dict(row))
        rows.setdefault(found.window_end, {})[found.detector, found.modality] = found
    return [WindowRow(end=end, cells=cells) for end, cells in list(rows.items())[:limit]]


def details_of(connection: Connection, ids: Sequence[int]) -> list[FindingDetail]:
    """These findings with all that their detectors kept, in the order of `ids`."""
    if not ids:
        return []
    columns = [findings.c[name] for name in FindingDetail.model_fields]
    rows = connection.execute(select(*columns).where(findings.c.finding_id.in_(ids))).mappings()
    by_id = {row["finding_id"]: FindingDetail.model_validate(dict(row)) for row in rows}
    return [by_id[each] for each in ids if each in by_id]


def neighbours(connection: Connection, model: str, finding: FindingDetail) -> Neighbours:
    """The findings of the windows next to this one's in its series."""
    table = findings.c
    series = (
        select(table.finding_id)
        .where(table.model == model, table.detector == finding.detector, table.modality == finding.modality)
        .limit(1)
    )
    before = series.where(table.window_end < finding.window_end).order_by(table.window_end.desc())
    after = series.where(table.window_end > finding.window_end).order_by(table.window_end)
    return Neighbours(before=connection.scalar(before), after=connection.scalar(after))
