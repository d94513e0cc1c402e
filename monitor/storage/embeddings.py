"""What people read of embeddings: through the database's audited functions, never from the tables."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Engine, text

from migrations.schema import bins
from migrations.schema.bins import Bins
from monitor.errors import EmbeddingsError

_ANNOUNCE = text("SELECT announce_read(:actor, :reason, :version, :modality, :since, :until)")
_READ = text("SELECT encoder_fingerprint, bins FROM read_embeddings(:announced) ORDER BY slot_start")


def read(
    engine: Engine, version: str, modality: str, since: datetime, until: datetime, *, actor: str, reason: str
) -> Bins:
    """The bins of a version's slots that start from `since` up to, not including, `until`, in order of time.

    A row in the audit log says so, committed before anything is read. Raises EmbeddingsError where there is nothing to
    read, or slots come from different encoders.
    """
    given = {"version": version, "modality": modality, "since": since, "until": until, "actor": actor, "reason": reason}
    with engine.begin() as connection:
        announced = connection.scalar(_ANNOUNCE, given)
    with engine.connect() as connection:
        rows = connection.execute(_READ, {"announced": announced}).all()
    if not rows:
        raise EmbeddingsError(f"{version} has no summaries of {modality!r} in that time")
    if len(encoders := {row.encoder_fingerprint for row in rows}) > 1:
        raise EmbeddingsError(f"{version} has summaries of {len(encoders)} encoders in that time: choose a shorter one")
    return bins.merge((bins.load(bytes(row.bins)) for row in rows), common=True)
