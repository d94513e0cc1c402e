"""What the monitor makes of a model that is served elsewhere: from its team's messages to findings and alerts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import Engine, create_engine, select

from inference.baseline import Validation
from migrations.schema.monitoring import baselines
from migrations.schema.summaries import summaries
from monitor import wiring
from monitor.telemetry import Metrics
from tests.support import streams
from tests.support.monitored import GRACE, HOP, SLOT, WINDOW, Stage, StoryClock, settings
from tests.support.observing import (
    PRESENT,
    SECONDS,
    Observer,
    observation,
    observing,
    rows,
    send_all,
)
from tests.support.worker import wait_until


@pytest.fixture
def engine(database: str) -> Iterator[Engine]:
    engine = create_engine(database)
    yield engine
    engine.dispose()


class Story:
    """A team's traffic in the time of a clock that tests move, observed, and watched by the monitor."""

    def __init__(self, observer: Observer, stage: Stage, database: str) -> None:
        self._observer = observer
        self._stage = stage
        self._sent = 0
        self._detect = wiring.detect(settings(database), stage.engine, Metrics(), stage.clock)

    def play(self, seconds: int, made: Callable[[int], dict[str, Any]], rate: int = 20) -> None:
        """Observations made by their number; they are summarised, then the clock moves on, then the monitor looks."""
        for _ in range(seconds // HOP):
            start = self._stage.clock.now()
            self._send(
                [
                    made(self._sent + n)
                    | {
                        "request_id": f"s{self._sent + n}",
                        "produced_at": (start + timedelta(seconds=n / rate)).isoformat(),
                    }
                    for n in range(rate * HOP)
                ]
            )
            self._stage.clock.advance(HOP + GRACE)
            self._detect.run()
            self._stage.clock.advance(-GRACE)

    def _send(self, messages: list[dict[str, Any]]) -> None:
        send_all(self._observer.broker, self._observer.topics["observations"], messages)
        self._sent += len(messages)
        counts = select(summaries.c.counts).where(summaries.c.modality == "fused")
        wait_until(
            lambda: sum(each.counts["rows"] for each in rows(self._stage.engine, counts)) == self._sent,
            SECONDS,
            "not every observation was summarised",
        )


@pytest.fixture
def stage(engine: Engine) -> Stage:
    return Stage(engine, StoryClock())


# the story's time is today's, but maybe hours from the broker's
STORY = {"SLOT_SECONDS": str(SLOT), "CLOCK_FUTURE_SECONDS": "90000", "CLOCK_PAST_SECONDS": "90000"}


def test_a_modality_that_goes_missing_elsewhere_is_found_and_paged_as_for_served_traffic(
    stage: Stage, database: str, broker: str
) -> None:
    gone = {"image": {"status": "missing", "reason": "not_sent"}, "text": PRESENT}
    observer = Observer("observe-story", database, broker, STORY)
    with observing(observer):
        story = Story(observer, stage, database)
        story.play(2 * HOP, lambda _: observation(None))
        assert set(stage.verdicts("availability", "image")) == {"ok"}
        assert "ModalityUnavailable" not in {alert.alertname for alert in stage.alerts()}
        story.play(HOP, lambda _: observation(None, modalities=gone))
    assert stage.verdicts("availability", "image")[-1] == "drift"
    assert set(stage.verdicts("availability", "text")) == {"ok"}
    assert set(stage.verdicts("class_drift", "fused")) == {"no_baseline"}
    (alert,) = [alert for alert in stage.alerts() if alert.alertname == "ModalityUnavailable"]
    assert (alert.modality, alert.severity, alert.state) == ("image", "page", "firing")


def test_with_a_baseline_drift_of_embeddings_made_elsewhere_is_found(
    stage: Stage, database: str, broker: str, tmp_path: Path
) -> None:
    rng = np.random.default_rng(5)
    (tmp_path / "2026-02").mkdir()
    streams.baseline(2000, rng).save(tmp_path / "2026-02")
    observer = Observer("observe-drift", database, broker, {**STORY, "BASELINES": str(tmp_path)})
    normal, dark = (
        streams.answers(4 * WINDOW * 20, rng, fault) for fault in (streams.Fault(), streams.Fault(dark=True))
    )
    with observing(observer):
        story = Story(observer, stage, database)
        story.play(WINDOW, lambda n: told(normal, n))
        assert stage.verdicts("embedding_mmd", "image")[-1] == "ok"
        story.play(WINDOW, lambda n: told(dark, n))
        assert stage.verdicts("embedding_mmd", "image")[-1] == "drift"
        assert stage.verdicts("embedding_mmd", "text")[-1] == "ok"
        assert stage.verdicts("quality", "image")[-1] == "drift"
        assert set(stage.verdicts("baseline", "all")) == {"ok"}
    with stage.engine.connect() as connection:
        assert connection.scalars(select(baselines.c.origin)).all() == ["file"]


def told(rows: Validation, n: int) -> dict[str, Any]:
    """Row n of answers as a team would send it."""

    def part(name: str) -> dict[str, Any]:
        names, values = streams.QUALITY[name], rows.quality[name][n]
        embedding = rows.embeddings[name][n].astype("<f4").tobytes()
        quality = {key: float(value) for key, value in zip(names, values, strict=True)}
        return {**PRESENT, "embedding": embedding, "dtype": "float32", "quality": quality}

    confidence, best = float(rows.confidence[n]), int(rows.predicted[n])
    rest = (1 - confidence) / (len(streams.CLASSES) - 1)
    return observation(
        None,
        probabilities={name: confidence if place == best else rest for place, name in enumerate(streams.CLASSES)},
        modalities={name: part(name) for name in ("image", "text")},
        fused_embedding=rows.embeddings["fused"][n].astype("<f2").tobytes(),
        fused_dtype="float16",
        agreement=bool(rows.agreement[n]),
    )
