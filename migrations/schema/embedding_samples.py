"""A few whole embeddings of every hour, class and route, for people who study what drifted.

Each request draws a number in [0, 1) out of its id, the same in every worker and for every version. The sample of an
hour, class and route are the requests with the smallest draws: a simple random one, whichever workers served it and
however often they were started again. A worker inserts each row that is among the `kept` smallest it has seen so far,
which takes in all of the sample and, of N requests, about kept x ln(N / kept) more.
Source: bottom-k sampling; Cohen & Kaplan 2007, Summarizing data using bottom-k sketches, PODC.
"""

from __future__ import annotations

from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Column, Double, LargeBinary, SmallInteger, Table, Text

from migrations.schema.metadata import TIMESTAMP, metadata
from migrations.schema.prediction_log import REQUEST_ID

SLOT_SECONDS = 3600
LARGEST = 65_504.0  # of float16

embedding_samples = Table(
    "embedding_samples",
    metadata,
    Column("slot_start", TIMESTAMP, primary_key=True, comment="the hour that the request was produced in"),
    Column("model_version", Text, primary_key=True),
    Column("modality", Text, primary_key=True, comment="a modality's name, or 'fused'"),
    Column("request_id", REQUEST_ID, primary_key=True),
    Column("encoder_fingerprint", Text, nullable=False),
    Column("prediction", Text, nullable=False),
    Column("route", Text, nullable=False),
    Column("draw", Double, nullable=False, comment="in [0, 1) out of the id; the sample are the smallest"),
    Column("kept", SmallInteger, nullable=False, comment="so many of an hour, class and route are surely there"),
    Column("embedding", LargeBinary, nullable=False, comment="float16, little-endian"),
)


def draw(request_id: str) -> float:
    """The request's number in [0, 1): uniform over ids, and unrelated to the share that a canary takes."""
    digest = blake2b(request_id.encode(), digest_size=8, person=b"embedding").digest()
    return (int.from_bytes(digest, "big") >> 11) / 2**53


def dump(vector: NDArray[np.floating]) -> bytes:
    """The stored form of a (d,) embedding: each value within 0.05%, what is beyond ±65,504 as that."""
    half: NDArray[np.float16] = np.clip(vector, -LARGEST, LARGEST).astype("<f2")
    return half.tobytes()


def load(payload: bytes) -> NDArray[np.float16]:
    """Read the stored form."""
    return np.frombuffer(payload, "<f2")
