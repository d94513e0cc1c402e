"""What the worker's measurements need: real servers, a backlog, worker processes, and figures of all of them."""

from __future__ import annotations

import io
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import numpy as np
import psutil
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import KafkaAdminClient, NewTopic
from PIL import Image, ImageFilter
from sqlalchemy import Engine, create_engine, func, select

from demo import servers
from migrations.schema.prediction_log import consumer_offsets
from tests.support.apache_kafka import apache_kafka
from tests.support.worker import FETCHING, WorkerProcess

PARTITIONS = 4
PICTURE_BYTES = 20_000
MSGPACK = [("content-type", b"application/msgpack")]
# A message tells when the broker had it; the embedded one ignores this, and it tells when it was sent.
ARRIVAL_TIMES = {"message.timestamp.type": "LogAppendTime"}
CAPTIONS = ("a red circle left of a blue square", "two green triangles above a small yellow cross")


@dataclass(frozen=True, slots=True)
class Rate:
    """Requests per second between two moments of steady work, and CPU microseconds a request of each party."""

    per_second: float
    worker_cpu_us: float
    database_cpu_us: float
    broker_cpu_us: float
    resident_mb: float


def pictures(count: int, side: int, target: int = PICTURE_BYTES) -> list[bytes]:
    """JPEG pictures of `target` bytes each, or little more: smooth noise, so that decoding costs what a photo's does.

    Pictures too small for that are what they are at the highest quality.
    """
    rng = np.random.default_rng(0)
    made = []
    for _ in range(count):
        noise = Image.fromarray(rng.integers(0, 255, (side, side, 3), np.uint8))
        made.append(_encoded(noise.filter(ImageFilter.GaussianBlur(1.0)), target))
    return made


def _encoded(image: Image.Image, target: int) -> bytes:
    for quality in range(5, 96, 2):
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=quality)
        if buffer.tell() >= target:
            break
    return buffer.getvalue()


def request(number: int, image: bytes) -> bytes:
    """A MessagePack request, produced now."""
    return msgspec.msgpack.encode(
        {
            "schema_version": 1,
            "request_id": f"bench-{number:09}-{os.getpid()}",
            "produced_at": datetime.now(UTC).isoformat(),
            "modalities": {"image": {"data": image}, "text": {"data": CAPTIONS[number % len(CAPTIONS)]}},
        }
    )


class Rig:
    """Servers in a temporary folder; every measurement takes a name of its own for topics, group and database."""

    def __init__(self, folder: Path, database: servers.Database, broker: str) -> None:
        self.folder = folder
        self.broker = broker
        self._database = database

    def prepare(self, name: str, checkpoint: Path, **settings: str) -> WorkerProcess:
        """A worker, not started, with a fresh migrated database and topics."""
        url = self._database.create(name)
        servers.migrate(url)
        servers.make_logins(url)
        defaults = {"TOPIC_PARTITIONS": str(PARTITIONS), "CHECKPOINT": str(checkpoint), "CREATE_TOPICS": "false"}
        worker = WorkerProcess(name, url, self.broker, self.folder / f"{name}.log", {**defaults, **settings})
        admin = KafkaAdminClient(bootstrap_servers=self.broker)
        admin.create_topics(
            [NewTopic(topic, PARTITIONS, 1, topic_configs=ARRIVAL_TIMES) for topic in worker.topics.values()]
        )
        admin.close()
        return worker

    def backlog(self, topic: str, count: int, images: list[bytes]) -> None:
        """Put requests into a topic, spread evenly."""
        producer = KafkaProducer(
            bootstrap_servers=self.broker, enable_idempotence=False, batch_size=1_000_000, linger_ms=5
        )
        for number in range(count):
            producer.send(
                topic, request(number, images[number % len(images)]), partition=number % PARTITIONS, headers=MSGPACK
            )
        producer.flush()
        producer.close()

    def poll_rate(self, topic: str, count: int) -> float:
        """Messages per second of a loop that polls and does nothing else: the ceiling of any worker here."""
        consumer = KafkaConsumer(
            bootstrap_servers=self.broker, auto_offset_reset="earliest", fetch_max_bytes=32_000_000,
            max_partition_fetch_bytes=16_000_000,
        )  # fmt: skip
        consumer.assign([TopicPartition(topic, number) for number in range(PARTITIONS)])
        consumer.seek_to_beginning()
        read, began, first = 0, 0.0, 0
        while read < count:
            read += sum(len(records) for records in consumer.poll(timeout_ms=1000, max_records=1000).values())
            if not began and read:
                began, first = time.perf_counter(), read
        seconds = time.perf_counter() - began
        consumer.close()
        return (read - first) / seconds

    def drain_rate(self, worker: WorkerProcess, count: int, processes: int = 1) -> Rate:
        """Start worker processes on a backlog; measured once what waited for their first transactions is written."""
        engine = create_engine(worker.database)
        with ExitStack() as stack:
            stack.callback(engine.dispose)
            members = [stack.enter_context(member(worker, number, wait=False)) for number in range(processes)]
            _wait(lambda: written(engine) >= count * 0.4, members)
            begin, began, before = written(engine), time.perf_counter(), self.cpu(members)
            _wait(lambda: written(engine) >= count * 0.95, members)
            done, seconds, after = written(engine) - begin, time.perf_counter() - began, self.cpu(members)
            resident = sum(resident_bytes(member) for member in members) / 1e6
        worker_us, database_us, broker_us = (
            (late - early) / done * 1e6 for early, late in zip(before, after, strict=True)
        )
        return Rate(done / seconds, worker_us, database_us, broker_us, resident)

    def wait_written(self, worker: WorkerProcess, count: int) -> None:
        """Wait until so many requests are written."""
        engine = create_engine(worker.database)
        _wait(lambda: written(engine) >= count, [])
        engine.dispose()

    def forget(self, worker: WorkerProcess) -> None:
        """Drop a worker's topics and database: the broker keeps its topics in memory."""
        admin = KafkaAdminClient(bootstrap_servers=self.broker)
        admin.delete_topics(list(worker.topics.values()))
        admin.close()
        self._database.drop(worker.name)

    @contextmanager
    def off(self, cores: set[int], members: list[WorkerProcess]) -> Iterator[None]:
        """Keep everything but the workers off some cores for a while: database, broker and this process."""
        here = os.sched_getaffinity(0)
        processes = [psutil.Process(), *_postgres(self.folder), *self._brokers(members)] if cores else []
        _keep_on(processes, here - cores)
        try:
            yield
        finally:
            _keep_on(processes, here)

    def cpu(self, members: list[WorkerProcess]) -> tuple[float, float, float]:
        """CPU seconds so far of worker processes, of the database and of the broker."""
        return (
            sum(cpu_seconds(child) for member in members for child in tree(member)),
            sum(cpu_seconds(child) for child in _postgres(self.folder)),
            sum(cpu_seconds(child) for child in self._brokers(members)),
        )

    def _brokers(self, members: list[WorkerProcess]) -> list[psutil.Process]:
        """What this process started beside the database and those workers."""
        workers = {child.pid for member in members for child in tree(member)}
        children = psutil.Process().children(recursive=True)
        return [child for child in children if child.pid not in workers and "postgres" not in child.name()]


def broker_kind() -> str:
    """The broker that `FUSIONWATCH_BENCH_BROKER` names, Apache Kafka by default."""
    kind = os.environ.get("FUSIONWATCH_BENCH_BROKER", "apache")
    if kind not in ("apache", "embedded"):
        raise SystemExit(f"FUSIONWATCH_BENCH_BROKER is {kind!r}; there are apache and embedded")
    return kind


@contextmanager
def rig(broker: str = "embedded") -> Iterator[Rig]:
    """Start PostgreSQL and a broker for a while: the `embedded` one, or `apache` (Java 17+, Maven)."""
    with tempfile.TemporaryDirectory(prefix="fusionwatch-bench-") as name, ExitStack() as stack:
        folder = Path(name)
        database = stack.enter_context(servers.postgres(folder / "postgres"))
        if broker == "embedded":
            yield Rig(folder, database, stack.enter_context(servers.broker(folder / "broker.log")))
        else:
            kafka = stack.enter_context(apache_kafka(folder / "kafka", quick_start=False))
            FETCHING.clear()
            yield Rig(folder, database, kafka.address)


@contextmanager
def member(worker: WorkerProcess, number: int, *, wait: bool = True) -> Iterator[WorkerProcess]:
    """One of the processes that share a worker's topics; `wait` until it is ready."""
    member = replace(worker, log=worker.log.with_suffix(f".{number}.log"))
    try:
        member.start(wait=wait)
        yield member
    finally:
        if member.process is not None and member.process.poll() is None:
            member.process.terminate()
            member.process.wait(timeout=60)


def written(engine: Engine) -> int:
    """How many requests' offsets are stored."""
    with engine.connect() as connection:
        return int(connection.scalar(select(func.coalesce(func.sum(consumer_offsets.c.next_offset), 0))) or 0)


def tree(member: WorkerProcess) -> list[psutil.Process]:
    """A worker's processes."""
    assert member.process is not None
    process = psutil.Process(member.process.pid)
    return [process, *process.children(recursive=True)]


def model_cores(member: WorkerProcess) -> set[int]:
    """The cores that a worker's model has to itself (`MODEL_CORES`)."""
    worker, *models = tree(member)
    return {core for model in models for core in model.cpu_affinity()} - set(worker.cpu_affinity())


def resident_bytes(member: WorkerProcess) -> int:
    """Memory of a worker's processes, what they share counted once."""
    return sum(int(process.memory_full_info().pss) for process in tree(member))


def cpu_seconds(process: psutil.Process) -> float:
    """User and system time; 0 for one that has just ended."""
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return float(times.user + times.system + times.children_user + times.children_system)


def _keep_on(processes: list[psutil.Process], cores: set[int]) -> None:
    """Move processes, every thread of them, to some cores."""
    for process in processes:
        for thread in process.threads():
            with suppress(ProcessLookupError):  # it has just ended
                os.sched_setaffinity(thread.id, cores)


def _postgres(folder: Path) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter(["name", "cmdline"]):
        if process.info["name"] == "postgres" and str(folder) in " ".join(process.info["cmdline"] or []):
            found += [process, *process.children(recursive=True)]
    return found


def _wait(condition: Callable[[], bool], members: list[WorkerProcess], seconds: float = 300) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        for member in members:
            assert member.process is not None
            if member.process.poll() is not None:
                raise RuntimeError(f"a worker ended:\n{member.log.read_text()[-2000:]}")
        if time.monotonic() > deadline:
            raise RuntimeError(f"not within {seconds:.0f} s")
        time.sleep(0.02)
