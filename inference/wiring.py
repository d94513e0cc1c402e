"""Puts the worker together from its settings: the only place where constructors meet settings."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from importlib.metadata import version as package_version
from pathlib import Path

from prometheus_client import CollectorRegistry
from sqlalchemy import Engine

from inference import cores, gaps, garbage, health, log, offsets, registry, request_wiring, rollouts, topics, tracing
from inference.challenger import Arm, RolloutWatcher
from inference.consumer import GroupConsumer
from inference.courtesy import Courtesy
from inference.feedback import FeedbackLoop
from inference.gpu import GpuCollector
from inference.hashing import Hasher
from inference.loops import Loops
from inference.modalities.base import modalities
from inference.observe import Observer
from inference.publisher import Publisher
from inference.recorder import Limits, Recorder
from inference.retry import Stop
from inference.serving import ChampionWatcher, ModelHolder, Serving, Versions, load
from inference.settings import WorkerSettings
from inference.shadow import Shadow
from inference.summarise import WindowSummaries
from inference.telemetry import Metrics
from inference.tracing import Tracer
from inference.worker import Worker
from migrations.connect import connect, require_revision, unreachable

_log = logging.getLogger(__name__)
REQUESTS, LABELS = "requests", "labels"  # the loops that poll


class WorkerProgram:
    """A worker with its threads: requests in the calling one, labels, champion and health in their own."""

    def __init__(self, settings: WorkerSettings) -> None:
        """Connects to nothing yet."""
        self._settings = settings
        self.stop = Stop(settings.drain_seconds)
        self._metrics = Metrics(
            CollectorRegistry(),
            version=package_version("fusionwatch"),
            revision="unknown",
            dollars_per_hour=settings.cost_per_hour,
        )
        self._metrics.registry.register(GpuCollector())
        self._observer = Observer(self._metrics)
        self._hasher = Hasher(settings.hmac_key_id, settings.key())
        self._loops = Loops(self.stop, settings.liveness_seconds)
        self._worker: Worker | None = None
        self._model_cores: tuple[int, ...] = ()
        self.port: int | None = None

    def run(self) -> bool:
        """Serve until `stop` is requested; returns whether it ended as asked.

        Raises SchemaTooOldError, CheckpointError, KafkaError or SQLAlchemyError where it cannot start.
        """
        settings = self._settings
        self._model_cores = cores.reserve(settings.model_cores)
        url = settings.database_url.get_secret_value()
        engine = connect(
            url, application=f"fusionwatch-worker {settings.worker_id}", pool_size=settings.database_pool_size
        )
        with ExitStack() as stack:
            stack.callback(engine.dispose)
            tracer = self._tracer()
            stack.callback(tracer.close)
            self.port = stack.enter_context(
                health.serve(
                    settings.worker_host,
                    settings.worker_port,
                    self._metrics.registry,
                    alive=lambda: self._loops.problem,
                    ready=lambda: self._unready(engine),
                )
            )
            require_revision(engine)
            holder, summaries = self._models(engine)
            stack.callback(lambda: holder.current.close())
            versions = Versions(self._load, settings.standby_seconds)
            stack.callback(versions.close)
            shadow = Shadow(self._shadow_log(engine), self.stop, settings.challenger_seconds)
            self._make_topics()
            publisher = Publisher(settings.kafka(), f"{settings.worker_id}-answers", settings.answer_compression)
            stack.callback(publisher.close)
            worker = self._requests(engine, publisher, holder, versions, shadow, summaries, tracer)
            self._loops.start(LABELS, self._labels(engine, publisher).run)
            self._loops.start("champion", self._watcher(engine, holder, versions, summaries).run)
            self._loops.start("rollout", self._rollouts(engine, holder, versions, shadow, summaries).run)
            self._loops.start("shadow", shadow.run)
            self._worker = worker
            stack.enter_context(garbage.loaded())
            self._loops.run(REQUESTS, worker.run)
            self._loops.join(settings.drain_seconds + 5)
        return self._loops.failure is None

    def _models(self, engine: Engine) -> tuple[ModelHolder[Arm], WindowSummaries]:
        """Load the champion; where the model has none, the configured checkpoint becomes it."""
        settings = self._settings
        with engine.connect() as connection:
            chosen = registry.champion(connection, settings.model)
        serving = self._load(settings.checkpoint if chosen is None else chosen.folder)
        if chosen is None:
            version = serving.card.version
            with engine.begin() as connection:
                registry.register(connection, serving.card, serving.baseline, settings.model)
                registry.adopt_if_none(connection, settings.model, version, actor=f"worker:{settings.worker_id}")
        summaries = WindowSummaries(
            modalities(), settings.slot_seconds, settings.bin_rows, settings.worker_id, settings.embedding_samples
        )
        self._prepare(summaries, serving)
        holder: ModelHolder[Arm] = ModelHolder(serving)
        self._metrics.watch_model_process(lambda: holder.current.model.pid or 0)
        _log.info("model loaded", extra=log.fields(version=serving.card.version))
        return holder, summaries

    def _load(self, folder: Path) -> Serving:
        return load(folder, self._settings.model_options(self._model_cores))

    def _prepare(self, summaries: WindowSummaries, serving: Serving) -> None:
        _summarise(summaries, serving)
        self._metrics.cost.serving(serving.card.version)

    def _tracer(self) -> Tracer:
        settings, metrics = self._settings, self._metrics
        return tracing.connect(
            settings.otlp_endpoint,
            ratio=settings.trace_ratio,
            group=settings.consumer_group,
            answer_topic=settings.topic_predictions,
            instance=settings.worker_id,
            version=package_version("fusionwatch"),
            dropped=lambda reason, spans: metrics.spans_dropped.labels(reason).inc(spans),
            invalid=metrics.contexts_invalid.inc,
        )

    def _make_topics(self) -> None:
        settings = self._settings
        if settings.create_topics:
            names = (
                settings.topic_requests,
                settings.topic_predictions,
                settings.topic_labels,
                settings.topic_dead_letters,
            )
            made = topics.create_missing(settings.kafka(), dict.fromkeys(names, settings.topic_partitions))
            _log.info("topics made", extra=log.fields(topics=made))

    def _consumer(self, group: str, topic: str, suffix: str) -> GroupConsumer:
        settings = self._settings
        client_id = f"{settings.worker_id}-{suffix}"
        return GroupConsumer(settings.kafka(), group, topic, client_id, settings.max_poll_seconds)

    def _requests(
        self,
        engine: Engine,
        publisher: Publisher,
        holder: ModelHolder[Arm],
        versions: Versions,
        shadow: Shadow,
        summaries: WindowSummaries,
        tracer: Tracer,
    ) -> Worker:
        group, courtesy = self._settings.consumer_group, Courtesy()
        return request_wiring.build(
            self._settings,
            read_offsets=offsets.reader(engine, group),
            record_gaps=gaps.recorder(engine, group, self._settings.worker_id),
            publisher=publisher,
            recorder=Recorder(engine, group, self._hasher.key_id, summaries, between=courtesy.give_way),
            holder=holder,
            versions=versions,
            shadow=shadow,
            hasher=self._hasher,
            observer=self._observer,
            tracer=tracer,
            stop=self.stop,
            pulse=self._loops.pulse(REQUESTS),
            courtesy=courtesy,
        )

    def _labels(self, engine: Engine, publisher: Publisher) -> FeedbackLoop:
        settings = self._settings
        group = f"{settings.consumer_group}-labels"
        return FeedbackLoop(
            consumer=self._consumer(group, settings.topic_labels, "labels"),
            read_offsets=offsets.reader(engine, group),
            engine=engine,
            group=group,
            worker_id=settings.worker_id,
            tolerance=settings.clock_tolerance(),
            hasher=self._hasher,
            publisher=publisher,
            dead_letter_topic=settings.topic_dead_letters,
            observer=self._observer,
            stop=self.stop,
            pulse=self._loops.pulse(LABELS),
        )

    def _rollouts(
        self,
        engine: Engine,
        holder: ModelHolder[Arm],
        versions: Versions,
        shadow: Shadow,
        summaries: WindowSummaries,
    ) -> RolloutWatcher:
        def rollout() -> rollouts.Rollout | None:
            with engine.connect() as connection:
                return rollouts.current(connection, self._settings.model)

        def report(rollout_id: int, state: str, detail: str) -> None:
            with engine.begin() as connection:
                rollouts.report(connection, rollout_id, self._settings.worker_id, state, detail)

        return RolloutWatcher(
            holder=holder,
            versions=versions,
            shadow=shadow,
            rollout=rollout,
            load=versions.share,
            prepare=lambda serving: _summarise(summaries, serving),
            report=report,
            observer=self._observer,
            stop=self.stop,
            seconds=self._settings.champion_poll_seconds,
        )

    def _shadow_log(self, engine: Engine) -> Callable[[Sequence[rollouts.ShadowRow]], None]:
        def write(rows: Sequence[rollouts.ShadowRow]) -> None:
            with engine.begin() as connection:
                connection.exec_driver_sql(Limits().sql)
                rollouts.log_shadow(connection, rows)

        return write

    def _watcher(
        self, engine: Engine, holder: ModelHolder[Arm], versions: Versions, summaries: WindowSummaries
    ) -> ChampionWatcher:
        def champion() -> registry.Champion | None:
            with engine.connect() as connection:
                return registry.champion(connection, self._settings.model)

        return ChampionWatcher(
            holder=holder,
            champion=champion,
            load=versions.load,
            prepare=lambda serving: self._prepare(summaries, serving),
            observer=self._observer,
            stop=self.stop,
            seconds=self._settings.champion_poll_seconds,
        )

    def _unready(self, engine: Engine) -> str | None:
        if self._loops.problem is not None or self.stop.requested:
            return self._loops.problem or "stopping"
        if self._worker is None or not self._worker.assigned:
            return "no partitions assigned yet"
        return unreachable(engine)


def _summarise(summaries: WindowSummaries, serving: Serving) -> None:
    """Make a version's rows countable; the sums of one that is known already go on."""
    card = serving.card
    if not summaries.knows(card.version):
        summaries.add_version(card.version, len(card.labels), card.fingerprints, serving.baseline, card.quality)
