"""A monitored model on a real database, with a clock that tests move: traffic in, findings and alerts out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, Engine, Row, insert, select, text

from demo.servers import as_login
from migrations.schema import bins
from migrations.schema.monitoring import (
    alerts,
    baseline_summaries,
    baselines,
    findings,
    model_aliases,
    model_versions,
    notifications,
)
from migrations.schema.prediction_log import labels, prediction_log, request_ids
from migrations.schema.summaries import summaries
from monitor.channels.base import Delivery, Outcome
from monitor.settings import MonitorSettings

HOP, WINDOW, SLOT, GRACE = 10, 30, 5, 2
RATE = 40  # requests a second
CLASSES = ("consistent", "contradictory", "misleading")
# On a hop, in the day whose partitions the migration made: rows of the log need one.
T0 = datetime.now(UTC).replace(hour=1, minute=0, second=0, microsecond=0)


@dataclass
class StoryClock:
    """A clock that stands still until moved; `monotonic` never goes back."""

    at: datetime = T0
    elapsed: float = 0.0

    def now(self) -> datetime:
        return self.at

    def monotonic(self) -> float:
        return self.elapsed

    def advance(self, seconds: float) -> None:
        self.at += timedelta(seconds=seconds)
        self.elapsed += max(0.0, seconds)


@dataclass
class Inbox:
    """A channel that keeps what it is told, and answers as it is set to."""

    outcome: Outcome = Outcome.SENT
    messages: list[Mapping[str, Any]] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)

    def send(self, message: Mapping[str, Any], dedup_key: str) -> Delivery:
        self.messages.append(message)
        self.keys.append(dedup_key)
        return Delivery(self.outcome, "" if self.outcome is Outcome.SENT else "as told")

    def close(self) -> None: ...

    def told(self) -> list[tuple[str, str, str]]:
        return [(each["alertname"], each["modality"], each["state"]) for each in self.messages]


def settings(database: str, **changes: Any) -> MonitorSettings:
    """Settings with small windows."""
    return MonitorSettings.model_validate(
        {
            "database_url": as_login(database, "fusion_monitor"),
            "slot_seconds": SLOT,
            "hop_seconds": HOP,
            "window_seconds": WINDOW,
            "grace_seconds": GRACE,
            "silence_seconds": 40,
            "label_window_seconds": 120,
            "group_wait_seconds": 0,
            "group_interval_seconds": 0,
            "flap_seconds": WINDOW // 2,
            **changes,
        }
    )


def _bins(rows: int, rng: np.random.Generator, shift: float, **others: NDArray[np.float64]) -> bytes:
    features = rng.normal(size=(rows, 16)) + shift
    return bins.dump(bins.from_rows({"features": features, **others}, 8))


def _fused(rows: int, rng: np.random.Generator, shift: float, pairing: float) -> bytes:
    return _bins(
        rows,
        rng,
        shift,
        pairing=rng.normal(size=(rows, 2)) + pairing,
        classes=np.eye(3)[rng.integers(0, 3, rows)],
        agreement=(rng.random((rows, 1)) < 0.9).astype(float),
    )


def parts(rows: int, rng: np.random.Generator, traffic: Traffic) -> dict[str, tuple[dict[str, int], bytes]]:
    """What workers write of so many requests: by modality, counts by status and bins."""
    image_rows = 0 if traffic.image_gone else rows
    quality = rng.normal(size=(image_rows, 2))
    quality[:, 1] -= 2.0 if traffic.image_shift else 0.0
    image = bins.dump(bins.EMPTY) if image_rows == 0 else _bins(rows, rng, traffic.image_shift, quality=quality)
    status, route = ("missing", "fallback:text") if traffic.image_gone else ("present", "fused")
    # Fallback answers have no fused embedding; those of a broken pairing have moved.
    fused_shift = traffic.image_shift or traffic.fused_shift
    fused = bins.dump(bins.EMPTY) if traffic.image_gone else _fused(rows, rng, fused_shift, traffic.pairing)
    return {
        "image": ({status: rows}, image),
        "text": ({"present": rows}, _bins(rows, rng, traffic.text_shift, quality=rng.normal(size=(rows, 1)))),
        "fused": ({route: rows}, fused),
    }


@dataclass(frozen=True)
class Traffic:
    """What the requests of a stretch of time are like; shifts in standard deviations."""

    image_gone: bool = False
    image_shift: float = 0.0
    text_shift: float = 0.0
    fused_shift: float = 0.0
    pairing: float = 0.0


NORMAL = Traffic()


@dataclass
class Stage:
    """The database of one model, seen from outside."""

    engine: Engine
    clock: StoryClock
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(7))
    offset: int = 0

    def register(
        self,
        version: str,
        *,
        baseline: bool = True,
        champion: bool = True,
        accuracy: float = 0.95,
        like: Traffic | None = None,
    ) -> None:
        """A version of the model, with a baseline of its own made of traffic like that, as the one that answers."""
        with self.engine.begin() as connection:
            connection.execute(
                insert(model_versions).values(
                    version=version,
                    model="fusion",
                    family="test",
                    checkpoint="/checkpoints/" + version,
                    manifest_sha256="00",
                    class_names=list(CLASSES),
                    modalities=["image", "text"],
                    fingerprints={"image": "e1", "text": "e1", "fused": "e1"},
                    created_at=self.clock.now() - timedelta(hours=1),
                )
            )
            if baseline:
                facts = {
                    "class_names": list(CLASSES),
                    "accuracy": accuracy,
                    "labelled": 1000,
                    "quality": {"image": ["noise", "brightness"], "text": ["length"]},
                }
                baseline_id = connection.scalar(
                    insert(baselines)
                    .values(model_version=version, origin="checkpoint", facts=facts)
                    .returning(baselines.c.baseline_id)
                )
                for modality, (counts, payload) in parts(1600, np.random.default_rng(3), like or NORMAL).items():
                    connection.execute(
                        insert(baseline_summaries).values(
                            baseline_id=baseline_id,
                            modality=modality,
                            encoder_fingerprint="e1",
                            counts=counts,
                            bins=payload,
                        )
                    )
            if champion:
                connection.execute(
                    insert(model_aliases).values(
                        model="fusion", alias="champion", version=version, updated_at=self.clock.now()
                    )
                )

    def slot(self, traffic: Traffic, version: str = "v1", rows: int = RATE * SLOT) -> None:
        """One slot that starts now."""
        with self.engine.begin() as connection:
            for modality, (counts, payload) in parts(rows, self.rng, traffic).items():
                connection.execute(
                    insert(summaries).values(
                        slot_start=self.clock.now(),
                        model_version=version,
                        modality=modality,
                        topic="fusion.requests",
                        partition=0,
                        first_offset=self.offset,
                        slot_seconds=SLOT,
                        worker_id="w",
                        encoder_fingerprint="e1",
                        counts=counts,
                        bins=payload,
                        updated_at=self.clock.now() + timedelta(seconds=SLOT),
                    )
                )
        self.offset += rows

    def label(self, n: int, *, right: float, version: str = "v1", confidence: float = 0.97) -> None:
        """Log n answers and their labels, a share of which says that the answer was right."""
        now, first = self.clock.now(), self.offset
        self.offset += n
        correct = self.rng.random(n) < right
        truth = self.rng.integers(0, 3, n)
        wrong = (truth + 1) % 3
        answers = [CLASSES[t] if ok else CLASSES[w] for t, w, ok in zip(truth, wrong, correct, strict=True)]
        with self.engine.begin() as connection:
            log_rows(
                connection,
                [log_row(f"r{first + i}", now, version, answer, confidence) for i, answer in enumerate(answers)],
            )
            connection.execute(
                insert(labels),
                [
                    {
                        "request_id": f"r{first + i}",
                        "label": CLASSES[t],
                        "labelled_at": now,
                        "received_at": now,
                        "source": "ground_truth",
                    }
                    for i, t in enumerate(truth)
                ],
            )

    def drift(self, version: str = "v1", windows: int = 3) -> None:
        """What the monitor found of the newest windows: the image embeddings drift in each of them."""
        with self.engine.begin() as connection:
            for number in range(windows):
                end = self.clock.now() - timedelta(seconds=HOP * (windows - 1 - number))
                for detector, modality, verdict in (("baseline", "all", "ok"), ("embedding_mmd", "image", "drift")):
                    connection.execute(
                        insert(findings).values(
                            model="fusion",
                            model_version=version,
                            detector=detector,
                            modality=modality,
                            window_start=end - timedelta(seconds=WINDOW),
                            window_end=end,
                            verdict=verdict,
                            n_reference=1600,
                            n_current=1000,
                            explanation="",
                            details={},
                        )
                    )

    def alerts(self) -> Sequence[Row[Any]]:
        """Every alert, oldest first."""
        with self.engine.connect() as connection:
            return connection.execute(select(alerts).order_by(alerts.c.alert_id)).all()

    def notifications(self) -> Sequence[Row[Any]]:
        """Every notification, oldest first."""
        with self.engine.connect() as connection:
            return connection.execute(select(notifications).order_by(notifications.c.notification_id)).all()

    def verdicts(self, detector: str, modality: str) -> list[str]:
        """A detector's verdicts, oldest first."""
        query = select(findings.c.verdict).where(findings.c.detector == detector, findings.c.modality == modality)
        with self.engine.connect() as connection:
            return list(connection.scalars(query.order_by(findings.c.window_end)))

    def scalar(self, query: str) -> Any:
        """The one value of a query."""
        with self.engine.connect() as connection:
            return connection.scalar(text(query))


def log_rows(connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    """Rows of the prediction log, each with its request id's, as the worker writes both."""
    connection.execute(insert(request_ids), [{key: row[key] for key in ("request_id", "logged_at")} for row in rows])
    connection.execute(insert(prediction_log), list(rows))


def log_row(request_id: str, now: datetime, version: str, answer: str, confidence: float) -> dict[str, Any]:
    """A row of the prediction log."""
    return {
        "request_id": request_id,
        "logged_at": now,
        "produced_at": now,
        "topic": "fusion.requests",
        "partition": 0,
        "offset": 0,
        "schema_version": 1,
        "model_version": version,
        "route": "fused",
        "status": "ok",
        "prediction": answer,
        "confidence": confidence,
        "probabilities": [confidence, 0.02, 0.01],
        "degraded": False,
        "queue_ms": 1,
        "preprocess_ms": 1,
        "encode_ms": 1,
        "fuse_ms": 1,
        "total_ms": 4,
    }
