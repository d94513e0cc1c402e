"""What a job is trained on and with, kept in the database: rows by id and digest, code by version and digest."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from sqlalchemy import Connection, delete, insert, select, update

import inference
from inference.jobs import ClaimedJob, hold
from inference.labelled import LabelledRow
from migrations.schema.lineage import job_rows
from migrations.schema.monitoring import jobs

LOG, ORIGINAL = "log", "original"
TRAINING, CALIBRATION, MEASURING, LEFT_OUT = "training", "calibration", "measuring", "left_out"


@dataclass(frozen=True, slots=True)
class UsedRow:
    """A row and what became of it: its `part`, and the reason where it was left out."""

    row: LabelledRow
    origin: str
    part: str
    reason: str | None = None


def recorded(connection: Connection, job_id: int, origin: str) -> list[LabelledRow]:
    """The rows that an earlier attempt of the job used, in its order; none where none had come so far."""
    rows = connection.execute(
        select(job_rows)
        .where(job_rows.c.job_id == job_id, job_rows.c.origin == origin, job_rows.c.part != LEFT_OUT)
        .order_by(job_rows.c.place)
    )
    return [
        LabelledRow(
            row.request_id,
            row.label,
            {name: (key_id, bytes.fromhex(digest)) for name, (key_id, digest) in row.digests.items()},
        )
        for row in rows
    ]


def record(connection: Connection, job: ClaimedJob, used: Sequence[UsedRow], facts: Mapping[str, Any]) -> None:
    """Keep what the attempt uses. What an earlier one left out stays told. Raises LeaseLostError."""
    hold(connection, job)
    old = job_rows.c.job_id == job.job_id
    kept = connection.execute(select(job_rows).where(old, job_rows.c.part == LEFT_OUT).order_by(job_rows.c.place)).all()
    connection.execute(delete(job_rows).where(old))
    named = {each.row.request_id for each in used}
    rows = [_values(each) for each in used] + [
        {name: getattr(row, name) for name in ("request_id", "origin", "label", "part", "reason", "digests")}
        for row in kept
        if row.request_id not in named
    ]
    if rows:
        connection.execute(
            insert(job_rows), [{"job_id": job.job_id, "place": place, **row} for place, row in enumerate(rows)]
        )
    connection.execute(update(jobs).where(jobs.c.job_id == job.job_id).values(lineage=dict(facts)))


def _values(each: UsedRow) -> dict[str, Any]:
    digests = {name: [key_id, digest.hex()] for name, (key_id, digest) in each.row.digests.items()}
    row = each.row
    return {
        "request_id": row.request_id,
        "origin": each.origin,
        "label": row.label,
        "part": each.part,
        "reason": each.reason,
        "digests": digests,
    }


def data_digest(used: Iterable[UsedRow]) -> str:
    """A SHA-256 over ids, labels, digests and parts of the rows that are used, in their order."""
    digest = hashlib.sha256()
    for each in used:
        if each.part != LEFT_OUT:
            digest.update(json.dumps(_values(each), sort_keys=True).encode())
    return digest.hexdigest()


def code() -> dict[str, str]:
    """The version of this program, a SHA-256 over its sources, and what it computes with."""
    return {
        "fusionwatch": version("fusionwatch"),
        "sha256": _sources(),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


@cache
def _sources() -> str:
    digest = hashlib.sha256()
    for folder in map(Path, inference.__path__):
        for path in sorted(folder.rglob("*.py")):
            digest.update(f"{path.relative_to(folder).as_posix()}\0".encode() + path.read_bytes())
    return digest.hexdigest()
