"""Labelled traffic as worker, reviewers and the team's own storage would have written it."""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import Engine, insert

from demo.examples import Example
from demo.traffic import encode
from inference.hashing import Hasher
from inference.training.store import LocalStore
from migrations.schema.prediction_log import labels, modality_log
from tests.support.monitored import log_rows

KEY = b"k" * 32
HASHER = Hasher("k1", KEY)


def log(engine: Engine, store: LocalStore, examples: list[Example], *, wrong_digest: bool = False) -> None:
    """What the worker, the reviewers and the team's own storage would have written of these examples."""
    now = datetime.now(UTC)
    rows, parts, labelled = [], [], []
    for example in examples:
        request_id = f"r{example.number}"
        store.put(request_id, encode(request_id, now, example, with_image=True, as_json=False))
        rows.append(
            {
                "request_id": request_id,
                "logged_at": now,
                "produced_at": now,
                "topic": "t",
                "partition": 0,
                "offset": example.number,
                "schema_version": 1,
                "model_version": "m",
                "route": "fused",
                "status": "ok",
                "degraded": False,
                **{f"{stage}_ms": 1.0 for stage in ("queue", "preprocess", "encode", "fuse", "total")},
            }
        )
        text = "something else" if wrong_digest else example.caption
        parts.append(
            {
                "request_id": request_id,
                "modality": "text",
                "logged_at": now,
                "status": "present",
                "digest": HASHER.digest(text),
                "key_id": "k1",
            }
        )
        labelled.append(
            {
                "request_id": request_id,
                "label": example.label.name.lower(),
                "labelled_at": now,
                "received_at": now,
                "source": "human_review",
            }
        )
    with engine.begin() as connection:
        log_rows(connection, rows)
        connection.execute(insert(modality_log), parts)
        connection.execute(insert(labels), labelled)
