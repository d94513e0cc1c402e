"""A message in words, for channels whose readers are people, and cut to what a service takes."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

ELLIPSIS = "…"


def shorten(text: str, limit: int) -> str:
    """The text, or its beginning and an ellipsis, in at most `limit` UTF-16 code units.

    Services count characters in several ways; none counts more than that.
    """
    if _units(text) <= limit:
        return text
    kept = text[: limit - 1]
    while _units(kept) > limit - 1:
        kept = kept[:-1]
    return kept + ELLIPSIS


def incident(message: Mapping[str, Any], limit: int = 255) -> str:
    """What names the incident that an alert is: the same when it fires, is repeated and is resolved.

    Another alert of the series has a name of its own, so that a resolve that arrives late cannot end it. What is told
    without the database has none, and monitors that see the same trouble share one incident.
    """
    parts = ("fusionwatch", message["fingerprint"], message["alert_id"])
    name = "-".join(str(part) for part in parts if part is not None)
    return name if len(name) <= limit else hashlib.sha256(name.encode()).hexdigest()


def title(message: Mapping[str, Any]) -> str:
    """E.g. `[page] ModalityUnavailable(image) of fusion`."""
    state = "" if message["state"] == "firing" else "resolved: "
    return f"{state}[{message['severity']}] {message['alertname']}({message['modality']}) of {message['model']}"


def facts(message: Mapping[str, Any]) -> dict[str, str]:
    """What is known beside the summary, by name; what is not known is left out."""
    interval = message.get("interval")
    low_high = f" ({number(interval[0])} to {number(interval[1])})" if interval else ""
    found = {
        "since": message.get("since"),
        "resolved at": message.get("resolved_at"),
        "value": None if message.get("value") is None else number(message["value"]) + low_high,
        "threshold": None if message.get("threshold") is None else number(message["threshold"]),
        "moved most": _moved(message.get("moved")),
        "model version": message.get("model_version"),
        "explained by": message.get("inhibited_by"),
    }
    return {name: value for name, value in found.items() if value}


def others(message: Mapping[str, Any]) -> list[str]:
    """One line for each further alert that the message tells of."""
    return [f"{each['modality']}: {each['summary']}" for each in message.get("grouped") or ()]


def links(message: Mapping[str, Any]) -> dict[str, str]:
    """Addresses a reader can open, by name. A runbook in a folder of the repository has none."""
    found = {"status page": message.get("dashboard"), "runbook": message.get("runbook")}
    return {name: url for name, url in found.items() if url and url.startswith(("http://", "https://"))}


def number(value: float) -> str:
    """Four significant digits."""
    return f"{value:.4g}"


def _moved(moved: Any) -> str:
    named = [each["statistic"] for each in moved or () if isinstance(each, Mapping) and "statistic" in each]
    return ", ".join(str(name).replace("_", " ") for name in named[:3])


def _units(text: str) -> int:
    return len(text.encode("utf-16-le", "surrogatepass")) // 2
