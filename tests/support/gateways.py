"""A gateway, or another HTTP application, in this process."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import uvicorn
from fastapi import FastAPI

from demo.servers import free_port
from inference.gateway_settings import GatewaySettings
from inference.gateway_wiring import GatewayProgram
from tests.support.worker import answers_ok, wait_until

SECRET = "shared between gateway and API"


@contextmanager
def gateway(broker: str, topics: Mapping[str, str], **changes: Any) -> Iterator[tuple[str, GatewayProgram]]:
    """Its address and program, ready; stopped at the end as a signal would."""
    given = {
        "kafka_bootstrap_servers": broker,
        "gateway_secret": SECRET,
        "gateway_port": free_port(),
        "fetch_wait_ms": 20,
        **{f"topic_{role}": topic for role, topic in topics.items()},
        **changes,
    }
    program = GatewayProgram(GatewaySettings(_env_file=None, **given))
    ended: list[bool] = []

    def serve() -> None:
        program.run()
        ended.append(True)

    thread = threading.Thread(target=serve)
    thread.start()
    url = f"http://127.0.0.1:{given['gateway_port']}"
    try:
        wait_until(lambda: answers_ok(f"{url}/readyz"), 60, "the gateway is not ready")
        yield url, program
    finally:
        if program.server is not None:
            program.server.should_exit = True
        thread.join(timeout=60)
    assert ended == [True]


@contextmanager
def served(app: FastAPI) -> Iterator[str]:
    """The address of an application that is served over HTTP by this process."""
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_config=None, access_log=False))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        wait_until(lambda: server.started, 30, "the application is not served")
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(timeout=30)
