"""Tokens: found by their text alone, made by a command whose output is what the settings take, fail closed."""

from __future__ import annotations

import logging
import re
from pathlib import Path

import pytest
from fastapi import APIRouter, FastAPI
from typer.testing import CliRunner

from migrations.settings import SettingsError
from monitor import wiring
from monitor.api.access import READS, require_guards
from monitor.cli import app
from monitor.domain.access import EVERY_SCOPE, Caller, Keyring, Scope, Token, digest, new_token
from monitor.errors import AccessError
from monitor.settings import MonitorSettings

URL = "postgresql+psycopg2://monitor:hunter2hunter2@db/fusionwatch"


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    monkeypatch.chdir(tmp_path)  # away from any .env
    monkeypatch.setenv("FUSIONWATCH_DATABASE_URL", URL)
    monkeypatch.setattr(logging.getLogger(), "handlers", [])  # the command sets up logging of its own
    return monkeypatch


def access() -> Keyring:
    return wiring.access(MonitorSettings.from_environment()).keyring


def test_a_token_is_found_by_its_whole_text_alone() -> None:
    texts = [new_token() for _ in range(20)]
    assert len(set(texts)) == 20
    ring = Keyring(Token(f"t{n}", digest(text), frozenset({Scope.READ})) for n, text in enumerate(texts))
    for n, text in enumerate(texts):
        found = ring.find(text)
        assert found is not None
        assert found.name == f"t{n}"
        assert text not in repr(found)
        for wrong in (text[:-1], text + "x", text.swapcase(), "", digest(text).hex(), "\ud800"):
            assert ring.find(wrong) is None
    with pytest.raises(ValueError, match="tokens a, b are the same"):
        Keyring([Token("a", digest("x"), EVERY_SCOPE), Token("b", digest("x"), EVERY_SCOPE)])


def test_the_audit_log_names_the_token_and_for_whom_it_was_used() -> None:
    assert [Caller("ci").acting(owner) for owner in (None, "ci", "ann")] == ["ci", "ci", "ci for ann"]


def test_what_the_command_prints_lets_the_token_in(environment: pytest.MonkeyPatch) -> None:
    made = CliRunner().invoke(app, ["tokens", "new", "--name", "ci", "--scope", "silence", "--scope", "read"])
    assert made.exit_code == 0, made.output
    token = made.output.split("not shown again: ")[1].split()[0]
    for key, value in re.findall(r"^(FUSIONWATCH_\w+)=(.*)$", made.output, re.MULTILINE):
        environment.setenv(key, value.strip("'"))
    environment.setenv("FUSIONWATCH_API_TOKENS", '{"ops": {"token": "sixteen characters", "scopes": ["promote"]}}')
    environment.setenv("FUSIONWATCH_API_TOKEN", "a token with every scope")
    ring = access()
    found = [ring.find(text) for text in (token, "sixteen characters", "a token with every scope")]
    assert [each and (each.name, each.scopes) for each in found] == [
        ("ci", frozenset({Scope.READ, Scope.SILENCE})),
        ("ops", frozenset({Scope.PROMOTE})),
        ("api", EVERY_SCOPE),
    ]
    listed = CliRunner().invoke(app, ["tokens", "list"]).output
    assert re.search(r"ci +│ read, silence", listed), listed
    assert token not in listed
    checked = CliRunner().invoke(app, ["check-settings"]).output
    assert "sixteen characters" not in checked
    for name in ("Ci", "a__b", "api", "1a", ""):
        refused = CliRunner().invoke(app, ["tokens", "new", "--name", name, "--scope", "read"])
        assert isinstance(refused.exception, AccessError), name


def test_a_token_may_lie_in_a_file(environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    secret = tmp_path / "token"
    environment.setenv("FUSIONWATCH_API_TOKENS__CI__FILE", str(secret))
    environment.setenv("FUSIONWATCH_API_TOKENS__CI__SCOPES", '["label"]')
    with pytest.raises(AccessError, match=r"token cannot be read: .*No such file"):
        access()
    secret.write_text("short\n")
    with pytest.raises(AccessError, match="must hold 16 characters or more, not 5"):
        access()
    secret.write_text("sixteen characters\n")
    assert access().find("sixteen characters")


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ('{"ci": {"scopes": ["read"]}}', "one of sha256, token and file"),
        ('{"ci": {"token": "sixteen characters", "sha256": "' + "0" * 64 + '", "scopes": ["read"]}}', "one of sha256"),
        ('{"ci": {"token": "short", "scopes": ["read"]}}', "FUSIONWATCH_API_TOKENS__CI__TOKEN"),
        ('{"ci": {"sha256": "00", "scopes": ["read"]}}', "FUSIONWATCH_API_TOKENS__CI__SHA256"),
        (
            '{"ci": {"token": "sixteen characters", "scopes": ["write"]}}',
            "'read', 'silence', 'predict', 'label', 'retrain'",
        ),
        ('{"ci": {"token": "sixteen characters", "scopes": []}}', "FUSIONWATCH_API_TOKENS__CI__SCOPES"),
        ('{"C I": {"token": "sixteen characters", "scopes": ["read"]}}', "FUSIONWATCH_API_TOKENS__C I"),
    ],
)
def test_a_wrong_token_is_named_and_never_shown(environment: pytest.MonkeyPatch, value: str, words: str) -> None:
    environment.setenv("FUSIONWATCH_API_TOKENS", value)
    with pytest.raises(SettingsError, match="API_TOKENS") as refused:
        MonitorSettings.from_environment()
    assert words in str(refused.value)
    assert "short" not in str(refused.value)
    assert "sixteen" not in str(refused.value)


def test_production_does_not_start_without_a_token(environment: pytest.MonkeyPatch) -> None:
    assert wiring.access(MonitorSettings.from_environment()).open_reads
    environment.setenv("FUSIONWATCH_ENVIRONMENT", "production")
    with pytest.raises(AccessError, match="tokens new"):
        access()
    environment.setenv("FUSIONWATCH_API_TOKEN", "a token with every scope")
    assert not wiring.access(MonitorSettings.from_environment()).open_reads
    environment.setenv("FUSIONWATCH_API_TOKENS", '{"api": {"token": "sixteen characters", "scopes": ["read"]}}')
    with pytest.raises(AccessError, match="'api' is the name of FUSIONWATCH_API_TOKEN"):
        access()


def test_an_app_with_an_endpoint_that_asks_for_no_scope_does_not_start() -> None:
    served = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    router = APIRouter(prefix="/v1")
    served.get("/guarded", dependencies=READS)(lambda: 1)
    router.get("/guarded", dependencies=READS)(lambda: 1)
    router.get("/free")(lambda: 1)
    served.include_router(router)
    require_guards(served, ["/v1/free"])
    with pytest.raises(RuntimeError, match=r"ask for no scope: /v1/free$"):
        require_guards(served, [])
