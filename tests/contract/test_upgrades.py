"""The schema is upgraded beside programs at work: no statement of theirs fails, and none waits for long."""

from __future__ import annotations

import argparse
import ast
import itertools
import re
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from unittest import mock

import pytest
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, create_engine, inspect, text
from sqlalchemy.exc import OperationalError
from typer.testing import CliRunner

from demo import servers
from migrations.__main__ import app
from migrations.connect import MINIMUM_REVISION, require_revision
from migrations.schema import metadata
from tests.support.schemas import breaks, tables

VERSIONS = Path(__file__).parents[2] / "migrations/versions"
# No program ran on an older schema than this one.
FIRST_RELEASE = "0013"
# Their rows come with the traffic: an index takes long, during which nobody may wait for it.
GROWING = {"prediction_log", "modality_log", "request_ids", "labels", "summaries", "dead_letters", "shadow_log"}
# What a worker wrote when the schema was new. Each is one request's share of a transaction.
FIRST_STATEMENTS = (
    "INSERT INTO request_ids (request_id, logged_at) VALUES (:id, :now) ON CONFLICT DO NOTHING",
    'INSERT INTO prediction_log (request_id, logged_at, produced_at, topic, partition, "offset", schema_version, '
    "model_version, route, status, degraded, queue_ms, preprocess_ms, encode_ms, fuse_ms, total_ms) "
    "VALUES (:id, :now, :now, 't', 0, :number, 1, 'v1', 'fused', 'ok', false, 0, 0, 0, 0, 0)",
    "INSERT INTO modality_log (request_id, modality, logged_at, status) VALUES (:id, 'image', :now, 'present')",
    "INSERT INTO summaries (slot_start, model_version, modality, topic, partition, first_offset, slot_seconds, "
    "worker_id, encoder_fingerprint, counts, bins, updated_at) "
    "VALUES (:now, 'v1', 'image', 't', 0, :number, 60, 'w', 'f', '{}', '', :now)",
    "INSERT INTO consumer_offsets (group_id, topic, partition, next_offset, updated_at) VALUES ('g', 't', 0, :number, "
    ":now) ON CONFLICT (group_id, topic, partition) DO UPDATE SET next_offset = excluded.next_offset",
    "INSERT INTO labels (request_id, label, labelled_at, received_at, source) VALUES (:id, 'cat', :now, :now, 'user') "
    "ON CONFLICT (request_id) DO UPDATE SET label = excluded.label",
    'INSERT INTO dead_letters (topic, partition, "offset", error_code, error_detail) '
    "VALUES ('t', 0, :number, 'c', '')",
    "SELECT version FROM model_aliases WHERE model = 'm' AND alias = 'champion'",
)
_numbers = itertools.count(1)


@pytest.fixture
def empty(postgres_server: servers.Database, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The URL of a database without a schema, which Alembic finds."""
    name = f"upgrade_{next(_numbers)}"
    url = postgres_server.create(name)
    monkeypatch.setenv("FUSIONWATCH_DATABASE_URL", url)
    yield url
    postgres_server.drop(name)


def upgrade(revision: str, **options: str) -> None:
    """As `alembic -x KEY=VALUE upgrade REVISION` does it."""
    config = Config(
        str(VERSIONS.parents[1] / "alembic.ini"),
        cmd_opts=argparse.Namespace(x=[f"{key}={value}" for key, value in options.items()]),
    )
    command.upgrade(config, revision)


def revisions() -> list[str]:
    script = ScriptDirectory.from_config(Config(str(VERSIONS.parents[1] / "alembic.ini")))
    return [each.revision for each in script.walk_revisions()][::-1]


class FirstWriter:
    """Writes as a worker of the first schema did, until it is left; each statement gives up a lock after 5 s."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._left = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.failure: Exception | None = None
        self.written = 0
        self.longest = 0.0

    def _run(self) -> None:
        try:
            while not self._left.is_set():
                begun, now = time.monotonic(), datetime.now(UTC)
                with self._engine.begin() as connection:
                    connection.execute(text("SET LOCAL lock_timeout = '5s'"))
                    for statement in FIRST_STATEMENTS:
                        connection.execute(
                            text(statement), {"id": f"r{self.written}", "now": now, "number": self.written}
                        )
                self.written += 1
                self.longest = max(self.longest, time.monotonic() - begun)
        except Exception as error:  # noqa: BLE001  # a thread's edge: told by the test
            self.failure = error

    def __enter__(self) -> FirstWriter:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._left.set()
        self._thread.join()


def test_a_worker_of_the_first_schema_writes_on_through_every_upgrade(empty: str) -> None:
    upgrade("0001")
    engine = create_engine(empty)
    with FirstWriter(engine) as writer:
        while not writer.written and writer.failure is None:
            time.sleep(0.01)
        for revision in revisions()[1:]:
            before = writer.written
            upgrade(revision)
            while writer.written == before and writer.failure is None:
                time.sleep(0.01)
    assert writer.failure is None
    print(f"{writer.written} transactions, the longest took {writer.longest:.3f} s")
    with engine.connect() as connection:
        for table in ("prediction_log", "modality_log", "request_ids", "labels", "summaries", "dead_letters"):
            assert connection.scalar(text(f"SELECT count(*) FROM {table}")) == writer.written
    engine.dispose()


def test_a_migration_that_gets_no_lock_gives_up_holds_up_nobody_and_goes_on_later(empty: str) -> None:
    upgrade("0001")
    engine = create_engine(empty)
    with engine.connect() as reader:
        reader.execute(text("SELECT * FROM alerts"))  # 0007 alters the table
        with pytest.raises(OperationalError) as refused:
            upgrade("head", lock_timeout="100ms")
        assert getattr(refused.value.orig, "pgcode", None) == "55P03", "lock_not_available"
        with engine.begin() as other:
            other.execute(text("SET LOCAL lock_timeout = '1ms'"))
            other.execute(text("SELECT * FROM alerts"))
            assert other.scalar(text("SELECT version_num FROM alembic_version")) == "0006", "what was done stays done"
    upgrade("head")
    assert require_revision(engine) == revisions()[-1]
    engine.dispose()


def test_of_two_migrations_the_second_waits_without_a_snapshot_until_the_first_has_ended(empty: str) -> None:
    engine = create_engine(empty)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as first:
        first.execute(text("SELECT pg_advisory_lock(hashtext('fusionwatch.migrations'))"))
        waited: list[int] = []

        def look(_seconds: float) -> None:
            waited.append(
                first.scalar(
                    text(
                        "SELECT count(*) FROM pg_stat_activity WHERE backend_xmin IS NOT NULL "
                        "AND datname = current_database() AND pid <> pg_backend_pid()"
                    )
                )
                or 0
            )
            assert not inspect(engine).get_table_names()
            if len(waited) == 3:
                first.execute(text("SELECT pg_advisory_unlock(hashtext('fusionwatch.migrations'))"))

        with mock.patch("time.sleep", look):
            upgrade("0001")
    assert waited == [0, 0, 0]
    assert "prediction_log" in inspect(engine).get_table_names()
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'")) == 0
    engine.dispose()


def test_expanding_gives_this_version_all_it_names_and_contracting_ends_at_the_newest_revision(empty: str) -> None:
    engine = create_engine(empty)
    assert CliRunner().invoke(app, ["expand"]).exit_code == 0
    assert require_revision(engine) == MINIMUM_REVISION
    found = tables(engine)
    for table in metadata.tables.values():
        assert {column.name for column in table.columns} <= found[table.name]["columns"].keys()
    assert CliRunner().invoke(app, ["contract"]).exit_code == 0
    assert CliRunner().invoke(app, ["expand"]).exit_code == 0, "a rollout of the same version again"
    assert require_revision(engine) == revisions()[-1]
    assert CliRunner().invoke(app, ["shrink"]).exit_code == 2
    engine.dispose()


def test_older_programs_run_on_every_schema_that_this_version_needs(empty: str) -> None:
    upgrade(FIRST_RELEASE)
    engine = create_engine(empty)
    before = tables(engine)
    for revision in (each for each in revisions() if FIRST_RELEASE < each <= MINIMUM_REVISION):
        upgrade(revision)
        after = tables(engine)
        assert breaks(before, after) == [], f"{revision} contracts: it belongs behind MINIMUM_REVISION"
        before = after
    engine.dispose()


def test_what_older_programs_could_not_run_on_is_found(empty: str) -> None:
    upgrade(FIRST_RELEASE)
    engine = create_engine(empty)
    before = tables(engine, {"labels"})
    for change, told in (
        ("ALTER TABLE labels DROP COLUMN verdict", "labels.verdict is gone"),
        ("ALTER TABLE labels ALTER COLUMN verdict SET NOT NULL", "labels.verdict was"),
        ("ALTER TABLE labels ADD COLUMN reviewer text NOT NULL", "labels.reviewer is new, and must be given"),
        ("ALTER TABLE labels ALTER COLUMN label TYPE varchar(10)", "labels.label was"),
        ("ALTER TABLE labels DROP CONSTRAINT pk_labels", "labels: other keys"),
        ("ALTER TABLE labels ADD CHECK (label <> '')", "labels: labels_label_check is stricter"),
        ("DROP TABLE labels", "labels is gone"),
        ("ALTER TABLE labels ADD COLUMN reviewer text NOT NULL DEFAULT ''", None),
        (
            "ALTER TABLE labels DROP CONSTRAINT ck_labels_source, ADD CONSTRAINT ck_labels_source "
            "CHECK (source IN ('human_review', 'ground_truth', 'user', 'model'))",
            None,
        ),
        (
            "ALTER TABLE labels DROP CONSTRAINT ck_labels_source, ADD CONSTRAINT ck_labels_source "
            "CHECK (source IN ('human_review', 'user'))",
            "labels: ck_labels_source is stricter",
        ),
    ):
        with engine.connect() as connection:
            connection.execute(text(change))
            found = breaks(before, tables(connection, before))
        assert len(found) == (told is not None), (change, found)
        assert told is None or found[0].startswith(told)
    engine.dispose()


def test_an_index_on_a_table_that_grows_is_made_concurrently() -> None:
    calls = []
    for path in sorted(VERSIONS.glob("*.py"))[1:]:
        tree = ast.parse(path.read_text())
        made = {_text(call.args[0]) for call in _calls(tree, "create_table")}
        for call in _calls(tree, "create_index"):
            table = _text(call.args[1])
            calls.append(table)
            options = {each.arg for each in call.keywords}
            assert table in made or table not in GROWING or "postgresql_concurrently" in options, (
                f"{path.name}: {table}"
            )
        for statement in re.findall(
            r"CREATE (?:UNIQUE )?INDEX (?!CONCURRENTLY).*? ON (?:ONLY )?(\w+)", path.read_text()
        ):
            assert statement in made or statement not in GROWING, f"{path.name}: {statement}"
    assert calls


def _calls(tree: ast.AST, name: str) -> Iterator[ast.Call]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == name:
            yield node


def _text(node: ast.expr) -> str:
    return str(node.value) if isinstance(node, ast.Constant) else ""
