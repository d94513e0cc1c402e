"""Trainers that are sent for queued jobs: one for each attempt, by every kind of launcher."""

from __future__ import annotations

import json
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update
from torch.distributed.run import get_args_parser

from migrations.schema.monitoring import jobs
from monitor import loop_wiring
from monitor.channels.webhook import signature
from monitor.launchers.base import Launch, LaunchError, build, kinds
from monitor.launchers.kubernetes import KubernetesOptions, manifest
from monitor.launchers.torchrun import TorchrunLauncher, TorchrunOptions
from monitor.storage import jobs as stored
from monitor.telemetry import Metrics
from tests.support.http_stub import answering
from tests.support.monitored import Stage, settings

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
WANTED = Launch(7, "fusion", 2, NOW + timedelta(hours=6), NOW)
SECRET = "0123456789abcdef"


def until_written(path: Path) -> str:
    deadline = time.monotonic() + 60
    while not (path.exists() and path.read_text().endswith("\n")):
        assert time.monotonic() < deadline, f"nothing was written to {path}"
        time.sleep(0.02)
    return path.read_text()


def test_kinds_are_found_and_wrong_options_are_told() -> None:
    assert set(kinds()) == {"process", "torchrun", "kubernetes", "webhook"}
    for options, told in (
        ({"kind": "smoke"}, "kind must be one of"),
        ({"kind": "process", "comand": []}, "comand"),
        ({"kind": "torchrun", "hosts": ["a", "b"]}, "meet: expected host:port"),
        ({"kind": "webhook", "url": "http://x", "secret": "short"}, "16"),
    ):
        with pytest.raises(ValueError, match=told):
            build(options)


def test_one_trainer_is_sent_for_each_attempt_and_again_when_none_came(
    stage: Stage, database: str, tmp_path: Path
) -> None:
    stage.register("v1")
    out = tmp_path / "sent"
    # what is started writes down how it was called
    code = f"import sys; open({str(out)!r}, 'a').write(' '.join(sys.argv[1:]) + chr(10))"
    launcher = {"kind": "process", "command": [sys.executable, "-c", code]}
    queue = loop_wiring.jobs(settings(database, launcher=launcher), stage.engine, Metrics(), stage.clock)

    def row() -> Any:
        with stage.engine.connect() as connection:
            return connection.execute(select(jobs)).one()

    now = stage.clock.now()
    with stage.engine.begin() as connection:
        stored.queue(connection, "fusion", {}, now=now, deadline=now + timedelta(hours=6))
    for _ in range(3):
        queue.run()
    assert until_written(out) == "--job 1\n", "once"
    assert row().launched_attempt == 1
    assert row().launch["started"].startswith("process ")
    stage.clock.advance(601)
    queue.run()
    assert row().launched_at == stage.clock.now(), "nobody had claimed it"
    with stage.engine.begin() as connection:
        lease = stage.clock.now() + timedelta(seconds=60)
        connection.execute(update(jobs).values(state="running", claimed_by="t1", attempts=1, lease_until=lease))
    queue.run()
    stage.clock.advance(61)
    queue.run()
    assert (row().state, row().launched_attempt) == ("queued", 2), "the trainer was lost: another one is sent"
    sent: Any = queue._launcher
    for each in sent._started:
        assert each.wait(timeout=60) == 0
    assert out.read_text() == "--job 1\n" * 3

    broken = settings(database, launcher={"kind": "process", "command": ["/no/such/program"]})
    with stage.engine.begin() as connection:
        connection.execute(update(jobs).values(launched_attempt=None))
    loop_wiring.jobs(broken, stage.engine, Metrics(), stage.clock).run()
    assert row().launch == {"failed": "/no/such/program: No such file or directory"}
    assert row().launched_attempt is None, "it is tried again at the next look"


def test_torchrun_takes_what_it_is_given_on_one_machine_and_on_many() -> None:
    """Read by the parser of torchrun itself, which refuses what it does not know."""
    parser = get_args_parser()
    ((program, *alone),) = TorchrunLauncher(TorchrunOptions(processes=4)).commands(WANTED)
    assert program == "torchrun"
    parsed = parser.parse_args(alone)
    assert (parsed.standalone, parsed.nproc_per_node, parsed.nnodes) == (True, "4", "1:1")
    assert (parsed.module, parsed.training_script) == (True, "inference.cli")
    assert parsed.training_script_args == ["trainer", "--job", "7"]

    options = TorchrunOptions(processes=8, hosts=("gpu1", "gpu2"), meet="gpu1:29400")
    commands = TorchrunLauncher(options).commands(WANTED)
    assert [command[:4] for command in commands] == [
        ("ssh", "-oBatchMode=yes", host, "torchrun") for host in ("gpu1", "gpu2")
    ]
    one, two = (parser.parse_args(list(command[4:])) for command in commands)
    assert one == two, "all agents of a job are told the same, and meet by it"
    assert (one.nnodes, one.nproc_per_node, one.rdzv_backend, one.max_restarts) == ("2", "8", "c10d", 0)
    assert (one.rdzv_endpoint, one.rdzv_id) == ("gpu1:29400", "fusionwatch-fusion-job-7-attempt-2")


def test_a_webhook_is_signed_and_names_the_attempt() -> None:
    with answering(200, 409, 503) as stub:
        launcher = build({"kind": "webhook", "url": stub.url, "secret": SECRET, "token": "t0ken"})
        assert [launcher.launch(WANTED) for _ in range(2)] == [WANTED.key] * 2, "409: it has been started already"
        with pytest.raises(LaunchError, match="answered 503"):
            launcher.launch(WANTED)
    (first, body), (again, _), _ = stub.requests
    assert first["Idempotency-Key"] == again["Idempotency-Key"] == WANTED.key
    stamp = first["X-Fusionwatch-Timestamp"]
    assert first["X-Fusionwatch-Signature"] == signature(SECRET.encode(), stamp, WANTED.key, body)
    assert first["Authorization"] == "Bearer t0ken"
    assert json.loads(body) == {
        "dag_run_id": WANTED.key,
        "conf": {"job_id": 7, "model": "fusion", "attempt": 2, "deadline": "2026-03-01T18:00:00+00:00"},
    }
    with pytest.raises(LaunchError, match="does not answer: ConnectError"):
        launcher.launch(WANTED)


def test_a_webhook_for_cancelled_attempts_gets_the_same_signed_message() -> None:
    with answering(202, 404, 500) as stub:
        launcher = build({"kind": "webhook", "url": "http://x", "cancel_url": stub.url, "secret": SECRET})
        launcher.withdraw(WANTED)
        launcher.withdraw(WANTED)  # 404: there is nothing to cancel
        with pytest.raises(LaunchError, match="for cancelled attempts answered 500"):
            launcher.withdraw(WANTED)
        untold = build({"kind": "webhook", "url": stub.url, "secret": SECRET})
        untold.withdraw(WANTED)
    assert len(stub.requests) == 3
    headers, body = stub.requests[0]
    stamp = headers["X-Fusionwatch-Timestamp"]
    assert headers["X-Fusionwatch-Signature"] == signature(SECRET.encode(), stamp, WANTED.key, body)
    assert json.loads(body)["conf"]["job_id"] == 7


def test_a_cancelled_job_is_taken_back_from_the_cluster_attempt_by_attempt_until_that_is_done(
    stage: Stage, database: str, tmp_path: Path
) -> None:
    stage.register("v1")
    (tmp_path / "token").write_text("t0ken\n")
    with answering(201, 201, 503, 200, 404) as stub:
        launcher = {
            "kind": "kubernetes",
            "image": "registry/fusionwatch:1",
            "server": stub.url.removesuffix("/hook"),
            "token_file": str(tmp_path / "token"),
            "ca_file": None,
        }
        given = settings(database, launcher=launcher)
        queue = loop_wiring.jobs(given, stage.engine, Metrics(), stage.clock)
        now = stage.clock.now()
        with stage.engine.begin() as connection:
            job_id = stored.queue(connection, "fusion", {}, now=now, deadline=now + timedelta(hours=6))
        assert job_id is not None
        queue.run()
        with stage.engine.begin() as connection:
            connection.execute(update(jobs).values(attempts=1))
        queue.run()
        loop_wiring.cancelling(given, stage.engine, stage.clock).cancel(job_id, actor="ann", reason="wrong labels")
        for _ in range(4):
            queue.run()
        with stage.engine.connect() as connection:
            told = connection.scalar(select(jobs.c.launch))
    names = [f"fusionwatch-fusion-job-{job_id}-attempt-{attempt}" for attempt in (1, 2)]
    where = "/apis/batch/v1/namespaces/default/jobs"
    deleted = [f"{where}/{name}?propagationPolicy=Background" for name in names]
    assert stub.methods == ["POST", "POST", "DELETE", "DELETE", "DELETE"]
    assert stub.paths[2:] == [deleted[0], deleted[0], deleted[1]], "503: once more; 404: it is gone already"
    assert told == {"started": f"job default/{names[1]}", "withdrawn": stage.clock.now().isoformat()}


def test_a_kubernetes_job_is_posted_to_the_api_server(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("t0ken\n")
    given = {
        "image": "registry/fusionwatch:1",
        "namespace": "ml",
        "token_file": tmp_path / "token",
        "ca_file": None,
        "env_from": ["fusionwatch"],
        "config_maps": ["trainer"],
        "claims": {"checkpoints": "/var/lib/fusionwatch/checkpoints"},
        "secrets": {"checkpoints": "/database"},
        "resources": {"nvidia.com/gpu": "1"},
    }
    with answering(201, 409, 422) as stub:
        launcher = build({"kind": "kubernetes", "server": stub.url.removesuffix("/hook"), **given})
        name = "job ml/fusionwatch-fusion-job-7-attempt-2"
        assert [launcher.launch(WANTED) for _ in range(2)] == [name] * 2, "409: it is there already"
        with pytest.raises(LaunchError, match="the API server answered 422"):
            launcher.launch(WANTED)
    headers, body = stub.requests[0]
    assert headers["Authorization"] == "Bearer t0ken"
    job = json.loads(body)
    assert job == manifest(KubernetesOptions.model_validate(given), WANTED)
    assert (job["apiVersion"], job["kind"]) == ("batch/v1", "Job")
    assert job["spec"]["activeDeadlineSeconds"] == 6 * 3600
    pod = job["spec"]["template"]["spec"]
    assert pod["restartPolicy"] == "Never"
    (container,) = pod["containers"]
    assert container["command"] == ["fusionwatch-inference", "trainer", "--job", "7"]
    assert [each["name"] for each in container["volumeMounts"]] == [each["name"] for each in pod["volumes"]]
    assert pod["volumes"][-1]["secret"] == {"secretName": "checkpoints", "optional": True}
    assert container["envFrom"] == [{"configMapRef": {"name": "trainer"}}, {"secretRef": {"name": "fusionwatch"}}]
    assert container["resources"]["limits"] == {"nvidia.com/gpu": "1"}
    long = Launch(7, "A Model_with/odd letters", 2, WANTED.deadline, NOW)
    odd = manifest(KubernetesOptions.model_validate(given), long)["metadata"]["name"]
    assert odd.replace("-", "").isalnum()
    assert odd == odd.lower()
    (tmp_path / "token").unlink()
    with pytest.raises(LaunchError, match="cannot be read: No such file"):
        launcher.launch(WANTED)
