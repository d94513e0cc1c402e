"""Who may do what by the API: tokens with a name and scopes, of which only digests are held."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from enum import StrEnum

# 256 random bits: nothing that a fast hash would make guessable.
_RANDOM_BYTES = 32
_PREFIX = "fw_"
SHORTEST = 16


class Scope(StrEnum):
    """What a token lets its bearer do; none includes another."""

    READ = "read"
    SILENCE = "silence"
    PREDICT = "predict"
    LABEL = "label"
    RETRAIN = "retrain"
    PROMOTE = "promote"


EVERY_SCOPE = frozenset(Scope)


@dataclass(frozen=True, slots=True)
class Token:
    """A token as it is held: `digest` is its SHA-256; the audit log names its bearer by `name`."""

    name: str
    digest: bytes = field(repr=False)
    scopes: frozenset[Scope]


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks: a token's bearer, or anybody (`name` is None) where reading is free."""

    name: str | None
    scopes: frozenset[Scope] = frozenset()

    def acting(self, owner: str | None = None) -> str:
        """The actor of an audit row: the token's name, and for whom it was used where that was said."""
        name = self.name or "anybody"
        return name if owner in (None, name) else f"{name} for {owner}"


class Keyring:
    """Every token there is. Raises ValueError where two are the same: their bearers could not be told apart."""

    def __init__(self, tokens: Iterable[Token] = ()) -> None:
        self._tokens = tuple(tokens)
        digests = [each.digest for each in self._tokens]
        if len(set(digests)) < len(digests):
            twice = sorted(each.name for each in self._tokens if digests.count(each.digest) > 1)
            raise ValueError(f"the tokens {', '.join(twice)} are the same")

    def __bool__(self) -> bool:
        return bool(self._tokens)

    def find(self, text: str) -> Token | None:
        """The token whose text this is; takes the same time wherever, and whether, it is found."""
        given, found = digest(text), None
        for each in self._tokens:
            if hmac.compare_digest(each.digest, given):
                found = each
        return found


def digest(text: str) -> bytes:
    """SHA-256 of a token's text."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def new_token() -> str:
    """The text of a token that nobody has."""
    return _PREFIX + secrets.token_urlsafe(_RANDOM_BYTES)


def listed(scopes: Collection[Scope]) -> str:
    """Scopes in words, in their order."""
    return ", ".join(each for each in Scope if each in scopes) or "none"
