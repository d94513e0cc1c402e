"""How large a body may be: told by its length before it is read, counted while it is read where no length was given."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from monitor.api.problems import problem


class BodyLimit:
    """Answers 413 to a body of more than `most` bytes, or than `larger` says for its path."""

    def __init__(self, app: ASGIApp, most: int, larger: Mapping[str, int]) -> None:
        self._app = app
        self._most = most
        self._larger = dict(larger)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        most = self._larger.get(scope["path"], self._most)
        said = f"at most {most} bytes are accepted"
        length = Headers(scope=scope).get("content-length", "0")
        if length.isdigit() and int(length) > most:
            await problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, said)(scope, receive, send)
            return
        seen = 0

        async def counted() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > most:
                raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, said)
            return message

        await self._app(scope, counted, send)
