"""Secrets and raw inputs go through every path, failures included, with each program in its own role: none is kept."""

from __future__ import annotations

import base64
import io
import logging
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from PIL import Image
from sqlalchemy import Engine, create_engine, make_url, text

from demo import servers
from inference.broker_check import BrokerError, require_broker
from monitor import wiring
from tests.integration.test_tracing import received
from tests.support.commands import monitor_says
from tests.support.http_stub import answering
from tests.support.monitored import settings
from tests.support.worker import WorkerProcess, picture, producer, read_all, request, running, wait_until

MARKS = {
    name: f"mark-{name}-7f3a9c"
    for name in ("exif", "caption", "annotator", "url", "field", "password", "key", "token", "webhook", "kafka")
}
LOGINS = {"fw_worker": "fusionwatch_writer", "fw_monitor": "fusionwatch_monitor, fusionwatch_retention"}


def marked_picture() -> bytes:
    exif = Image.Exif()
    exif[0x010E] = MARKS["exif"]
    buffer = io.BytesIO()
    Image.open(io.BytesIO(picture())).save(buffer, "JPEG", exif=exif)
    assert MARKS["exif"].encode() in buffer.getvalue()
    return buffer.getvalue()


def marked(request_id: str, image: bytes, **changes: Any) -> dict[str, Any]:
    caption = f"a red circle {MARKS['caption']} https://host.test/{MARKS['url']}"
    modalities = {"image": {"data": base64.b64encode(image).decode()}, "text": {"data": caption}}
    return request(request_id, **{"modalities": modalities, **changes})


def refused() -> list[Any]:
    """Messages that are refused, each with a mark where it is looked at."""
    mark, good = MARKS["field"], marked("r", picture())
    return [
        f'{{"caption": "{mark}"'.encode(),
        {**good, "schema_version": mark},
        {**good, "produced_at": mark},
        {**good, "expected_modalities": [mark]},
        {**good, "modalities": {mark: {"data": mark}}},
        {**good, "modalities": {"image": {"data": f"https://host.test/{MARKS['url']}"}}},
        {**good, "modalities": {"text": {"data": [mark]}}},
        {**good, "source": mark * 40},
        {**good, "request_id": mark * 40},
    ]


def label(request_id: str, **changes: Any) -> dict[str, Any]:
    at = datetime.now(UTC).isoformat()
    fields = {"schema_version": 1, "request_id": request_id, "label": "consistent", "labelled_at": at}
    return {**fields, "source": "human_review", "annotator": MARKS["annotator"], **changes}


def found_in(told: dict[str, str]) -> list[tuple[str, str]]:
    """Where which mark is to be read, as it is, in hexadecimal or in base64."""
    written = {
        name: (mark, mark.encode().hex(), base64.b64encode(mark.encode()).decode()[:-2]) for name, mark in MARKS.items()
    }
    return [
        (place, name)
        for place, content in told.items()
        for name, ways in written.items()
        for way in ways
        if way in content
    ]


def tables(engine: Engine) -> dict[str, str]:
    """Every row of every table, as PostgreSQL writes it."""
    with engine.connect() as connection:
        names = connection.scalars(text("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")).all()
        return {
            f"table {name}": "\n".join(connection.scalars(text(f'SELECT each::text FROM "{name}" each')))
            for name in names
        }


@pytest.fixture
def owner(postgres_server: servers.Database, database: str) -> Iterator[Engine]:
    """The database as its owner, with a login for each program."""
    engine = create_engine(database)
    with engine.begin() as connection:
        for login, roles in LOGINS.items():
            connection.execute(text(f"CREATE ROLE {login} LOGIN PASSWORD '{MARKS['password']}' IN ROLE {roles}"))
    yield engine
    with engine.begin() as connection:
        for login in LOGINS:
            connection.execute(text(f"DROP OWNED BY {login}; DROP ROLE {login}"))
    engine.dispose()


def as_login(database: str, login: str) -> str:
    url = make_url(database).set(username=login, password=MARKS["password"])
    return url.render_as_string(hide_password=False)


def serve(worker: WorkerProcess, owner: Engine, broker: str) -> tuple[list[Any], list[Any], str]:
    """Send all; dead letters, answers and the metrics once everything is done."""
    topics, bad = worker.topics, refused()
    with producer(broker) as send, running(worker):
        send(topics["requests"], marked("good", marked_picture()))
        for image in (f"https://host.test/{MARKS['url']}".encode(), marked_picture()[:-300]):
            send(topics["requests"], marked(f"corrupt {len(image)}", image))
        for message in bad:
            send(topics["requests"], message)
        send(topics["labels"], label("good"))
        send(topics["labels"], label("good", source=MARKS["field"]))
        letters = read_all(broker, topics["dead_letters"], lambda seen: len(seen) > len(bad), 120)
        answers = read_all(broker, topics["predictions"], lambda seen: len(seen) >= 3, 120)

        def labelled() -> bool:
            with owner.connect() as connection:
                return bool(connection.scalar(text("SELECT count(*) FROM audit_log WHERE action = 'labelled'")))

        wait_until(labelled, 60, "the label was not kept")
        metrics = worker.get("/metrics")
        assert worker.stop() == 0, worker.log.read_text()[-3000:]
    assert len(letters) == len(bad) + 1
    assert len(answers) == 3
    return letters, answers, metrics


def watch(database: str) -> dict[str, str]:
    """The monitor's tasks and the API, in their role; what they said."""
    receivers = {"hook": {"channel": "webhook", "url": "http://127.0.0.1:1/h", "secret": MARKS["webhook"] + "0" * 16}}
    chosen = settings(
        as_login(database, "fw_monitor"), receivers=receivers, slot_seconds=60, hop_seconds=60, window_seconds=60
    )
    monitor = wiring.Monitor(chosen)
    assert monitor.leadership.hold()
    for task in (monitor.detect, monitor.slos, monitor.security, monitor.maintenance, monitor.notify, monitor.retrain):
        task.run()
    engine = wiring.connect_engine(chosen, "fusionwatch-api")
    client = TestClient(wiring.api(chosen, engine))
    pages = {}
    for path in ("overview", "history", "findings", "traffic", "dead-letters", "jobs", "slos", "calibration"):
        answer = client.get(f"/v1/{path}", headers={"Authorization": f"Bearer {MARKS['token']}"})
        pages[f"page {path}"] = answer.text
        assert answer.status_code in (200, 401, 403), (path, answer.text)
    engine.dispose()
    monitor.close()
    return pages


def fail(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """What programs say of a database and a broker that cannot be used."""
    told = {}
    address = f"postgresql+psycopg2://u:{MARKS['password']}@127.0.0.1:1/d"
    for name, value in {"database away": address, "wrong scheme": address.replace("+psycopg2", "")}.items():
        monkeypatch.setenv("FUSIONWATCH_DATABASE_URL", value)
        told[name] = monitor_says("alerts", "list") + monitor_says("check-settings")
        assert told[name]
    login = {"security_protocol": "SASL_PLAINTEXT", "sasl_mechanism": "PLAIN", "sasl_plain_username": "ann"}
    with pytest.raises(BrokerError) as error:
        require_broker({"bootstrap_servers": ["127.0.0.1:1"], "sasl_plain_password": MARKS["kafka"], **login}, 1)
    told["broker refused"] = str(error.value)
    return told


def test_no_secret_and_no_raw_input_is_kept_or_told(
    owner: Engine,
    database: str,
    broker: str,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    caplog.set_level(logging.DEBUG)
    with answering(200) as collector:
        extra = {
            "OTLP_ENDPOINT": collector.url.removesuffix("/hook"),
            **{"TRACE_RATIO": "1", "LOG_LEVEL": "DEBUG", "HMAC_KEY": MARKS["key"] * 3},
        }
        worker = WorkerProcess("scrubbed", as_login(database, "fw_worker"), broker, tmp_path / "log", extra)
        letters, answers, metrics = serve(worker, owner, broker)
        spans = str(received(collector))
    assert spans
    caplog.clear()  # the client that sent all this is the test's own
    caplog.set_level(logging.DEBUG)
    told = {
        "worker's log": worker.log.read_text(),
        "metrics": metrics,
        "spans": spans,
        "answers": str([(each.headers, each.value) for each in answers]),
        "dead letters' headers": str([each.headers for each in letters]),
        **watch(database),
        **fail(monkeypatch),
        **tables(owner),
    }
    told["this process's log"] = caplog.text
    written = ("dead_letters", "labels", "modality_log", "audit_log", "embedding_samples")
    assert all(told[f"table {name}"] for name in written)
    assert found_in(told) == []
