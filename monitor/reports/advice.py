"""What a period was like in a sentence, and what there is to do: pure words of the material."""

from __future__ import annotations

from collections.abc import Iterator

from monitor.reports.material import Material
from monitor.storage.views.models.base import Read
from monitor.storage.views.models.work import AlertView
from monitor.storage.views.period import CheckOver
from monitor.web import words
from monitor.web.sentence import BY_LABELS, BY_LABELS_OF_BASELINE, GRADUAL_CHANGE, OPTIONAL

MOST_ADVICE = 12
# Budgets below this are worth a look before they are gone.
LITTLE_BUDGET = 0.25
FAILED, STUCK = "failed", "rejected"


class Advice(Read):
    """One thing to do, the most urgent first; `see` is an address or a command."""

    text: str
    see: str = ""


def headline(material: Material) -> str:
    """One sentence: what was asked, what fired, what drifted, what is left of the budgets."""
    if not material.traffic.requests:
        return "No requests were answered."
    pages, tickets = _fired(material, "page"), _fired(material, "ticket")
    alarms = [_counted(pages, "page"), _counted(tickets, "ticket")] if pages or tickets else ["no alert"]
    parts = [f"{words.count(material.traffic.requests)} requests", *alarms]
    drifted = [each for each in material.checks if each.drifted and not _is_gradual(each)]
    parts.append(f"{_counted(len(drifted), 'check')} drifted" if drifted else "nothing drifted")
    overdrawn = [each for each in material.objectives if each.budget_left is not None and each.budget_left < 0]
    if overdrawn:
        parts.append(f"{_counted(len(overdrawn), 'error budget')} overdrawn")
    return words.listed(parts) + "."


def advice(material: Material) -> list[Advice]:
    """What to do, the most urgent first; empty where there is nothing."""
    looks = (_alerts, _budgets, _jobs, _unjudged, _labels, _missing)
    return [each for look in looks for each in look(material)][:MOST_ADVICE]


def urgent(material: Material) -> bool:
    """Whether what there is to do should not wait: an alert fires on, or a budget is gone."""
    overdrawn = any(each.budget_left is not None and each.budget_left < 0 for each in material.objectives)
    return overdrawn or any(each.resolved_at is None for each in still_open(material))


def still_open(material: Material) -> list[AlertView]:
    """Alerts that had not ended by the end of the period."""
    end = material.period.end
    return [each for each in material.incidents if each.resolved_at is None or each.resolved_at >= end]


def _alerts(material: Material) -> Iterator[Advice]:
    for each in still_open(material):
        if each.inhibited_by:
            continue
        summary = str(each.annotations.get("summary") or each.alertname).rstrip(".")
        who = f" {each.acknowledged_by} looks after it." if each.acknowledged_by else " Nobody has taken it."
        over = f" It ended on {each.resolved_at:%d %b %H:%M}, after the period." if each.resolved_at else ""
        text = f"{each.alertname} of {each.modality} was still firing: {summary}."
        yield Advice(text=text + (over or who), see=str(each.annotations.get("runbook") or ""))


def _budgets(material: Material) -> Iterator[Advice]:
    for each in material.objectives:
        left = each.budget_left
        if left is not None and left < LITTLE_BUDGET:
            state = f"is {words.budget(left)}" if left < 0 else f"has {words.budget(left)} left"
            yield Advice(
                text=f"The 30-day budget of {each.subject.lower()} {state}: hold risky changes back until it recovers."
            )


def _jobs(material: Material) -> Iterator[Advice]:
    for job in material.jobs:
        if job.state == FAILED:
            yield Advice(
                text=f"Retrain job {job.job_id} failed: {job.error or 'no reason was kept'}.",
                see=f"fusionwatch-monitor jobs show {job.job_id}",
            )
        elif job.state == STUCK:
            conditions = ((job.result or {}).get("gate") or {}).get("conditions", [])
            unmet = [str(each["text"]) for each in conditions if not each.get("met")]
            yield Advice(
                text=f"Retrain job {job.job_id} did not pass the gate{': ' if unmet else ''}{'; '.join(unmet)}.",
                see=f"fusionwatch-monitor jobs show {job.job_id}",
            )


def _unjudged(material: Material) -> Iterator[Advice]:
    """Checks that said nothing in the whole period, where that is a fault; by what they lacked."""
    for verdict, why, see in (
        ("no_baseline", "there is nothing to compare with", "fusionwatch-monitor baseline list"),
        ("insufficient", "too few requests came for a verdict", ""),
        ("no_data", "no data came for it", ""),
    ):
        names = [_named(each) for each in material.checks if not each.judged and _lacked(each, verdict)]
        if names:
            shown = words.listed([*names[:4], *([f"{len(names) - 4} more"] if len(names) > 4 else [])])
            yield Advice(text=f"{shown}: never judged in the period, as {why}.", see=see)


def _lacked(check: CheckOver, verdict: str) -> bool:
    most = max(check.verdicts, key=lambda name: check.verdicts[name])
    optional = check.detector in OPTIONAL or _is_gradual(check)
    by_labels = check.detector in BY_LABELS | BY_LABELS_OF_BASELINE
    return most == verdict and not optional and not by_labels


def _labels(material: Material) -> Iterator[Advice]:
    """Labels are wanted where some come, or something drifted; most models live without, and that is no fault."""
    found = material.calibration
    drifted = any(each.drifted and not _is_gradual(each) for each in material.checks)
    if material.traffic.requests and (found.labelled or drifted) and found.labelled < found.minimum_labels:
        had = "no label" if not found.labelled else f"{words.count(found.labelled)} labels"
        yield Advice(
            text=f"Accuracy is told by labels, and {had} came in the period; {found.minimum_labels} are needed.",
            see="fusionwatch-monitor labels queue",
        )


def _missing(material: Material) -> Iterator[Advice]:
    for document in material.documents:
        if document.error:
            yield Advice(text=f"The report “{document.name}” is missing from this one: {document.error}.")


def _named(check: CheckOver) -> str:
    return f"{words.modality(check.modality)} {words.detector(check.detector).name.lower()}"


def _is_gradual(check: CheckOver) -> bool:
    return check.detector in GRADUAL_CHANGE


def _fired(material: Material, severity: str) -> int:
    return sum(each.severity == severity for each in material.incidents)


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"
