"""Examples for the OpenAPI document, one for each endpoint; a test parses each by its endpoint's model."""

from __future__ import annotations

import json
from functools import cache
from importlib import resources
from typing import Any


@cache
def _examples() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(resources.files("monitor.api").joinpath("examples.json").read_text("utf-8"))
    return found


def body_example(name: str) -> Any:
    """The named example of a body."""
    return _examples()[name]


def example(name: str) -> dict[int | str, dict[str, Any]]:
    """A 200 response that carries the named example."""
    return {200: {"content": {"application/json": {"example": _examples()[name]}}}}
