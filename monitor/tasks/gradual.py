"""What the sequential monitor says of a window, in findings and words."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Set
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from monitor.alerts.names import ALL, GRADUAL, GRADUAL_PAGE
from monitor.domain.finding import Finding, Verdict
from monitor.domain.sequential import Judged, Plan, Series
from monitor.domain.signals import signal
from monitor.domain.window import Window
from monitor.storage.sequential import Key

PERIOD = timedelta(days=30)  # a promise counts alarms in so long
CONTRIBUTORS = 5
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Watch:
    """All series of one severity together: windows of `length`, and at most `allowed` false alarms in PERIOD.

    Its findings are those of `detector`; they become alerts named `alertname`.
    """

    detector: str
    alertname: str
    severity: str
    length: timedelta
    allowed: float
    plan: Plan

    @property
    def threshold(self) -> float:
        """The evidence that an alarm takes."""
        return PERIOD / self.length / self.allowed

    def follows(self, detector: str) -> bool:
        """Whether this watch follows a detector's findings."""
        read = signal(detector)
        return detector not in (GRADUAL, GRADUAL_PAGE) and read.followed and read.severity == self.severity

    def number(self, end: datetime) -> int:
        """The number of the window that ends then: windows since 1970."""
        return (end - _EPOCH) // self.length

    def end(self, number: int) -> datetime:
        """When the window of that number ends."""
        return _EPOCH + number * self.length

    def hour(self, number: int) -> int:
        """The hour of day, in UTC, of the middle of a window."""
        return (self.end(number) - self.length / 2).hour


@dataclass(frozen=True, slots=True)
class Basis:
    """What series are compared with: another version or baseline starts them anew."""

    model_version: str
    baseline_id: int | None


def findings(watch: Watch, judged: Judged[Key], basis: Basis, end: datetime, before: Set[str]) -> list[Finding]:
    """One finding about all series, and one for each modality in which a change lasts or is over.

    `before` are the modalities of which a change was told and not yet its end.
    """
    lasting: dict[str, list[Key]] = defaultdict(list)
    for key, series in judged.panel.items():
        if series.alarm is not None:
            lasting[key[1]].append(key)
    about_all = _about_all(watch, judged, bool(lasting), basis)
    changed = {modality: _about_change(watch, judged, keys) for modality, keys in lasting.items()}
    over = {modality: _over(modality, basis) for modality in before - lasting.keys() - {ALL}}
    return [
        Finding(
            detector=watch.detector,
            modality=modality,
            window=Window(end - watch.length, end),
            verdict=said.verdict,
            value=judged.total if any(series.calibrated for series in judged.panel.values()) else None,
            p_value=None,
            effect=said.effect,
            interval=None,
            threshold=watch.threshold,
            n_reference=max((len(series.reference) for series in judged.panel.values()), default=0),
            n_current=len(judged.panel),
            baseline_id=basis.baseline_id,
            model_version=basis.model_version,
            explanation=said.words,
            details=said.details,
        )
        for modality, said in sorted({ALL: about_all, **changed, **over}.items())
    ]


@dataclass(frozen=True, slots=True)
class _Said:
    verdict: Verdict
    words: str
    details: Mapping[str, Any]
    effect: float | None = None


def _about_all(watch: Watch, judged: Judged[Key], lasts: bool, basis: Basis) -> _Said:
    panel = judged.panel
    known = [series for series in panel.values() if series.calibrated]
    taken = max((len(series.history) for series in panel.values()), default=0)
    details = {
        "severity": watch.severity,
        "allowed": watch.allowed,
        "days": PERIOD.days,
        "series": len(panel),
        "calibrated": len(known),
        "taken": watch.plan.calibration if panel and len(known) == len(panel) else taken,
        "needed": watch.plan.calibration,
        "leading": _leading(panel),
    }
    calibrating = f"{taken} of {watch.plan.calibration} windows of calibration are in"
    if not known:
        words = f"Gradual change of {basis.model_version} is not judged yet: {calibrating}; fixed thresholds serve."
        return _Said(Verdict.INSUFFICIENT, words, details)
    words = (
        f"{len(known)} metrics are followed for gradual change: evidence {judged.total:.2g} of the "
        f"{watch.threshold:.0f} that a {watch.severity} takes"
    )
    more = f"; {len(panel) - len(known)} more calibrate: {calibrating}" if len(known) < len(panel) else ""
    return _Said(Verdict.DRIFT if lasts else Verdict.OK, f"{words}{more}.", details)


def _leading(panel: Mapping[Key, Series]) -> list[dict[str, Any]]:
    most = sorted(panel, key=lambda key: -panel[key].evidence)[:CONTRIBUTORS]
    return [
        {"detector": key[0], "modality": key[1], "evidence": round(panel[key].evidence, 3)}
        for key in most
        if panel[key].evidence > 0
    ]


def _about_change(watch: Watch, judged: Judged[Key], keys: list[Key]) -> _Said:
    """Of the series of one modality whose change lasts, the one that changed most is told of."""
    sizes = {key: _in_sd(judged.panel[key]) for key in keys}
    key = max(keys, key=lambda each: abs(sizes[each]))
    alarm = judged.panel[key].alarm
    assert alarm is not None
    since = watch.end(alarm.since) - watch.length
    size = f"{100 * abs(alarm.size):.2g} percentage points" if signal(key[0]).share else _sds(sizes[key])
    way = "worse" if alarm.shift > 0 and not signal(key[0]).both_ways else "higher" if alarm.shift > 0 else "lower"
    return _Said(
        Verdict.DRIFT,
        f"{_metric(key)} has been {way} by {size} since about {since:%d %b %H:%M} UTC, too long to be chance: at most "
        f"{watch.allowed:g} such {watch.severity}s come in {PERIOD.days} days if nothing is wrong.",
        {
            "since": since.isoformat(),
            "found": watch.end(alarm.at).isoformat(),
            "metric": {"detector": key[0], "modality": key[1]},
            "bet": alarm.shift,
            "size": alarm.size,
            "also": [list(other) for other in keys if other != key],
        },
        sizes[key],
    )


def _in_sd(series: Series) -> float:
    """The size of a series' change, in standard deviations of its deviations in control."""
    if series.alarm is None or series.season is None:
        return 0.0
    return series.alarm.size / max(series.season.sd, abs(series.alarm.size) * 1e-3, 1e-12)


def _sds(size: float) -> str:
    return f"{abs(size):.1f} of its usual standard deviations" if abs(size) < 100 else "far more than ever before"


def _metric(key: Key) -> str:
    detector, modality = key
    return f"{modality} {detector.replace('_', ' ')}".capitalize()


def _over(modality: str, basis: Basis) -> _Said:
    words = f"{modality.capitalize()} is again as {basis.model_version} knows it."
    return _Said(Verdict.OK, words, {})
