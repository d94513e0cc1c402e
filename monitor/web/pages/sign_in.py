"""Signing in with a token, for what takes one."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, Response

from monitor.api.context import Shown
from monitor.web.page import plain
from monitor.web.session import Form, inside, signed_in, signed_out

router = APIRouter(include_in_schema=False)


@router.get("/sign-in")
def sign_in(shown: Shown, next: str = "/") -> HTMLResponse:
    """The form; it says so where there is no token to sign in with."""
    return plain("sign_in.html", back=inside(next), wrong=None, name="", writable=bool(shown.access.keyring))


@router.post("/sign-in")
def take(request: Request, shown: Shown, form: Form) -> Response:
    """Keep the token in the cookie and go back; 422 with what is wrong."""
    answer = signed_in(shown, request, form)
    if isinstance(answer, Response):
        return answer
    back, name = inside(form.get("next", "/")), form.get("name", "")
    return plain("sign_in.html", 422, back=back, wrong=answer, name=name, writable=bool(shown.access.keyring))


@router.post("/sign-out")
def leave(_form: Form) -> Response:
    """Forget the token."""
    return signed_out()
