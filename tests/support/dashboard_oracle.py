"""What every query of the dashboards must yield, worked out in Python from the tables' rows."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Table, select

from migrations.schema.monitoring import (
    alerts,
    audit_log,
    findings,
    jobs,
    model_aliases,
    model_versions,
)
from migrations.schema.prediction_log import dead_letters, labels, modality_log, prediction_log
from migrations.schema.slos import slo_counts, slo_status
from monitor.domain.reliability import reliability_bins

Row = Any
Points = dict[tuple[float, str], float]
TABLES = (alerts, audit_log, dead_letters, findings, jobs, labels, modality_log, model_aliases, model_versions)
LOGGED = (prediction_log, slo_counts, slo_status)


def reference(request_id: str) -> str:
    return hashlib.sha256(request_id.encode()).hexdigest()[:12]


@dataclass(frozen=True)
class Facts:
    """Every row of the tables, and what was asked: from when to when, in steps of so many seconds, of what."""

    rows: Mapping[str, list[Row]]
    start: datetime
    end: datetime
    step: int
    versions: tuple[str, ...]
    modalities: tuple[str, ...]

    def of(self, table: Table) -> list[Row]:
        return self.rows[table.name]

    def within(self, moment: datetime | None) -> bool:
        return moment is not None and self.start <= moment <= self.end

    def grouped(self, moment: datetime) -> float:
        return moment.timestamp() // self.step * self.step

    def log(self) -> Iterator[Row]:
        """Requests by their summaries' time: a slot is in where it starts within the time asked for."""
        for row in self.of(prediction_log):
            slot = datetime.fromtimestamp(row.logged_at.timestamp() // 10 * 10, row.logged_at.tzinfo)
            if self.within(slot) and row.model_version in self.versions:
                yield row

    def newest_findings(self) -> list[Row]:
        """Findings of the chosen versions, without those that were judged again."""
        kept: dict[Any, Row] = {}
        for row in sorted(self.of(findings), key=lambda each: each.revision):
            key = (row.window_start, row.window_end, row.model_version, row.detector, row.modality)
            kept[key] = row
        return [row for row in kept.values() if row.model_version in self.versions]

    def modality_rows(self) -> Iterator[tuple[Row, Row]]:
        by = {row.request_id: row for row in self.log() if row.quarantine is None}
        for row in self.of(modality_log):
            if row.request_id in by and row.modality in self.modalities:
                yield row, by[row.request_id]


def load(connection: Connection, **asked: Any) -> Facts:
    return Facts({t.name: list(connection.execute(select(t)).all()) for t in (*TABLES, *LOGGED)}, **asked)


def _counted(facts: Facts, entries: Iterator[tuple[datetime, str]], per: float = 1) -> Points:
    found: Points = defaultdict(float)
    for moment, name in entries:
        found[facts.grouped(moment), name] += 1 / per
    return dict(found)


def _share(facts: Facts, entries: Iterator[tuple[datetime, str, bool]]) -> Points:
    found: dict[tuple[float, str], list[bool]] = defaultdict(list)
    for moment, name, good in entries:
        found[facts.grouped(moment), name].append(good)
    return {key: sum(values) / len(values) for key, values in found.items()}


def statuses(facts: Facts) -> Points:
    entries = ((log.logged_at, f"{m.modality} {m.status}") for m, log in facts.modality_rows())
    return _counted(facts, entries, facts.step)


def shares(facts: Facts) -> Points:
    entries = ((log.logged_at, m.modality, m.status == "present") for m, log in facts.modality_rows())
    return _share(facts, entries)


def routes(facts: Facts) -> Points:
    return _counted(
        facts, ((r.logged_at, r.route if r.quarantine is None else "quarantined") for r in facts.log()), facts.step
    )


def classes(facts: Facts) -> Points:
    chosen = ((r.logged_at, r.prediction) for r in facts.log() if r.quarantine is None)
    return {key: n for key, n in _counted(facts, chosen, facts.step).items() if n}


def agreement(facts: Facts) -> Points:
    rows = (r for r in facts.log() if r.quarantine is None and r.agreement is not None)
    return _share(facts, ((r.logged_at, "agreement", r.agreement) for r in rows))


def refused(facts: Facts) -> Points:
    rows = (row for row in facts.of(dead_letters) if facts.within(row.recorded_at))
    return _counted(facts, ((row.recorded_at, row.error_code) for row in rows))


def series(detector: str, *, threshold: bool = False, modality: str | None = None) -> Callable[[Facts], Points]:
    def points(facts: Facts) -> Points:
        return {
            (r.window_end.timestamp(), f"{r.modality} threshold" if threshold else r.modality): (
                r.threshold if threshold else r.value
            )
            for r in facts.newest_findings()
            if r.detector == detector
            and facts.within(r.window_end)
            and modality in (None, r.modality)
            and not (threshold and r.threshold is None)
        }

    return points


def accuracy(facts: Facts) -> Points:
    rows = [r for r in facts.newest_findings() if facts.within(r.window_end) and r.verdict in ("ok", "drift")]
    for detector, name in (("accuracy", "by labels"), ("estimated_accuracy", "estimated")):
        if found := {(r.window_end.timestamp(), name): r.value for r in rows if r.detector == detector}:
            return found
    return {}


def model_time(facts: Facts) -> Points:
    rows = [r for r in facts.newest_findings() if r.detector == "cost" and facts.within(r.window_end)]
    return {(r.window_end.timestamp(), "a request"): r.value for r in rows}


def availability(facts: Facts) -> Points:
    found: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for row in facts.of(slo_counts):
        kind, _, modality = row.sli.partition(".")
        if kind == "availability" and facts.within(row.bucket_start):
            found[modality][0] += row.good
            found[modality][1] += row.valid
    return {(facts.end.timestamp(), name): good / valid for name, (good, valid) in found.items()}


def budget(facts: Facts) -> Points:
    known = [row for row in facts.of(slo_status) if row.state["budget_left"] is not None]
    least = min(known, key=lambda row: (row.state["budget_left"], row.slo))
    return {(least.evaluated_at.timestamp(), least.state["subject"]): least.state["budget_left"]}


def firing(facts: Facts) -> list[Row]:
    rows = [row for row in facts.of(alerts) if row.state == "firing" and row.inhibited_by is None]
    return sorted(rows, key=lambda row: (row.severity, -row.firing_since.timestamp()))


def health(facts: Facts) -> int:
    judged = [row.created_at for row in facts.of(findings)] + [row.evaluated_at for row in facts.of(slo_status)]
    if not judged or (facts.end - max(judged)).total_seconds() > 15 * 60:
        return 3
    loud = {row.severity for row in firing(facts)}
    return 2 if "page" in loud else 1 if loud else 0


def reliability(facts: Facts) -> list[tuple[float, float, int]]:
    by = {row.request_id: row for row in facts.of(prediction_log)}
    rows = [row for row in facts.of(labels) if facts.within(row.received_at)]
    newest = sorted(rows, key=lambda row: row.received_at, reverse=True)[:2000]
    labelled = [(by[row.request_id], row.label) for row in newest if by[row.request_id].quarantine is None]
    answers = sorted((row.confidence, row.prediction == label) for row, label in labelled)
    bins = reliability_bins([c for c, _ in answers], [right for _, right in answers])
    return [(each.confidence, each.accuracy, each.count) for each in bins]


def not_ok(facts: Facts) -> list[Row]:
    rows = [r for r in facts.newest_findings() if r.verdict != "ok" and facts.within(r.window_start)]
    return sorted(rows, key=lambda r: (r.window_start, r.finding_id), reverse=True)[:100]


def newest_requests(facts: Facts) -> list[Row]:
    rows = [r for r in facts.of(prediction_log) if facts.within(r.logged_at) and r.model_version in facts.versions]
    return sorted(rows, key=lambda r: r.logged_at, reverse=True)[:100]
