"""Puts the program together that observes a model served elsewhere. It needs no torch."""

from __future__ import annotations

import logging
from contextlib import ExitStack
from datetime import timedelta
from importlib.metadata import version as package_version

from prometheus_client import CollectorRegistry
from sqlalchemy import Engine

from inference import garbage, health, log, offsets, topics
from inference.clock import ClockTolerance
from inference.consumer import GroupConsumer
from inference.feedback import FeedbackLoop
from inference.hashing import Hasher
from inference.loops import Loops
from inference.observation_loop import ObservationLoop
from inference.observe import Observer
from inference.observe_settings import ObserveSettings
from inference.observed_telemetry import ObservationMetrics
from inference.observed_versions import Declared, ObservedVersions
from inference.publisher import Publisher
from inference.recorder import Recorder
from inference.retry import Stop
from inference.summarise import WindowSummaries
from inference.telemetry import Metrics
from migrations.connect import connect, require_revision, unreachable

_log = logging.getLogger(__name__)
OBSERVATIONS, LABELS = "observations", "labels"  # the loops that poll


class ObserveProgram:
    """Observations in the calling thread; labels, where this program reads them, and health in their own."""

    def __init__(self, settings: ObserveSettings) -> None:
        """Connects to nothing yet."""
        self._settings = settings
        self.stop = Stop(settings.drain_seconds)
        self._metrics = Metrics(CollectorRegistry(), version=package_version("fusionwatch"), revision="unknown")
        self._observer = Observer(self._metrics)
        self._tolerance = ClockTolerance(
            timedelta(seconds=settings.clock_future_seconds), timedelta(seconds=settings.clock_past_seconds)
        )
        self._loops = Loops(self.stop, settings.liveness_seconds)
        self._observations: ObservationLoop | None = None
        self.port: int | None = None

    def run(self) -> bool:
        """Serve until `stop` is requested; returns whether it ended as asked.

        Raises SchemaTooOldError, KafkaError, SQLAlchemyError or OSError where it cannot start.
        """
        settings = self._settings
        url = settings.database_url.get_secret_value()
        name = f"fusionwatch-observe {settings.observer_id}"
        engine = connect(url, application=name, pool_size=settings.database_pool_size)
        with ExitStack() as stack:
            stack.callback(engine.dispose)
            self.port = stack.enter_context(
                health.serve(
                    settings.observer_host,
                    settings.observer_port,
                    self._metrics.registry,
                    alive=lambda: self._loops.problem,
                    ready=lambda: self._unready(engine),
                )
            )
            require_revision(engine)
            self._make_topics()
            publisher = Publisher(settings.kafka(), f"{settings.observer_id}-letters")
            stack.callback(publisher.close)
            observations = self._observations = self._observation_loop(engine, publisher)
            if settings.read_labels:
                self._loops.start(LABELS, self._feedback_loop(engine, publisher).run)
            stack.enter_context(garbage.loaded())
            self._loops.run(OBSERVATIONS, observations.run)
            self._loops.join(settings.drain_seconds + 5)
        return self._loops.failure is None

    def _make_topics(self) -> None:
        settings = self._settings
        if settings.create_topics:
            wanted = {settings.topic_observations, settings.topic_dead_letters}
            if settings.read_labels:
                wanted.add(settings.topic_labels)
            made = topics.create_missing(settings.kafka(), dict.fromkeys(wanted, settings.topic_partitions))
            _log.info("topics made", extra=log.fields(topics=made))

    def _consumer(self, group: str, topic: str, role: str) -> GroupConsumer:
        settings = self._settings
        return GroupConsumer(
            settings.kafka(), group, topic, f"{settings.observer_id}-{role}", poll_seconds=settings.max_poll_seconds
        )

    def _observation_loop(self, engine: Engine, publisher: Publisher) -> ObservationLoop:
        settings = self._settings
        summaries = WindowSummaries(
            {}, settings.slot_seconds, settings.bin_rows, settings.observer_id, settings.embedding_samples
        )
        declared = Declared(
            modalities=settings.modalities,
            classes=settings.class_names,
            fingerprints=settings.encoder_fingerprints,
            quality=settings.quality_names,
            baselines=settings.baselines,
        )
        return ObservationLoop(
            consumer=self._consumer(settings.consumer_group, settings.topic_observations, "observations"),
            read_offsets=offsets.reader(engine, settings.consumer_group),
            engine=engine,
            group=settings.consumer_group,
            worker_id=settings.observer_id,
            versions=ObservedVersions(
                engine,
                settings.model,
                declared,
                summaries,
                actor=f"observer:{settings.observer_id}",
                most=settings.max_versions,
            ),
            # digests carry the name of their sender's key
            recorder=Recorder(engine, settings.consumer_group, "", summaries),
            publisher=publisher,
            dead_letter_topic=settings.topic_dead_letters,
            tolerance=self._tolerance,
            observer=self._observer,
            metrics=ObservationMetrics(self._metrics),
            stop=self.stop,
            pulse=self._loops.pulse(OBSERVATIONS),
            max_bytes=settings.max_message_bytes,
            batch=settings.write_rows,
            pace_seconds=settings.write_interval_ms / 1000,
        )

    def _feedback_loop(self, engine: Engine, publisher: Publisher) -> FeedbackLoop:
        settings = self._settings
        group = f"{settings.consumer_group}-labels"
        return FeedbackLoop(
            consumer=self._consumer(group, settings.topic_labels, "labels"),
            read_offsets=offsets.reader(engine, group),
            engine=engine,
            group=group,
            hasher=Hasher(settings.hmac_key_id, settings.key()),
            publisher=publisher,
            dead_letter_topic=settings.topic_dead_letters,
            observer=self._observer,
            stop=self.stop,
            pulse=self._loops.pulse(LABELS),
            worker_id=settings.observer_id,
            tolerance=self._tolerance,
        )

    def _unready(self, engine: Engine) -> str | None:
        if self._loops.problem is not None or self.stop.requested:
            return self._loops.problem or "stopping"
        if self._observations is None or not self._observations.assigned:
            return "no partitions assigned yet"
        return unreachable(engine)
