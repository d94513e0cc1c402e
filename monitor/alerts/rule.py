"""When findings become an alert: one rule, and what its alerts are told apart by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from monitor.alerts.names import LEFT_TO_GRADUAL
from monitor.domain.alert import Patience, Signal, fingerprint
from monitor.domain.attribution import harmless
from monitor.domain.finding import Finding, Verdict
from monitor.domain.slo_report import SETTLED


@dataclass(frozen=True, slots=True)
class Rule:
    """When findings of one detector become an alert.

    `only` limits it to some modalities and `but_not` leaves some out. `urgent` names a detail of the finding and the
    value that fires at once. `headline` is a template over `modality`; where it is empty the finding says it all.
    """

    alertname: str
    detector: str
    severity: str
    patience: Patience
    runbook: str
    headline: str
    only: frozenset[str] = frozenset()
    but_not: frozenset[str] = frozenset()
    breach: frozenset[Verdict] = frozenset({Verdict.DRIFT})
    urgent: Mapping[str, str] = field(default_factory=dict)

    def covers(self, finding: Finding) -> bool:
        """Whether the finding is this rule's to judge."""
        wanted = not self.only or finding.modality in self.only
        return finding.detector == self.detector and wanted and finding.modality not in self.but_not

    def signal(self, finding: Finding) -> Signal:
        """The finding's verdict as this rule reads it: harmless drift is clear, what is no breach nor `ok` unknown."""
        if finding.details.get(LEFT_TO_GRADUAL):
            return Signal.UNKNOWN
        if finding.verdict in self.breach:
            if harmless(finding):
                return Signal.CLEAR
            urgent = any(finding.details.get(name) == value for name, value in self.urgent.items())
            return Signal.URGENT if urgent else Signal.BREACH
        over = finding.verdict is Verdict.OK or finding.details.get(SETTLED)
        return Signal.CLEAR if over else Signal.UNKNOWN

    def describe(self, finding: Finding) -> str:
        """The alert's summary: the headline and the finding's own sentence."""
        headline = self.headline.format(modality=finding.modality.capitalize())
        return f"{headline}. {finding.explanation}" if headline else finding.explanation


def labels(model: str, modality: str) -> dict[str, str]:
    """What tells alerts of one name apart. Not the model's version: a promotion must close them, not orphan them."""
    return {"model": model, "modality": modality}


def series(rule: Rule, model: str, modality: str) -> str:
    """The fingerprint of a rule's alert for one modality."""
    return fingerprint(rule.alertname, labels(model, modality))
