"""What every channel keeps to, and the log channel's own way."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

import monitor.channels
from monitor.channels.base import Outcome, kinds

MESSAGE = {
    "alertname": "PairingDrift",
    "modality": "fused",
    "state": "firing",
    "summary": "Modalities no longer belong together.",
    "runbook": "dashboards/runbooks/pairing-drift.md",
}


def test_every_file_of_the_package_is_a_channel_under_its_own_name() -> None:
    folder = Path(monitor.channels.__path__[0])
    files = {path.stem for path in folder.glob("[!_]*.py")} - {"base"}
    assert set(kinds()) == files


@pytest.mark.parametrize(
    ("severity", "state", "level"),
    [("page", "firing", "ERROR"), ("ticket", "firing", "WARNING"), ("page", "resolved", "INFO")],
)
def test_the_log_says_it_as_loud_as_it_is(
    caplog: pytest.LogCaptureFixture, severity: str, state: str, level: str
) -> None:
    channel = kinds()["log"].build(kinds()["log"].options())
    with caplog.at_level(logging.INFO):
        assert channel.send({**MESSAGE, "severity": severity, "state": state}, "key").outcome is Outcome.SENT
    [record] = caplog.records
    assert record.levelname == level
    assert "PairingDrift(fused): Modalities no longer belong together." in record.getMessage()
