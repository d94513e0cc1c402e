from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from inference.cli import BAD_SETTINGS, app
from inference.fetching import Fetching
from inference.settings import WorkerSettings
from migrations.settings import SettingsError

KEY = "a-key-of-32-bytes-or-more-of-text"
GOOD = {
    "DATABASE_URL": "postgresql+psycopg2://u:MARKED-SECRET@db/fusion",
    "CHECKPOINT": "demo/checkpoint",
    "HMAC_KEY": KEY,
    "HMAC_KEY_ID": "k1",
    "KAFKA_BOOTSTRAP_SERVERS": "a:9092, b:9092",
}


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for key, value in GOOD.items():
        monkeypatch.setenv(f"FUSIONWATCH_{key}", value)
    return monkeypatch


def test_good_settings_are_read(environment: pytest.MonkeyPatch) -> None:
    settings = WorkerSettings.from_environment()
    assert settings.key() == KEY.encode()
    assert settings.kafka() == {"bootstrap_servers": ["a:9092", "b:9092"]}
    assert settings.checkpoint.is_absolute()


@pytest.mark.parametrize(
    ("given", "fetching"),
    [
        ({}, Fetching(12, 500_000)),
        ({"BATCH_WAIT_MS": "100", "FETCH_MIN_BYTES": "7"}, Fetching(92, 7)),
        ({"BATCH_WAIT_MS": "10000"}, Fetching(500, 500_000)),
        ({"BATCH_WAIT_MS": "100", "FETCH_WAIT_MS": "5"}, Fetching(5, 500_000)),
        ({"BATCH_WAIT_MS": "5"}, Fetching(1, 500_000)),
        ({"BATCH_WAIT_MS": "0"}, Fetching(500, 1)),
    ],
)
def test_a_broker_gathers_until_what_came_first_must_go_to_the_model(
    environment: pytest.MonkeyPatch, given: dict[str, str], fetching: Fetching
) -> None:
    for key, value in given.items():
        environment.setenv(f"FUSIONWATCH_{key}", value)
    assert WorkerSettings.from_environment().fetching() == fetching


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("MODEL_CORES", "1024", "must leave a core to the rest of the worker: there are "),
        ("HMAC_KEY", "short", "the HMAC key has 5 bytes; at least 32 are needed"),
        ("HMAC_KEY", None, "exactly one of FUSIONWATCH_HMAC_KEY"),
        ("HMAC_KEY_ID", None, "FUSIONWATCH_HMAC_KEY_ID is not set"),
        ("HMAC_KEY_FILE", "/no/such/file", "exactly one of FUSIONWATCH_HMAC_KEY"),
        ("CHECKPOINT", "/no/such/folder", "FUSIONWATCH_CHECKPOINT is '/no/such/folder'"),
        ("BATCH_SIZE", "0", "FUSIONWATCH_BATCH_SIZE is '0'"),
        ("DEVICE", "tpu", "FUSIONWATCH_DEVICE is 'tpu'"),
        ("TOPIC_LABELS", "no spaces", "FUSIONWATCH_TOPIC_LABELS is 'no spaces'"),
        ("WRITE_ROWS", "8", "must hold a batch of 32"),
        ("KAFKA_BOOTSTRAP_SERVERS", None, "FUSIONWATCH_KAFKA_BOOTSTRAP_SERVERS is not set"),
    ],
)
def test_a_bad_setting_is_named_with_what_is_allowed(
    environment: pytest.MonkeyPatch, key: str, value: str | None, text: str
) -> None:
    if value is None:
        environment.delenv(f"FUSIONWATCH_{key}")
    else:
        environment.setenv(f"FUSIONWATCH_{key}", value)
    with pytest.raises(SettingsError) as raised:
        WorkerSettings.from_environment()
    assert text in str(raised.value)
    assert "MARKED-SECRET" not in str(raised.value)
    assert KEY not in str(raised.value)


def test_the_key_may_lie_in_a_file(environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(b"\x00" * 40 + b"\n")
    environment.delenv("FUSIONWATCH_HMAC_KEY")
    environment.setenv("FUSIONWATCH_HMAC_KEY_FILE", str(tmp_path / "key"))
    assert WorkerSettings.from_environment().key() == b"\x00" * 40
    environment.setenv("FUSIONWATCH_HMAC_KEY_FILE", str(tmp_path / "none"))
    with pytest.raises(SettingsError, match="No such file"):
        WorkerSettings.from_environment()


@pytest.mark.parametrize("command", ["worker", "check-settings"])
def test_bad_settings_end_with_code_2_and_no_traceback(environment: pytest.MonkeyPatch, command: str) -> None:
    environment.delenv("FUSIONWATCH_HMAC_KEY")
    result = CliRunner().invoke(app, [command])
    assert result.exit_code == BAD_SETTINGS
    assert "FUSIONWATCH_HMAC_KEY" in result.stderr
    assert "Traceback" not in result.output


def test_shown_settings_hide_secrets(environment: pytest.MonkeyPatch) -> None:
    result = CliRunner().invoke(app, ["check-settings"])
    assert result.exit_code == 0
    assert "FUSIONWATCH_BATCH_SIZE=32" in result.output
    assert "MARKED-SECRET" not in result.output
    assert KEY not in result.output
