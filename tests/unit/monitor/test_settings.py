"""Settings: what is wrong is named, with the value and what is allowed, and secrets are never shown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from migrations.settings import SettingsError
from monitor.alerts.routes import Matcher, Route
from monitor.channels.webhook import WebhookOptions
from monitor.settings import MonitorSettings

URL = "postgresql+psycopg2://monitor:hunter2hunter2@db/fusionwatch"


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    monkeypatch.chdir(tmp_path)  # away from any .env
    monkeypatch.setenv("FUSIONWATCH_DATABASE_URL", URL)
    return monkeypatch


def test_only_the_database_must_be_named(environment: pytest.MonkeyPatch) -> None:
    settings = MonitorSettings.from_environment()
    assert (settings.hop_seconds, settings.window_seconds, settings.availability_window) == (300, 3600, 300)
    assert settings.checked_routes == (Route("log", on=True),)
    environment.delenv("FUSIONWATCH_DATABASE_URL")
    with pytest.raises(SettingsError, match="FUSIONWATCH_DATABASE_URL is not set"):
        MonitorSettings.from_environment()


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("HOP_SECONDS", "0", "FUSIONWATCH_HOP_SECONDS is '0'"),
        ("HOP_SECONDS", "90", "multiple of slot_seconds 60"),
        ("WINDOW_SECONDS", "400", "multiple of hop_seconds 300"),
        ("AVAILABILITY_WINDOW_SECONDS", "450", "multiple of hop_seconds 300"),
        ("DETECTORS", '["embeding_mmd"]', "embedding_mmd"),
        ("LABEL_QUEUE_ENTRIES", "5", "20 entries or more"),
        ("DETECTOR_OPTIONS", '{"embedding_mmd": {"alfa": 1}}', "alfa"),
        ("DETECTOR_OPTIONS", '{"nothing": {}}', "unknown detector 'nothing'"),
        ("ROUTES", '[{"receiver": "pager"}]', "there is no receiver 'pager'; there are ['log']"),
        ("ROUTES", '[{"receiver": "log", "matchers": ["severity"]}]', "'severity' is no matcher"),
        ("ROUTES", '[{"receiver": "log", "match": []}]', "FUSIONWATCH_ROUTES__0__MATCH"),
        ("ROUTES", '[{"receiver": "log", "matchers": ["modality=~("]}]', "'(' is no regular expression"),
        ("ROUTES", '[{"receiver": "log", "matchers": ["camera=1"]}]', "camera cannot be matched; alertname"),
        ("ROUTES", '[{"receiver": "log"}, {"receiver": "log"}]', "route 2 (everything) is unreachable"),
        ("ROUTES", '[{"receiver": "log", "matchers": ["severity=page"]}]', "nobody is told of some alerts"),
        (
            "RECEIVERS",
            '{"a": {"channel": "fax"}}',
            "one of ['alertmanager', 'apprise', 'log', 'opsgenie', 'pagerduty', 'slack', 'webhook']",
        ),
        ("RECEIVERS", '{"a": {}}', "needs a channel"),
        ("RECEIVERS", '{"a": {"channel": "webhook"}}', "url: Field required; secret: Field required"),
        ("RECEIVERS", '{"a": {"channel": "log", "colour": "red"}}', "colour"),
        (
            "RECEIVERS",
            '{"a": {"channel": "alertmanager", "url": "http://am", "username": "ann"}}',
            "receiver 'a': username and password go together",
        ),
        ("RECEIVERS", "[" * 100_000, "nested too deeply"),
        ("DATABASE_URL", "postgresql+psycopg2://u:hunter2", "not a database URL"),
        ("ROUTES", '[{"matchers": ["severity=\udce1"], "receiver": "x"}]', "not UTF-8"),
        ("GATE_ALPHA", "2", "FUSIONWATCH_GATE_ALPHA"),
        ("LOG_LEVEL", "LOUD", "'DEBUG', 'INFO'"),
    ],
)
def test_what_is_wrong_is_named(environment: pytest.MonkeyPatch, key: str, value: str, words: str) -> None:
    environment.setenv(f"FUSIONWATCH_{key}", value)
    with pytest.raises(SettingsError) as caught:
        MonitorSettings.from_environment()
    assert words in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_receivers_come_key_by_key_from_the_environment(environment: pytest.MonkeyPatch) -> None:
    given: dict[str, Any] = {"CHANNEL": "webhook", "URL": "https://pager.test/x", "SECRET": "a long shared secret"}
    for key, value in given.items():
        environment.setenv(f"FUSIONWATCH_RECEIVERS__PAGER__{key}", value)
    environment.setenv("FUSIONWATCH_ROUTES", '[{"receiver": "pager", "matchers": ["severity=~page|ticket"]}]')
    settings = MonitorSettings.from_environment()
    name, options = settings.options_of("pager")
    assert isinstance(options, WebhookOptions)
    assert (name, options.url.get_secret_value()) == ("webhook", "https://pager.test/x")
    assert settings.checked_routes == (Route("pager", (Matcher("severity", "=~", "page|ticket"),)),)


def test_a_short_secret_is_refused_and_not_shown(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("FUSIONWATCH_RECEIVERS", '{"a": {"channel": "webhook", "url": "http://x", "secret": "s3cr3t"}}')
    with pytest.raises(SettingsError) as caught:
        MonitorSettings.from_environment()
    assert "at least 16" in str(caught.value)
    assert "s3cr3t" not in str(caught.value)
