"""Judges past windows again out of an archive, and keeps what has changed as a new revision.

Parts are judged wherever the engine runs them; what findings say of the windows before them is added here, in order of
time. What the sequential monitor and the watches of the stream say is theirs: it is neither made anew nor touched.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import Any

from sqlalchemy import Connection
from sqlalchemy import Engine as Database

from monitor.alerts.names import ALL, BASELINE, LEFT_TO_GRADUAL
from monitor.archive.folder import Archive
from monitor.backfill import exported
from monitor.backfill.base import Engine, Size
from monitor.backfill.judging import Part, Shared, judge
from monitor.domain.attribution import Before, Key
from monitor.domain.finding import Finding, Verdict
from monitor.domain.schedule import floor
from monitor.domain.window import Window
from monitor.errors import BackfillError
from monitor.storage import baselines, findings, models
from monitor.tasks.attribute import Observed
from monitor.tasks.judgement import BY_ANSWERS, Judgement
from monitor.tasks.late import LABELS
from monitor.tasks.windows import Windows


@dataclass(frozen=True, slots=True)
class Done:
    """Windows by what came of them: as they were stored, stored anew, or judged for the first time; and findings."""

    same: int = 0
    changed: int = 0
    added: int = 0
    findings: int = 0


class Backfill:
    """The task."""

    def __init__(self, database: Database, model: str, judgement: Judgement, windows: Windows) -> None:
        self._database = database
        self._model = model
        self._judgement = judgement
        self._windows = windows

    def needed(self, period: Window, every: timedelta) -> Window:
        """The time whose data the windows that end within the period need; the period's end is included."""
        ends = self._ends(period, every)
        return Window(ends[0] - self._look_back(), ends[-1])

    def run(
        self,
        archive: Archive,
        period: Window,
        *,
        every: timedelta,
        engine: Engine,
        size: Size,
        write: bool = True,
    ) -> Done:
        """Judge the windows of the champion that end within (start, end], one for each multiple of `every`.

        Raises BackfillError where the period has not been judged by the monitor yet or the archive lacks days of it,
        ArchiveError where a file cannot be trusted, EngineError where the engine cannot be used.
        """
        ends = self._ends(period, every)
        lacking = exported.missing(archive, Window(ends[0] - self._windows.window, ends[-1]))
        if lacking:
            raise BackfillError(f"{archive.folder} has no summaries of {lacking[0]} and {len(lacking) - 1} other days")
        with self._database.connect() as connection:
            shared = self._shared(connection, archive, ends)
            last = findings.last(connection, self._model, BASELINE, ALL)
            before = dict(findings.latest(connection, self._model, shared.version.version, ends[0]))
        if last is not None and ends[-1] > last[0]:
            raise BackfillError(f"the monitor has judged windows up to {last[0].isoformat()}: later ones are still its")
        parts = [Part(tuple(group)) for _, group in groupby(ends, lambda end: (end - every).astimezone(UTC).date())]
        done = Done()
        for observed in engine.run(judge, shared, parts, size):
            found = [self._completed(archive, one, before) for one in observed]
            done = _added(done, self._keep(shared.version.version, found, write))
        return done

    def _ends(self, period: Window, every: timedelta) -> list[datetime]:
        first = floor(period.start, every) + every
        count = (floor(period.end, every) - first) // every + 1
        if count < 1:
            raise BackfillError(f"no window ends after {period.start.isoformat()} up to {period.end.isoformat()}")
        return [first + number * every for number in range(count)]

    def _look_back(self) -> timedelta:
        return max(self._windows.window, self._windows.labels, self._windows.availability)

    def _shared(self, connection: Connection, archive: Archive, ends: Sequence[datetime]) -> Shared:
        version = models.champion(connection, self._model)
        hours = {(end - self._windows.window / 2).astimezone(UTC).hour for end in ends}
        plain = baselines.of_version(connection, version.version)
        by_hour = {hour: baselines.of_version(connection, version.version, hour) for hour in sorted(hours)}
        # without seasons one object, so that it travels once
        references = {
            (version.version, hour): each if each and each.season else plain for hour, each in by_hour.items()
        }
        return Shared(archive.folder, self._judgement, version, references, self._look_back())

    def _completed(self, archive: Archive, one: Observed, before: dict[Key, Before]) -> list[Finding]:
        def producers(window: Window, modality: str, statistic: str, baseline: float) -> tuple[Any, ...]:
            return exported.producers(archive, window, modality, statistic, baseline)

        found = [_stored(each) for each in one.completed(lambda: before, producers)]
        before.update({(each.detector, each.modality): _before(each) for each in found})
        return found

    def _keep(self, version: str, windows: Sequence[Sequence[Finding]], write: bool) -> Done:
        """Compare with what is stored and store what differs, in one transaction for a part."""
        done = Done()
        with self._database.begin() as connection:
            findings.lock(connection, self._model)
            ends = [found[-1].window.end for found in windows]
            known = findings.judged(connection, self._model, version, ends)
            for end, judged_now in zip(ends, windows, strict=True):
                revision, stored = known.get(end, (-1, []))
                judged = {(each.detector, each.modality): each for each in stored}
                found = but_late_labels(judged_now, judged)
                if all(_same(each, judged.get((each.detector, each.modality))) for each in found):
                    done = _added(done, Done(same=1, findings=len(found)))
                    continue
                if write:
                    findings.store(connection, self._model, found, revision + 1)
                counted = Done(changed=1) if (BASELINE, ALL) in judged else Done(added=1)
                done = _added(done, replace(counted, findings=len(found)))
        return done


def _added(one: Done, other: Done) -> Done:
    return Done(
        one.same + other.same,
        one.changed + other.changed,
        one.added + other.added,
        one.findings + other.findings,
    )


def _before(finding: Finding) -> Before:
    since = finding.details.get("since")
    return Before(finding.verdict, None if since is None else datetime.fromisoformat(since))


def _stored(finding: Finding) -> Finding:
    """The finding as it comes back from the database."""
    return replace(finding, verdict=Verdict(finding.verdict), details=json.loads(json.dumps(dict(finding.details))))


def but_late_labels(found: Sequence[Finding], judged: Mapping[Key, Finding]) -> list[Finding]:
    """Without what is known by labels that came late, which an archive cannot tell: it stays as it is."""
    kept = []
    for each in found:
        stored = judged.get((each.detector, each.modality))
        if stored is not None and BY_ANSWERS in stored.details:
            continue
        if stored is not None and LABELS in stored.details:
            each = replace(each, details={**each.details, LABELS: stored.details[LABELS]})
        kept.append(each)
    return kept


def _same(finding: Finding, stored: Finding | None) -> bool:
    """Whether nothing has changed, but for what the sequential monitor has written beside a drift that is its own."""
    if stored is not None and LEFT_TO_GRADUAL in stored.details:
        details = {name: value for name, value in stored.details.items() if name != LEFT_TO_GRADUAL}
        stored = replace(stored, details=details, explanation=finding.explanation)
    return finding == stored
