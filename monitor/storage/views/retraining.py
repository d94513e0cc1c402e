"""What leads to a retrain, as people are shown it: decisions with their reasons, and the label queue."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import Any

from pydantic import Field
from sqlalchemy import Connection, select

from migrations.schema.monitoring import retrain_decisions
from monitor.domain.history import chain
from monitor.storage import history, label_queue
from monitor.storage.views.models.base import Page, Read


class Reason(Read):
    """One condition of a decision, whether it was met, and why."""

    name: str
    met: bool
    text: str


class DecisionView(Read):
    """Whether a retrain was worth it: from `decided_at` to `confirmed_at` the answer was this."""

    decision_id: int
    model_version: str | None
    retrain: bool
    reasons: list[Reason]
    evidence: dict[str, list[int]] = Field(description="ids of the findings and alerts it rests on")
    job_id: int | None
    decided_at: datetime
    confirmed_at: datetime | None


class StepView(Read):
    """One link of a chain; `row` is the id of what it tells of, in its own table."""

    stage: str = Field(description="finding, alert, labels, decision, job, gate, resolved, or an audited action")
    at: datetime | None
    text: str
    row: int | None
    details: list[str]


class ChainView(Read):
    """What led to a job and what came of it, in order; without a job, what stands in the way of one."""

    job_id: int | None
    outcome: str
    steps: list[StepView]


class StratumView(Read):
    """A kind of answers: how many there were in the round's frame, and how many were drawn."""

    rows: int
    drawn: int


class QueueEntry(Read):
    """An answer to label, in this order. What the model said of it is left out: it would lead whoever labels."""

    place: int
    request_id: str
    stratum: str
    probability: float = Field(description="with which it was drawn")
    logged_at: datetime | None = Field(description="null once the log no longer has it")
    source: str | None
    labelled_at: datetime | None = Field(description="closed by its label then; null: it waits")


class LabelQueue(Read):
    """The newest round of answers that people are asked to label; its fields are null before the first."""

    round_id: int | None = None
    model_version: str | None = None
    frame_start: datetime | None = None
    frame_end: datetime | None = None
    created_at: datetime | None = None
    expires_at: datetime | None = None
    strata: dict[str, StratumView] = Field(default_factory=dict)
    reasons: list[str] = Field(default_factory=list)
    entries: int = 0
    labelled: int = 0
    open: bool = Field(default=False, description="some wait, and the round has not expired")
    items: list[QueueEntry] = Field(default_factory=list)
    next_cursor: int | None = Field(default=None, description="pass as `cursor`; null at the end")


def decisions_page(connection: Connection, model: str, *, limit: int, cursor: int | None = None) -> Page[DecisionView]:
    """Decisions newest first, those with a smaller id than `cursor`."""
    table = retrain_decisions.c
    query = select(*[table[name] for name in DecisionView.model_fields]).where(table.model == model)
    if cursor is not None:
        query = query.where(table.decision_id < cursor)
    rows = connection.execute(query.order_by(table.decision_id.desc()).limit(limit + 1)).mappings().all()
    items = [DecisionView.model_validate(dict(row)) for row in rows[:limit]]
    return Page(items=items, next_cursor=items[-1].decision_id if len(rows) > limit else None)


def chains_page(connection: Connection, model: str, *, limit: int, cursor: int | None = None) -> Page[ChainView]:
    """Chains newest first, those of jobs with a smaller id than `cursor`."""
    kept = history.newest(connection, model, limit + 1, cursor)
    items = [ChainView.model_validate(asdict(chain(each))) for each in kept[:limit]]
    following = kept[limit].job if len(kept) > limit else None
    return Page(items=items, next_cursor=None if following is None else following["job_id"] + 1)


def queue(
    connection: Connection, model: str, now: datetime, *, closed: bool = False, limit: int, cursor: int | None = None
) -> LabelQueue:
    """The newest round, with entries that wait after place `cursor`; with `closed` those that have a label too."""
    found = label_queue.round_of(connection, model)
    if found is None:
        return LabelQueue()
    round_id, entries = found["round_id"], sum(each["drawn"] for each in found["strata"].values())
    labelled = label_queue.labelled(connection, round_id)
    waiting = not closed
    rows = label_queue.entries(connection, round_id, waiting=waiting, after=cursor or 0, limit=limit + 1)
    items = [QueueEntry.model_validate(dict(row._mapping)) for row in rows[:limit]]
    shown: dict[str, Any] = {name: found[name] for name in LabelQueue.model_fields if name in found}
    return LabelQueue.model_validate(
        {
            **shown,
            "entries": entries,
            "labelled": labelled,
            "open": labelled < entries and now < found["expires_at"],
            "items": items,
            "next_cursor": items[-1].place if len(rows) > limit else None,
        }
    )
