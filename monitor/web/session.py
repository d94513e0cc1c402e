"""Signing in and out, and the forms of the pages: see `monitor.api.session` for what keeps them safe."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated
from urllib.parse import parse_qsl, quote, urlsplit

from fastapi import Depends, HTTPException, Request
from fastapi.responses import RedirectResponse, Response

from monitor.api.access import Reader, Silencer
from monitor.api.context import Context
from monitor.api.session import COOKIE, Session, from_this_page, session_of
from monitor.domain.access import Caller, Scope

KEPT_SECONDS = 30 * 24 * 3600
LONGEST_FORM = 16_384
LONGEST_NAME = 100


@dataclass(frozen=True, slots=True)
class Visitor:
    """Who looks: the bearer of a token, and the name that they gave, where several share one."""

    caller: Caller
    person: str | None = None

    @property
    def name(self) -> str | None:
        """What they are called here; None for who is not signed in."""
        return self.person or self.caller.name

    @property
    def may_write(self) -> bool:
        """Whether acknowledging and silencing are offered."""
        return Scope.SILENCE in self.caller.scopes

    @property
    def actor(self) -> str:
        """What the audit log calls them."""
        return self.caller.acting(self.person)


def _person(request: Request) -> str | None:
    session = session_of(request)
    return None if session is None else session.person


def visitor(request: Request, caller: Reader) -> Visitor:
    """Who looks at a page. Raises as the API does where reading takes a token."""
    return Visitor(caller, _person(request) if caller.name else None)


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


def _writer(request: Request, caller: Silencer, _sent: Form) -> Visitor:
    """Who sends a form that changes something. Raises 401 and 403 as the API does."""
    return Visitor(caller, _person(request))


Writer = Annotated[Visitor, Depends(_writer)]


def sign_in_path(back: str) -> str:
    """Where to sign in and come back from."""
    return f"/sign-in?next={quote(back)}"


def inside(path: str) -> str:
    """A path of this site, `/` where it leads elsewhere."""
    plain = path.startswith("/") and not path.startswith("//") and "\\" not in path and path.isprintable()
    return path if plain and not urlsplit(path).netloc else "/"


def signed_in(shown: Context, request: Request, form: dict[str, str]) -> Response | str:
    """The way back with the cookie, or what is wrong with the form."""
    name, token = form.get("name", "").strip(), form.get("token", "").strip()
    if len(name) > LONGEST_NAME:
        return f"A name has {LONGEST_NAME} characters at most."
    if not name.isprintable():
        return "A name has no control characters."
    if shown.access.keyring.find(token) is None:
        return "This token is not known."
    back = RedirectResponse(inside(form.get("next", "/")), 303)
    back.set_cookie(
        COOKIE,
        Session(token, name or None).cookie(),
        max_age=KEPT_SECONDS,
        httponly=True,
        samesite="strict",
        secure=request.url.scheme == "https",
    )
    return back


def signed_out() -> Response:
    """The way to the first page, without the cookie."""
    back = RedirectResponse("/", 303)
    back.delete_cookie(COOKIE, httponly=True, samesite="strict")
    return back
