"""Tokens for the API in tests."""

from __future__ import annotations

from collections.abc import Mapping

from monitor.api.access import Access
from monitor.domain.access import Keyring, Scope, Token, digest


def of(held: Mapping[str, tuple[str, str]], *, open_reads: bool = True) -> Access:
    """An access with tokens: name to text and scopes, these with spaces between."""
    made = (Token(name, digest(text), frozenset(map(Scope, scopes.split()))) for name, (text, scopes) in held.items())
    return Access(Keyring(made), open_reads)


def bearer(text: str) -> dict[str, str]:
    """The header that carries a token."""
    return {"Authorization": f"Bearer {text}"}
