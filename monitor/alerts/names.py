"""Names of alerts, and of findings that are no detector's, that more than the rules know."""

from __future__ import annotations

from collections.abc import Mapping

from monitor.domain.signals import PAGE, TICKET

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
