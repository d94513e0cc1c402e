"""The chain of one retrain from the rows that were kept: finding, alert, decision, job, gate, stages, promotion."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

Row = Mapping[str, Any]

# Audit rows of the decision, which tells of them itself.
TOLD_BY_DECISION = frozenset({"retrain_requested"})


@dataclass(frozen=True, slots=True)
class Step:
    """One link: its stage, when, in words, the id of its row where it has one, and details in words."""

    stage: str
    at: datetime | None
    text: str
    row: int | None = None
    details: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Chain:
    """What led to a job and what came of it; without a job, what stands in the way of one. Steps in their order."""

    job_id: int | None
    outcome: str
    steps: tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class Kept:
    """The rows of one chain as they are stored: a decision or a job at least; the others as far as there are any."""

    decision: Row | None
    job: Row | None
    findings: Sequence[Row] = ()
    alerts: Sequence[Row] = ()
    rounds: Sequence[Row] = ()
    audit: Sequence[Row] = ()
    stages: Sequence[Row] = ()


def chain(kept: Kept) -> Chain:
    """The chain of these rows, from the first finding to the last alert that ended."""
    job = kept.job
    steps = (
        *(_finding(row) for row in kept.findings),
        *(_alert(row) for row in kept.alerts),
        *(_round(row) for row in kept.rounds),
        *([] if kept.decision is None else [_decision(kept.decision)]),
        *([] if job is None else [_job(job), *_gate(job, kept.audit)]),
        *sorted([*_audited(kept.audit), *(_stage(row) for row in kept.stages)], key=_time),
        *_resolved(kept.alerts),
    )
    if job is None:
        return Chain(None, "no retrain", steps)
    return Chain(job["job_id"], str(job["state"]), steps)


def _finding(row: Row) -> Step:
    since = row["details"].get("since")
    at = row["window_end"] if since is None else datetime.fromisoformat(since)
    return Step("finding", at, f"{row['detector']} of {row['modality']}: {row['explanation']}", row["finding_id"])


def _alert(row: Row) -> Step:
    text = f"{row['alertname']} ({row['modality']}), a {row['severity']}"
    return Step("alert", row["firing_since"] or row["pending_since"], text, row["alert_id"])


def _round(row: Row) -> Step:
    strata = [f"{name.replace('_', ' ')}: {one['drawn']} of {one['rows']}" for name, one in row["strata"].items()]
    drawn = sum(one["drawn"] for one in row["strata"].values())
    return Step("labels", row["created_at"], f"{drawn} answers asked for", row["round_id"], tuple(strata))


def _decision(row: Row) -> Step:
    told = tuple(f"{'met' if each['met'] else 'not met'}: {each['text']}" for each in row["reasons"])
    text = f"{'retrain' if row['retrain'] else 'no retrain'} of {row['model_version'] or 'the champion'}"
    return Step("decision", row["decided_at"], text, row["decision_id"], told)


def _job(row: Row) -> Step:
    times = [(name, row[key]) for name, key in (("started", "started_at"), ("ended", "finished_at")) if row[key]]
    details = [f"{name} {at.isoformat(timespec='seconds')}" for name, at in times]
    if row["claimed_by"]:
        details.append(f"attempt {row['attempts']} by {row['claimed_by']}")
    if row["error"]:
        details.append(str(row["error"]))
    return Step("job", row["created_at"], str(row["state"]), row["job_id"], tuple(details))


def _gate(job: Row, audit: Sequence[Row]) -> Iterator[Step]:
    gate = (job["result"] or {}).get("gate")
    if gate:
        told = tuple(f"{'met' if each['met'] else 'not met'}: {each['text']}" for each in gate.get("conditions", ()))
        judged = (row["at"] for row in audit if "gate" in row["details"])
        yield Step("gate", next(judged, job["finished_at"]), "passed" if gate.get("passed") else "stopped", None, told)


def _stage(row: Row) -> Step:
    """The checks of a challenger at one step of its way: shadow, or canary at so many per cent."""
    counted = ", ".join(f"{row[name]} {name}" for name in ("passed", "failed", "inconclusive") if row[name])
    told = tuple(f"{each['outcome']}: {each['name']}: {each['text']}" for each in row["reasons"])
    return Step(row["stage"], row["since"], f"{row['percent']}%: checks {counted}", row["rollout_id"], told)


def _time(step: Step) -> datetime:
    assert step.at is not None, "what was audited or checked has its time"
    return step.at


def _audited(rows: Sequence[Row]) -> Iterator[Step]:
    for row in rows:
        if row["action"] not in TOLD_BY_DECISION:
            text = f"{row['subject']} by {row['actor']}"
            reason = row["details"].get("reason")
            yield Step(row["action"], row["at"], text, row["audit_id"], (str(reason),) if reason else ())


def _resolved(rows: Sequence[Row]) -> list[Step]:
    ended = [row for row in rows if row["resolved_at"] is not None]
    return [
        Step("resolved", row["resolved_at"], f"{row['alertname']} ({row['modality']})", row["alert_id"])
        for row in sorted(ended, key=lambda row: row["resolved_at"])
    ]
