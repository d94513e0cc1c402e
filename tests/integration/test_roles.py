"""Each role does what its program needs and is refused the rest; roles are made once for the databases of a cluster."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine, create_engine, make_url, text
from sqlalchemy.exc import ProgrammingError

from demo import servers
from migrations import grants
from migrations.schema import metadata
from migrations.schema.partitions import ensure_partitions, partition_name
from tests.support.grafana import psql

OWNER, RETENTION = grants.OWNER, grants.RETENTION
WRITER, TRAINER, MONITOR = grants.WRITER, grants.TRAINER, grants.MONITOR
EMBEDDINGS, GRAFANA = grants.EMBEDDINGS, grants.GRAFANA

REFUSED = [
    (WRITER, "SELECT digest FROM modality_log"),
    (WRITER, "SELECT * FROM prediction_log"),
    (WRITER, "UPDATE prediction_log SET status = 'ok'"),
    (WRITER, "DELETE FROM prediction_log"),
    (WRITER, "SELECT bins FROM baseline_summaries"),
    (WRITER, "DELETE FROM summaries"),
    (WRITER, "SELECT embedding FROM embedding_samples"),
    (WRITER, "UPDATE embedding_samples SET kept = 1"),
    (WRITER, "SELECT details FROM audit_log"),
    (WRITER, "UPDATE consumer_offsets SET next_offset = 0; DROP TABLE consumer_offsets"),
    (WRITER, "INSERT INTO findings DEFAULT VALUES"),
    (WRITER, "UPDATE jobs SET state = 'queued'"),
    (WRITER, "UPDATE rollouts SET percent = 100"),
    (WRITER, "SELECT * FROM label_slots"),
    (WRITER, "INSERT INTO label_slots VALUES (now(), 'v', 1)"),
    (WRITER, "SELECT announce_read('w', 'r', 'v', 'm', now(), now())"),
    (TRAINER, "SELECT bins FROM summaries"),
    (TRAINER, "SELECT annotator_digest FROM labels"),
    (TRAINER, "INSERT INTO prediction_log DEFAULT VALUES"),
    (TRAINER, "INSERT INTO labels DEFAULT VALUES"),
    (TRAINER, "INSERT INTO jobs DEFAULT VALUES"),
    (TRAINER, "SELECT details FROM audit_log"),
    (MONITOR, "SELECT digest FROM modality_log"),
    (MONITOR, "SELECT annotator_digest FROM labels"),
    (MONITOR, "SELECT embedding FROM embedding_samples"),
    (MONITOR, "INSERT INTO prediction_log DEFAULT VALUES"),
    (MONITOR, "INSERT INTO labels DEFAULT VALUES"),
    (MONITOR, "UPDATE label_slots SET changes = 0"),
    (MONITOR, "UPDATE summaries SET bins = ''"),
    (MONITOR, "UPDATE findings SET verdict = 'ok'"),
    (MONITOR, "DELETE FROM alerts"),
    (MONITOR, "UPDATE audit_head SET number = 0"),
    (MONITOR, "ALTER TABLE audit_log DISABLE TRIGGER audit_kept"),
    (MONITOR, "UPDATE consumer_offsets SET next_offset = 0"),
    (RETENTION, "SELECT bins FROM baseline_summaries"),
    (RETENTION, "SELECT embedding FROM embedding_samples"),
    (RETENTION, "DELETE FROM findings"),
    (RETENTION, "DELETE FROM labels"),
    (RETENTION, "DROP TABLE findings"),
    (RETENTION, "SELECT details FROM audit_log"),
    (EMBEDDINGS, "SELECT bins FROM summaries"),
    (EMBEDDINGS, "SELECT embedding FROM embedding_samples"),
    (EMBEDDINGS, "SELECT * FROM audit_log"),
    (EMBEDDINGS, "INSERT INTO audit_log (actor, action, subject, details) VALUES ('a', 'b', 'c', '{}')"),
    (GRAFANA, "SELECT bins FROM summaries"),
    (GRAFANA, "SELECT bins FROM baseline_summaries"),
    (GRAFANA, "SELECT digest FROM modality_log"),
    (GRAFANA, "SELECT * FROM prediction_log"),
    (GRAFANA, "SELECT * FROM labels"),
    (GRAFANA, "INSERT INTO audit_log (actor, action, subject, details) VALUES ('a', 'b', 'c', '{}')"),
    (GRAFANA, "SELECT embedding FROM embedding_samples"),
    (GRAFANA, "SELECT * FROM read_embeddings(1)"),
    (GRAFANA, "SELECT * FROM read_embedding_samples(1)"),
]
LOGINS = Path("migrations/logins.sql").resolve()
MEMBERS = (
    "SELECT l.rolname AS login, l.rolcanlogin AS may_log_in, l.rolpassword IS NOT NULL AS has_password, array_agg("
    "r.rolname::text ORDER BY r.rolname) AS roles FROM pg_authid l JOIN pg_auth_members m ON m.member = l.oid "
    "JOIN pg_roles r ON r.oid = m.roleid WHERE starts_with(l.rolname, 'fusion_') GROUP BY 1, 2, 3"
)
NOBODY_CHANGES = [
    (role, f"{change} audit_log{rest}")
    for role in (WRITER, TRAINER, MONITOR, RETENTION, EMBEDDINGS, GRAFANA)
    for change, rest in (("UPDATE", " SET actor = 'x'"), ("DELETE FROM", ""), ("TRUNCATE", ""))
]


@pytest.fixture(scope="module")
def engine(postgres_server: servers.Database) -> Iterator[Engine]:
    made = create_engine(postgres_server.create("role_tests", template="template"))
    yield made
    made.dispose()
    postgres_server.drop("role_tests")


def test_every_refusal_holds(engine: Engine) -> None:
    allowed = []
    for role, statement in [*REFUSED, *NOBODY_CHANGES]:
        with engine.connect() as connection:
            connection.execute(text(f"SET ROLE {role}"))
            try:
                connection.execute(text(statement))
                allowed.append((role, statement))
            except ProgrammingError as error:
                refusal = str(error.orig)
                if "permission denied" not in refusal and "must be owner" not in refusal:
                    allowed.append((role, f"{statement}: {refusal}"))
            connection.rollback()
    assert allowed == []


def test_every_table_is_some_programs_and_every_grant_names_one() -> None:
    granted = {table for tables in grants.GRANTS.values() for table in tables}
    assert granted == set(metadata.tables), "say in migrations/grants.py who may do what with a new table"


def test_the_log_is_retentions_to_make_and_drop_partitions_of_and_nothing_else_is(engine: Engine) -> None:
    later = datetime.now(UTC).date() + timedelta(days=30)
    with engine.connect() as connection:
        connection.execute(text(f"SET ROLE {RETENTION}"))
        assert len(ensure_partitions(connection, later, 0)) == 3
        for table in ("prediction_log", "modality_log"):
            name = partition_name(table, later)
            connection.execute(text(f"ALTER TABLE {table} DETACH PARTITION {name}"))
            connection.execute(text(f"DROP TABLE {name}"))
        connection.rollback()


def test_a_partition_belongs_to_retention_whoever_made_it(engine: Engine) -> None:
    later = datetime.now(UTC).date() + timedelta(days=40)
    with engine.connect() as connection:
        ensure_partitions(connection, later, 0)
        connection.execute(text(f"SET ROLE {RETENTION}"))
        connection.execute(text(f"DROP TABLE {partition_name('prediction_log', later)}"))
        connection.rollback()


def test_a_privilege_that_someone_added_is_gone_after_the_next_migration(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(text(f"GRANT SELECT, DELETE ON summaries TO {GRAFANA}"))
    servers.migrate(engine.url.render_as_string(hide_password=False))
    with engine.connect() as connection:
        connection.execute(text(f"SET ROLE {GRAFANA}"))
        connection.execute(text("SELECT counts FROM summaries"))
        with pytest.raises(ProgrammingError, match="permission denied"):
            connection.execute(text("SELECT bins FROM summaries"))


def test_each_program_gets_a_login_that_is_a_member_of_its_roles(engine: Engine) -> None:
    url = engine.url.render_as_string(hide_password=False)
    with pytest.raises(subprocess.CalledProcessError) as refused:
        psql(url, LOGINS, environment={"WORKER_PASSWORD": "w"})
    assert b":'trainer'" in refused.value.stderr, "a password is missing"
    passwords = {f"{name}_PASSWORD": f"the {name}'s" for name in ("WORKER", "TRAINER", "MONITOR", "API")}
    for _ in range(2):
        psql(url, LOGINS, environment=passwords)
    with engine.begin() as connection:
        members = connection.execute(text(MEMBERS)).all()
        connection.execute(text(f"DROP ROLE {', '.join(row.login for row in members)}"))
    servers.make_logins(url)
    assert {row.login: row.roles for row in members} == {
        "fusion_worker": [WRITER],
        "fusion_trainer": [TRAINER],
        "fusion_monitor": [MONITOR, RETENTION],
        "fusion_api": [MONITOR],
    }
    assert all(row.may_log_in and row.has_password for row in members)


@pytest.fixture
def own_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[servers.Database]:
    """A cluster in which no role was made yet; not in pytest's folder, which other users may not enter."""
    with tempfile.TemporaryDirectory(prefix="fusionwatch-") as folder, servers.postgres(Path(folder)) as server:
        yield server


def as_login(server: servers.Database, login: str, database: str) -> str:
    """The URL of a database that belongs to a login which is no superuser."""
    url = server.create(database)
    server._execute(f"ALTER DATABASE {database} OWNER TO {login}")
    return make_url(url).set(username=login).render_as_string(hide_password=False)


def test_migrating_without_a_superuser(own_cluster: servers.Database) -> None:
    for statement in ("CREATE ROLE plain LOGIN", "CREATE ROLE maker LOGIN CREATEROLE", "CREATE ROLE second LOGIN"):
        own_cluster._execute(statement)
    plain = as_login(own_cluster, "plain", "one")
    with pytest.raises(ProgrammingError, match="do not exist and plain may not make them") as refused:
        servers.migrate(plain)
    assert "fusionwatch_writer" in str(refused.value)
    assert "CREATE ROLE <name> NOLOGIN" in str(refused.value)
    servers.migrate(as_login(own_cluster, "maker", "two"))
    # the roles are there now, but the tables would have to be given to one that the login is no member of
    with pytest.raises(ProgrammingError, match="which plain is no member of"):
        servers.migrate(plain)
    own_cluster._execute(f"GRANT {OWNER}, {RETENTION} TO plain")
    servers.migrate(plain)
    engine = create_engine(plain)
    with engine.connect() as connection:
        owners = set(connection.scalars(text("SELECT tableowner FROM pg_tables WHERE schemaname = 'public'")))
    engine.dispose()
    assert owners == {OWNER, RETENTION}
