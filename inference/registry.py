"""Model versions in the database: registering a checkpoint with its baseline, and which version answers."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, func, insert, select, update
from sqlalchemy.dialects.postgresql import insert as upsert

from inference.baseline import Baseline
from inference.models.card import MANIFEST, ModelCard
from migrations.schema import baseline_rows
from migrations.schema.monitoring import audit_log, baseline_summaries, baselines, model_aliases, model_versions

CHAMPION = "champion"


@dataclass(frozen=True, slots=True)
class Champion:
    """The version that answers, and the folder of its checkpoint."""

    version: str
    folder: Path


def register(
    connection: Connection,
    card: ModelCard,
    baseline: Baseline | None,
    model: str,
    job_id: int | None = None,
) -> None:
    """Make a checkpoint and its baseline known. Safe to run again: what is there stays as it is."""
    connection.execute(
        upsert(model_versions)
        .values(
            version=card.version,
            model=model,
            family=card.family,
            checkpoint=str(card.folder.resolve()),
            manifest_sha256=hashlib.sha256((card.folder / MANIFEST).read_bytes()).hexdigest(),
            class_names=list(card.labels),
            modalities=list(card.modalities),
            fingerprints=dict(card.fingerprints),
            job_id=job_id,
        )
        .on_conflict_do_nothing()
    )
    if baseline is not None:
        register_baseline(connection, card.version, baseline, origin="checkpoint")


def register_baseline(connection: Connection, version: str, baseline: Baseline, origin: str) -> bool:
    """Keep a registered version's first baseline, where it never had one; returns whether it was kept.

    `origin` is `checkpoint` or `file`.
    """
    if not baseline_rows.take_first_number(connection, version):
        return False
    _insert(connection, baseline, model_version=version, number=1, origin=origin)
    return True


def with_data(connection: Connection, version: str, data_sha256: str) -> int | None:
    """The number of a version's newest baseline that was made of this data, None without one."""
    found: int | None = connection.scalar(
        select(func.max(baselines.c.number)).where(
            baselines.c.model_version == version, baselines.c.facts["data_sha256"].astext == data_sha256
        )
    )
    return found


def add_baseline(connection: Connection, version: str, baseline: Baseline, *, actor: str, reason: str) -> int:
    """Keep another baseline of a registered version, made from a file; its number, the next. Audited."""
    number = baseline_rows.take_number(connection, version)
    _insert(connection, baseline, model_version=version, number=number, origin="file", created_by=actor)
    details = {"reason": reason, "origin": "file", "rows": baseline.facts["labelled"]}
    baseline_rows.audit(
        connection, "baseline_made", version, number, actor=actor, now=datetime.now(UTC), details=details
    )
    return number


def pin_baseline(connection: Connection, version: str, number: int, *, actor: str, reason: str) -> None:
    """Compare a version with this one of its baselines from now on. Audited, where it was not so."""
    query = select(baselines.c.baseline_id, baselines.c.pinned)
    found = connection.execute(query.where(baselines.c.model_version == version, baselines.c.number == number)).one()
    if found.pinned:
        return
    before = baseline_rows.pin(connection, version, found.baseline_id)
    details = {"reason": reason, "pinned_before": before}
    baseline_rows.audit(
        connection, "baseline_pinned", version, number, actor=actor, now=datetime.now(UTC), details=details
    )


def _insert(connection: Connection, baseline: Baseline, **values: Any) -> int:
    """Keep a baseline and its bins; its id."""
    kept: int = connection.execute(
        insert(baselines).values(facts=dict(baseline.facts), **values).returning(baselines.c.baseline_id)
    ).scalar_one()
    rows = [{**asdict(record), "baseline_id": kept} for record in baseline.to_records()]
    connection.execute(insert(baseline_summaries), rows)
    return kept


def champion(connection: Connection, model: str) -> Champion | None:
    """The model's champion; None where it has none."""
    row = connection.execute(
        select(model_versions.c.version, model_versions.c.checkpoint)
        .join(model_aliases, model_aliases.c.version == model_versions.c.version)
        .where(model_aliases.c.model == model, model_aliases.c.alias == CHAMPION)
    ).first()
    return None if row is None else Champion(row.version, Path(row.checkpoint))


def adopt_if_none(connection: Connection, model: str, version: str, actor: str) -> bool:
    """Make a registered version champion where the model has none; returns whether it did. Audited."""
    now = datetime.now(UTC)
    statement = upsert(model_aliases).values(model=model, alias=CHAMPION, version=version, updated_at=now)
    adopted = connection.scalar(statement.on_conflict_do_nothing().returning(model_aliases.c.version)) is not None
    if adopted:
        details = {"model": model, "version": version, "reason": "the model had no champion"}
        connection.execute(
            insert(audit_log).values(actor=actor, action="adopt_champion", subject=f"model:{model}", details=details)
        )
    return adopted


def succeed_if_newer(connection: Connection, model: str, version: str, family: str, actor: str) -> str | None:
    """Make a version champion in place of one of its family that was registered before it; the one it replaced.

    Compare-and-set: None, with nothing changed, where the champion is newer or of another family. Audited.
    """
    known = model_versions.c
    created = select(known.created_at).where(known.version == version).scalar_subquery()
    older: str | None = connection.scalar(
        select(known.version)
        .join(model_aliases, model_aliases.c.version == known.version)
        .where(model_aliases.c.model == model, model_aliases.c.alias == CHAMPION)
        .where(known.family == family, known.created_at < created)
    )
    if older is None:
        return None
    moved = connection.execute(
        update(model_aliases)
        .where(model_aliases.c.model == model, model_aliases.c.alias == CHAMPION, model_aliases.c.version == older)
        .values(version=version, updated_at=datetime.now(UTC))
    )
    if moved.rowcount != 1:
        return None
    details = {"model": model, "version": version, "from": older, "reason": "a newer version answers elsewhere"}
    connection.execute(
        insert(audit_log).values(actor=actor, action="follow_champion", subject=f"model:{model}", details=details)
    )
    return older
