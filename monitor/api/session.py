"""Who is signed in on the pages: a token of the API, kept in a cookie that no script and no other site can use.

The cookie holds the token itself, HttpOnly and SameSite=Strict: nothing is remembered here, so that any process may
answer, and a token that is taken away ends its sessions at once. It stands for nothing under /v1. What changes
something is refused unless the browser says that a page of this very origin sent it: `Sec-Fetch-Site`, and `Origin`
where there is none (W3C Fetch Metadata).
"""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from fastapi import Request

COOKIE = "fusionwatch"


@dataclass(frozen=True, slots=True)
class Session:
    """A token that somebody signed in with, and their name where they gave one."""

    token: str = field(repr=False)
    person: str | None = None

    def cookie(self) -> str:
        """The cookie's value; `session_of` reads it."""
        return base64.urlsafe_b64encode(json.dumps([self.token, self.person]).encode()).decode()


def session_of(request: Request) -> Session | None:
    """What the cookie says, on pages only; None where there is none, or nothing that `Session.cookie` wrote."""
    if request.url.path.startswith("/v1/"):
        return None
    try:
        token, person = json.loads(base64.urlsafe_b64decode(request.cookies.get(COOKIE, "")))
    except (binascii.Error, ValueError, TypeError):
        return None
    known = isinstance(token, str) and (person is None or (isinstance(person, str) and person.isprintable()))
    return Session(token, person) if known else None


def from_this_page(request: Request) -> bool:
    """Whether the browser says that a page of this origin sent the request."""
    if (site := request.headers.get("sec-fetch-site")) is not None:
        return site == "same-origin"
    return urlsplit(request.headers.get("origin", "")).netloc == request.headers.get("host")
