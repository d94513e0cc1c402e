"""What the recorder stores is what it was given, whatever the values."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, Table, delete, select

from demo import servers
from inference.errors import Code
from inference.modalities.base import Status
from inference.outcome import ModalityOutcome, Predicted
from inference.recorder import Recorder
from migrations.connect import connect
from migrations.schema.prediction_log import modality_log, prediction_log, request_ids
from tests.support.predicted import NoSummaries, predicted

NAMES = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=12) | st.sampled_from(
    [
        "",
        r"\N",
        r"\.",
        "\\",
        "a\tb",
        "a\nb\r",
        r"\t\x41",
        "null",
        "NULL",
        "{}",
        '"',
        "'",
        "é",
        "日本",
        "\U0001f600",
        "\x01\x7f",
    ]
)
# what a four-byte float can hold, from numbers with more digits than it does
REALS = st.floats(width=32) | st.floats(-3e38, 3e38).filter(lambda x: x == 0 or abs(x) > 1e-37)
ZONES = (UTC, timezone(timedelta(hours=5, minutes=30)), timezone(timedelta(hours=-11, seconds=-17)))
MOMENTS = st.builds(  # the years of datetime, less a day for the zones
    lambda microseconds, zone: (datetime(1, 1, 2, tzinfo=UTC) + timedelta(microseconds=microseconds)).astimezone(zone),
    st.integers(0, (datetime(9999, 12, 30, tzinfo=UTC) - datetime(1, 1, 2, tzinfo=UTC)) // timedelta(microseconds=1)),
    st.sampled_from(ZONES),
)
PARTS = st.builds(
    ModalityOutcome,
    status=st.sampled_from(list(Status)),
    reason=st.none() | NAMES,
    digest=st.none() | st.binary(max_size=40),
    captured_at=st.none() | MOMENTS,
    quality=st.dictionaries(NAMES, st.floats(), max_size=3),
    key_id=st.none() | NAMES,
)


@st.composite
def anything(draw: st.DrawFn) -> Predicted:
    """A row with every stored value as odd as its column allows."""
    row = predicted("")
    record = replace(
        row.record, topic=draw(NAMES), partition=draw(st.integers(0, 2**31 - 1)), offset=draw(st.integers(0, 2**63 - 1))
    )
    request = replace(
        row.request,
        request_id=draw(NAMES.filter(bool)),
        produced_at=draw(MOMENTS),
        schema_version=draw(st.integers(0, 2**15 - 1)),
        correlation_id=draw(st.none() | NAMES),
        source=draw(st.none() | NAMES),
    )
    probabilities = st.lists(st.floats(width=32), max_size=4).map(lambda p: np.array(p, np.float32))
    prediction = replace(
        row.prediction,
        model_version=draw(NAMES),
        route=draw(NAMES),
        error=draw(st.none() | st.sampled_from(list(Code))),
        label=draw(st.none() | NAMES),
        confidence=draw(st.none() | REALS),
        probabilities=draw(st.none() | probabilities),
        agreement=draw(st.none() | st.booleans()),
        encode_ms=draw(REALS),
        fuse_ms=draw(REALS),
    )
    return replace(
        row,
        record=record,
        request=request,
        prediction=prediction,
        modalities=draw(st.dictionaries(NAMES, PARTS, max_size=3)),
        degraded=draw(st.booleans()),
        quarantine=draw(st.none() | NAMES),
        queue_ms=draw(REALS),
        preprocess_ms=draw(REALS),
        total_ms=draw(REALS),
    )


def real(value: float | None) -> float | str | None:
    """What a four-byte column makes of a number; NaN, which equals nothing, by its name."""
    return None if value is None else "nan" if math.isnan(value) else float(np.float32(value))


def expected_prediction(row: Predicted) -> dict[str, Any]:
    prediction, request, record = row.prediction, row.request, row.record
    return {
        "request_id": request.request_id,
        "produced_at": request.produced_at,
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
        "schema_version": request.schema_version,
        "model_version": prediction.model_version,
        "route": prediction.route,
        "status": "ok" if prediction.error is None else "error",
        "error_code": prediction.error,
        "prediction": prediction.label,
        "confidence": real(prediction.confidence),
        "probabilities": None if prediction.probabilities is None else [real(p) for p in prediction.probabilities],
        "agreement": prediction.agreement,
        "degraded": row.degraded,
        "quarantine": row.quarantine,
        "queue_ms": real(row.queue_ms),
        "preprocess_ms": real(row.preprocess_ms),
        "encode_ms": real(prediction.encode_ms),
        "fuse_ms": real(prediction.fuse_ms),
        "total_ms": real(row.total_ms),
        "correlation_id": request.correlation_id,
        "source": request.source,
    }


def expected_modality(row: Predicted, name: str) -> dict[str, Any]:
    part = row.modalities[name]
    return {
        "request_id": row.request.request_id,
        "modality": name,
        "status": part.status,
        "reason": part.reason,
        "digest": part.digest,
        "key_id": None if part.digest is None else part.key_id or "k1",
        "captured_at": part.captured_at,
        "quality": {key: value if math.isfinite(value) else None for key, value in part.quality.items()},
    }


def normal(value: Any) -> Any:
    """A value as psycopg2 reads it, comparable with what was written."""
    if isinstance(value, float):
        return real(value)
    if isinstance(value, list):
        return [real(each) for each in value]
    if isinstance(value, dict):  # JSON does not tell 1e3 from 1000
        return {name: None if each is None else float(each) for name, each in value.items()}
    return bytes(value) if isinstance(value, memoryview) else value


def stored(engine: Engine, table: Table, *key: str) -> dict[tuple[Any, ...], dict[str, Any]]:
    """Every row by its key."""
    with engine.connect() as connection:
        rows = connection.execute(select(table)).mappings().all()
    return {tuple(row[name] for name in key): {name: normal(value) for name, value in row.items()} for row in rows}


@pytest.fixture(scope="module")
def engine(postgres_server: servers.Database) -> Iterator[Engine]:
    engine = connect(postgres_server.create("recorder_values", template="template"), application="the test")
    yield engine
    engine.dispose()
    postgres_server.drop("recorder_values")


@settings(max_examples=100)
@given(rows=st.lists(anything(), min_size=1, max_size=4, unique_by=lambda row: row.request.request_id))
def test_every_value_comes_back_as_it_was(engine: Engine, rows: list[Predicted]) -> None:
    now = datetime.now(UTC)
    with engine.begin() as connection:
        for table in (prediction_log, modality_log, request_ids):
            connection.execute(delete(table))
    written = Recorder(engine, "group", "k1", NoSummaries(), clock=lambda: now).write(rows, {})
    assert (written.logged, written.refused) == (len(rows), ())
    assert stored(engine, prediction_log, "request_id") == {
        (row.request.request_id,): {"logged_at": now, **expected_prediction(row)} for row in rows
    }
    assert stored(engine, modality_log, "request_id", "modality") == {
        (row.request.request_id, name): {"logged_at": now, **expected_modality(row, name)}
        for row in rows
        for name in row.modalities
    }
