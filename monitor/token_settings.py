"""What settings say of the API's tokens, and the keyring made of it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, StringConstraints, model_validator

from monitor.domain.access import EVERY_SCOPE, SHORTEST, Keyring, Scope, Token, digest
from monitor.errors import AccessError

# As a part of an environment variable's name, too, where case is lost.
NAME = re.compile(r"[a-z](_?[a-z0-9]){0,39}", re.ASCII)
EVERYTHING = "api"  # the name of the one token of FUSIONWATCH_API_TOKEN
TokenName = Annotated[str, StringConstraints(pattern=rf"^{NAME.pattern}$")]


class TokenSettings(BaseModel):
    """One token: its SHA-256 in hex (`tokens new` prints it), its text, or a file that holds its text."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")
    token: SecretStr | None = Field(default=None, min_length=SHORTEST)
    file: Path | None = None
    scopes: tuple[Scope, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if sum(each is not None for each in (self.sha256, self.token, self.file)) != 1:
            raise ValueError("a token needs one of sha256, token and file")
        return self

    def digest(self) -> bytes:
        """SHA-256 of the token. Raises ValueError where its file cannot be read or holds too short a text."""
        if self.sha256 is not None:
            return bytes.fromhex(self.sha256)
        return digest(self._text() if self.token is None else self.token.get_secret_value())

    def _text(self) -> str:
        assert self.file is not None
        try:
            text = self.file.read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(f"{self.file} cannot be read: {error}") from None
        if len(text) < SHORTEST:
            raise ValueError(f"{self.file} must hold {SHORTEST} characters or more, not {len(text)}")
        return text


def keyring(tokens: Mapping[str, TokenSettings], everything: SecretStr | None) -> Keyring:
    """All tokens of the settings; `everything` is one that has every scope. Raises AccessError with what is wrong."""
    made = []
    if everything is not None:
        if EVERYTHING in tokens:
            raise AccessError(f"FUSIONWATCH_API_TOKENS: {EVERYTHING!r} is the name of FUSIONWATCH_API_TOKEN")
        made.append(Token(EVERYTHING, digest(everything.get_secret_value()), EVERY_SCOPE))
    try:
        for name, each in tokens.items():
            made.append(Token(name, each.digest(), frozenset(each.scopes)))
        return Keyring(made)
    except ValueError as error:
        raise AccessError(f"FUSIONWATCH_API_TOKENS: {error}") from None
