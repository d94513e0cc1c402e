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
PROMOTED, ROLLED_BACK = "promoted", "rolled_back"  # actions of the audit log
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


def versions(connection: Connection, model: str) -> frozenset[str]:
    """The registered versions of a model."""
    return frozenset(connection.scalars(select(model_versions.c.version).where(model_versions.c.model == model)))


def has_baseline(connection: Connection, version: str) -> bool:
    """Whether a version is registered and brings a baseline."""
    found = connection.scalar(select(baselines.c.baseline_id).where(baselines.c.model_version == version))
    return found is not None


def promote(
    connection: Connection,
    model: str,
    *,
    expected: str,
    version: str,
    actor: str,
    details: Mapping[str, Any],
    now: datetime,
    action: str = PROMOTED,
) -> bool:
    """Compare-and-set of the champion alias, with its row in the audit log; False, with nothing changed, where the
    champion is no longer `expected`.

    Both rows are of the caller's transaction: whoever sees one sees the other.
    """
    moved = connection.execute(
        update(model_aliases)
        .where(model_aliases.c.model == model, model_aliases.c.alias == CHAMPION, model_aliases.c.version == expected)
        .values(version=version, updated_at=now)
    )
    if moved.rowcount != 1:
        return False
    told = {**details, "model": model, "from": expected}
    audit(connection, actor=actor, action=action, subject=version, details=told, now=now)
    return True


def former_champion(connection: Connection, model: str, version: str) -> str | None:
    """The version that `version` took the place of when it was last promoted; None where it never was."""
    former: str | None = connection.scalar(
        select(audit_log.c.details["from"].astext)
        .where(
            audit_log.c.action == PROMOTED,
            audit_log.c.subject == version,
            audit_log.c.details["model"].astext == model,
        )
        .order_by(audit_log.c.audit_id.desc())
        .limit(1)
    )
    return former


def audit(
    connection: Connection, *, actor: str, action: str, subject: str, details: Mapping[str, Any], now: datetime
) -> None:
    """Add a row to the audit log."""
    connection.execute(
        insert(audit_log).values(actor=actor, action=action, subject=subject, details=dict(details), at=now)
    )
