from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from typer.testing import CliRunner

from inference.cli import BAD_SETTINGS, app
from inference.kafka_settings import KafkaSettings
from tests.support.certificates import KEY_PASSWORD, Certificates, certificates
from tests.unit.inference.test_settings import GOOD

PASSWORD = "MARKED-PASSWORD"
SASL = {"sasl_mechanism": "SCRAM-SHA-512", "sasl_username": "ann", "sasl_password": PASSWORD}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return certificates(tmp_path_factory.mktemp("certificates"))


def settings(**given: Any) -> KafkaSettings:
    return KafkaSettings(**{f"kafka_{key}": value for key, value in {"bootstrap_servers": "a:9092", **given}.items()})


def problem(**given: Any) -> str:
    """Why these settings are refused."""
    with pytest.raises(ValidationError) as raised:
        settings(**given)
    text = str(raised.value)
    assert PASSWORD not in text
    assert KEY_PASSWORD not in text
    return text


def test_without_more_a_listener_speaks_plaintext() -> None:
    assert settings(bootstrap_servers="a:9092, [::1]:9093").kafka() == {"bootstrap_servers": ["a:9092", "[::1]:9093"]}


def test_empty_values_are_unset_ones() -> None:
    optional = [name for name, field in KafkaSettings.model_fields.items() if field.default is None]
    assert len(optional) == 8
    assert settings(**{name.removeprefix("kafka_"): "" for name in optional}).kafka() == settings().kafka()


def test_tls_and_a_user_become_options_of_kafka_python(files: Certificates) -> None:
    made = settings(
        security_protocol="SASL_SSL",
        ssl_ca_file=files.authority,
        ssl_certificate_file=files.client,
        ssl_key_file=files.client_key_encrypted,
        ssl_key_password=KEY_PASSWORD,
        ssl_check_hostname=False,
        **SASL,
    )
    assert made.kafka() == {
        "bootstrap_servers": ["a:9092"],
        "security_protocol": "SASL_SSL",
        "ssl_check_hostname": False,
        "ssl_cafile": str(files.authority),
        "ssl_certfile": str(files.client),
        "ssl_keyfile": str(files.client_key_encrypted),
        "ssl_password": KEY_PASSWORD,
        "sasl_mechanism": "SCRAM-SHA-512",
        "sasl_plain_username": "ann",
        "sasl_plain_password": PASSWORD,
    }
    assert PASSWORD not in f"{made!r} {made.model_dump()}"
    assert KEY_PASSWORD not in f"{made!r} {made.model_dump()}"


def test_the_password_may_lie_in_a_file_and_the_key_beside_its_certificate(files: Certificates, tmp_path: Path) -> None:
    (tmp_path / "password").write_text("pass word\n")
    options = settings(
        security_protocol="SASL_SSL",
        ssl_certificate_file=files.server,
        sasl_mechanism="PLAIN",
        sasl_username="ann",
        sasl_password_file=tmp_path / "password",
    ).kafka()
    assert options["sasl_plain_password"] == "pass word"
    assert (options["ssl_certfile"], options["ssl_keyfile"]) == (str(files.server), None)
    assert options["ssl_cafile"] is None


@pytest.mark.parametrize("servers", ["a", "a:", "a:0", "a:65536", "a:9092,", "SSL://a:9092", "::1:9092", "a b:9092"])
def test_an_address_must_be_host_and_port(servers: str) -> None:
    assert "is not host:port" in problem(bootstrap_servers=servers)


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"security_protocol": "TLS"}, "Input should be 'PLAINTEXT', 'SSL', 'SASL_PLAINTEXT' or 'SASL_SSL'"),
        ({"sasl_username": "ann"}, "FUSIONWATCH_KAFKA_SASL_USERNAME is set, but FUSIONWATCH_KAFKA_SECURITY_PROTOCOL"),
        ({"sasl_password": PASSWORD}, "FUSIONWATCH_KAFKA_SASL_PASSWORD is set, but"),
        ({"ssl_check_hostname": False}, "is PLAINTEXT: it must be SSL or SASL_SSL"),
        ({"security_protocol": "SSL", **SASL}, "is SSL: it must be SASL_PLAINTEXT or SASL_SSL"),
        ({"security_protocol": "SASL_PLAINTEXT", "ssl_ca_file": "ca.pem", **SASL}, "KAFKA_SSL_CA_FILE is set, but"),
        ({**SASL, "sasl_mechanism": "GSSAPI"}, "Input should be 'PLAIN', 'SCRAM-SHA-256' or 'SCRAM-SHA-512'"),
    ],
)
def test_what_the_protocol_leaves_unused_is_refused(given: dict[str, Any], text: str) -> None:
    assert text in problem(**given)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"sasl_mechanism": None}, "SASL_SSL needs FUSIONWATCH_KAFKA_SASL_MECHANISM: PLAIN, SCRAM-SHA-256 or"),
        ({"sasl_username": None}, "SASL_SSL needs FUSIONWATCH_KAFKA_SASL_USERNAME"),
        ({"sasl_password": None}, "needs exactly one of FUSIONWATCH_KAFKA_SASL_PASSWORD and FUSIONWATCH_KAFKA_SASL_PA"),
        ({"sasl_password_file": "x"}, "needs exactly one of FUSIONWATCH_KAFKA_SASL_PASSWORD and FUSIONWATCH_KAFKA_SAS"),
        (
            {"sasl_password": None, "sasl_password_file": "/no/such"},
            "SASL_PASSWORD_FILE: No such file or directory: /no",
        ),
    ],
)
def test_sasl_needs_all_its_parts(changes: dict[str, Any], text: str) -> None:
    assert text in problem(security_protocol="SASL_SSL", **{**SASL, **changes})


def test_an_empty_password_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("\n")
    parts = {**SASL, "sasl_password": None, "sasl_password_file": tmp_path / "password"}
    assert "is empty" in problem(security_protocol="SASL_PLAINTEXT", **parts)


def test_every_missing_part_is_told_at_once() -> None:
    text = problem(security_protocol="SASL_PLAINTEXT")
    assert all(f"FUSIONWATCH_KAFKA_SASL_{part}" in text for part in ("MECHANISM", "USERNAME", "PASSWORD"))


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"ssl_ca_file": "none.pem"}, "FUSIONWATCH_KAFKA_SSL_CA_FILE: No such file or directory: none.pem"),
        ({"ssl_ca_file": "client_key"}, "FUSIONWATCH_KAFKA_SSL_CA_FILE: holds no PEM certificate"),
        ({"ssl_certificate_file": "none.pem"}, "FUSIONWATCH_KAFKA_SSL_CERTIFICATE_FILE: No such file"),
        ({"ssl_certificate_file": "client_key"}, "FUSIONWATCH_KAFKA_SSL_CERTIFICATE_FILE: holds no PEM certificate"),
        ({"ssl_certificate_file": "client"}, "cannot be read: it must be PEM"),
        ({"ssl_certificate_file": "client", "ssl_key_file": "none.pem"}, "FUSIONWATCH_KAFKA_SSL_KEY_FILE: No such"),
        ({"ssl_key_file": "client_key"}, "but FUSIONWATCH_KAFKA_SSL_CERTIFICATE_FILE is not"),
        ({"ssl_key_password": PASSWORD}, "but FUSIONWATCH_KAFKA_SSL_CERTIFICATE_FILE is not"),
        ({"ssl_certificate_file": "client", "ssl_key_file": "server"}, "does not belong to the certificate in"),
        ({"ssl_certificate_file": "client", "ssl_key_file": "client_key_encrypted"}, "KAFKA_SSL_KEY_PASSWORD its pass"),
        (
            {"ssl_certificate_file": "client", "ssl_key_file": "client_key_encrypted", "ssl_key_password": PASSWORD},
            "FUSIONWATCH_KAFKA_SSL_KEY_PASSWORD its password",
        ),
    ],
)
def test_files_of_tls_are_loaded_before_the_start(files: Certificates, given: dict[str, str], text: str) -> None:
    found = {key: getattr(files, value, value) if key.endswith("file") else value for key, value in given.items()}
    assert text in problem(security_protocol="SSL", **found)


def test_settings_of_kafka_are_shown_without_secrets(monkeypatch: pytest.MonkeyPatch, files: Certificates) -> None:
    environment = {f"FUSIONWATCH_{key}": value for key, value in GOOD.items()} | {
        "FUSIONWATCH_KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
        "FUSIONWATCH_KAFKA_SSL_CA_FILE": str(files.authority),
        **{f"FUSIONWATCH_KAFKA_{key.upper()}": value for key, value in SASL.items()},
    }
    for key, value in environment.items():
        monkeypatch.setenv(key, value)
    shown = CliRunner().invoke(app, ["check-settings"])
    assert shown.exit_code == 0
    assert "FUSIONWATCH_KAFKA_SASL_USERNAME=ann" in shown.output
    assert "FUSIONWATCH_KAFKA_SASL_PASSWORD=****" in shown.output
    assert PASSWORD not in shown.output
    listed = CliRunner().invoke(app, ["check-settings", "--names-only"]).output
    assert all(f"FUSIONWATCH_{name.upper()}: " in listed for name in KafkaSettings.model_fields)
    monkeypatch.setenv("FUSIONWATCH_KAFKA_SASL_MECHANISM", "")
    refused = CliRunner().invoke(app, ["worker"])
    assert refused.exit_code == BAD_SETTINGS
    assert "SASL_SSL needs FUSIONWATCH_KAFKA_SASL_MECHANISM" in refused.stderr
    assert PASSWORD not in refused.output


def test_a_wrong_secret_is_not_shown_by_its_error(monkeypatch: pytest.MonkeyPatch) -> None:
    for key, value in GOOD.items():
        monkeypatch.setenv(f"FUSIONWATCH_{key}", value)
    monkeypatch.setenv("FUSIONWATCH_KAFKA_SASL_PASSWORD", PASSWORD)
    refused = CliRunner().invoke(app, ["check-settings"])
    assert refused.exit_code == BAD_SETTINGS
    assert (
        "FUSIONWATCH_KAFKA_SASL_PASSWORD is set, but FUSIONWATCH_KAFKA_SECURITY_PROTOCOL is PLAINTEXT" in refused.stderr
    )
    assert PASSWORD not in refused.output
