"""Traffic as workers leave it in summaries and dead letters, by the minute: what objectives are judged by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, insert

from migrations.schema import bins
from migrations.schema.prediction_log import dead_letters
from migrations.schema.summaries import summaries
from migrations.schema.totals import LATENCY_EDGES_MS, histogram

MINUTE = 60
SLOTS: Mapping[str, Any] = {
    "slot_seconds": MINUTE,
    "hop_seconds": 300,
    "window_seconds": 3600,
    "silence_seconds": 600,
    "grace_seconds": 2,
}


@dataclass(frozen=True)
class Minute:
    """A minute's requests, and how many of them were bad in which way."""

    rows: int = 20
    image_gone: int = 0
    text_gone: int = 0
    slow_fuse: int = 0
    slow: int = 0
    disagree: int = 0
    refused: int = 0
    refused_labels: int = 0


def write(
    connection: Connection, at: datetime, minute: Minute, *, partition: int = 0, version: str = "v1", minutes: int = 1
) -> None:
    """The rows of so many slots from `at` on, all alike."""
    starts = [at + timedelta(minutes=number) for number in range(minutes)]
    rows = [
        {
            "slot_start": start,
            "model_version": version,
            "modality": modality,
            "topic": "fusion.requests",
            "partition": partition,
            "first_offset": 0,
            "slot_seconds": MINUTE,
            "worker_id": "w",
            "encoder_fingerprint": "",
            "counts": counts,
            "bins": bins.dump(bins.EMPTY),
            "totals": totals,
            "updated_at": start + timedelta(seconds=MINUTE),
        }
        for start in starts
        for modality, (counts, totals) in _parts(minute).items()
    ]
    connection.execute(insert(summaries), rows)
    for start in starts:
        _refuse(connection, start, minute, partition)


def _refuse(connection: Connection, at: datetime, minute: Minute, partition: int) -> None:
    first = int(at.timestamp()) * 1000
    for topic, n in (("fusion.requests", minute.refused), ("fusion.labels", minute.refused_labels)):
        for place in range(n):
            connection.execute(
                insert(dead_letters).values(
                    topic=topic,
                    partition=partition,
                    offset=first + place,
                    error_code="field_missing",
                    error_detail="",
                    recorded_at=at + timedelta(seconds=1),
                )
            )


def _parts(minute: Minute) -> dict[str, tuple[dict[str, int], dict[str, list[int]]]]:
    n = minute.rows
    totals = {
        "latency.fuse": histogram([80.0] * minute.slow_fuse + [8.0] * (n - minute.slow_fuse), LATENCY_EDGES_MS),
        "latency.total": histogram([400.0] * minute.slow + [300.0] * (n - minute.slow), LATENCY_EDGES_MS),
        "agreement": [minute.disagree, n - minute.disagree],
    }
    return {
        "image": ({"present": n - minute.image_gone, "missing": minute.image_gone}, {}),
        "text": ({"present": n - minute.text_gone, "corrupt": minute.text_gone}, {}),
        "fused": ({"rows": n, "fused": n}, totals),
    }
