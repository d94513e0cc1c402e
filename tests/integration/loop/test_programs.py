"""The command as a person or a container runs it: a process of its own."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol

import pytest
from sqlalchemy import text

from demo.servers import free_port
from monitor import cli
from tests.support.monitored import HOP, NORMAL, SLOT, Stage

COMMAND = Path(sys.executable).parent / "fusionwatch-monitor"
STARTUP_SECONDS = 120


def environment(database: str, **changes: str) -> dict[str, str]:
    given = {"DATABASE_URL": database, "SLOT_SECONDS": str(SLOT), "HOP_SECONDS": str(HOP), "WINDOW_SECONDS": "30"}
    return {**os.environ, "COLUMNS": "200", **{f"FUSIONWATCH_{key}": value for key, value in (given | changes).items()}}


@dataclass(frozen=True)
class Ended:
    returncode: int
    stdout: str
    stderr: str


class Call(Protocol):
    def __call__(self, database: str, *arguments: str, **changes: str) -> Ended: ...


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Call]:
    """The command in this process, since importing all it needs takes seconds."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level

    def calling(database: str, *arguments: str, **changes: str) -> Ended:
        given = environment(database, **changes)
        with monkeypatch.context() as patch:
            for key, value in given.items():
                patch.setenv(key, value)
            patch.setattr(sys, "argv", ["fusionwatch-monitor", *arguments])
            with pytest.raises(SystemExit) as ended:
                cli.main()
        told = capsys.readouterr()
        return Ended(int(ended.value.code or 0), told.out, told.err)

    yield calling
    root.handlers[:] = handlers
    root.setLevel(level)


def get(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_run_becomes_ready_works_shows_metrics_and_ends_on_sigterm(stage: Stage, database: str, tmp_path: Path) -> None:
    stage.register("v1")
    stage.slot(NORMAL)
    port = free_port()
    changes = {"MONITOR_PORT": str(port), "DETECT_INTERVAL_SECONDS": "0.2", "GRACE_SECONDS": "0"}
    log = tmp_path / "monitor.log"
    with log.open("w") as output:
        process = subprocess.Popen([COMMAND, "run"], env=environment(database, **changes), stderr=output)
    try:
        deadline = time.monotonic() + STARTUP_SECONDS
        metrics = ""
        while 'fusion_scheduler_runs_total{job="detect",result="ok"}' not in metrics:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
            try:
                metrics = get(f"http://127.0.0.1:{port}/metrics")[1]
            except OSError:
                continue
        assert get(f"http://127.0.0.1:{port}/readyz") == (200, "ready\n")
        assert get(f"http://127.0.0.1:{port}/healthz") == (200, "ok\n")
        assert get(f"http://127.0.0.1:{port}/else")[0] == 404
        assert "fusion_scheduler_leader 1.0" in metrics
        assert stage.scalar("SELECT count(*) FROM findings") > 0
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 0, log.read_text()
    finally:
        process.kill()
        process.wait()
    assert "Traceback" not in log.read_text()
    assert stage.scalar("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") == 0


def test_wrong_settings_are_told_on_stderr_with_exit_code_2(database: str, call: Call) -> None:
    for command in (("run",), ("api",), ("check-settings",), ("jobs", "list")):
        ended = call(database, *command, HOP_SECONDS="7")
        assert ended.returncode == 2
        assert "hop_seconds 7 must be a multiple of slot_seconds 5" in ended.stderr
        assert ended.stdout == ""


def test_check_settings_shows_what_holds_without_secrets(database: str, call: Call) -> None:
    secret = '{"hook": {"channel": "webhook", "url": "http://x", "secret": "0123456789abcdef"}}'
    ended = call(database, "check-settings", RECEIVERS=secret)
    assert ended.returncode == 0
    assert "retrain_cooldown_seconds" in ended.stdout
    assert "0123456789abcdef" not in ended.stdout
    assert database not in ended.stdout


def test_a_retrain_by_hand_is_queued_listed_and_not_doubled(stage: Stage, database: str, call: Call) -> None:
    refused = call(database, "jobs", "retrain", "--reason", "new camera")
    assert (refused.returncode, "has no champion" in refused.stderr) == (1, True)
    stage.register("v1")
    first = call(database, "jobs", "retrain", "--reason", "new camera")
    assert (first.returncode, first.stdout) == (0, "job 1 is queued\n")
    second = call(database, "jobs", "retrain", "--reason", "again")
    assert (second.returncode, "active job already" in second.stderr) == (1, True)
    assert "queued" in call(database, "jobs", "list").stdout
    assert stage.scalar("SELECT details ->> 'reason' FROM audit_log") == "new camera"
    eta = (datetime.now(UTC) + timedelta(minutes=10)).isoformat()
    with stage.engine.begin() as connection:
        progress = json.dumps({"phase": "training", "step": 40, "steps": 200, "loss": 0.25, "eta": eta})
        connection.execute(text("UPDATE jobs SET state = 'running', progress = :p"), {"p": progress})
    for command in (("list",), ("show", "1")):
        assert "training, step 40 of 200, loss 0.250, about 10 min left" in call(database, "jobs", *command).stdout
    assert "has no job 2" in call(database, "jobs", "show", "2").stderr
    assert call(database, "jobs", "cancel", "1", "--reason", "?").stdout == "job 1 is cancelled; it was running\n"
    again = call(database, "jobs", "cancel", "1", "--reason", "?")
    assert (again.returncode, "nothing left to cancel" in again.stderr) == (1, True)


def test_a_database_that_is_not_migrated_or_not_there_is_told_in_words(database: str, stage: Stage, call: Call) -> None:
    with stage.engine.begin() as connection:
        connection.execute(text("DELETE FROM alembic_version"))
    ended = call(database, "run", MONITOR_PORT="0")
    assert ended.returncode == 1
    assert "alembic upgrade head" in ended.stderr
    gone = call("postgresql+psycopg2://nobody@127.0.0.1:1/none", "alerts", "list")
    assert gone.returncode == 1
    assert "the database cannot be used" in gone.stderr
    assert "Traceback" not in gone.stderr + ended.stderr


RUNBOOKS = sorted((Path(__file__).parents[3] / "dashboards" / "runbooks").glob("*.md"))


@pytest.mark.parametrize("path", RUNBOOKS, ids=lambda path: path.stem)
def test_every_query_of_a_runbook_runs(path: Path, stage: Stage) -> None:
    queries = [
        line.split('-c "')[1].rstrip('"') for line in path.read_text().splitlines() if "psql" in line and "-c" in line
    ]
    assert len(queries) >= 3
    with stage.engine.connect() as connection:
        for query in queries:
            connection.execute(text(query.replace(":", "\\:")))


def test_baselines_by_command(call: Call, stage: Stage, database: str) -> None:
    stage.register("v1")
    stage.clock.advance(-86400)  # commands go by the real clock: the period must be over
    start = stage.clock.now()
    for _ in range(6):
        stage.slot(NORMAL)
        stage.clock.advance(SLOT)
    period = ("--from", start.isoformat(), "--to", stage.clock.now().isoformat())
    late = ("--from", start.isoformat(), "--to", "2999-01-01T00:00Z")
    refused = call(database, "baseline", "make", *late, "--reason", "x")
    assert (refused.returncode, refused.stderr.strip()) == (1, "a period must be over and at most 35 days long")
    assert "that is no period" in call(database, "baseline", "make", "--from", "x", "--to", "y", "--reason", "z").stderr
    made = call(database, "baseline", "make", *period, "--pin", "--reason", "quiet")
    assert made.returncode == 0, made.stderr
    assert "baseline 2 of v1 is made and pinned: rows fused 1200, image 1200, text 1200" in made.stdout
    assert "0 labels of complete requests came in the period: 200 are needed" in made.stdout
    listed = call(database, "baseline", "list").stdout
    assert "checkpoint" in listed
    assert "period" in listed
    assert "pinned" in listed
    compared = call(database, "baseline", "compare", "1", "2")
    assert compared.returncode == 0
    assert "embedding_mmd" in compared.stdout
    assert "drift" not in compared.stdout.replace("class_drift", "").replace("No drift", "")
    assert call(database, "baseline", "unpin", "--reason", "back").stdout.strip() == "baseline 2 is no longer pinned"
    assert call(database, "baseline", "unpin", "--reason", "back").returncode == 1
    assert (
        call(database, "baseline", "pin", "2", "--reason", "again").stdout.strip() == "v1 is compared with baseline 2"
    )
    assert "pin another one first" in call(database, "baseline", "delete", "2", "--reason", "x").stderr
    assert call(database, "baseline", "delete", "1", "--reason", "x").returncode == 0
