"""Who may call: each endpoint names the scope that it takes, and an app with one that names none does not start."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Annotated, Any
from urllib.parse import urlsplit

from fastapi import Depends, FastAPI, HTTPException, Request, Security
from fastapi.dependencies.models import Dependant
from fastapi.routing import RouteContext, iter_route_contexts
from fastapi.security import HTTPAuthorizationCredentials, HTTPBasic, HTTPBasicCredentials, HTTPBearer, SecurityScopes

from monitor.api.session import from_this_page, session_of
from monitor.domain.access import Caller, Keyring, Scope, Token, listed
from monitor.domain.rate import Buckets

_SAFE = frozenset({"GET", "HEAD"})
_bearer = HTTPBearer(scheme_name="token", auto_error=False, description="A token of FUSIONWATCH_API_TOKENS.")
_basic = HTTPBasic(
    scheme_name="password",
    auto_error=False,
    realm="fusionwatch",
    description="For browsers: any user name, and a token as the password.",
)


@dataclass(frozen=True, slots=True)
class Access:
    """The tokens there are, whether reading takes one, and how often each may ask. Without tokens nobody writes."""

    keyring: Keyring = field(default_factory=Keyring)
    open_reads: bool = True
    rate: Buckets | None = None


async def _admitted(
    request: Request,
    scopes: SecurityScopes,
    bearer: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
    basic: Annotated[HTTPBasicCredentials | None, Depends(_basic)],
) -> Caller:
    """Raises 401 without a known token, 403 where it lacks the scope or none is set, 429 where it asks too often."""
    access: Access = request.app.state.context.access
    given = bearer.credentials if bearer else basic.password if basic else None
    token = None if given is None else access.keyring.find(given)
    if given is None and (session := session_of(request)) is not None:
        token = access.keyring.find(session.token)  # one that is not known any more is nobody's
        if token is not None and request.method not in _SAFE and not from_this_page(request):
            raise HTTPException(403, "what changes something must be sent from a page of this site")
    _counted(access, request, token)
    if given is not None and token is None:
        raise _unknown()
    if token is None:
        return _nobody(access, scopes)
    if basic is not None and bearer is None:
        _of_our_own_page(request)
    if missing := [each for each in scopes.scopes if each not in token.scopes]:
        raise HTTPException(
            403, f"the token {token.name} has the scopes {listed(token.scopes)}; this takes {', '.join(missing)}"
        )
    return Caller(token.name, token.scopes)


def _counted(access: Access, request: Request, token: Token | None) -> None:
    """Raises 429 where the token's bearer, or without one the address, asked too often."""
    if access.rate is None:
        return
    address = request.client.host if request.client else ""
    wait = access.rate.take(f"token {token.name}" if token else f"address {address}", time.monotonic())
    if wait > 0:
        seconds = math.ceil(wait)
        raise HTTPException(429, f"too many requests; try again in {seconds} s", {"Retry-After": str(seconds)})


def _nobody(access: Access, scopes: SecurityScopes) -> Caller:
    if access.open_reads and scopes.scopes == [Scope.READ]:
        return Caller(None)
    if not access.keyring:
        raise HTTPException(
            403,
            "this API only reads: no token is set; `fusionwatch-monitor tokens new` makes one, its commands need none",
        )
    raise _unknown()


def _unknown() -> HTTPException:
    said = "the header Authorization must be `Bearer` and a token that this API knows"
    return HTTPException(401, said, {"WWW-Authenticate": "Bearer"})


def _of_our_own_page(request: Request) -> None:
    """A browser sends a password with whatever page asks: only what our own page asks may change something."""
    origin = request.headers.get("origin")
    if request.method in _SAFE or origin is None or urlsplit(origin).netloc == request.headers.get("host"):
        return
    raise HTTPException(403, "a page of another origin may not write with this password")


Reader = Annotated[Caller, Security(_admitted, scopes=[Scope.READ])]
Silencer = Annotated[Caller, Security(_admitted, scopes=[Scope.SILENCE])]
Predictor = Annotated[Caller, Security(_admitted, scopes=[Scope.PREDICT])]
Labeller = Annotated[Caller, Security(_admitted, scopes=[Scope.LABEL])]
Retrainer = Annotated[Caller, Security(_admitted, scopes=[Scope.RETRAIN])]
Promoter = Annotated[Caller, Security(_admitted, scopes=[Scope.PROMOTE])]
READS: list[Any] = [Security(_admitted, scopes=[Scope.READ])]


def require_guards(app: FastAPI, free: Iterable[str]) -> None:
    """Raises RuntimeError naming each route, besides those that are `free`, that asks for no scope."""
    bare = {each.path or "?" for each in iter_route_contexts(app.routes) if not _asks(each)} - set(free)
    if bare:
        raise RuntimeError(f"these routes ask for no scope: {', '.join(sorted(bare))}")


def _asks(route: RouteContext) -> bool:
    dependant = getattr(route, "dependant", None)
    return dependant is not None and _guarded(dependant)


def _guarded(dependant: Dependant) -> bool:
    return any(each.call is _admitted or _guarded(each) for each in dependant.dependencies)
