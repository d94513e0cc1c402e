"""Baselines at a person's request: made from a healthy period, compared; and thresholds learnt from the one in use."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import Connection, Engine

from migrations.schema.bins import BinsError
from monitor.detectors._comparison import compare
from monitor.detectors._thresholds import learn
from monitor.domain.baseline import SEASON, Health, Period, facts, objections
from monitor.domain.clock import Clock
from monitor.domain.finding import Finding, Verdict
from monitor.domain.window import FUSED, IncomparableError, Reference, Summary, Window
from monitor.errors import BaselineError
from monitor.storage import alerts, baselines, findings, labels, models, summaries
from monitor.storage.baselines import Listed, Made
from monitor.storage.models import ModelVersion

_log = logging.getLogger(__name__)
MOST_LABELS = 50_000
LONGEST = timedelta(days=35)  # of a period: it is read slot by slot, so this bounds time, not memory


@dataclass(frozen=True, slots=True)
class Outcome:
    """A baseline that was made: its `number`, rows by modality, hours of day it knows, and what spoke against it."""

    version: str
    number: int
    rows: Mapping[str, int]
    hours: int
    labels: str
    overruled: tuple[str, ...]


class Baselines:
    """What people do with the baselines of one model. Every change is audited in its own transaction."""

    def __init__(
        self, engine: Engine, model: str, *, slot: timedelta, options: Mapping[str, Mapping[str, Any]], clock: Clock
    ) -> None:
        self._engine = engine
        self._model = model
        self._slot = slot
        self._options = options
        self._clock = clock

    def listed(self) -> list[Listed]:
        """The baselines of every version of the model."""
        with self._engine.connect() as connection:
            return baselines.listed(connection, self._model)

    def make(self, window: Window, *, actor: str, reason: str, pin: bool = False, force: bool = False) -> Outcome:
        """Make a baseline of the champion from the slots of a period that a person says was healthy.

        Raises BaselineError with every objection, unless `force` overrules them; and, forced or not, where the period
        is not over or too long, or its bins are none or of another encoder than the version's first baseline.
        """
        now = self._clock.now()
        if window.end > now or window.length > LONGEST:
            raise BaselineError(f"a period must be over and at most {LONGEST.days} days long")
        with self._engine.connect() as connection:
            champion = models.champion(connection, self._model)
            made, against = self._gather(connection, champion, window)
        if against and not force:
            raise BaselineError(f"this period should not serve as a baseline: {'; '.join(against)} (--force overrules)")
        details = {
            "reason": reason,
            "from": window.start.isoformat(),
            "to": window.end.isoformat(),
            "overruled": against,
        }
        with self._engine.begin() as connection:
            _, number = baselines.create(connection, made, actor=actor, now=now)
            baselines.audit_made(connection, champion.version, number, actor=actor, now=now, details=details)
            if pin:
                baselines.pin(connection, champion.version, number, actor=actor, reason=reason, now=now)
        rows = {name: each.bins.rows for name, each in made.summaries.items()}
        told = made.facts.get("labels_left_out") or f"accuracy {made.facts['accuracy']:.3f}"
        return Outcome(champion.version, number, rows, len(made.hours), told, tuple(against))

    def _gather(self, connection: Connection, champion: ModelVersion, window: Window) -> tuple[Made, list[str]]:
        own = _first(connection, self._model, champion.version)
        period = Period(window, (*champion.modalities, FUSED), seasons=window.length >= SEASON)
        try:
            for start, parts in summaries.by_slot(connection, window, champion.version, (*champion.modalities, FUSED)):
                period.add(start, parts)
            whole = period.whole()
            _same_encoders(baselines.by_id(connection, own.baseline_id), whole)
            drifts = self._drifts(champion.version, period, window)
        except (IncomparableError, BinsError) as error:
            raise BaselineError(str(error)) from error
        used = [each.bins.rows for each in whole.values() if each.bins.rows]
        if not used:
            raise BaselineError("the period has no rows with embeddings or statistics to compare with")
        labelled = labels.labelled(connection, champion.version, start=window.start, end=window.end, limit=MOST_LABELS)
        health = Health(
            rows=min(used),
            slots=period.slots,
            expected=int(window.length / self._slot),
            drifts=drifts,
            alerts=tuple(alerts.fired_within(connection, self._model, window.start, window.end)),
        )
        made = Made(champion.version, window, facts(own.facts, labelled), whole, period.hours())
        return made, objections(health)

    def _drifts(self, version: str, period: Period, window: Window) -> tuple[str, ...]:
        first, second = period.halves()
        found = compare(Reference(0, version, first), second, window, self._options)
        return tuple(sorted({f"{one.detector} {one.modality}" for one in found if one.verdict is Verdict.DRIFT}))

    def compare(self, number: int, other: int) -> list[Finding]:
        """What the detectors say of baseline `other` of the champion beside baseline `number`.

        Raises BaselineError where one is not there or their encoders differ.
        """
        with self._engine.connect() as connection:
            version = models.champion(connection, self._model).version
            ids = {each.number: each.baseline_id for each in baselines.listed(connection, self._model, version)}
            if missing := [each for each in (number, other) if each not in ids]:
                raise BaselineError(f"{version} has no baseline {missing[0]}")
            return compared(connection, ids[number], ids[other], self._clock, self._options)

    def pin(self, number: int, *, actor: str, reason: str) -> str:
        """Compare the champion with this baseline from now on; the champion. Raises BaselineError without it."""
        with self._engine.begin() as connection:
            version = models.champion(connection, self._model).version
            baselines.pin(connection, version, number, actor=actor, reason=reason, now=self._clock.now())
        return version

    def unpin(self, *, actor: str, reason: str) -> int:
        """Compare the champion with its first baseline again. Raises BaselineError where none is pinned."""
        with self._engine.begin() as connection:
            version = models.champion(connection, self._model).version
            return baselines.unpin(connection, version, actor=actor, reason=reason, now=self._clock.now())

    def drop(self, number: int, *, actor: str, reason: str) -> None:
        """Delete a baseline of the champion. Raises BaselineError where it is in use or the only one."""
        with self._engine.begin() as connection:
            version = models.champion(connection, self._model).version
            baselines.drop(connection, version, number, actor=actor, reason=reason, now=self._clock.now())


def compared(
    connection: Connection,
    baseline_id: int,
    other: int,
    clock: Clock,
    options: Mapping[str, Mapping[str, Any]] | None = None,
) -> list[Finding]:
    """What the detectors say of one baseline beside another. Raises BaselineError where they cannot be compared."""
    try:
        pair = [baselines.by_id(connection, each) for each in (baseline_id, other)]
        before, after = pair
        if before is None or after is None:
            raise BaselineError(f"there is no baseline {baseline_id if before is None else other}")
        now = clock.now()
        return compare(before, after.summaries, Window(now - timedelta(seconds=1), now), options)
    except (IncomparableError, BinsError) as error:
        raise BaselineError(str(error)) from error


def teach(
    engine: Engine, model: str, options: Mapping[str, Mapping[str, Any]], detector: str = "embedding_mmd"
) -> None:
    """Learn thresholds from the baseline in use of the champion, once, for windows as large as the newest were.

    Waits until a few windows have been judged, as these tell how large they are.
    """
    with engine.connect() as connection:
        version = models.champion(connection, model).version
        if not baselines.untaught(connection, version):
            return
        rows = findings.typical_rows(connection, model, detector, version)
        try:
            reference = baselines.of_version(connection, version)
            hours = [] if reference is None else baselines.hours_of(connection, reference)
        except BinsError:
            return  # whoever judges the window says so
    if rows is None or reference is None:
        return
    learnt = learn(hours or [reference], rows, options)
    with engine.begin() as connection:
        if baselines.keep_thresholds(connection, reference.baseline_id, asdict(learnt)):
            _log.info("baseline %d: thresholds learnt from %d windows", reference.baseline_id, learnt.windows)


def _first(connection: Connection, model: str, version: str) -> Listed:
    found: Sequence[Listed] = baselines.listed(connection, model, version)
    if not found:
        raise BaselineError(f"{version} has no baseline: the frozen maps that make bins come with the first")
    return found[0]


def _same_encoders(own: Reference | None, whole: Mapping[str, Summary]) -> None:
    for name, each in whole.items():
        known = None if own is None else own.summaries.get(name)
        if known is not None and len(each.bins.count) and each.fingerprint != known.fingerprint:
            raise IncomparableError(
                f"the period's {name} bins were made by encoder {each.fingerprint}, the version's first baseline by "
                f"{known.fingerprint}: a baseline is of one encoder"
            )
