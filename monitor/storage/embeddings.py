"""What people read of embeddings: through the database's audited functions, never from the tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Engine, Row, TextClause, text

from migrations.schema import bins, embedding_samples
from migrations.schema.bins import Bins
from monitor.errors import EmbeddingsError

_ANNOUNCE = text("SELECT announce_read(:actor, :reason, :version, :modality, :since, :until)")
_BINS = text("SELECT encoder_fingerprint, bins FROM read_embeddings(:announced) ORDER BY slot_start")
_SAMPLE = text("SELECT * FROM read_embedding_samples(:announced)")


@dataclass(frozen=True, slots=True)
class Read:
    """What is read: a version's slots of a modality that start from `since` up to, not including, `until`; and why."""

    version: str
    modality: str
    since: datetime
    until: datetime
    actor: str
    reason: str


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """N whole embeddings: `vectors` (N, d) float16, and of each its request, class, route and the hour's start (N,).

    Within an hour, class and route they are a simple random sample of the requests.
    """

    vectors: NDArray[np.float16]
    request_ids: NDArray[np.str_]
    predictions: NDArray[np.str_]
    routes: NDArray[np.str_]
    hours: NDArray[np.datetime64]


def read_bins(engine: Engine, wanted: Read) -> Bins:
    """The bins that drift is judged by, in order of time.

    A row in the audit log says so, committed before anything is read. Raises EmbeddingsError where there is nothing to
    read, or slots come from different encoders.
    """
    rows = _read(engine, _BINS, wanted, "summaries")
    return bins.merge((bins.load(bytes(row.bins)) for row in rows), common=True)


def read_sample(engine: Engine, wanted: Read) -> Sample:
    """The embeddings that were kept whole, by hour, class and route; audited and refused like `read_bins`."""
    rows = _read(engine, _SAMPLE, wanted, "sampled embeddings")
    return Sample(
        np.stack([embedding_samples.load(bytes(row.embedding)) for row in rows]),
        np.array([row.request_id for row in rows]),
        np.array([row.prediction for row in rows]),
        np.array([row.route for row in rows]),
        np.array([row.slot_start.astimezone(UTC).replace(tzinfo=None) for row in rows], "datetime64[s]"),
    )


def _read(engine: Engine, query: TextClause, wanted: Read, what: str) -> Sequence[Row[tuple[object, ...]]]:
    with engine.begin() as connection:
        announced = connection.scalar(_ANNOUNCE, asdict(wanted))
    with engine.connect() as connection:
        rows = connection.execute(query, {"announced": announced}).all()
    if not rows:
        raise EmbeddingsError(f"{wanted.version} has no {what} of {wanted.modality!r} in that time")
    if len(encoders := {row.encoder_fingerprint for row in rows}) > 1:
        raise EmbeddingsError(
            f"{wanted.version} has {what} of {len(encoders)} encoders in that time: choose a shorter one"
        )
    return rows
