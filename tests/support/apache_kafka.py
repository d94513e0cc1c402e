"""A real Apache Kafka as a child process: one node (KRaft), on loopback, its data in a folder."""

from __future__ import annotations

import base64
import os
import random
import signal
import socket
import struct
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from kafka.admin import KafkaAdminClient
from kafka.errors import KafkaError

from demo.servers import PORTS, free_port
from tests.support.certificates import Certificates, certificates
from tests.support.kafka_jars import KafkaSetupError, java, kafka_jars

START_SECONDS = 90.0
STOP_SECONDS = 30.0
PORT_ATTEMPTS = 3
USER, PASSWORD = "worker", "correct-horse-battery-staple"
MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")

_HEAP = ("-Xms128m", "-Xmx512m", "-XX:+UseSerialGC")
_QUICK = ("-XX:TieredStopAtLevel=1",)  # starts in half the time, serves slower
_PLAIN = "PLAINTEXT"
_CONTROLLER = "CONTROLLER"
# The name of each listener and what it speaks. MUTUAL asks for a client's certificate.
_PROTOCOLS = {"SSL": "SSL", "MUTUAL": "SSL", "SASL_PLAINTEXT": "SASL_PLAINTEXT", "SASL_SSL": "SASL_SSL"}


@dataclass
class Broker:
    """A Kafka node. `address` is its listener without TLS or SASL, `listeners` the address of each by name."""

    folder: Path
    listeners: Mapping[str, str]
    certificates: Certificates | None
    jvm: tuple[str, ...] = ()
    _process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def address(self) -> str:
        """Its bootstrap address."""
        return self.listeners[_PLAIN]

    @property
    def secure_listeners(self) -> list[str]:
        """The names of its listeners with TLS or SASL."""
        return [name for name in self.listeners if name in _PROTOCOLS]

    @property
    def log(self) -> Path:
        """What it wrote to stdout and stderr."""
        return self.folder / "kafka.log"

    def start(self) -> None:
        """Start it on the data and port it had, and wait until it answers. Raises KafkaSetupError."""
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                self._java("kafka.Kafka", str(self.folder / "server.properties")),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C reaches us first, so that clients can finish before their broker goes
            )
        try:
            self._wait_until_it_answers()
        except BaseException:
            self.stop(kill=True)
            raise

    def stop(self, *, kill: bool = False) -> None:
        """End it, in order or with SIGKILL; its data stays."""
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(signal.SIGKILL if kill else signal.SIGTERM)
        try:
            process.wait(timeout=STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def pause(self) -> None:
        """Take it away, as a crash would."""
        self.stop(kill=True)

    def resume(self) -> None:
        """Bring it back with its data."""
        self.start()

    def format(self) -> None:
        """Write an empty log with the cluster's metadata, SCRAM users included. Raises KafkaSetupError."""
        # zero first: an id that begins with a minus would be read as an option
        cluster = base64.urlsafe_b64encode(b"\0" + os.urandom(15)).decode().rstrip("=")
        command = ["format", "--cluster-id", cluster, "--config", str(self.folder / "server.properties")]
        if self.certificates is not None:
            for mechanism in MECHANISMS[1:]:
                command += ["--add-scram", f"{mechanism}=[name={USER},password={PASSWORD}]"]
        done = subprocess.run(
            self._java("kafka.tools.StorageTool", *command),
            capture_output=True,
            text=True,
            timeout=START_SECONDS,
            check=False,
        )
        if done.returncode != 0:
            raise KafkaSetupError(f"Apache Kafka could not format its storage:\n{(done.stdout + done.stderr)[-2000:]}")

    def port_was_taken(self) -> bool:
        """Whether the log says that another process has one of its ports."""
        return "Address already in use" in self._tail()

    def _java(self, main: str, *arguments: str) -> list[str]:
        level = "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"
        return [java(), *_HEAP, *self.jvm, level, "-cp", f"{kafka_jars()}/*", main, *arguments]

    def _wait_until_it_answers(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            assert self._process is not None
            if self._process.poll() is not None:
                code = self._process.returncode
                raise KafkaSetupError(f"Apache Kafka ended with code {code}; its log is {self.log}:\n{self._tail()}")
            if answers(self.address) and _leads(self.address):
                return
            time.sleep(0.05)
        raise KafkaSetupError(f"Apache Kafka did not answer within {START_SECONDS:.0f} s; its log is {self.log}")

    def _tail(self) -> str:
        return self.log.read_text(errors="replace")[-2000:] if self.log.exists() else ""


@contextmanager
def apache_kafka(folder: Path, *, secure: bool = False, port: int = 0, quick_start: bool = True) -> Iterator[Broker]:
    """Start a node with its data under `folder`, and stop it on leaving.

    `secure` adds listeners SSL, MUTUAL (which asks for a client's certificate), SASL_PLAINTEXT and SASL_SSL, with the
    user USER by each of MECHANISMS. `quick_start` compiles little: good for tests, bad for measuring. Raises
    KafkaSetupError where Java or Maven is missing, or Kafka does not start.
    """
    folder.mkdir(parents=True, exist_ok=True)
    made = certificates(folder / "certificates") if secure else None
    jvm = _QUICK if quick_start else ()
    for attempt in range(PORT_ATTEMPTS):
        broker = _formatted(folder / f"node-{attempt}", made, port, jvm)
        try:
            broker.start()
            break
        except KafkaSetupError:
            if attempt == PORT_ATTEMPTS - 1 or not broker.port_was_taken():
                raise
    try:
        yield broker
    finally:
        broker.stop()


def _formatted(folder: Path, made: Certificates | None, port: int, jvm: tuple[str, ...]) -> Broker:
    folder.mkdir()
    names = [_PLAIN, _CONTROLLER, *(_PROTOCOLS if made else ())]
    ports = [free_port(port) if port else _port(), *_distinct(len(names) - 1)]
    addresses = {name: f"127.0.0.1:{number}" for name, number in zip(names, ports, strict=True)}
    properties = _properties(folder, addresses) | (_secure(made) if made else {})
    lines = (f"{key}={value}\n" for key, value in properties.items())
    (folder / "server.properties").write_text("".join(lines))
    broker = Broker(folder, addresses, made, jvm)
    broker.format()
    return broker


def _properties(folder: Path, addresses: Mapping[str, str]) -> dict[str, str]:
    listeners = {name: f"{name}://{address}" for name, address in addresses.items()}
    protocols = {_PLAIN: _PLAIN, _CONTROLLER: _PLAIN, **_PROTOCOLS}
    return {
        "process.roles": "broker,controller",
        "node.id": "1",
        "controller.quorum.voters": f"1@{addresses[_CONTROLLER]}",
        "controller.listener.names": _CONTROLLER,
        "inter.broker.listener.name": _PLAIN,
        "listeners": ",".join(listeners.values()),
        "advertised.listeners": ",".join(url for name, url in listeners.items() if name != _CONTROLLER),
        "listener.security.protocol.map": ",".join(f"{name}:{protocols[name]}" for name in addresses),
        "log.dirs": str(folder / "data"),
        "auto.create.topics.enable": "false",
        "message.max.bytes": "16777216",
        "offsets.topic.replication.factor": "1",
        "offsets.topic.num.partitions": "4",
        "transaction.state.log.replication.factor": "1",
        "transaction.state.log.min.isr": "1",
        "transaction.state.log.num.partitions": "1",
        "share.coordinator.state.topic.replication.factor": "1",
        "share.coordinator.state.topic.min.isr": "1",
        "share.coordinator.state.topic.num.partitions": "1",
        "group.initial.rebalance.delay.ms": "0",
        "broker.session.timeout.ms": "3000",  # a killed node is let in again only after it
        "broker.heartbeat.interval.ms": "500",
        "log.initial.task.delay.ms": "1000",
    }


def _secure(made: Certificates) -> dict[str, str]:
    properties = {
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(made.server),
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": str(made.authority),
        "ssl.client.auth": "none",
        "listener.name.mutual.ssl.client.auth": "required",
    }
    modules = "org.apache.kafka.common.security"
    plain = f'{modules}.plain.PlainLoginModule required user_{USER}="{PASSWORD}";'
    for listener in ("sasl_plaintext", "sasl_ssl"):
        prefix = f"listener.name.{listener}"
        properties[f"{prefix}.sasl.enabled.mechanisms"] = ",".join(MECHANISMS)
        properties[f"{prefix}.plain.sasl.jaas.config"] = plain
        for mechanism in MECHANISMS[1:]:
            login = f"{modules}.scram.ScramLoginModule required;"
            properties[f"{prefix}.{mechanism.lower()}.sasl.jaas.config"] = login
    return properties


def _port() -> int:
    return _distinct(1)[0]


def _distinct(count: int) -> list[int]:
    numbers = random.sample(PORTS, len(PORTS))
    free = (number for number in numbers if free_port(number) == number)
    return [next(free) for _ in range(count)]


def answers(address: str, seconds: float = 1.0) -> bool:
    """Whether a broker answers there, asked for its ApiVersions (key 18, version 0) without TLS or SASL."""
    host, port = address.split(":")
    try:
        with socket.create_connection((host, int(port)), timeout=seconds) as connection:
            connection.sendall(struct.pack(">ihhih", 10, 18, 0, 1, -1))
            return len(connection.recv(4)) == 4
    except OSError:
        return False


def _leads(address: str) -> bool:
    """Whether the node, which answers, counts itself among the brokers: earlier it makes no topics."""
    try:
        KafkaAdminClient(bootstrap_servers=address, bootstrap_timeout_ms=10_000).close()
    except KafkaError:
        return False
    return True
