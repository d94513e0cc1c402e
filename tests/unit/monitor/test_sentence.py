"""The page's first sentence says the most important true thing, and never calls well what was not judged."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from monitor.storage.views.models.base import Period, Timing, VerdictName
from monitor.storage.views.models.champion import Champion
from monitor.storage.views.models.findings import FindingView
from monitor.storage.views.models.overview import Facts
from monitor.storage.views.models.traffic import Latency, ModalityNow, Traffic
from monitor.storage.views.models.work import AlertView, JobView
from monitor.web.sentence import describe

NOW = datetime(2026, 3, 2, 12, 30, 7, tzinfo=UTC)


def check(verdict: VerdictName = "ok", detector: str = "embedding_mmd", modality: str = "image") -> FindingView:
    return FindingView(
        finding_id=1,
        model_version="v1",
        detector=detector,
        modality=modality,
        window_start=NOW - timedelta(minutes=1),
        window_end=NOW,
        verdict=verdict,
        value=None,
        p_value=None,
        effect=None,
        interval_low=None,
        interval_high=None,
        threshold=None,
        n_reference=0,
        n_current=0,
        baseline_id=None,
        explanation="",
    )


def alert(detector: str | None, modality: str = "image", **changes: Any) -> AlertView:
    values: dict[str, Any] = {
        "alert_id": 1,
        "alertname": "Something",
        "severity": "page",
        "modality": modality,
        "state": "firing",
        "since": NOW.replace(hour=12, minute=3),
        "firing_since": NOW.replace(hour=12, minute=4),
        "resolved_at": None,
        "inhibited_by": None,
        "detector": detector,
        "finding_id": 1,
        "labels": {},
        "annotations": {"summary": "something is odd", "runbook": "runbooks/odd.md"},
    }
    return AlertView(**(values | changes))


def modality(name: str, share: float | None = 1.0, verdict: VerdictName = "ok") -> ModalityNow:
    return ModalityNow(
        modality=name,
        rows=100 if share is not None else 0,
        counts={},
        share=share,
        low=share,
        high=share,
        last_seen=NOW - timedelta(minutes=27),
        verdict=verdict,
    )


def facts(**changes: Any) -> Facts:
    values: dict[str, Any] = {
        "now": NOW,
        "model": "fusion",
        "window": Period(start=NOW - timedelta(seconds=30), end=NOW),
        "timing": Timing(
            slot_seconds=10, hop_seconds=30, window_seconds=60, availability_window_seconds=30, grace_seconds=5
        ),
        "champion": Champion(
            version="v1",
            family="cross_attention",
            since=NOW,
            class_names=["a", "b"],
            modalities=["image", "text"],
            baseline_id=1,
            baseline_origin="checkpoint",
            baseline_facts={},
        ),
        "traffic": Traffic(requests=1500, per_second=50.0, degraded=0, quarantined=0, routes={"fused": 1500}),
        "latency": Latency(sample=0, p50_ms=None, p95_ms=None),
        "modalities": [modality("image"), modality("text")],
        "checks": [check()],
        "last_evaluated": NOW - timedelta(seconds=7),
        "alerts": [],
        "active_job": None,
    }
    return Facts(**(values | changes))


def test_all_well_counts_what_was_judged() -> None:
    said = describe(facts(checks=[check(), check("insufficient", "calibration", "fused")]))
    assert said.mood == "well"
    assert said.text == (
        "All is well: 50 requests/s, no alert firing, 1 check ok. 1 could not be judged for want of data."
    )


@pytest.mark.parametrize("checks", [[], [check("insufficient")]])
def test_nothing_judged_is_never_well(checks: list[FindingView]) -> None:
    said = describe(facts(checks=checks))
    assert said.mood == "unknown"
    assert "All is well" not in said.text


def test_a_dead_feed_is_named_with_what_goes_on() -> None:
    said = describe(
        facts(
            alerts=[alert("availability")],
            modalities=[modality("image", 0.0, "drift"), modality("text")],
            traffic=Traffic(requests=100, per_second=3, degraded=100, quarantined=0, routes={"fallback:text": 100}),
        )
    )
    assert said.mood == "problem"
    assert said.text == "Image feed is down since 12:03; answers go on from text."
    assert said.todo == "Runbook: runbooks/odd.md"


def test_a_failing_and_a_returning_feed_read_differently() -> None:
    failing = describe(facts(alerts=[alert("availability")], modalities=[modality("image", 0.6, "drift")]))
    back = describe(facts(alerts=[alert("availability")], modalities=[modality("image", 1.0, "ok")]))
    assert failing.text == "Image feed is failing since 12:03: 40.0% of requests lack it."
    assert back.text.startswith("Image feed is back (100% of requests have it)")


@pytest.mark.parametrize(
    ("detector", "modality_name", "words"),
    [
        ("embedding_mmd", "image", "Image inputs have drifted away from the baseline since 12:03."),
        ("pairing", "fused", "Image and text no longer belong together since 12:03."),
        ("class_drift", "fused", "The mix of predicted classes has moved since 12:03."),
        ("confidence_drift", "fused", "Answers are not as sure as they were in the baseline since 12:03."),
        ("quality_shape", "image", "Image inputs are spread differently than in the baseline since 12:03."),
        ("misalignment", "fused", "Modalities of one request are not of the same moment since 12:03."),
        ("cost", "fused", "Requests take more of the model’s time than they should since 12:03."),
        ("agreement", "fused", "Modalities contradict each other more than they should since 12:03."),
        ("calibration", "fused", "Confidence no longer matches how often answers are right since 12:03."),
        ("contribution", "fused", "The model goes by its inputs otherwise than it did since 12:03."),
        ("accuracy", "fused", "By its labels the model is right less often since 12:03."),
        ("silence", "all", "No predictions are being logged since 12:03."),
        ("messages_lost", "all", "Messages left the log before being read, first seen at 12:03."),
        (
            "log_reset",
            "all",
            "A topic’s log starts again since 12:03; what had not been read of the old one is not known.",
        ),
        (
            "log_partitions",
            "all",
            "The log lacks partitions for the days to come since 12:03; without today’s it stops.",
        ),
        ("baseline", "all", "The model that answers has no baseline, so no drift can be seen."),
        ("a_new_detector", "image", "something is odd, since 12:03."),
        (None, "image", "something is odd, since 12:03."),
    ],
)
def test_each_alert_has_its_phrase(detector: str | None, modality_name: str, words: str) -> None:
    assert describe(facts(alerts=[alert(detector, modality_name)])).text == words


@pytest.mark.parametrize(("lost", "words"), [(1, "1 message left"), (12345, "12\u202f345 messages left")])
def test_lost_messages_are_counted(lost: float, words: str) -> None:
    told = alert("messages_lost", "all", annotations={"value": float(lost), "runbook": "runbooks/messages-lost.md"})
    said = describe(facts(alerts=[told]))
    assert said.text == f"{words} the log before being read, first seen at 12:03."
    assert said.todo == "Runbook: runbooks/messages-lost.md"


def test_more_alerts_and_a_retrain_are_told_after_the_first() -> None:
    job = JobView(
        job_id=2,
        state="running",
        created_at=NOW,
        started_at=NOW,
        finished_at=None,
        deadline=NOW,
        attempts=1,
        claimed_by="t1",
        lease_until=NOW,
        spec={},
        progress={},
        lineage=None,
        result=None,
        error=None,
    )
    said = describe(facts(alerts=[alert("calibration"), alert("accuracy"), alert("pairing")], active_job=job))
    assert said.text.endswith("right since 12:03. 2 more alerts firing. A retrain is under way.")


def test_pending_and_inhibited_alerts_are_not_told() -> None:
    quiet = [alert("pairing", state="pending"), alert("embedding_mmd", inhibited_by="ModalityUnavailable")]
    assert describe(facts(alerts=quiet)).mood == "well"


def test_drift_without_alert_is_a_notice() -> None:
    said = describe(facts(checks=[check("drift")]))
    assert said.mood == "notice"
    assert said.text == "Image embedding drift is out of bounds in the last window; no alert is firing."


@pytest.mark.parametrize("verdict", ["no_baseline", "no_data"])
def test_what_cannot_be_judged_is_told(verdict: VerdictName) -> None:
    said = describe(facts(checks=[check(), check(verdict)]))
    assert said.mood == "notice"
    assert "not judged" in said.text


def test_a_model_without_labels_is_well_and_its_accuracy_unknown() -> None:
    unlabelled = [check("no_data").model_copy(update={"detector": name}) for name in ("accuracy", "calibration")]
    said = describe(facts(checks=[check(), *unlabelled]))
    assert said.mood == "well"
    assert said.text.endswith("1 check ok. No labels came lately, so how often answers are right is not known.")


@pytest.mark.parametrize("verdict", ["no_baseline", "no_data"])
def test_contributions_that_nobody_measures_are_no_fault_and_not_called_ok(verdict: VerdictName) -> None:
    said = describe(facts(checks=[check(), check(verdict, "contribution", "fused")]))
    assert said.mood == "well"
    assert said.text.endswith("1 check ok.")


def test_what_a_stream_need_not_have_is_no_news() -> None:
    lacking = [
        check("no_data", "cost", "fused"),
        check("no_baseline", "misalignment", "fused"),
        check("no_data", "quality_shape"),
    ]
    said = describe(facts(checks=[check(), *lacking]))
    assert said.mood == "well"
    assert said.text.endswith("1 check ok.")


def test_no_model_no_traffic_no_monitor() -> None:
    assert describe(facts(champion=None)).text == "No model named “fusion” answers yet."
    none = Traffic(requests=0, per_second=0, degraded=0, quarantined=0, routes={})
    assert describe(facts(traffic=none)).text == "Requests stopped at 12:03."
    unseen = [modality("image").model_copy(update={"last_seen": None})]
    assert describe(facts(traffic=none, modalities=unseen)).text == "No requests have arrived within a day."
    assert "no window has been judged yet" in describe(facts(last_evaluated=None)).text


def test_a_sleeping_monitor_outranks_old_alerts() -> None:
    asleep = facts(last_evaluated=NOW - timedelta(seconds=96), alerts=[alert("calibration")])
    awake = facts(last_evaluated=NOW - timedelta(seconds=95))
    assert describe(asleep).text == "Nobody is watching: the monitor last judged a window at 12:28."
    assert describe(awake).mood == "well"


def test_another_day_is_named() -> None:
    said = describe(facts(alerts=[alert("calibration", since=NOW - timedelta(days=2))]))
    assert said.text.endswith("since 28 Feb 12:30.")
