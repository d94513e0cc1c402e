"""How a program reaches its Kafka brokers: addresses, TLS, SASL. A part of its settings."""

from __future__ import annotations

import re
import ssl
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, Field, SecretStr, field_validator, model_validator
from pydantic_settings import SettingsConfigDict

_ADDRESS = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):(\d{1,5})")
_PREFIX = "FUSIONWATCH_KAFKA_"


class KafkaSettings(BaseModel):
    """Settings under `FUSIONWATCH_KAFKA_`, checked together: none that the chosen protocol would leave unused."""

    model_config = SettingsConfigDict(hide_input_in_errors=True)  # the input of the last check holds secrets

    kafka_bootstrap_servers: str = Field(min_length=1, description="host:port, several with commas")
    kafka_security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        default="PLAINTEXT", description="what the brokers' listener speaks"
    )

    kafka_ssl_ca_file: Path | None = Field(
        default=None, description="PEM file of the authorities trusted for brokers; the machine's own by default"
    )
    kafka_ssl_certificate_file: Path | None = Field(
        default=None, description="PEM file of this client's certificate and its chain, where brokers ask for one"
    )
    kafka_ssl_key_file: Path | None = Field(
        default=None, description="PEM file of the certificate's private key; by default in the certificate's file"
    )
    kafka_ssl_key_password: SecretStr | None = Field(default=None, description="password of an encrypted private key")
    kafka_ssl_check_hostname: bool = Field(
        default=True, description="false accepts a broker's certificate that was made for another host"
    )

    kafka_sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] | None = Field(
        default=None, description="how the user is checked; PLAIN over SASL_PLAINTEXT sends the password in the clear"
    )
    kafka_sasl_username: str | None = Field(default=None, min_length=1, description="the user of SASL")
    kafka_sasl_password: SecretStr | None = Field(default=None, description="the user's password; or a file")
    kafka_sasl_password_file: Path | None = Field(
        default=None, description="file that holds the user's password, ends of lines cut off"
    )

    @field_validator(
        "kafka_ssl_ca_file",
        "kafka_ssl_certificate_file",
        "kafka_ssl_key_file",
        "kafka_ssl_key_password",
        "kafka_sasl_mechanism",
        "kafka_sasl_username",
        "kafka_sasl_password",
        "kafka_sasl_password_file",
        mode="before",
    )
    @classmethod
    def _empty_is_unset(cls, value: object) -> object:
        return None if value == "" else value  # compose hands on what is not set as an empty value

    @field_validator("kafka_bootstrap_servers")
    @classmethod
    def _addresses(cls, servers: str) -> str:
        for server in servers.split(","):
            found = _ADDRESS.fullmatch(server.strip())
            if found is None or not 0 < int(found[1]) < 65536:
                raise ValueError(f"{server.strip()!r} is not host:port")
        return servers

    @model_validator(mode="after")
    def _security_fits_together(self) -> Self:
        protocol = self.kafka_security_protocol
        problems = [
            *self._unused("ssl", not protocol.endswith("SSL"), "SSL or SASL_SSL"),
            *self._unused("sasl", not protocol.startswith("SASL"), "SASL_PLAINTEXT or SASL_SSL"),
            *(self._sasl_problems() if protocol.startswith("SASL") else ()),
        ]
        if not problems and protocol.endswith("SSL"):
            problems = self._tls_problems()
        if problems:
            raise ValueError("; ".join(problems))
        return self

    def kafka(self) -> dict[str, Any]:
        """kafka-python's options for reaching the brokers. Raises OSError where the password's file cannot be read."""
        protocol = self.kafka_security_protocol
        options: dict[str, Any] = {
            "bootstrap_servers": [server.strip() for server in self.kafka_bootstrap_servers.split(",")]
        }
        if protocol != "PLAINTEXT":
            options["security_protocol"] = protocol
        if protocol.endswith("SSL"):
            # files, not a context: each new connection reads them again, so that certificates can be renewed
            options |= {
                "ssl_check_hostname": self.kafka_ssl_check_hostname,
                "ssl_cafile": _text(self.kafka_ssl_ca_file),
                "ssl_certfile": _text(self.kafka_ssl_certificate_file),
                "ssl_keyfile": _text(self.kafka_ssl_key_file),
                "ssl_password": _reveal(self.kafka_ssl_key_password),
            }
        if protocol.startswith("SASL"):
            options |= {
                "sasl_mechanism": self.kafka_sasl_mechanism,
                "sasl_plain_username": self.kafka_sasl_username,
                "sasl_plain_password": self._sasl_password(),
            }
        return options

    def _unused(self, kind: str, unused: bool, needed: str) -> list[str]:
        """One problem where settings of a kind are set and the protocol would not look at them."""
        given = [
            _PREFIX + name.removeprefix("kafka_").upper()
            for name in sorted(self.model_fields_set)
            if name.startswith(f"kafka_{kind}_") and getattr(self, name) != KafkaSettings.model_fields[name].default
        ]
        if not unused or not given:
            return []
        verb = "is" if len(given) == 1 else "are"
        protocol = self.kafka_security_protocol
        return [f"{', '.join(given)} {verb} set, but {_PREFIX}SECURITY_PROTOCOL is {protocol}: it must be {needed}"]

    def _sasl_problems(self) -> list[str]:
        problems = []
        for name, allowed in (("mechanism", "PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512"), ("username", "the user's name")):
            if getattr(self, f"kafka_sasl_{name}") is None:
                key = f"{_PREFIX}SASL_{name.upper()}"
                problems.append(f"{self.kafka_security_protocol} needs {key}: {allowed}")
        keys = f"{_PREFIX}SASL_PASSWORD and {_PREFIX}SASL_PASSWORD_FILE"
        if (self.kafka_sasl_password is None) == (self.kafka_sasl_password_file is None):
            return [*problems, f"{self.kafka_security_protocol} needs exactly one of {keys}"]
        try:
            if not self._sasl_password():
                problems.append(f"the password of {keys.replace(' and ', ' or ')} is empty")
        except (OSError, UnicodeDecodeError) as error:
            why = getattr(error, "strerror", None) or "not UTF-8"
            problems.append(f"{_PREFIX}SASL_PASSWORD_FILE: {why}: {self.kafka_sasl_password_file}")
        return problems

    def _sasl_password(self) -> str:
        if self.kafka_sasl_password_file is not None:
            return self.kafka_sasl_password_file.read_text("utf-8").rstrip("\r\n")
        return _reveal(self.kafka_sasl_password)

    def _tls_problems(self) -> list[str]:
        """What keeps the files from being used, found by loading them as a connection will."""
        certificate, key = self.kafka_ssl_certificate_file, self.kafka_ssl_key_file
        if certificate is None and (key is not None or self.kafka_ssl_key_password is not None):
            return [f"a private key or its password is set, but {_PREFIX}SSL_CERTIFICATE_FILE is not"]
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        problems = [
            f"{_PREFIX}{name}: {error.strerror}: {path}"
            for name, path in (
                ("SSL_CA_FILE", self.kafka_ssl_ca_file),
                ("SSL_CERTIFICATE_FILE", certificate),
                ("SSL_KEY_FILE", key),
            )
            if path is not None and (error := _unreadable(path)) is not None
        ]
        if problems:
            return problems
        if self.kafka_ssl_ca_file is not None:
            try:
                context.load_verify_locations(self.kafka_ssl_ca_file)
            except ssl.SSLError:
                problems.append(f"{_PREFIX}SSL_CA_FILE: holds no PEM certificate: {self.kafka_ssl_ca_file}")
        if certificate is not None:
            try:
                context.load_cert_chain(certificate, key, lambda: _reveal(self.kafka_ssl_key_password))
            except ssl.SSLError as error:
                problems.append(self._pair_problem(certificate, key or certificate, error))
        return problems

    def _pair_problem(self, certificate: Path, key: Path, error: ssl.SSLError) -> str:
        if error.reason == "KEY_VALUES_MISMATCH":
            return f"the private key in {key} does not belong to the certificate in {certificate}"
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(certificate)
        except ssl.SSLError:
            return f"{_PREFIX}SSL_CERTIFICATE_FILE: holds no PEM certificate: {certificate}"
        return (
            f"the private key in {key} cannot be read: it must be PEM, "
            f"and {_PREFIX}SSL_KEY_PASSWORD its password where it is encrypted"
        )


def _unreadable(path: Path) -> OSError | None:
    try:
        path.read_bytes()
    except OSError as error:
        return error
    return None


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)


def _reveal(secret: SecretStr | None) -> str:
    return "" if secret is None else secret.get_secret_value()
