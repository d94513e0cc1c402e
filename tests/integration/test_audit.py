"""The audit log on a real database: linked under concurrency, closed to changes, and a page where it is broken."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import Connection, Engine, create_engine, make_url, select, text
from sqlalchemy.exc import DBAPIError, ProgrammingError

from demo import servers
from inference.baseline import Baseline
from inference.modalities.base import modalities
from inference.projection import Projector
from inference.recorder import Recorder
from inference.summarise import WindowSummaries
from migrations.connect import connect
from migrations.schema import bins, embedding_samples
from migrations.schema.feature_map import FeatureMap
from migrations.schema.monitoring import alerts, audit_log
from monitor import alert_wiring
from monitor.domain.audit import Head
from monitor.storage import audit
from monitor.tasks.security import Security
from monitor.telemetry import Metrics
from tests.support.commands import monitor_says
from tests.support.monitored import Stage, StoryClock, Traffic, settings
from tests.support.predicted import AT, CLASSES, FINGERPRINTS, VERSION, predicted
from tests.support.recording import connected

WRITERS, ROWS = 6, 15


@pytest.fixture(scope="module")
def url(postgres_server: servers.Database) -> Iterator[str]:
    yield postgres_server.create("audit_tests", template="template")
    postgres_server.drop("audit_tests")


@pytest.fixture(scope="module")
def engine(url: str) -> Iterator[Engine]:
    made = connect(url, application="test", pool_size=WRITERS)
    yield made
    made.dispose()


def append(connection: Connection, actor: str, action: str = "tested") -> None:
    now = datetime.now(UTC)
    audit.record(connection, action, "é\n\\ \"'", actor=actor, now=now, details={"é": [1.50, None], "z": {"a": True}})


def verified(engine: Engine, seen: Head | None = None) -> tuple[int, tuple[str, ...], Head]:
    with engine.connect() as connection:
        checked = audit.verify(connection, seen)
    return checked.rows, checked.breaks, checked.last


def test_rows_of_concurrent_writers_of_whom_some_roll_back_are_one_chain(engine: Engine) -> None:
    def write(writer: int) -> None:
        for row in range(ROWS):
            with engine.connect() as connection, connection.begin() as transaction:
                append(connection, f"writer {writer}")
                if row % 3 == 0:
                    transaction.rollback()

    before = verified(engine)[0]
    threads = [threading.Thread(target=write, args=(number,)) for number in range(WRITERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    rows, breaks, head = verified(engine)
    assert (rows - before, breaks) == (WRITERS * ROWS * 2 // 3, ())
    with engine.connect() as connection:
        numbers = list(connection.scalars(select(audit_log.c.number).order_by(audit_log.c.number)))
    assert numbers == list(range(1, rows + 1))
    assert head.number == rows


@pytest.mark.parametrize("change", ["UPDATE audit_log SET actor = 'x'", "DELETE FROM audit_log", "TRUNCATE audit_log"])
def test_nobody_changes_the_log_not_even_a_superuser(engine: Engine, change: str) -> None:
    with pytest.raises(ProgrammingError, match="append-only"), engine.begin() as connection:
        connection.execute(text(change))


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        ("DELETE FROM audit_log WHERE number = 2", "row 2 is missing"),
        ("DELETE FROM audit_log WHERE number > 2", "are missing"),
        ("UPDATE audit_log SET details = '{}' WHERE number = 2", "row 2 (audit_id"),
        ("UPDATE audit_log SET at = at + interval '1 microsecond' WHERE number = 1", "row 1 (audit_id"),
        ("UPDATE audit_log SET login = 'eve' WHERE number = 3", "row 3 (audit_id"),
        ("DELETE FROM audit_head", "gone from audit_head"),
    ],
)
def test_what_is_done_behind_the_triggers_shows(engine: Engine, harm: str, said: str) -> None:
    with engine.connect() as connection:
        for number in range(4):
            append(connection, f"ann {number}")
        connection.execute(text("SET LOCAL session_replication_role = replica"))  # no trigger fires
        connection.execute(text(harm))
        breaks = audit.verify(connection).breaks
        connection.rollback()
    assert said in "; ".join(breaks)


def test_commands_list_verify_and_lead_to_an_earlier_head(
    url: str, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FUSIONWATCH_DATABASE_URL", url)
    with engine.begin() as connection:
        append(connection, "carol", "promoted by hand")
    rows, _, head = verified(engine)
    assert f"{rows} rows hold; head {head}" in monitor_says("audit", "verify")
    listed = monitor_says("audit", "list", "--actor", "carol", "--json")
    assert '"action": "promoted by hand"' in listed
    assert '"login": "postgres"' in listed
    with engine.begin() as connection:
        append(connection, "dan")
    assert "rows hold" in monitor_says("audit", "verify", "--head", str(head))
    forged = Head(head.number, bytes(32))
    assert "was cut or written anew" in monitor_says("audit", "verify", "--head", str(forged))
    assert "is no head" in monitor_says("audit", "verify", "--head", "yesterday's")


@pytest.fixture(scope="module")
def watched(postgres_server: servers.Database) -> Iterator[tuple[Stage, Security, str]]:
    """A model with a slot of traffic, and the task that watches its database."""
    url = postgres_server.create("security_tests", template="template")
    made, clock = connect(url, application="test"), StoryClock(datetime.now(UTC))
    stage = Stage(made, clock)
    stage.register("v1")
    stage.slot(Traffic())
    chosen = settings(url)
    task = Security(
        made, "fusion", reads_per_hour=2, alerting=alert_wiring.alerting(chosen), metrics=Metrics(), clock=clock
    )
    with made.begin() as connection:
        connection.execute(text("CREATE ROLE reader_of_tests LOGIN IN ROLE fusionwatch_embeddings"))
    yield stage, task, url
    made.dispose()
    postgres_server.drop("security_tests")
    servers.Database(postgres_server.url)._execute("DROP ROLE reader_of_tests")


def firing(stage: Stage) -> list[str]:
    """Summaries of the security alerts that fire."""
    with stage.engine.connect() as connection:
        rows = connection.execute(
            select(alerts).where(alerts.c.alertname == "SecurityEvent", alerts.c.state == "firing")
        )
        return [f"{row.severity}: {row.annotations['summary']}" for row in rows]


def look(stage: Stage, task: Security) -> list[str]:
    stage.clock.at = max(datetime.now(UTC), stage.clock.at + timedelta(seconds=1))
    task.run()
    return firing(stage)


ANNOUNCE = text(
    "SELECT announce_read(:actor, 'a study', 'v1', 'image', now() - interval '2 days', now() + interval '2 days')"
)
READ = text("SELECT * FROM read_embeddings(:announced)")


def test_embeddings_are_read_only_by_who_announced_it_and_unusual_reads_page(
    watched: tuple[Stage, Security, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    stage, task, url = watched
    assert look(stage, task) == [], "nothing has happened"
    reader = create_engine(make_url(url).set(username="reader_of_tests"))
    with reader.connect() as connection:
        announced = connection.scalar(ANNOUNCE, {"actor": "eve"})
        with pytest.raises(ProgrammingError, match="no committed announce_read"):
            connection.execute(READ, {"announced": announced})  # whoever rolls back has read nothing
        connection.rollback()
        assert look(stage, task) == []
        with pytest.raises(ProgrammingError, match="permission denied"):
            connection.execute(text("SELECT bins FROM summaries"))
        connection.rollback()
        with pytest.raises(DBAPIError, match="who reads embeddings, and why"):
            connection.scalar(ANNOUNCE, {"actor": " "})
        connection.rollback()
        announced = connection.scalar(ANNOUNCE, {"actor": "eve"})
        connection.commit()
        rows = connection.execute(READ, {"announced": announced}).all()
        assert rows
        assert bins.load(bytes(rows[0].bins)).rows > 0
        assert look(stage, task) == ["page: eve read embeddings through login reader_of_tests for the first time."]
        for _ in range(2):
            connection.scalar(ANNOUNCE, {"actor": "eve"})
            connection.commit()
    with stage.engine.connect() as connection, pytest.raises(ProgrammingError, match="of this login"):
        connection.execute(READ, {"announced": announced})  # what another login announced
    reader.dispose()
    look(stage, task)
    with stage.engine.connect() as connection:
        told = audit.readers(connection, stage.clock.now())
    assert [(each.login, each.actor, each.reads, each.known) for each in told] == [("reader_of_tests", "eve", 3, False)]

    stage.clock.advance(3700)
    task.run()
    assert firing(stage) == [], "an hour later it is over"

    monkeypatch.setenv("FUSIONWATCH_DATABASE_URL", url)
    out = tmp_path / "bins.npz"
    told_times = [(stage.clock.now() + timedelta(days=days)).isoformat() for days in (-2, 2)]
    words = ["embeddings", "export", str(out), "--modality", "image", "--reason", "a study"]
    said = monitor_says(*words, "--since", told_times[0], "--until", told_times[1])
    assert "bins of v1 written" in said.replace("\n", " ")
    with np.load(out) as written:
        assert written["features"].shape == (len(written["count"]), 16)
    assert "exists already" in monitor_says(*words, "--since", told_times[0], "--until", told_times[1])
    assert "no time with its zone" in monitor_says(*words[:2], "x", *words[3:], "--since", "now", "--until", "now")
    assert "a study" in monitor_says("audit", "list", "--action", "embeddings_read")


def test_a_sample_of_whole_embeddings_is_the_smallest_draws_of_each_hour_and_class_and_its_reading_is_audited(
    watched: tuple[Stage, Security, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    _, _, url = watched
    made = [predicted(f"sampled-{number}", number) for number in range(400)]
    features = FeatureMap.fit(np.array([row.prediction.embeddings["image"] for row in made]))
    projector = Projector(len(CLASSES), dict.fromkeys(FINGERPRINTS, features))
    baseline = Baseline(projector, {}, {}, {"encoders": FINGERPRINTS})
    with connected(url) as engine:
        for writer in range(2):  # each with its own half of the rows, and one of them forgetful
            for part in range(2):
                windows = WindowSummaries(modalities(), 60, 8, f"w{writer}{part}", sample_rows=3)
                windows.add_version(VERSION, len(CLASSES), FINGERPRINTS, baseline)
                ours = Recorder(engine, f"group {writer}{part}", "k1", windows)
                rows = [row for row in made if row.record.offset % 2 == writer][part::2]
                for start in range(0, len(rows), 7):
                    ours.write(rows[start : start + 7], {})
    monkeypatch.setenv("FUSIONWATCH_DATABASE_URL", url)
    out = tmp_path / "sample.npz"
    since, until = (AT + timedelta(days=days) for days in (-1, 1))
    words = ["embeddings", "sample", str(out), "--modality", "image", "--reason", "a closer look", "--version", VERSION]
    between = ["--since", since.isoformat(), "--until", until.isoformat()]
    said = monitor_says(*words, *between).replace("\n", " ")
    assert f"{3 * len(CLASSES)} embeddings of 8 numbers of {VERSION} written" in said
    with np.load(out) as written:
        found = dict(written)
    by_class = {label: [row for row in made if row.prediction.label == label] for label in CLASSES}
    smallest = [
        row
        for label in CLASSES
        for row in sorted(by_class[label], key=lambda row: embedding_samples.draw(row.request.request_id))[:3]
    ]
    assert found["request_ids"].tolist() == [row.request.request_id for row in smallest]
    assert found["predictions"].tolist() == [row.prediction.label for row in smallest]
    assert set(found["routes"].tolist()) == {"fused"}
    assert set(found["hours"].tolist()) == {AT.replace(tzinfo=None, minute=0, second=0, microsecond=0)}
    wanted = np.array([row.prediction.embeddings["image"] for row in smallest])
    np.testing.assert_allclose(found["vectors"], wanted, rtol=2**-10, atol=1e-7)
    assert "a closer look" in monitor_says("audit", "list", "--action", "embeddings_read")
    nothing = [*words[:2], "other.npz", *words[3:], "--since", until.isoformat(), "--until", until.isoformat()]
    assert "has no sampled embeddings of 'image' in that time" in monitor_says(*nothing).replace("\n", " ")


def test_a_broken_chain_pages_until_it_holds_again(watched: tuple[Stage, Security, str]) -> None:
    stage, task, _ = watched
    with stage.engine.begin() as connection:
        append(connection, "ann")
        append(connection, "bob")
    stage.clock.advance(7200)
    task.run()
    assert firing(stage) == []
    with stage.engine.begin() as connection:
        connection.execute(text("SET LOCAL session_replication_role = replica"))
        connection.execute(text("CREATE TABLE saved AS SELECT * FROM audit_log WHERE actor = 'bob'"))
        connection.execute(text("DELETE FROM audit_log WHERE actor = 'bob'"))
    assert len(told := look(stage, task)) == 1
    assert told[0].startswith("page: The audit log was tampered with: row ")
    assert look(stage, task) == told, "and goes on"
    with stage.engine.begin() as connection:
        connection.execute(text("SET LOCAL session_replication_role = replica"))
        connection.execute(text("INSERT INTO audit_log OVERRIDING SYSTEM VALUE SELECT * FROM saved; DROP TABLE saved"))
    assert look(stage, task) == []
    assert look(stage, task) == []
