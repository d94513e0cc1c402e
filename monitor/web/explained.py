"""A finding's numbers as sentences and as a picture. Pure functions of the finding."""

from __future__ import annotations

from dataclasses import dataclass

from monitor.storage.views.models.findings import FindingView
from monitor.web import words

GAUGE_WIDTH = 600.0
# Air at both ends of the gauge, as a share of what it shows.
_AIR = 0.12
_SOURCES = {
    "settings": "set in the settings",
    "baseline": "learnt from the baseline’s own windows",
    "default": "the default",
}


@dataclass(frozen=True, slots=True)
class Gauge:
    """Value, interval and threshold on one line, in view-box units; None where the finding has none of it."""

    value: float
    low: float | None
    high: float | None
    threshold: float | None


def gauge(finding: FindingView) -> Gauge | None:
    """The finding's value beside its threshold; None without a value, or where there is nothing to see it by."""
    parts = (finding.value, finding.interval_low, finding.interval_high, finding.threshold)
    known = [each for each in parts if each is not None]
    if finding.value is None or len(known) < 2:
        return None
    least, most = min(known), max(known)
    span = (most - least) or abs(most) or 1.0
    start, width = least - _AIR * span, (1 + 2 * _AIR) * span

    def place(each: float | None) -> float | None:
        return None if each is None else (each - start) / width * GAUGE_WIDTH

    at = place(finding.value)
    assert at is not None
    return Gauge(at, place(finding.interval_low), place(finding.interval_high), place(finding.threshold))


def value_said(finding: FindingView) -> str:
    """`0.19 aggregated MMD against the baseline, surely between 0.18 and 0.2; the threshold is 0.06.`"""
    if finding.value is None:
        return "There is no value: nothing could be measured."
    about = words.detector(finding.detector)
    said = f"The value is {words.figure(finding.value, finding.detector)}"
    said += f" ({about.unit})" if about.unit else ""
    if finding.interval_low is not None and finding.interval_high is not None:
        ends = (words.figure(each, finding.detector) for each in (finding.interval_low, finding.interval_high))
        said += "; with 95% confidence it lies between {} and {}".format(*ends)
    if finding.threshold is not None:
        said += f". The threshold is {words.figure(finding.threshold, finding.detector)}"
    return f"{said}."


def chance_said(p_value: float | None) -> str:
    """What a p-value means: how often chance alone would do it."""
    if p_value is None:
        return "This check has no p-value: it is no test against chance, or nothing could be tested."
    if p_value >= 0.2:
        return f"Chance alone makes such a difference in {100 * p_value:.0f} of 100 windows: no evidence of a change."
    rare = "less than once in a billion" if p_value < 1e-9 else f"in about 1 of {words.count(round(1 / p_value))}"
    return f"Were nothing different, chance alone would make such a difference {rare} windows."


def rows_said(finding: FindingView) -> str:
    """What was compared with what."""
    rows = f"{words.count(finding.n_current)} row{'s' if finding.n_current != 1 else ''} of this window"
    if not finding.n_reference:
        return f"{rows}; it is held against a target or against truth, not against a baseline."
    return f"{rows} against {words.count(finding.n_reference)} of the baseline."


def threshold_said(details: dict[str, object]) -> str:
    """Where the threshold comes from, empty where it is not known."""
    source = _SOURCES.get(str(details.get("threshold_from")))
    season = details.get("season")
    hour = f" Compared with the baseline’s {season}." if season else ""
    return (f"The threshold is {source}." if source else "") + hour
