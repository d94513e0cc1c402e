"""How far a job has come, in words: from the facts that its trainer tells with each heartbeat."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any


def in_words(progress: Mapping[str, Any], now: datetime) -> str:
    """E.g. `training, step 40 of 200, loss 0.312, about 3 min left`; what a trainer does not tell is left out.

    `progress` may hold `phase`, `step`, `steps`, `loss`, `eta` (when training is expected to end, RFC 3339) and
    `resumed_at` (the step that an earlier attempt had come to).
    """
    parts = [str(progress["phase"])] if progress.get("phase") else []
    step, steps = progress.get("step"), progress.get("steps")
    if isinstance(step, int) and isinstance(steps, int):
        parts.append(f"step {step} of {steps}")
    if isinstance(loss := progress.get("loss"), int | float):
        parts.append(f"loss {loss:.3f}")
    if resumed := progress.get("resumed_at"):
        parts.append(f"taken up at step {resumed}")
    if (left := _left(progress.get("eta"), now)) and (step is None or step != steps):
        parts.append(left)
    return ", ".join(parts)


def _left(eta: object, now: datetime) -> str:
    """`about 3 min left`; empty without a time, or once it is past."""
    try:
        seconds = (datetime.fromisoformat(str(eta)) - now).total_seconds()
    except (ValueError, TypeError):
        return ""
    if seconds <= 0:
        return ""
    if seconds < 90:
        return f"about {max(1, round(seconds))} s left"
    return f"about {round(seconds / 60)} min left" if seconds < 5400 else f"about {seconds / 3600:.1f} h left"
