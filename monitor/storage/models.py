"""Versions of the model, the champion alias, and each version's own baseline."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, insert, select, update

from migrations.schema.monitoring import audit_log, baselines, model_aliases, model_versions
from monitor.errors import NoChampionError

CHAMPION = "champion"
OBSERVED = "observed"  # the family of versions that are served elsewhere


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """One version: what it expects and answers. `fingerprints` holds the encoder fingerprint by modality."""

    version: str
    model: str
    class_names: tuple[str, ...]
    modalities: tuple[str, ...]
    fingerprints: Mapping[str, str]
    created_at: datetime
    family: str

    @property
    def trained_here(self) -> bool:
        """Whether there is a checkpoint that a trainer can start from."""
        return self.family != OBSERVED


def champion(connection: Connection, model: str) -> ModelVersion:
    """The version that answers. Raises NoChampionError where no version has the alias."""
    row = connection.execute(
        select(model_versions)
        .join(model_aliases, model_aliases.c.version == model_versions.c.version)
        .where(model_aliases.c.model == model, model_aliases.c.alias == CHAMPION)
    ).first()
    if row is None:
        raise NoChampionError(f"model {model!r} has no champion: start a worker with a checkpoint first")
    return ModelVersion(
        row.version,
        row.model,
        tuple(row.class_names),
        tuple(row.modalities),
        row.fingerprints,
        row.created_at,
        row.family,
    )


def has_baseline(connection: Connection, version: str) -> bool:
    """Whether a version is registered and brings a baseline."""
    found = connection.scalar(select(baselines.c.baseline_id).where(baselines.c.model_version == version))
    return found is not None


def promote(connection: Connection, model: str, *, expected: str, version: str, now: datetime) -> bool:
    """Compare-and-set of the champion alias; False, with nothing changed, where it is no longer `expected`."""
    moved = connection.execute(
        update(model_aliases)
        .where(model_aliases.c.model == model, model_aliases.c.alias == CHAMPION, model_aliases.c.version == expected)
        .values(version=version, updated_at=now)
    )
    return moved.rowcount == 1


def audit(
    connection: Connection, *, actor: str, action: str, subject: str, details: Mapping[str, Any], now: datetime
) -> None:
    """Add a row to the audit log."""
    connection.execute(
        insert(audit_log).values(actor=actor, action=action, subject=subject, details=dict(details), at=now)
    )
