"""The demo's receiver, programs and ports: signatures are checked, ends are told, nothing is left running."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import httpx
import pytest

from demo import receiver
from demo.processes import ProcessError, Program
from demo.servers import free_port
from monitor.channels import webhook
from monitor.channels.base import Delivery, Outcome


def test_the_receiver_believes_the_monitor_s_messages_only() -> None:
    message = {"alertname": "PairingDrift", "state": "firing", "modality": "fused"}
    secret = "a secret of sixteen"
    with receiver.listen(secret) as listening:

        def told(secret: str) -> Delivery:
            options = {"url": listening.url, "secret": secret}
            channel = webhook.CHANNEL.build(webhook.WebhookOptions.model_validate(options))
            try:
                return channel.send(message, "key")
            finally:
                channel.close()

        assert told(secret).outcome is Outcome.SENT
        assert told("another of sixteen").outcome is Outcome.RETRY
        assert httpx.post(listening.url, content=b"{}").status_code == 401
        assert listening.refused == 2
        assert [one.body for one in listening.notifications] == [message]


def program(tmp_path: Path, code: str, port: int | None = None) -> Program:
    url = None if port is None else f"http://127.0.0.1:{port}/readyz"
    return Program("program", (sys.executable, "-c", code), {"TOLD": "from the environment"}, tmp_path / "log", url)


def test_a_program_that_ends_by_itself_is_told_with_its_last_words(tmp_path: Path) -> None:
    failing = program(tmp_path, "import os, sys; print(os.environ['TOLD']); sys.exit(3)", free_port())
    failing.start()
    with pytest.raises(ProcessError, match=r"(?s)ended with code 3.*from the environment"):
        failing.wait_ready(30)


def test_a_program_that_is_never_ready_is_told_at_the_deadline(tmp_path: Path) -> None:
    sleeping = program(tmp_path, "import time; time.sleep(60)", free_port())
    sleeping.start()
    with pytest.raises(ProcessError, match="not ready within 1 s"):
        sleeping.wait_ready(1)
    sleeping.kill()


def test_a_suspended_program_stands_still_until_it_is_resumed_or_stopped(tmp_path: Path) -> None:
    code = "import time\nwhile True:\n    print('tick', flush=True)\n    time.sleep(0.01)"
    ticking = program(tmp_path, code)
    ticking.start({"TOLD": "otherwise, this once"})

    def ticks() -> int:
        return ticking.log.stat().st_size

    def ticks_on(after: int) -> bool:
        deadline = time.monotonic() + 30
        while ticks() == after and time.monotonic() < deadline:
            time.sleep(0.02)
        return ticks() > after

    assert ticks_on(0)
    ticking.suspend()
    time.sleep(0.1)  # what it was writing is written
    still = ticks()
    time.sleep(0.2)
    assert ticks() == still
    ticking.check()
    ticking.resume()
    assert ticks_on(still)
    ticking.suspend()
    began = time.monotonic()
    ticking.stop()
    assert time.monotonic() - began < 15, "it hears SIGTERM though it was suspended"


def test_stop_lets_a_program_finish_and_kill_does_not(tmp_path: Path) -> None:
    code = (
        "import pathlib, signal, sys, time\n"
        "def end(*_): print('finished', flush=True); sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, end)\n"
        "print('up', flush=True)\n"
        "time.sleep(60)\n"
    )
    one = program(tmp_path, code)

    def up(times: int) -> None:
        deadline = time.monotonic() + 30
        while one.log.read_text().count("up") < times:
            assert time.monotonic() < deadline
            time.sleep(0.02)

    one.start()
    up(1)
    one.kill()
    one.check()  # a program that we ended is no failure
    one.start()
    up(2)
    one.stop()
    assert one.log.read_text().split() == ["up", "up", "finished"]


def test_a_port_in_use_is_replaced_by_a_free_one() -> None:
    with receiver.listen("secret") as listening:
        taken = int(listening.url.rsplit(":", 1)[1].split("/")[0])
        assert free_port(taken) != taken
    assert free_port(taken) == taken
