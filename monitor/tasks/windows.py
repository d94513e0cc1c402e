"""Which windows are judged, how wide they are, and how long one waits for what belongs to them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True, slots=True)
class Windows:
    """What is looked at, and when.

    A window of length `window` ends at every multiple of `hop` and is judged `grace` after its end; availability looks
    back over `availability`, labels over the newest `label_limit` of those received within `labels`. After an absence
    at most the newest `catch_up` windows are judged. Windows whose data or labels came late are judged again within
    `late`. A stream without rows for `silence` is silent. An alert of an offset gap stays for `window`.
    """

    hop: timedelta
    window: timedelta
    availability: timedelta
    labels: timedelta
    grace: timedelta
    silence: timedelta
    catch_up: int
    label_limit: int
    late: timedelta
