"""Puts the request path together: its stages, the channels between them and the one bound over all."""

from __future__ import annotations

import time

from inference.answers import AnswerWriter
from inference.batching import MicroBatcher
from inference.cache import PredictionCache
from inference.challenger import Arm
from inference.consumer import GroupConsumer
from inference.cores import available
from inference.courtesy import Courtesy
from inference.engine import Engine
from inference.hashing import Hasher
from inference.inflight import InFlight
from inference.modalities.base import modalities
from inference.observe import Observer
from inference.offsets import ReadOffsets
from inference.pipeline import Opened, Opener
from inference.publisher import Publisher
from inference.pulse import Pulse
from inference.recorder import Recorder
from inference.request import RequestParser
from inference.retry import Stop
from inference.serving import ModelHolder, Versions
from inference.settings import WorkerSettings
from inference.shadow import Shadow
from inference.stages.channel import Channel
from inference.stages.forward import AnswerStage, BatchStage
from inference.stages.open import OpenStage
from inference.stages.parcel import Answered, Batch, Polled
from inference.stages.write import WriteStage
from inference.tracing import Tracer
from inference.worker import RecordGaps, Worker

# One batch is computed and one waits: the model never idles, and what is added to latency stays one batch.
BATCHES_WAITING = 1


def build(
    settings: WorkerSettings,
    *,
    read_offsets: ReadOffsets,
    record_gaps: RecordGaps,
    publisher: Publisher,
    recorder: Recorder,
    holder: ModelHolder[Arm],
    versions: Versions,
    shadow: Shadow,
    hasher: Hasher,
    observer: Observer,
    tracer: Tracer,
    stop: Stop,
    pulse: Pulse,
    courtesy: Courtesy,
) -> Worker:
    """The request path of one worker. Raises KafkaError where the broker cannot be reached."""
    inflight = InFlight(settings.max_inflight_requests, settings.max_inflight_bytes)
    opened: Channel[Polled] = Channel(settings.max_inflight_requests)
    batches: Channel[Batch] = Channel(BATCHES_WAITING)
    answered: Channel[Answered] = Channel(settings.max_inflight_requests)
    consumer = GroupConsumer(
        settings.kafka(),
        settings.consumer_group,
        settings.topic_requests,
        f"{settings.worker_id}-requests",
        settings.max_poll_seconds,
        drained=lambda: inflight.requests == 0,
        fetching=settings.fetching(),
    )
    cache = PredictionCache(settings.cache_bytes) if settings.cache_bytes else None
    answers = AnswerWriter(settings.topic_predictions, settings.topic_dead_letters)
    engine = Engine(
        stop, observer.failed, settings.model_seconds, freed=opened.nudge, guest_seconds=settings.challenger_seconds
    )
    return Worker(
        consumer=consumer,
        read_offsets=read_offsets,
        record_gaps=record_gaps,
        serving=lambda: holder.current,
        opening=OpenStage(
            _opener(settings, hasher, cache),
            opened,
            _threads(settings),
            settings.batch_size,
            courtesy,
        ),
        batches=BatchStage(
            opened,
            batches,
            batch=_batch(settings),
            engine=engine,
            inflight=inflight,
            tracer=tracer,
            courtesy=courtesy,
            canary=lambda: holder.canary,
        ),
        answers=AnswerStage(
            batches,
            answered,
            engine=engine,
            answers=answers,
            publisher=publisher,
            tolerance=settings.clock_tolerance(),
            epoch=lambda: consumer.epoch,
            courtesy=courtesy,
            cache=cache,
            released=lambda serving: versions.released(serving, holder.uses),
            give_up=holder.give_up,
            shadow=shadow.offer,
        ),
        write=WriteStage(
            answered,
            waiting=MicroBatcher[Answered](settings.write_rows, settings.write_interval_ms / 1000, time.monotonic),
            consumer=consumer,
            answers=answers,
            publisher=publisher,
            recorder=recorder,
            observer=observer,
            inflight=inflight,
            tracer=tracer,
            stop=stop,
        ),
        inflight=inflight,
        observer=observer,
        tracer=tracer,
        stop=stop,
        channels={"batch": opened, "answer": batches, "write": answered},
        stall_seconds=settings.stall_seconds,
        pulse=pulse,
    )


def _threads(settings: WorkerSettings) -> int:
    return settings.decode_threads or available()


def _opener(settings: WorkerSettings, hasher: Hasher, cache: PredictionCache | None) -> Opener:
    known = modalities()
    wires = {name: modality.wire for name, modality in known.items()}
    return Opener(RequestParser(wires, settings.max_message_bytes), known, hasher, cache)


def _batch(settings: WorkerSettings) -> MicroBatcher[Opened]:
    wait = settings.batch_wait_ms / 1000
    return MicroBatcher[Opened](settings.batch_size, wait, time.monotonic, settings.batch_tokens or None)
