from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from inference.cli import BAD_SETTINGS, app
from inference.observe_settings import ObserveSettings
from migrations.settings import SettingsError

GOOD = {
    "DATABASE_URL": "postgresql+psycopg2://u:MARKED-SECRET@db/fusion",
    "HMAC_KEY": "a-key-of-32-bytes-or-more-of-text",
    "HMAC_KEY_ID": "k1",
    "KAFKA_BOOTSTRAP_SERVERS": "a:9092",
}


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for key, value in GOOD.items():
        monkeypatch.setenv(f"FUSIONWATCH_{key}", value)
    return monkeypatch


def test_lists_and_objects_are_json(environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for key, value in {
        "MODALITIES": ["text", "audio"],
        "CLASS_NAMES": ["yes", "no"],
        "ENCODER_FINGERPRINTS": {"audio": "wav2vec", "fused": "late-2"},
        "QUALITY_NAMES": {"audio": ["loudness"], "text": []},
    }.items():
        environment.setenv(f"FUSIONWATCH_{key}", json.dumps(value))
    environment.setenv("FUSIONWATCH_BASELINES", str(tmp_path))
    settings = ObserveSettings.from_environment()
    assert settings.modalities == ("audio", "text")
    assert settings.class_names == ("yes", "no")
    assert settings.encoder_fingerprints == {"audio": "wav2vec", "fused": "late-2"}
    assert settings.quality_names == {"audio": ("loudness",), "text": ()}
    assert settings.baselines == tmp_path


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("HMAC_KEY", "short", "the HMAC key has 5 bytes; at least 32 are needed"),
        ("HMAC_KEY", None, "exactly one of FUSIONWATCH_HMAC_KEY"),
        ("HMAC_KEY_ID", None, "FUSIONWATCH_READ_LABELS=false"),
        ("MODALITIES", "[]", "FUSIONWATCH_MODALITIES"),
        ("MODALITIES", '["image", "fused"]', "none may be 'fused'"),
        ("MODALITIES", '["image", "image"]', "each name once"),
        ("QUALITY_NAMES", '{"smell": ["x"]}', "['smell'] are not among FUSIONWATCH_MODALITIES"),
        ("ENCODER_FINGERPRINTS", '{"smell": "x"}', "['smell'] are not among FUSIONWATCH_MODALITIES"),
        ("BASELINES", "/no/such/folder", "no such folder"),
        ("TOPIC_OBSERVATIONS", "no spaces", "FUSIONWATCH_TOPIC_OBSERVATIONS is 'no spaces'"),
        ("KAFKA_SECURITY_PROTOCOL", "SASL_SSL", "FUSIONWATCH_KAFKA_SASL_MECHANISM"),
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
        ObserveSettings.from_environment()
    assert text in str(raised.value)


def test_without_labels_no_key_is_needed(environment: pytest.MonkeyPatch) -> None:
    for key in ("HMAC_KEY", "HMAC_KEY_ID"):
        environment.delenv(f"FUSIONWATCH_{key}")
    environment.setenv("FUSIONWATCH_READ_LABELS", "false")
    assert not ObserveSettings.from_environment().read_labels


def test_the_command_ends_with_what_is_missing_and_shows_no_secret(environment: pytest.MonkeyPatch) -> None:
    shown = CliRunner().invoke(app, ["check-settings", "observe"])
    assert shown.exit_code == 0
    assert "FUSIONWATCH_OBSERVER_PORT=9104" in shown.output
    assert "MARKED-SECRET" not in shown.output
    assert GOOD["HMAC_KEY"] not in shown.output
    environment.delenv("FUSIONWATCH_DATABASE_URL")
    result = CliRunner().invoke(app, ["observe"])
    assert result.exit_code == BAD_SETTINGS
    assert "FUSIONWATCH_DATABASE_URL is not set" in result.output
