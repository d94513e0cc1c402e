"""Who looks: signed in with a token of the API, kept in a cookie that no script and no other site can use.

The cookie holds the token itself, HttpOnly and SameSite=Strict: nothing is remembered here, so that any process may
answer, and a token that is taken away ends its sessions at once. What changes something is refused unless the browser
says that a page of this very origin sent it: `Sec-Fetch-Site`, and `Origin` where there is none (W3C Fetch Metadata).
"""

from __future__ import annotations

import base64
import binascii
import hmac
import json
from dataclasses import dataclass
from typing import Annotated
from urllib.parse import parse_qsl, quote, urlsplit

from fastapi import APIRouter, Depends, HTTPException, Request
from fastapi.responses import RedirectResponse, Response

from monitor.api.context import Context, Shown

COOKIE = "fusionwatch"
KEPT_SECONDS = 30 * 24 * 3600
LONGEST_FORM = 16_384
LONGEST_NAME = 100
router = APIRouter(include_in_schema=False)


@dataclass(frozen=True, slots=True)
class Visitor:
    """Who looks. `name` is what the audit log will call them; nobody who is not signed in has one, or may write."""

    name: str | None = None

    @property
    def may_write(self) -> bool:
        """Whether acknowledging and silencing are offered."""
        return self.name is not None


NOBODY = Visitor()


def visitor_of(request: Request, shown: Context) -> Visitor:
    """Who the cookie says, NOBODY where there is none or its token is not known (any more)."""
    kept = _unpacked(request.cookies.get(COOKIE, ""))
    return NOBODY if kept is None or not _known(shown, kept[1]) else Visitor(kept[0])


def _known(shown: Context, token: str) -> bool:
    return shown.token is not None and hmac.compare_digest(token.encode(), shown.token.encode())


def _packed(name: str, token: str) -> str:
    return base64.urlsafe_b64encode(json.dumps([name, token]).encode()).decode()


def _unpacked(cookie: str) -> tuple[str, str] | None:
    try:
        name, token = json.loads(base64.urlsafe_b64decode(cookie))
    except (binascii.Error, ValueError, TypeError):
        return None
    return (name, token) if isinstance(name, str) and isinstance(token, str) else None


def from_this_page(request: Request) -> bool:
    """Whether the browser says that a page of this origin sent the request."""
    if (site := request.headers.get("sec-fetch-site")) is not None:
        return site == "same-origin"
    return urlsplit(request.headers.get("origin", "")).netloc == request.headers.get("host")


async def _form(request: Request) -> dict[str, str]:
    """The fields of a form of this site. Raises 403 where another site sent it, 413 and 422 where it is none."""
    if not from_this_page(request):
        raise HTTPException(403, "this form was not sent from a page of this site")
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > LONGEST_FORM:
            raise HTTPException(413, f"a form has at most {LONGEST_FORM} bytes")
    try:
        return dict(parse_qsl(body.decode()))
    except ValueError as error:
        raise HTTPException(422, "the form is not UTF-8") from error


Form = Annotated[dict[str, str], Depends(_form)]


def _writer(request: Request, shown: Shown, _form: Form) -> Visitor:
    """Who sends a form that changes something. Raises 401 where nobody is signed in."""
    visitor = visitor_of(request, shown)
    if not visitor.may_write:
        raise HTTPException(401, "sign in first: the session is over, or its token is not valid any more")
    return visitor


Writer = Annotated[Visitor, Depends(_writer)]


def sign_in_path(request: Request) -> str:
    """Where to sign in and come back from."""
    return f"/sign-in?next={quote(request.url.path)}"


def inside(path: str) -> str:
    """A path of this site, `/` where it leads elsewhere."""
    parts = urlsplit(path)
    plain = path.startswith("/") and not path.startswith("//") and "\\" not in path
    return path if plain and not parts.netloc and path.isprintable() else "/"


def signed_in(shown: Context, request: Request, form: dict[str, str]) -> Response | str:
    """The way back with the cookie, or what is wrong with the form."""
    name, token = form.get("name", "").strip(), form.get("token", "").strip()
    if not name or len(name) > LONGEST_NAME:
        return f"Your name is needed, {LONGEST_NAME} characters at most: it is written beside what you do."
    if not _known(shown, token):
        return "This token is not known."
    back = RedirectResponse(inside(form.get("next", "/")), 303)
    back.set_cookie(
        COOKIE,
        _packed(name, token),
        max_age=KEPT_SECONDS,
        httponly=True,
        samesite="strict",
        secure=request.url.scheme == "https",
    )
    return back


@router.post("/sign-out")
def sign_out(_form: Form) -> Response:
    """Forget the token."""
    back = RedirectResponse("/", 303)
    back.delete_cookie(COOKIE, httponly=True, samesite="strict")
    return back
