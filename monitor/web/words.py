"""Names and numbers as people read them. Every verdict has a word and a shape as well as a colour."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from typing import Any, NamedTuple


class Sign(NamedTuple):
    """How a state is shown: its word, the name of its shape (a symbol of the page's sprite) and of its colour."""

    word: str
    shape: str
    tone: str


class Detector(NamedTuple):
    """A detector's name in words, what its value is, and how to write that value: `share` or `number`."""

    name: str
    unit: str
    style: str = "number"


VERDICTS = {
    "ok": Sign("ok", "check", "good"),
    "drift": Sign("drift", "diamond", "bad"),
    "insufficient": Sign("not enough data", "half", "unsure"),
    "no_data": Sign("no data", "ring", "unsure"),
    "no_baseline": Sign("no baseline", "dashed", "unsure"),
}
# The same word for every detector would mislead: a modality is not drifting but failing.
BREACHES = {
    "availability": Sign("failing", "diamond", "bad"),
    "cost": Sign("too dear", "diamond", "bad"),
    "silence": Sign("silent", "diamond", "bad"),
    "messages_lost": Sign("lost", "diamond", "bad"),
    "log_reset": Sign("reset", "diamond", "bad"),
    "security": Sign("event", "diamond", "bad"),
    "retrain_job": Sign("failed", "diamond", "bad"),
    "rollout": Sign("taken away", "diamond", "bad"),
    "log_partitions": Sign("missing", "diamond", "bad"),
    "label_queue": Sign("wanted", "half", "unsure"),
    "burn_rate": Sign("burning", "diamond", "bad"),
    "burn_rate_page": Sign("burning", "diamond", "bad"),
}

ALERT_STATES = {
    "pending": Sign("pending", "half", "unsure"),
    "firing": Sign("firing", "diamond", "bad"),
    "resolved": Sign("resolved", "check", "good"),
}
ROLLOUTS = {
    "promoted": Sign("promoted", "check", "good"),
    "rolled_back": Sign("rolled back", "dashed", "unsure"),
    None: Sign("in progress", "half", "unsure"),
}
OUTCOMES = {
    "passed": Sign("passed", "check", "good"),
    "failed": Sign("failed", "diamond", "bad"),
    "inconclusive": Sign("cannot tell yet", "half", "unsure"),
    "ready": Sign("ready", "check", "good"),
    "refused": Sign("refused", "diamond", "bad"),
}
NOTICES = {
    "due": Sign("due", "ring", "unsure"),
    "sent": Sign("sent", "check", "good"),
    "failed": Sign("failed", "diamond", "bad"),
    "suppressed": Sign("held back", "dashed", "unsure"),
}
JOB_STATES = {
    "queued": Sign("queued", "ring", "unsure"),
    "running": Sign("running", "half", "unsure"),
    "trained": Sign("at the gate", "half", "unsure"),
    "promoted": Sign("promoted", "check", "good"),
    "rejected": Sign("rejected", "dashed", "unsure"),
    "failed": Sign("failed", "diamond", "bad"),
    "cancelled": Sign("cancelled", "ring", "unsure"),
}
DETECTORS = {
    "availability": Detector("Availability", "share of requests that have it", "share"),
    "embedding_mmd": Detector("Embedding drift", "aggregated MMD against the baseline"),
    "class_drift": Detector("Class mix", "KL divergence in nats"),
    "confidence_drift": Detector("Confidence", "Jensen-Shannon distance from the baseline"),
    "quality_shape": Detector("Quality shape", "share of rows in other ranges", "share"),
    "misalignment": Detector("Alignment", "nats a pair by which another shift fits better"),
    "cost": Detector("Cost", "milliseconds of the model a request"),
    "pairing": Detector("Pairing", "shift of the pairing score"),
    "agreement": Detector("Agreement", "share in which all heads agree", "share"),
    "contribution": Detector("Contribution", "confidence lost when an input is another request’s"),
    "calibration": Detector("Calibration", "expected calibration error", "share"),
    "accuracy": Detector("Accuracy", "share of labelled answers that are right", "share"),
    "estimated_accuracy": Detector("Estimated accuracy", "share right, judged by confidence alone", "share"),
    "label_prior": Detector("Label mix", "KL divergence of the labels in nats"),
    "review_rate": Detector("Review rate", "share of requests that people reviewed", "share"),
    "false_positives": Detector("False positives", "macro false-positive rate", "share"),
    "silence": Detector("Stream", "seconds since the last row"),
    "messages_lost": Detector("Lost messages", "messages that left the log unread"),
    "log_reset": Detector("Log resets", "partitions whose log starts again"),
    "security": Detector("Security", "events that somebody must look at"),
    "retrain_job": Detector("Retrain job", "1 where the newest failed"),
    "rollout": Detector("Rollout", "1 where checks took the challenger away"),
    "log_partitions": Detector("Log partitions", "days ahead that have theirs"),
    "label_queue": Detector("Label queue", "answers that wait for a label"),
    "baseline": Detector("Baseline", "1 where there is one"),
    "quality": Detector("Quality statistics", "largest standardised shift"),
    "burn_rate": Detector("Budget burn", "times too fast that the error budget is used up"),
    "burn_rate_page": Detector("Fast budget burn", "times too fast that the error budget is used up"),
    "sequential": Detector("Gradual change", "evidence that something has changed for good"),
    "sequential_page": Detector("Gradual outage", "evidence that something is missing more often"),
}
MODALITIES = {"all": "The stream", "fused": "Fused", "image+text": "Image and text"}
DEAD_LETTER_HINT = "the original bytes and headers are in the dead-letter topic"


def detector(name: str) -> Detector:
    """A detector's words; one that is not known here is shown by its own name."""
    return DETECTORS.get(name) or Detector(name.replace("_", " ").capitalize(), "")


def modality(name: str) -> str:
    """A modality's name at the start of a sentence, e.g. `Image and text`."""
    return MODALITIES.get(name) or name.replace("+", " and ").replace("_", " ").capitalize()


def verdict(name: str, of: str = "") -> Sign:
    """How a verdict of detector `of` is shown."""
    return BREACHES[of] if name == "drift" and of in BREACHES else VERDICTS[name]


def vocabulary() -> dict[str, Any]:
    """The words that the browser needs for its plots."""
    return {
        "detectors": {name: known._asdict() for name, known in DETECTORS.items()},
        "verdicts": {
            **{name: sign._asdict() for name, sign in VERDICTS.items()},
            **{f"drift:{name}": sign._asdict() for name, sign in BREACHES.items()},
        },
        "modalities": MODALITIES,
    }


def figure(value: float | None, of: str = "") -> str:
    """A detector's value in its own style, or an em dash."""
    if value is None:
        return "—"
    return share(value) if detector(of).style == "share" else number(value)


def share(value: float | None) -> str:
    """A share as per cent; never rounded up to 100% nor down to 0%."""
    if value is None:
        return "—"
    if value in (0, 1):
        return f"{value:.0%}"
    return f"{min(max(100 * value, 0.1), 99.9):.1f}%"


def share_signed(value: float) -> str:
    """A share that may be below nothing: `30.0%`, `-2.1%`."""
    return f"{100 * value:.1f}%"


def points(change: float) -> str:
    """A change of a share in points, hundredths of it: `+4.2 points`."""
    return f"{100 * change:+.1f} points"


def objective(value: float) -> str:
    """A target with as many digits as it has: `99%`, `99.9%`."""
    return f"{100 * value:.6g}%"


def budget(left: float | None) -> str:
    """What is left of an error budget: `41%`; `overdrawn by 20%`; an em dash where nothing is known."""
    if left is None:
        return "—"
    return share(left) if left >= 0 else f"overdrawn by {-left:,.0%}"


def number(value: float | None) -> str:
    """Three significant digits, in plain notation where that is short."""
    if value is None:
        return "—"
    if value == 0 or 0.001 <= abs(value) < 1000:
        return f"{value:.3g}"
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e7 else f"{value:.1e}"


def count(value: int) -> str:
    """A count with thin separators, e.g. `12 345`."""
    return f"{value:,}".replace(",", "\u202f")


def clock_time(at: datetime, now: datetime) -> str:
    """`12:03` of today, `20 Nov 12:03` of another day, in UTC."""
    at, now = at.astimezone(UTC), now.astimezone(UTC)
    return f"{at:%H:%M}" if at.date() == now.date() else f"{at.day} {at:%b %H:%M}"


def span(start: datetime, end: datetime) -> str:
    """A period in UTC: `Mon 2 Mar 2026`, `2 Mar – 8 Mar 2026` for whole days, else `2 Mar 06:00 – 2 Mar 08:30 2026`."""
    start, end = start.astimezone(UTC), end.astimezone(UTC)
    if start.time() == end.time() == time():
        last = end - timedelta(days=1)
        if last == start:
            return f"{start:%a} {start.day} {start:%b %Y}"
        return f"{start.day} {start:%b} – {last.day} {last:%b %Y}"
    return f"{start.day} {start:%b %H:%M} – {end.day} {end:%b %H:%M %Y}"


def ago(at: datetime, now: datetime) -> str:
    """`12 s ago`, `3 min ago`, `2 h ago`, `4 d ago`; a moment to come counts as now."""
    seconds = max(0, int((now - at).total_seconds()))
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size or (seconds >= size and unit != "d"):
            return f"{seconds // size} {unit} ago"
    return f"{seconds} s ago"


def begin(text: str) -> str:
    """As it stands at the start of a sentence: the first letter large, the others as they are."""
    return text[:1].upper() + text[1:]


def listed(names: list[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else "".join(names)
