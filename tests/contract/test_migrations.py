"""The schema in the database is the schema in the code, both ways, and its partitions are there ahead of time."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, inspect, text

from migrations.connect import MINIMUM_REVISION, SchemaTooOldError, connect, require_revision
from migrations.schema import metadata
from migrations.schema.partitions import DAYS_AHEAD, days_ahead, ensure_partitions, is_partition

ROOT = Path(__file__).parents[2]


def _alembic(url: str, monkeypatch: pytest.MonkeyPatch) -> Config:
    monkeypatch.setenv("FUSIONWATCH_DATABASE_URL", url)
    return Config(str(ROOT / "alembic.ini"))


def test_migrations_make_exactly_the_tables_of_the_code(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    command.check(_alembic(database, monkeypatch))  # raises where autogenerate would find a difference


def test_down_and_up_again(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    config = _alembic(database, monkeypatch)
    engine = create_engine(database)
    command.downgrade(config, "base")
    assert inspect(engine).get_table_names() == ["alembic_version"]
    with pytest.raises(SchemaTooOldError, match="alembic upgrade head"):
        require_revision(engine)
    command.upgrade(config, "head")
    tables = {name for name in inspect(engine).get_table_names() if not is_partition(name)}
    assert tables == set(metadata.tables) | {"alembic_version"}
    assert require_revision(engine) >= "0001"
    engine.dispose()


def test_a_program_refuses_the_schema_before_its_own(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    config = _alembic(database, monkeypatch)
    engine = create_engine(database)
    before = ScriptDirectory.from_config(config).get_revision(MINIMUM_REVISION).down_revision
    assert isinstance(before, str)
    command.downgrade(config, before)
    with pytest.raises(SchemaTooOldError, match=f"is at {before}; this program needs {MINIMUM_REVISION}"):
        require_revision(engine)
    command.upgrade(config, "head")
    assert require_revision(engine) >= MINIMUM_REVISION
    engine.dispose()


def test_numbers_of_baselines_deleted_before_they_were_counted_stay_used(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = _alembic(database, monkeypatch)
    command.downgrade(config, "0004")
    engine = create_engine(database)
    with engine.begin() as connection:
        for version in ("v", "v 1", "w"):
            connection.execute(
                text(
                    "INSERT INTO model_versions VALUES (:version, 'm', 'f', 'c', 's', '{a}', '{image}', '{}', NULL);"
                    "INSERT INTO baselines (model_version, number, origin, facts) VALUES (:version, 2, 'period', '{}')"
                ),
                {"version": version},
            )
        for action, subject in (("deleted", "v 5"), ("deleted", "v 1 7"), ("made", "v 9"), ("deleted", "gone 3")):
            connection.execute(
                text("INSERT INTO audit_log (actor, action, subject, details) VALUES ('a', :action, :subject, '{}')"),
                {"action": f"baseline_{action}", "subject": f"baseline {subject}"},
            )
    command.upgrade(config, "head")
    with engine.connect() as connection:
        counted = connection.execute(text("SELECT version, last_baseline_number FROM model_versions")).all()
    engine.dispose()
    assert {row.version: row.last_baseline_number for row in counted} == {"v": 5, "v 1": 7, "w": 2}


def test_what_a_challenger_said_is_kept_when_its_table_becomes_one_of_days(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = _alembic(database, monkeypatch)
    engine = create_engine(database)
    command.downgrade(config, "0012")
    insert = (
        "INSERT INTO shadow_log (rollout_id, request_id, logged_at, status, champion_prediction, champion_confidence, "
        "champion_model_ms) VALUES (1, :request_id, now() - interval '3 days', 'ok', 'a', 1, 1)"
    )
    with engine.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO model_versions VALUES ('v', 'm', 'f', 'c', 's', '{a}', '{image}', '{}', NULL); "
                "INSERT INTO rollouts (model, version, champion, stage, percent, step_since, checked_until) "
                "VALUES ('m', 'v', 'v', 'shadow', 10, now(), now())"
            )
        )
        connection.execute(text(insert), {"request_id": "before"})
    command.upgrade(config, "head")
    with engine.begin() as connection:
        connection.execute(text(insert), {"request_id": "after"})
        said = connection.execute(text("SELECT shadow_id, request_id FROM shadow_log ORDER BY shadow_id")).all()
        partitions = connection.scalar(
            text("SELECT count(*) FROM pg_inherits WHERE inhparent = 'shadow_log'::regclass")
        )
    engine.dispose()
    assert [tuple(row) for row in said] == [(1, "before"), (2, "after")]
    assert partitions == 3 + 1 + DAYS_AHEAD


def test_sessions_work_in_utc_whatever_the_server_says(database: str) -> None:
    engine = connect(database, application="test")
    with engine.connect() as connection:
        assert connection.scalar(text("SHOW timezone")) == "UTC"
    engine.dispose()


def test_partitions_are_made_ahead_and_making_them_again_is_safe(database: str) -> None:
    today = datetime.now(UTC).date()
    engine = create_engine(database)
    with engine.begin() as connection:
        assert days_ahead(connection, today) == DAYS_AHEAD
        later = today + timedelta(days=2)
        made = ensure_partitions(connection, later)
        assert len(made) == 6, "three tables, two more days"
        assert ensure_partitions(connection, later) == []
        assert days_ahead(connection, later) == DAYS_AHEAD
        assert days_ahead(connection, date(1999, 1, 1)) == -1
    engine.dispose()
