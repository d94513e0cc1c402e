"""Judges gradual change: findings of windows in, findings of the sequential monitor out, in the caller's transaction.

Fixed thresholds stay beside it for what is sudden and large. Once a series is calibrated, a drift of less than FAR of
its standard deviations is left to the sequential monitor: at 500 rows a window, ended every 5 minutes, embedding drift
of two windows in a row was seen 0.3 times a modality and 30 quiet days, at no time as far as that (16 baselines, 26,000
windows, furthest 3.7). So the tickets promised are all there are.

What is stored is the state as it was `late` windows ago. The windows since are read again from the stored findings each
time, so that a window judged again, because data came late, counts as if it had been on time; a restart changes
nothing, and no window counts twice. The work is bounded: `late` windows of a few series.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from sqlalchemy import Connection

from monitor.alerts.names import BASELINE, LEFT_TO_GRADUAL
from monitor.domain.finding import Finding, Verdict
from monitor.domain.schedule import floor
from monitor.domain.sequential import Judged, Plan, Series, judge, push
from monitor.domain.sequential_state import StateError, dump, load
from monitor.domain.signals import TICKET, signal, value
from monitor.storage import sequential as storage
from monitor.storage.sequential import Key, Remembered
from monitor.tasks import gradual
from monitor.tasks.gradual import Basis, Watch

Panel = Mapping[Key, Series]
FAR = 5.0


class Sequential:
    """The sequential monitor of one model: one watch for pages, one for tickets."""

    def __init__(self, model: str, *, watches: Sequence[Watch], late: int) -> None:
        self._model = model
        self._watches = tuple(watches)
        self._late = late

    def findings(self, connection: Connection, found: Sequence[Finding], end: datetime, now: datetime) -> list[Finding]:
        """What the windows up to the one that ends now say together; `found` are that one's own findings.

        Empty where no watch's window ends then. `connection` must hold the model's lock.
        """
        due = [watch for watch in self._watches if floor(end, watch.length) == end]
        basis = _basis(found)
        if not due or basis is None:
            return []
        remembered = storage.load(connection, self._model)
        return [one for watch in due for one in self._judge(connection, watch, basis, remembered, found, end, now)]

    def far_only(self, connection: Connection, found: Sequence[Finding]) -> list[Finding]:
        """The findings, with a drift that is not far for its calibrated series marked as the sequential monitor's."""
        basis = _basis(found)
        if basis is None or not any(_decided_here(one) for one in found):
            return list(found)
        panel, _ = _settled(storage.load(connection, self._model), basis)
        return [self._marked(one, panel.get((one.detector, one.modality))) for one in found]

    @staticmethod
    def _marked(finding: Finding, series: Series | None) -> Finding:
        told = value(finding)
        if not _decided_here(finding) or told is None or series is None or series.season is None:
            return finding
        hour = (finding.window.end - finding.window.length / 2).hour
        off = abs(series.season.deviation(told, hour)) / max(series.season.sd, 1e-12)
        if off >= FAR:
            return finding
        words = f" At {off:.1f} standard deviations of its usual course, the sequential monitor decides."
        return replace(
            finding,
            explanation=finding.explanation + words,
            details={**finding.details, LEFT_TO_GRADUAL: round(off, 3)},
        )

    def _judge(
        self,
        connection: Connection,
        watch: Watch,
        basis: Basis,
        remembered: Mapping[Key, Remembered],
        found: Sequence[Finding],
        end: datetime,
        now: datetime,
    ) -> list[Finding]:
        kept = {key: one for key, one in remembered.items() if watch.follows(key[0])}
        panel, settled = _settled(kept, basis)
        after = settled or end - (watch.plan.calibration + self._late) * watch.length
        settle = end - self._late * watch.length
        others = {one.detector for one in found if not watch.follows(one.detector)}
        again = storage.judged(connection, self._model, after, end, watch.length, without=others)
        windows = _by_window([*again, *found], watch, basis)
        judged = Judged(panel, 0.0)
        for at in sorted(at for at in windows.keys() | {settle, end} if at > after):
            judged = _take(judged.panel, windows.get(at, {}), at, watch)
            if at == settle:
                self._save(connection, judged.panel, basis, kept, at, now)
        before = storage.open_modalities(connection, self._model, watch.alertname)
        return gradual.findings(watch, judged, basis, end, before)

    def _save(
        self,
        connection: Connection,
        panel: Panel,
        basis: Basis,
        kept: Mapping[Key, Remembered],
        at: datetime,
        now: datetime,
    ) -> None:
        states = {
            key: Remembered(basis.baseline_id, at, {"model_version": basis.model_version, **dump(series)})
            for key, series in panel.items()
        }
        storage.forget(connection, self._model, kept.keys() - states.keys())
        storage.save(connection, self._model, states, now)


def _decided_here(finding: Finding) -> bool:
    """A drift of which tickets come; a target that pages is held whatever is usual."""
    followed = signal(finding.detector).severity == TICKET and value(finding) is not None
    return followed and finding.verdict is Verdict.DRIFT


def _basis(found: Sequence[Finding]) -> Basis | None:
    return next((Basis(one.model_version, one.baseline_id) for one in found if one.detector == BASELINE), None)


def _settled(kept: Mapping[Key, Remembered], basis: Basis) -> tuple[Panel, datetime | None]:
    """The stored series that go on, and the end of the last window in them; nothing where one cannot be read."""
    try:
        panel = {
            key: load(one.state)
            for key, one in kept.items()
            if signal(key[0]).of_stream or basis == Basis(str(one.state.get("model_version")), one.baseline_id)
        }
    except StateError:  # written by another release: the stored findings are read again instead
        return {}, None
    return panel, max((kept[key].window_end for key in panel), default=None)


def _by_window(found: Sequence[Finding], watch: Watch, basis: Basis) -> dict[datetime, dict[Key, Finding]]:
    windows: dict[datetime, dict[Key, Finding]] = {}
    for one in found:
        same = signal(one.detector).of_stream or basis == Basis(one.model_version, one.baseline_id)
        if same and one.window.length == watch.length and watch.follows(one.detector) and value(one) is not None:
            windows.setdefault(one.window.end, {})[one.detector, one.modality] = one
    return windows


def _take(panel: Panel, found: Mapping[Key, Finding], at: datetime, watch: Watch) -> Judged[Key]:
    """The panel after the window that ended at `at`."""
    number = watch.number(at)
    pushed = {key: series for key, series in panel.items() if _recent(series, number, watch.plan)}
    for key, finding in found.items():
        told = value(finding)
        if told is None:
            continue
        series = pushed.get(key) or Series(first=number, both_ways=signal(key[0]).both_ways)
        in_control = finding.verdict is Verdict.OK
        pushed[key] = push(series, number, hour=watch.hour(number), value=told, in_control=in_control, plan=watch.plan)
    floors = {key: signal(key[0]).floor for key in pushed}
    return judge(pushed, number, threshold=watch.threshold, floors=floors, plan=watch.plan)


def _recent(series: Series, number: int, plan: Plan) -> bool:
    """A series that has had no value for as long as its memory reaches is given up."""
    newest = series.last[0] if series.last else series.history[-1][0] if series.history else series.first
    return number - newest <= plan.reference
