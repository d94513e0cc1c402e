"""The way to the gateway of the inference image, which speaks Kafka: the API decides who may, the gateway sends."""

from __future__ import annotations

import json
from typing import Any

import httpx
from fastapi import HTTPException

# The gateway's own refusals that its caller can act on; any other status is a fault between the two programs.
_TOLD = frozenset({409, 413, 422, 429, 503, 504})


class Gateway:
    """Posts to the gateway over kept connections. Belongs to one event loop; close it there."""

    def __init__(self, url: str, secret: str, timeout_seconds: float) -> None:
        """`timeout_seconds` must be longer than the gateway's own, so that it is the gateway who says what happened."""
        self._client = httpx.AsyncClient(
            base_url=url,
            headers={"Authorization": f"Bearer {secret}", "Content-Type": "application/json"},
            timeout=timeout_seconds,
            limits=httpx.Limits(max_connections=None),  # the gateway bounds what is under way
            trust_env=False,
        )

    async def post(self, path: str, message: dict[str, Any]) -> bytes:
        """The gateway's answer to a message. Raises HTTPException with what it refused, or 502 where it is away."""
        try:
            response = await self._client.post(path, content=json.dumps(message))
        except httpx.TimeoutException:
            raise HTTPException(504, "the gateway did not answer in time; the request may have been sent") from None
        except httpx.HTTPError as error:
            raise HTTPException(502, f"the gateway cannot be reached: {type(error).__name__}") from None
        if response.is_success:
            return response.content
        if response.status_code == 401:
            raise HTTPException(502, "the gateway refuses this API: both need the same FUSIONWATCH_GATEWAY_SECRET")
        if response.status_code not in _TOLD:
            raise HTTPException(502, f"the gateway answered {response.status_code}")
        said = response.json()
        headers = {"Retry-After": "1"} if response.status_code == 429 else None
        raise HTTPException(response.status_code, f"{said['code']}: {said['detail']}", headers)

    async def close(self) -> None:
        """Let go of the connections."""
        await self._client.aclose()
