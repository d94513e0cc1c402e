"""A backfill keeps what labels that came late have said: an archive cannot tell."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from monitor.alerts.names import ALL, BASELINE
from monitor.domain.finding import Finding, Verdict
from monitor.domain.window import Window
from monitor.tasks.backfill import but_late_labels
from monitor.tasks.judgement import BY_ANSWERS
from monitor.tasks.late import INPUTS, LABELS

END = datetime(2026, 3, 2, tzinfo=UTC)


def finding(detector: str, modality: str, value: float | None = None) -> Finding:
    return Finding(
        detector=detector,
        modality=modality,
        window=Window(END - timedelta(hours=1), END),
        verdict=Verdict.OK,
        value=value,
        p_value=None,
        effect=None,
        interval=None,
        threshold=None,
        n_reference=0,
        n_current=0,
        baseline_id=1,
        model_version="v1",
        explanation="",
        details={},
    )


def test_what_was_judged_by_late_labels_stays_and_with_it_what_is_known_of_their_changes() -> None:
    accuracy, drift = finding("accuracy", "fused", 0.9), finding("class_drift", "fused", 0.1)
    about = replace(finding(BASELINE, ALL), details={INPUTS: [3, 4]})
    stored = [replace(accuracy, value=0.7, details={BY_ANSWERS: True}), replace(drift, value=0.2)]
    stored.append(replace(about, details={INPUTS: [1, 2], LABELS: 5}))
    found = but_late_labels([accuracy, drift, about], {(each.detector, each.modality): each for each in stored})
    assert found == [drift, replace(about, details={INPUTS: [3, 4], LABELS: 5})]
    assert but_late_labels([accuracy, drift, about], {}) == [accuracy, drift, about], "never judged before"
