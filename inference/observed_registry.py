"""Rows of model versions that are served elsewhere, and what is registered of any version."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection, select
from sqlalchemy.dialects.postgresql import insert as upsert

from inference.projection import FUSED
from migrations.schema.monitoring import EVERY_HOUR, baseline_summaries, baselines, model_versions

FAMILY = "observed"
NO_CHECKPOINT = "served elsewhere: there is no checkpoint"


@dataclass(frozen=True, slots=True)
class Registered:
    """A version as it is registered. `fingerprints` are by modality and `fused`; `folder` may be on another machine."""

    version: str
    model: str
    classes: tuple[str, ...]
    modalities: tuple[str, ...]
    fingerprints: Mapping[str, str]
    folder: Path


def register(
    connection: Connection, model: str, version: str, classes: Sequence[str], fingerprints: Mapping[str, str]
) -> None:
    """Make a version known that is served elsewhere. Safe to run again: what is there stays as it is.

    `fingerprints` are by modality and `fused`. A hash of what is declared stands where a checkpoint has its manifest's.
    """
    declared = [model, version, list(classes), sorted(fingerprints.items())]
    connection.execute(
        upsert(model_versions)
        .values(
            version=version,
            model=model,
            family=FAMILY,
            checkpoint=NO_CHECKPOINT,
            manifest_sha256=hashlib.sha256(json.dumps(declared).encode()).hexdigest(),
            class_names=list(classes),
            modalities=sorted(fingerprints.keys() - {FUSED}),
            fingerprints=dict(fingerprints),
        )
        .on_conflict_do_nothing()
    )


def find(connection: Connection, version: str) -> Registered | None:
    """A version as it is registered, None where it is not."""
    row = connection.execute(select(model_versions).where(model_versions.c.version == version)).first()
    if row is None:
        return None
    return Registered(
        row.version,
        row.model,
        tuple(row.class_names),
        tuple(row.modalities),
        dict(row.fingerprints),
        Path(row.checkpoint),
    )


def baseline_fingerprints(connection: Connection, version: str) -> dict[str, str] | None:
    """By modality and `fused`, what the bins of a version's baseline were made with; None where it has no baseline."""
    first = select(baselines.c.baseline_id).where(baselines.c.model_version == version).order_by(baselines.c.number)
    baseline_id = connection.scalar(first.limit(1))
    if baseline_id is None:
        return None
    table = baseline_summaries.c
    rows = connection.execute(
        select(table.modality, table.encoder_fingerprint).where(
            table.baseline_id == baseline_id, table.hour == EVERY_HOUR
        )
    )
    return {row.modality: row.encoder_fingerprint for row in rows}
