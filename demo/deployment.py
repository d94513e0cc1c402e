"""A whole deployment on this machine: embedded servers, the same programs as in production, short windows."""

from __future__ import annotations

import json
import secrets
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from kafka.admin import KafkaAdminClient, NewTopic

from demo import receiver, servers
from demo.examples import Example, example_stream
from demo.ledger import Topics
from demo.processes import Program, console_script
from demo.receiver import Receiver
from demo.small_disk import SmallDisk, database_on_small_disk
from demo.stage import Pace
from demo.traffic import encode_for_store
from inference.training.store import LABELS, LocalStore

CHECKPOINT = Path(__file__).parent / "checkpoint"
TOPICS = Topics("fusion.requests", "fusion.predictions", "fusion.requests.dlq")
LABEL_TOPIC = "fusion.labels"
PARTITIONS = 2
DATABASE = "FUSIONWATCH_DATABASE_URL"
READY_SECONDS = 300.0
NEVER = 10**9  # more bad events than the demo has
REPLAY_EXAMPLES = 600


@dataclass(frozen=True, slots=True)
class Deployment:
    """A running deployment. `store` is where the producer team keeps its raw messages; `disk` is the database's own."""

    folder: Path
    database_url: str
    bootstrap: str
    broker: subprocess.Popen[bytes]
    status_page: str
    store: LocalStore
    receiver: Receiver
    worker: Program
    programs: list[Program]
    disk: SmallDisk | None

    def named(self, name: str) -> Program:
        """One of the programs."""
        return next(program for program in self.programs if program.name == name)


@contextmanager
def folder_for(given: Path | None) -> Iterator[Path]:
    """The given folder, made where it is missing, or a temporary one that is removed at the end."""
    if given is not None:
        given.mkdir(parents=True, exist_ok=True)
        yield given.resolve()
        return
    # Servers and programs may still be closing files as it goes.
    with tempfile.TemporaryDirectory(prefix="fusionwatch-demo-", ignore_cleanup_errors=True) as name:
        yield Path(name)


@contextmanager
def deploy(
    folder: Path,
    pace: Pace,
    *,
    port: int,
    seed: int,
    changes: Mapping[str, object] | None = None,
    disk_megabytes: int | None = None,
) -> Iterator[Deployment]:
    """Start everything and wait until it is ready; stop it in the opposite order on leaving.

    `changes` are settings that are otherwise for this story. `disk_megabytes` gives the database's tables a disk of
    their own; raises ServerError where none can be mounted.
    """
    with ExitStack() as stack:
        database = stack.enter_context(servers.postgres(folder / "postgres"))
        bootstrap, broker = stack.enter_context(servers.broker_process(folder / "broker.log"))
        name, disk = f"fusionwatch_{secrets.token_hex(4)}", None
        if disk_megabytes is None:
            url = database.create(name)
        else:
            url, disk = stack.enter_context(database_on_small_disk(database, name, megabytes=disk_megabytes))
        servers.migrate(url)
        servers.make_logins(url)
        _make_topics(bootstrap)
        store, replay = folder / "raw", folder / "replay"
        for path in (store, replay, folder / "checkpoints"):
            path.mkdir(exist_ok=True)
        fill_store(replay, example_stream(seed + 100), REPLAY_EXAMPLES, "original")
        secret = secrets.token_hex(32)
        oncall = stack.enter_context(receiver.listen(secret))
        environment = {
            **_environment(url, bootstrap, folder, pace, oncall, secret, port),
            **as_variables(changes or {}),
        }
        programs = _programs(folder, environment)
        for program in programs:
            program.start()
            stack.callback(program.stop)
        for program in programs:
            program.wait_ready(READY_SECONDS)
        page = f"http://127.0.0.1:{port}/"
        yield Deployment(folder, url, bootstrap, broker, page, LocalStore(store), oncall, programs[0], programs, disk)


def _make_topics(bootstrap: str) -> None:
    admin = KafkaAdminClient(bootstrap_servers=bootstrap)
    names = (TOPICS.requests, TOPICS.predictions, TOPICS.dead_letters, LABEL_TOPIC)
    admin.create_topics([NewTopic(name, PARTITIONS, 1) for name in names])
    admin.close()


def fill_store(folder: Path, examples: Iterator[Example], count: int, name: str) -> None:
    """Labelled examples in the form of the team's raw messages: to mix in while retraining, or to be tested on."""
    store = LocalStore(folder)
    lines = []
    for number, example in enumerate(islice(examples, count)):
        request_id = f"{name}-{number}"
        store.put(request_id, encode_for_store(request_id, example))
        lines.append(json.dumps({"request_id": request_id, "label": example.label.name.lower()}))
    (folder / LABELS).write_text("\n".join(lines) + "\n", encoding="utf-8")


def _environment(
    url: str, bootstrap: str, folder: Path, pace: Pace, oncall: Receiver, secret: str, port: int
) -> Mapping[str, str]:
    """Every program's settings. Windows are short, so that minutes are enough; what is judged stays the same."""
    receivers = {
        "log": {"channel": "log"},
        "oncall": {"channel": "webhook", "url": oncall.url, "secret": secret},
    }
    settings: dict[str, object] = {
        "database_url": url,
        "kafka_bootstrap_servers": bootstrap,
        "hmac_key": secrets.token_hex(32),
        "hmac_key_id": "demo",
        "fetch_wait_ms": 20,  # the embedded broker holds a fetch although messages come, and for longer
        "fetch_min_bytes": 1,  # the more bytes it shall gather
        "checkpoint": CHECKPOINT,
        "device": "cpu",
        "torch_threads": 1,
        "slot_seconds": int(pace.hop),
        "hop_seconds": int(pace.hop),
        "window_seconds": int(pace.window),
        "grace_seconds": 2,
        "silence_seconds": 60,
        "label_window_seconds": int(pace.window),
        "detect_interval_seconds": 0.5,
        "notify_interval_seconds": 0.5,
        "group_wait_seconds": 1,
        "group_interval_seconds": 1,
        "flap_seconds": max(1, int(pace.window) // 2),
        "retrain_interval_seconds": 1,
        "slo_interval_seconds": 5,
        # Five minutes of failures burn any month's budget: it is shown, and is no message of its own.
        "slos": json.dumps({"agreement": None}),  # neither picture nor caption tells the class: the heads guess
        "slo_min_bad": NEVER,
        "slo_low_traffic_bad": NEVER,
        "champion_poll_seconds": 1,
        "retrain_min_labels": 1200,
        "retrain_min_labels_per_class": 200,
        "retrain_max_rows": 1800,
        # The story's labels come of themselves: nobody is asked for any.
        "label_queue_entries": 0,
        "receivers": json.dumps(receivers),
        "dashboard_url": f"http://127.0.0.1:{port}/",
        "api_port": port,
        "worker_port": servers.free_port(),
        "trainer_port": servers.free_port(),
        "monitor_port": servers.free_port(),
        "checkpoints": folder / "checkpoints",
        "training_store": folder / "raw",
        "replay_store": folder / "replay",
        "trainer_poll_seconds": 1,
        "trainer_heartbeat_seconds": 2,
        "fit_seconds": 45,
    }
    # The demo's programs take their settings from here alone, not from a .env that lies about.
    return as_variables(settings) | {"OMP_NUM_THREADS": "1"}


def as_variables(settings: Mapping[str, object]) -> dict[str, str]:
    """Settings by name as a program's environment has them."""
    return {f"FUSIONWATCH_{name.upper()}": str(value) for name, value in settings.items()}


def _programs(folder: Path, environment: Mapping[str, str]) -> list[Program]:
    """The worker first: it registers its checkpoint, which the monitor then watches."""

    def program(name: str, script: str, command: str, port: str, *, before: tuple[str, ...] = ()) -> Program:
        ready = f"http://127.0.0.1:{environment[f'FUSIONWATCH_{port}']}/readyz"
        # each as its own login: what a role lacks shows here
        own = {DATABASE: servers.as_login(environment[DATABASE], f"fusion_{name}")}
        command_line = (*before, console_script(script), command)
        return Program(name, command_line, {**environment, **own}, folder / f"{name}.log", ready)

    # In production the trainer has a machine of its own; here it must not take the worker's.
    polite = ("nice", "-n", "15")
    return [
        program("worker", "fusionwatch-inference", "worker", "WORKER_PORT"),
        program("trainer", "fusionwatch-inference", "trainer", "TRAINER_PORT", before=polite),
        program("monitor", "fusionwatch-monitor", "run", "MONITOR_PORT"),
        program("api", "fusionwatch-monitor", "api", "API_PORT"),
    ]
