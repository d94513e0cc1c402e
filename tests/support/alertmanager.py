"""A real Alertmanager (Debian's package) that groups at once and tells a webhook."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

CONFIGURATION: Mapping[str, Any] = {
    "route": {
        "receiver": "people",
        "group_by": ["alertname", "service"],
        "group_wait": "200ms",
        "group_interval": "300ms",
        "repeat_interval": "1h",
    },
}
PATIENCE = 30.0


@dataclass(frozen=True)
class Alertmanager:
    """One that runs."""

    url: str

    def alerts(self) -> dict[str, dict[str, Any]]:
        """What it holds now, silenced or not, by modality."""
        found = httpx.get(f"{self.url}/api/v2/alerts").raise_for_status().json()
        return {each["labels"]["modality"]: each for each in found}

    def silence(self, **matchers: str) -> None:
        equal = [{"name": name, "value": value, "isRegex": False} for name, value in matchers.items()]
        times = {"startsAt": "2020-01-01T00:00:00Z", "endsAt": "2100-01-01T00:00:00Z"}
        made = {"matchers": equal, **times, "createdBy": "ann", "comment": "a new camera"}
        httpx.post(f"{self.url}/api/v2/silences", json=made).raise_for_status()


def until(holds: Callable[[], bool], what: str) -> None:
    """Wait for a condition. Fails after half a minute."""
    end = time.monotonic() + PATIENCE
    while not holds():
        if time.monotonic() > end:
            pytest.fail(f"not seen in {PATIENCE:g} seconds: {what}")
        time.sleep(0.05)


@contextmanager
def running(folder: Path, hook: str) -> Iterator[Alertmanager]:
    """Start one that posts its notifications to `hook`, and wait until it is ready."""
    program = shutil.which("prometheus-alertmanager")
    if program is None:
        pytest.fail("prometheus-alertmanager is missing: apt-get install prometheus-alertmanager")
    told = {"name": "people", "webhook_configs": [{"url": hook, "send_resolved": True}]}
    configuration = folder / "alertmanager.yml"
    configuration.write_text(json.dumps({**CONFIGURATION, "receivers": [told]}))  # JSON is YAML
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    with (folder / "alertmanager.log").open("wb") as log:
        process = subprocess.Popen(
            [
                program,
                f"--config.file={configuration}",
                f"--storage.path={folder / 'data'}",
                f"--web.listen-address={address}",
                "--cluster.listen-address=",
            ],
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        until(lambda: _ready(address), "a ready Alertmanager")
        yield Alertmanager(f"http://{address}")
    finally:
        process.terminate()
        process.wait(10)


def _ready(address: str) -> bool:
    try:
        return httpx.get(f"http://{address}/-/ready").is_success
    except httpx.TransportError:
        return False
