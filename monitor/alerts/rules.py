"""The shipped alert rules, as data: which detector's findings, how long, how loud, and which runbook."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from monitor.domain.alert import Patience, Signal, fingerprint
from monitor.domain.attribution import harmless
from monitor.domain.finding import Finding, Verdict
from monitor.domain.signals import PAGE, TICKET
from monitor.domain.slo_report import SETTLED, WATCHED

# Findings that are about the stream or the model as a whole, not about one modality.
ALL = "all"
SILENCE = "silence"
LOST = "messages_lost"
RESET = "log_reset"
PARTITIONS = "log_partitions"
BASELINE = "baseline"
RETRAIN_JOB = "retrain_job"
ROLLOUT = "rollout"
LABELS_WANTED = "label_queue"
SECURITY = "security"
# The sequential monitor's findings: what has changed little by little, by how loud it is.
GRADUAL, GRADUAL_PAGE = "sequential", "sequential_page"
# How fast objectives use their budgets up, and what an alert of it is called, by how loud it is.
BURN_RATE: Mapping[str, str] = {PAGE: "burn_rate_page", TICKET: "burn_rate"}
BURN_RATE_ALERTS: Mapping[str, str] = {PAGE: "ErrorBudgetBurnFast", TICKET: "ErrorBudgetBurnSlow"}
# The detail of a drift that is not far enough for a window to decide: the sequential monitor has learnt to.
LEFT_TO_GRADUAL = "left_to_sequential"
# The alert that no rule makes: the monitor cannot keep any other.
UNWRITABLE = "DatabaseWritesFail"
# The ticket that no rule makes: it tells where the report of last week is.
WEEKLY_REPORT = "WeeklyReport"
# Alerts that show by labels that the model got worse: what a retrain answers.
QUALITY_ALERTS = frozenset({"AccuracyDrop", "CalibrationDrift"})


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


# Causes need fewer windows than their consequences, so that the cause is known when the consequence would fire.
RULES: tuple[Rule, ...] = (
    Rule(
        alertname="ModalityUnavailable",
        detector="availability",
        severity="page",
        patience=Patience(for_windows=2, clear_windows=2),
        runbook="modality-unavailable",
        headline="{modality} is unavailable",
        urgent={"state": "gone"},
    ),
    Rule(
        alertname="StreamSilent",
        detector=SILENCE,
        severity="page",
        patience=Patience(for_windows=1, clear_windows=1),
        runbook="stream-silent",
        headline="No predictions are being logged",
    ),
    Rule(
        alertname="MessagesLost",
        detector=LOST,
        severity="page",
        patience=Patience(for_windows=1, clear_windows=1),
        runbook="messages-lost",
        headline="Messages were lost",
    ),
    Rule(
        alertname="SecurityEvent",
        detector=SECURITY,
        severity="page",
        patience=Patience(for_windows=1, clear_windows=1),
        runbook="security-event",
        headline="",
    ),
    Rule(
        alertname="LogReset",
        detector=RESET,
        severity="ticket",
        patience=Patience(for_windows=1, clear_windows=1),
        runbook="log-reset",
        headline="A topic starts again",
    ),
    Rule(
        alertname="LogPartitionMissing",
        detector=PARTITIONS,
        severity="page",
        patience=Patience(for_windows=1, clear_windows=1),
        runbook="log-partition-missing",
        headline="Writing will stop at midnight UTC",
    ),
    Rule(
        alertname=BURN_RATE_ALERTS[PAGE],
        detector=BURN_RATE[PAGE],
        severity="page",
        # What a detector watches too waits for it: a second finding comes only after its next window was judged.
        patience=Patience(for_windows=2, clear_windows=3),
        runbook="error-budget-burn-fast",
        headline="",
        urgent={WATCHED: "no"},
    ),
    Rule(
        alertname=BURN_RATE_ALERTS[TICKET],
        detector=BURN_RATE[TICKET],
        severity="ticket",
        patience=Patience(for_windows=2, clear_windows=3),
        runbook="error-budget-burn-slow",
        headline="",
        urgent={WATCHED: "no"},
    ),
    Rule(
        alertname="EmbeddingDrift",
        detector="embedding_mmd",
        severity="ticket",
        patience=Patience(for_windows=2, clear_windows=2),
        runbook="embedding-drift",
        headline="{modality} inputs have drifted",
        but_not=frozenset({"fused"}),
    ),
    Rule(
        alertname="EmbeddingDrift",
        detector="embedding_mmd",
        severity="ticket",
        patience=Patience(for_windows=3, clear_windows=2),
        runbook="embedding-drift",
        headline="Fused embeddings have drifted",
        only=frozenset({"fused"}),
    ),
    Rule(
        alertname="PairingDrift",
        detector="pairing",
        severity="ticket",
        patience=Patience(for_windows=2, clear_windows=2),
        runbook="pairing-drift",
        headline="Modalities no longer belong together",
    ),
    Rule(
        alertname="PredictionDrift",
        detector="class_drift",
        severity="ticket",
        patience=Patience(for_windows=3, clear_windows=2),
        runbook="prediction-drift",
        headline="Predicted classes have drifted",
    ),
    Rule(
        alertname="AgreementDrop",
        detector="agreement",
        severity="ticket",
        patience=Patience(for_windows=3, clear_windows=2),
        runbook="agreement-drop",
        headline="Modalities agree less often",
    ),
    Rule(
        alertname="ContributionDrift",
        detector="contribution",
        severity="ticket",
        patience=Patience(for_windows=3, clear_windows=2),
        runbook="contribution-drift",
        headline="The model goes by its inputs otherwise than it did",
    ),
    Rule(
        alertname="QualityShapeDrift",
        detector="quality_shape",
        severity="ticket",
        patience=Patience(for_windows=2, clear_windows=2),
        runbook="quality-shape-drift",
        headline="{modality} inputs are spread differently",
    ),
    Rule(
        alertname="Misalignment",
        detector="misalignment",
        severity="ticket",
        patience=Patience(for_windows=2, clear_windows=2),
        runbook="misalignment",
        headline="Modalities are not of the same moment",
    ),
    Rule(
        alertname="ConfidenceDrift",
        detector="confidence_drift",
        severity="ticket",
        patience=Patience(for_windows=3, clear_windows=2),
        runbook="confidence-drift",
        headline="Confidence has drifted",
    ),
    Rule(
        alertname="CostHigh",
        detector="cost",
        severity="ticket",
        patience=Patience(for_windows=3, clear_windows=2),
        runbook="cost-high",
        headline="Requests have become dearer",
    ),
    Rule(
        alertname="GradualDrift",
        detector=GRADUAL,
        severity="ticket",
        patience=Patience(for_windows=1, clear_windows=1),
        runbook="gradual-drift",
        headline="{modality} is drifting",
        but_not=frozenset({ALL}),
    ),
    Rule(
        alertname="GradualUnavailability",
        detector=GRADUAL_PAGE,
        severity="page",
        patience=Patience(for_windows=1, clear_windows=1),
        runbook="gradual-unavailability",
        headline="{modality} is missing more often",
        but_not=frozenset({ALL}),
    ),
    Rule(
        alertname="AccuracyDrop",
        detector="accuracy",
        severity="ticket",
        patience=Patience(for_windows=2, clear_windows=2),
        runbook="accuracy-drop",
        headline="Labels show a drop in accuracy",
    ),
    Rule(
        alertname="CalibrationDrift",
        detector="calibration",
        severity="ticket",
        patience=Patience(for_windows=2, clear_windows=2),
        runbook="calibration-drift",
        headline="Confidence no longer matches accuracy",
    ),
    Rule(
        alertname="BaselineMissing",
        detector=BASELINE,
        severity="ticket",
        patience=Patience(for_windows=1, clear_windows=1),
        runbook="baseline-missing",
        headline="Drift cannot be judged",
        breach=frozenset({Verdict.NO_BASELINE}),
    ),
    Rule(
        alertname="RetrainFailed",
        detector=RETRAIN_JOB,
        severity="ticket",
        patience=Patience(for_windows=1, clear_windows=1),
        runbook="retrain-failed",
        headline="A retrain job has failed",
    ),
    Rule(
        alertname="RolloutRolledBack",
        detector=ROLLOUT,
        severity="ticket",
        patience=Patience(for_windows=1, clear_windows=1),
        runbook="rollout-rolled-back",
        headline="A challenger was taken away",
    ),
    Rule(
        alertname="LabelsWanted",
        detector=LABELS_WANTED,
        severity="ticket",
        patience=Patience(for_windows=1, clear_windows=1),
        runbook="labels-wanted",
        headline="Labels are wanted",
    ),
    # Trends: their detectors call nothing drift, and so raise nothing, until someone sets a target.
    Rule(
        alertname="EstimatedAccuracyLow",
        detector="estimated_accuracy",
        severity="ticket",
        patience=Patience(for_windows=3, clear_windows=2),
        runbook="estimated-accuracy-low",
        headline="Accuracy is estimated below its target",
    ),
    Rule(
        alertname="ReviewRateHigh",
        detector="review_rate",
        severity="ticket",
        patience=Patience(for_windows=2, clear_windows=2),
        runbook="review-rate-high",
        headline="People review more requests than planned",
    ),
    Rule(
        alertname="FalsePositivesHigh",
        detector="false_positives",
        severity="ticket",
        patience=Patience(for_windows=2, clear_windows=2),
        runbook="false-positives-high",
        headline="Classes are answered wrongly more often than allowed",
    ),
)

RULES_OF: Mapping[str, Sequence[Rule]] = {
    detector: [rule for rule in RULES if rule.detector == detector] for detector in {rule.detector for rule in RULES}
}
