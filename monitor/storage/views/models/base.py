"""What all that people are shown is made of: the API's wire format and the page's input. Shares are 0-1, times UTC."""

from __future__ import annotations

from datetime import datetime
from typing import Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict

Item = TypeVar("Item")
VerdictName = Literal["ok", "drift", "insufficient", "no_data", "no_baseline"]


class Read(BaseModel):
    """Base of what is shown: frozen, and free to name a model."""

    model_config = ConfigDict(frozen=True, protected_namespaces=())


class Page(Read, Generic[Item]):
    """Some items, newest first, and where to go on: pass `next_cursor` as `cursor`; null at the end."""

    items: list[Item]
    next_cursor: int | None = None


class Period(Read):
    """From `start` up to, not including, `end`."""

    start: datetime
    end: datetime


class Timing(Read):
    """How time is cut, in seconds: summaries by slot; a window ends every hop and is judged `grace_seconds` later."""

    slot_seconds: int
    hop_seconds: int
    window_seconds: int
    availability_window_seconds: int
    grace_seconds: float
