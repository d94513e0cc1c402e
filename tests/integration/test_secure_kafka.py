"""A worker on Apache Kafka over TLS and SASL: it answers with the right secrets, and says why it does not start."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, func, select

from inference.broker_check import BrokerError, require_broker
from inference.kafka_settings import KafkaSettings
from migrations.schema.prediction_log import prediction_log
from tests.support.apache_kafka import PASSWORD, USER, Broker, apache_kafka
from tests.support.certificates import KEY_PASSWORD, Certificates
from tests.support.worker import WorkerProcess, in_process, producer, read_all, request, running

pytestmark = pytest.mark.apache
WRONG = "MARKED-WRONG-PASSWORD"
TRACE = ("traceparent", b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    with apache_kafka(tmp_path_factory.mktemp("secure-kafka"), secure=True) as broker:
        yield broker


def tls(files: Certificates) -> dict[str, str]:
    return {"SSL_CA_FILE": str(files.authority)}


def mutual(files: Certificates) -> dict[str, str]:
    return {
        **tls(files),
        "SSL_CERTIFICATE_FILE": str(files.client),
        "SSL_KEY_FILE": str(files.client_key_encrypted),
        "SSL_KEY_PASSWORD": KEY_PASSWORD,
    }


def nothing(files: Certificates) -> dict[str, str]:
    return {}


def user(mechanism: str, password: str = PASSWORD) -> dict[str, str]:
    return {"SASL_MECHANISM": mechanism, "SASL_USERNAME": USER, "SASL_PASSWORD": password}


def worker(kafka: Broker, database: str, log: Path, listener: str, given: dict[str, str]) -> WorkerProcess:
    """A worker that reaches Kafka by a listener."""
    protocol = "SSL" if listener == "MUTUAL" else listener
    kept = {"KAFKA_SECURITY_PROTOCOL": protocol, **{f"KAFKA_{key}": value for key, value in given.items()}}
    name = f"{listener}-{given.get('SASL_MECHANISM', 'no-user')}-{log.parent.name}".lower()
    return WorkerProcess(name, database, kafka.listeners[listener], log, kept)


def assert_it_answers(kafka: Broker, worker: WorkerProcess, database: str) -> None:
    """It answers, logs and dead-letters, and carries keys and headers through. Read without TLS and SASL."""
    with producer(kafka.address) as send:
        send(worker.topics["requests"], request("asked"), headers=[TRACE, ("tenant", b"")])
        send(worker.topics["requests"], b"not json", headers=[TRACE])
    (answer,) = read_all(kafka.address, worker.topics["predictions"], lambda found: len(found) == 1)
    assert answer.key == b"asked"
    assert tuple(answer.headers[:2]) == (TRACE, ("tenant", b""))
    (letter,) = read_all(kafka.address, worker.topics["dead_letters"], lambda found: len(found) == 1)
    assert (letter.key, letter.value, letter.headers[0]) == (b"k", b"not json", TRACE)


@pytest.mark.parametrize(
    ("listener", "files", "login"),
    [
        ("SSL", tls, {}),
        ("MUTUAL", mutual, {}),
        ("SASL_PLAINTEXT", nothing, user("PLAIN")),
        ("SASL_SSL", tls, user("SCRAM-SHA-256")),
    ],
)
def test_a_worker_answers(
    kafka: Broker,
    database: str,
    tmp_path: Path,
    listener: str,
    files: Callable[[Certificates], dict[str, str]],
    login: dict[str, str],
) -> None:
    assert kafka.certificates is not None
    asked = worker(kafka, database, tmp_path / "log", listener, {**files(kafka.certificates), **login})
    with in_process(asked):
        assert_it_answers(kafka, asked, database)


def test_a_whole_process_answers_and_its_log_holds_no_secret(kafka: Broker, database: str, tmp_path: Path) -> None:
    assert kafka.certificates is not None
    given = {**mutual(kafka.certificates), **user("SCRAM-SHA-512")}
    asked = worker(kafka, database, tmp_path / "log", "SASL_SSL", given)
    asked.extra = {**asked.extra, "LOG_LEVEL": "DEBUG"}
    with running(asked):
        assert_it_answers(kafka, asked, database)
        assert asked.stop(signal.SIGTERM) == 0
    engine = create_engine(database)
    with engine.connect() as connection:
        assert connection.scalar(select(func.count()).select_from(prediction_log)) == 1
    engine.dispose()
    told = asked.log.read_text()
    assert "model loaded" in told
    assert PASSWORD not in told
    assert KEY_PASSWORD not in told


def test_a_worker_that_is_refused_ends_with_the_reason(kafka: Broker, database: str, tmp_path: Path) -> None:
    assert kafka.certificates is not None
    given = {**tls(kafka.certificates), **user("SCRAM-SHA-256", WRONG)}
    refused = worker(kafka, database, tmp_path / "log", "SASL_SSL", given)
    refused.start(wait=False)
    assert refused.process is not None
    assert refused.process.wait(timeout=90) == 1
    told = refused.log.read_text()
    assert f"refused user {USER!r} (Authentication failed" in told
    assert "FUSIONWATCH_KAFKA_SASL_PASSWORD" in told
    assert WRONG not in told
    assert "Traceback" not in told


def no_certificate(files: Certificates) -> dict[str, str]:
    return {"listener": "MUTUAL", **tls(files)}


def other_authority(files: Certificates) -> dict[str, str]:
    return {"listener": "SSL", "SSL_CA_FILE": str(files.other_authority)}


def own_authorities(files: Certificates) -> dict[str, str]:
    return {"listener": "SSL"}


def other_host(files: Certificates) -> dict[str, str]:
    return {"listener": "SSL", "host": "localhost", **tls(files)}


def no_such_user(files: Certificates) -> dict[str, str]:
    return {"listener": "SASL_PLAINTEXT", **user("PLAIN"), "SASL_USERNAME": "nobody"}


def wrong_plain(files: Certificates) -> dict[str, str]:
    return {"listener": "SASL_SSL", **tls(files), **user("PLAIN", WRONG)}


def wrong_scram(files: Certificates) -> dict[str, str]:
    return {"listener": "SASL_SSL", **tls(files), **user("SCRAM-SHA-512", WRONG)}


def user_where_none_is_asked(files: Certificates) -> dict[str, str]:
    return {"listener": "PLAINTEXT", "SECURITY_PROTOCOL": "SASL_PLAINTEXT", **user("PLAIN")}


def plaintext_for_tls(files: Certificates) -> dict[str, str]:
    return {"listener": "SSL", "SECURITY_PROTOCOL": "PLAINTEXT"}


def tls_for_plaintext(files: Certificates) -> dict[str, str]:
    return {"listener": "PLAINTEXT", "SECURITY_PROTOCOL": "SSL", **tls(files)}


@pytest.mark.parametrize(
    ("wrong", "reason", "setting"),
    [
        (no_certificate, "refused the TLS connection", "SSL_CERTIFICATE_FILE"),
        (other_authority, "a certificate that is not trusted (unable to get local issuer", "SSL_CA_FILE"),
        (own_authorities, "a certificate that is not trusted (unable to get local issuer", "SSL_CA_FILE"),
        (other_host, "a certificate for another host (Hostname mismatch", "SSL_CHECK_HOSTNAME"),
        (no_such_user, "refused user 'nobody' (Authentication failed", "SASL_USERNAME"),
        (wrong_plain, f"refused user {USER!r} (Authentication failed", "SASL_PASSWORD"),
        (wrong_scram, f"refused user {USER!r} (Authentication failed", "SASL_PASSWORD"),
        (user_where_none_is_asked, "asks for no user on this listener", "SECURITY_PROTOCOL"),
        (plaintext_for_tls, "does not answer as Kafka does", "SECURITY_PROTOCOL"),
        (tls_for_plaintext, "it ended the connection; does it speak SSL?", ""),
    ],
)
def test_each_refusal_names_its_reason_and_the_setting(
    kafka: Broker, wrong: Callable[[Certificates], dict[str, str]], reason: str, setting: str
) -> None:
    assert kafka.certificates is not None
    given: dict[str, Any] = wrong(kafka.certificates)
    listener = given.pop("listener")
    port = kafka.listeners[listener].split(":")[1]
    servers = f"{given.pop('host', '127.0.0.1')}:{port}"
    protocol = given.pop("SECURITY_PROTOCOL", "SSL" if listener == "MUTUAL" else listener)
    options = {f"kafka_{key.lower()}": value for key, value in given.items()}
    settings = KafkaSettings(kafka_bootstrap_servers=servers, kafka_security_protocol=protocol, **options)
    with pytest.raises(BrokerError) as raised:
        require_broker(settings.kafka(), 2)
    assert reason in str(raised.value)
    assert f"FUSIONWATCH_KAFKA_{setting}" in str(raised.value) or not setting
    assert WRONG not in str(raised.value)
