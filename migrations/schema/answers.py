"""The answer that a label judges, as both programs look it up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Column, ColumnElement, FromClause, func, select

from migrations.schema.prediction_log import labels, prediction_log, request_ids


def answer(columns: Sequence[Column[Any]], *conditions: ColumnElement[bool]) -> FromClause:
    """For each row of `labels`: these columns of the answer that it judges, where that meets conditions on the log.

    Each is looked up by itself (`OFFSET 0`), in the one day of the log that holds it: else the planner reads every day
    of the log once it takes the labels for many. To be joined on true.
    """
    known = select(request_ids.c.logged_at).where(request_ids.c.request_id == labels.c.request_id).correlate(labels)
    return (
        select(*columns)
        .where(
            prediction_log.c.request_id == labels.c.request_id,
            prediction_log.c.logged_at == func.coalesce(labels.c.logged_at, known.scalar_subquery()),
            *conditions,
        )
        .correlate(labels)
        .offset(0)
        .lateral("answer")
    )
