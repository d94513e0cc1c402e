"""Faults of every class, as they happen to a deployment: each begins, lasts, and is ended by whoever runs it.

A fault is injected into the real thing: a signal to a process, a server that stops, a disk without room, a receiver
that refuses, a producer's clock that is wrong. A sign is where the service itself shows that it noticed.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from http import HTTPStatus

import psutil

from demo import servers
from demo.bad_messages import bad_messages
from demo.ground import Ground
from demo.processes import Program
from demo.traffic import Scenario, captions_shifted, clocks_ahead, image_feed_dead, normal

Sign = Callable[[Ground], bool]
Injection = Callable[[Ground], AbstractContextManager[Sign]]
READY_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens, how long it may last in seconds, and what must come of it.

    `alerts` are those of which the on-call person must be told one, with its modality where one is meant; without any,
    nobody may be. `true_as_well` are alerts that are true of it and need not come. `inject` yields the sign that it was
    noticed.
    """

    kind: str
    title: str
    inject: Injection
    lasts: tuple[float, float]
    noticed_by: str
    alerts: frozenset[str] = frozenset()
    modality: str | None = None
    true_as_well: frozenset[str] = frozenset()


def _no_sign(_: Ground) -> bool:
    return False


@contextmanager
def _killed(program: Program, sign: Sign) -> Iterator[Sign]:
    program.kill()
    try:
        yield sign
    finally:
        program.start()
        program.wait_ready(READY_SECONDS)


@contextmanager
def _suspended(program: Program, sign: Sign) -> Iterator[Sign]:
    program.suspend()
    try:
        yield sign
    finally:
        program.resume()


def worker_killed(ground: Ground) -> AbstractContextManager[Sign]:
    """SIGKILL in the middle of a batch."""
    return _killed(ground.deployment.worker, lambda ground: not ground.deployment.worker.answers("/healthz"))


def worker_hangs(ground: Ground) -> AbstractContextManager[Sign]:
    """SIGSTOP: its group gives its partitions away, and it wakes up with a batch that is no longer its own."""
    return _suspended(ground.deployment.worker, lambda ground: not ground.deployment.worker.answers("/healthz"))


@contextmanager
def model_killed(ground: Ground) -> Iterator[Sign]:
    """The model's own process dies, as by the kernel's killer of what takes too much memory."""
    retried = 'fusion_retries_total{action="model process"}'
    before = ground.metric(retried)
    for child in ground.deployment.worker.children():
        if "inference.model_child" in child.cmdline():
            child.send_signal(signal.SIGKILL)
    yield lambda ground: ground.metric(retried) > before


@contextmanager
def database_crashes(ground: Ground) -> Iterator[Sign]:
    """PostgreSQL stops without a farewell, and recovers from its log when it is started again."""
    with servers.crashed(ground.deployment.folder / "postgres"):
        yield lambda ground: not ground.deployment.named("api").answers("/readyz")


@contextmanager
def disk_full(ground: Ground) -> Iterator[Sign]:
    """The disk of the log's tables has no page left."""
    assert ground.deployment.disk is not None
    ground.deployment.disk.fill()
    try:
        yield _no_sign
    finally:
        ground.deployment.disk.free()


@contextmanager
def broker_silent(ground: Ground) -> Iterator[Sign]:
    """The broker answers nobody: neither producers nor workers."""
    broker = psutil.Process(ground.deployment.broker.pid)
    broker.suspend()
    try:
        yield _no_sign
    finally:
        broker.resume()


def leader_killed(ground: Ground) -> AbstractContextManager[Sign]:
    """SIGKILL to the monitor that leads."""
    return _killed(ground.leader(), _led_by_another(ground))


def leader_hangs(ground: Ground) -> AbstractContextManager[Sign]:
    """SIGSTOP to the monitor that leads: the other takes over, and it must not write when it wakes."""
    return _suspended(ground.leader(), _led_by_another(ground))


def _led_by_another(ground: Ground) -> Sign:
    epoch = ground.epoch()
    return lambda ground: ground.epoch() > epoch


@contextmanager
def trainer_killed(ground: Ground) -> Iterator[Sign]:
    """SIGKILL in the middle of a job: another attempt goes on from its last save."""
    number = ground.start_job("game day")
    ground.await_(f"job {number} has saved its state", lambda: ground.saved_job(number), READY_SECONDS)
    trainer = ground.deployment.named("trainer")
    trainer.kill()
    trainer.start()
    yield lambda ground: ground.attempts(number) > 1
    ground.await_(f"job {number} is over", lambda: ground.job_is_over(number), 4 * READY_SECONDS)


@contextmanager
def receiver_refuses(ground: Ground) -> Iterator[Sign]:
    """The image feed dies while the on-call person's service answers 503."""
    receiver = ground.deployment.receiver
    receiver.status = HTTPStatus.SERVICE_UNAVAILABLE
    with image_feed_dies(ground):
        ground.await_("the receiver refuses a message", lambda: receiver.unavailable > 0, 2 * ground.pace.window)
        receiver.status = HTTPStatus.NO_CONTENT
        yield _no_sign


@contextmanager
def image_feed_dies(ground: Ground) -> Iterator[Sign]:
    """Requests come without their image."""
    with _traffic(ground, replace(image_feed_dead(ground.next_seed()), labelled=False)) as sign:
        yield sign


@contextmanager
def captions_mixed_up(ground: Ground) -> Iterator[Sign]:
    """Captions go to the next request's image."""
    with _traffic(ground, captions_shifted(ground.next_seed())) as sign:
        yield sign


@contextmanager
def clocks_wrong(ground: Ground) -> Iterator[Sign]:
    """Some producers' clocks are a day ahead: what they send is answered and logged, and judged in no window."""
    before = ground.metric("fusion_quarantined_total")
    with _traffic(ground, clocks_ahead(ground.next_seed(), timedelta(days=1))):
        yield lambda ground: ground.metric("fusion_quarantined_total") > before


@contextmanager
def bad_messages_come(ground: Ground) -> Iterator[Sign]:
    """A careless producer: each of its messages must become a dead letter, and hold up nobody."""
    before = ground.metric("fusion_dlq_records_total")
    messages = bad_messages(f"gameday-{ground.next_seed()}")
    for message in messages:
        ground.traffic.send_raw(message.value, message.content_type)
    yield lambda ground: ground.metric("fusion_dlq_records_total") >= before + len(messages)


@contextmanager
def _traffic(ground: Ground, scenario: Scenario) -> Iterator[Sign]:
    ground.traffic.switch(scenario)
    try:
        yield _no_sign
    finally:
        ground.traffic.switch(normal(ground.next_seed()))


SILENT, UNWRITABLE = "StreamSilent", "DatabaseWritesFail"
OUTAGE = frozenset({SILENT, UNWRITABLE})
NO_IMAGES, MISPAIRED = frozenset({"ModalityUnavailable"}), frozenset({"PairingDrift"})
FAULTS: tuple[Fault, ...] = (
    Fault("worker", "killed", worker_killed, (2, 6), "probe", true_as_well=OUTAGE),
    Fault("worker", "hangs", worker_hangs, (12, 18), "probe", true_as_well=OUTAGE),
    Fault("model", "its process is killed", model_killed, (2, 6), "metric", true_as_well=OUTAGE),
    Fault("database", "crashes", database_crashes, (4, 8), "probe", true_as_well=OUTAGE),
    # what the monitor writes may still fit in pages that are there: then the silence of the worker's log is told
    Fault("disk", "of the database is full", disk_full, (45, 60), "page", OUTAGE),
    Fault("broker", "answers nobody", broker_silent, (45, 55), "page", OUTAGE),
    Fault("monitor", "the leader is killed", leader_killed, (2, 40), "epoch"),
    Fault("monitor", "the leader hangs", leader_hangs, (35, 45), "epoch"),
    Fault("trainer", "killed in the middle of a job", trainer_killed, (65, 70), "attempt"),
    Fault("receiver", "refuses while images are gone", receiver_refuses, (20, 30), "page", NO_IMAGES, "image"),
    Fault("data", "no images come", image_feed_dies, (25, 40), "page", NO_IMAGES, "image"),
    Fault("data", "captions of other pictures", captions_mixed_up, (60, 90), "page", MISPAIRED),
    Fault("data", "messages that cannot be used", bad_messages_come, (2, 6), "metric"),
    Fault("clock", "some producers a day ahead", clocks_wrong, (10, 20), "metric"),
)
