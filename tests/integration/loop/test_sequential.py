"""The sequential monitor on a real database: what it says does not depend on restarts, lateness or other monitors."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from sqlalchemy import text

from monitor import wiring
from monitor.alerts.grouping import Timing
from monitor.alerts.message import Links
from monitor.alerts.names import ALL, BASELINE, GRADUAL, GRADUAL_PAGE, LEFT_TO_GRADUAL
from monitor.domain.finding import Finding, Verdict
from monitor.domain.sequential import Plan, Series, judge, push
from monitor.domain.window import Window
from monitor.storage import findings as stored
from monitor.storage import notifications
from monitor.tasks.alerting import Alerting, Judged
from monitor.tasks.gradual import Watch
from monitor.tasks.sequential import Sequential
from monitor.telemetry import Metrics
from tests.support.monitored import GRACE, HOP, NORMAL, SLOT, T0, Stage, settings

HOUR = timedelta(hours=1)
START = datetime(2026, 3, 2, tzinfo=UTC)
PLAN = Plan(calibration=48, reference=120)
TICKETS = Watch(GRADUAL, "GradualDrift", "ticket", HOUR, allowed=0.25, plan=PLAN)
LATE = 6
SERIES = ("image", "text")


def finding(end: datetime, modality: str, value: float, *, version: str = "v1", baseline: int | None = 1) -> Finding:
    """What a detector of embeddings says of the hour that ends then."""
    return Finding(
        detector="embedding_mmd",
        modality=modality,
        window=Window(end - HOUR, end),
        verdict=Verdict.OK,
        value=0.1,
        p_value=0.5,
        effect=0.1,
        interval=None,
        threshold=0.25,
        n_reference=1000,
        n_current=500,
        baseline_id=baseline,
        model_version=version,
        explanation=f"{modality} moved.",
        details={"standardised": value},
    )


def about_baseline(end: datetime, version: str = "v1", baseline: int | None = 1) -> Finding:
    return replace(
        finding(end, ALL, 0.0, version=version, baseline=baseline), detector=BASELINE, effect=None, details={}
    )


class Service:
    """A monitor that is started anew for every window."""

    def __init__(self, stage: Stage, model: str = "fusion") -> None:
        self.engine = stage.engine
        self.model = model
        self.alerting = Alerting(model, routes=(), links=Links("", ""), window=HOUR, hop=HOUR, timing=Timing())

    def window(self, hour: int, values: Sequence[float], version: str = "v1", baseline: int = 1) -> list[Finding]:
        end = START + hour * HOUR
        found = [finding(end, m, v, version=version, baseline=baseline) for m, v in zip(SERIES, values, strict=True)]
        found.append(about_baseline(end, version, baseline))
        sequential = Sequential(self.model, watches=[TICKETS], late=LATE)
        with self.engine.begin() as connection:
            gradual = sequential.findings(connection, found, end, end)
            ids = stored.store(connection, self.model, [*found, *gradual])
            judged = [Judged(i, one) for i, one in zip(ids, [*found, *gradual], strict=True)]
            self.alerting.apply(connection, judged, end, end)
        return gradual

    def play(self, rows: np.ndarray[Any, Any], first: int = 1) -> list[list[Finding]]:
        return [self.window(hour, row.tolist()) for hour, row in enumerate(rows, first)]


@pytest.fixture
def service(stage: Stage) -> Service:
    stage.register("v1")
    stage.register("v2", champion=False)
    return Service(stage)


def totals(found: list[list[Finding]]) -> list[float]:
    return [next(one.value for one in each if one.modality == ALL) or 0.0 for each in found]


def in_order(rows: np.ndarray[Any, Any]) -> list[float]:
    """What the pure monitor makes of the same values, in one go."""
    panel = {m: Series(first=TICKETS.number(START + HOUR)) for m in SERIES}
    said = []
    for hour, row in enumerate(rows, 1):
        number = TICKETS.number(START + hour * HOUR)
        pushed = {
            m: push(panel[m], number, hour=TICKETS.hour(number), value=float(v), in_control=True, plan=PLAN)
            for m, v in zip(SERIES, row, strict=True)
        }
        judged = judge(pushed, number, threshold=TICKETS.threshold, floors={}, plan=PLAN)
        panel = dict(judged.panel)
        said.append(judged.total)
    return said


def test_restarted_each_window_it_says_what_it_would_say_in_one_go(service: Service) -> None:
    rows = np.random.default_rng(1).normal(size=(90, 2))
    rows[80:, 0] += 3
    assert totals(service.play(rows)) == pytest.approx(in_order(rows), rel=1e-9)


def test_a_lasting_change_is_one_ticket_that_names_it_and_its_end(service: Service, stage: Stage) -> None:
    rng = np.random.default_rng(2)
    quiet, moved, after = rng.normal(size=(70, 2)), rng.normal(size=(25, 2)), rng.normal(size=(20, 2))
    moved[:, 0] += 2
    service.play(quiet)
    assert not stage.alerts()
    said = service.play(moved, 71)
    (ticket,) = stage.alerts()
    assert (ticket.alertname, ticket.modality, ticket.severity, ticket.state) == (
        "GradualDrift",
        "image",
        "ticket",
        "firing",
    )
    last = next(one for one in said[-1] if one.modality == "image")
    since = datetime.fromisoformat(last.details["since"])
    assert START + 60 * HOUR < since < START + 76 * HOUR
    assert "Image embedding mmd has been worse by" in last.explanation
    assert "at most 0.25 such tickets come in 30 days if nothing is wrong" in last.explanation
    service.play(after, 96)
    assert [row.state for row in stage.alerts()] == ["resolved"]


def test_a_window_judged_again_counts_as_if_its_data_had_been_on_time(service: Service) -> None:
    rows = np.random.default_rng(3).normal(size=(80, 2))
    early = rows[:70].copy()
    early[66] = 9.0  # hour 67 was judged on too few rows
    service.play(early)
    end = START + 67 * HOUR
    again = [finding(end, m, float(v)) for m, v in zip(SERIES, rows[66], strict=True)]
    with service.engine.begin() as connection:
        stored.store(connection, service.model, again, revision=1)
    assert totals(service.play(rows[70:], 71)) == pytest.approx(in_order(rows)[70:], rel=1e-9)


def test_what_came_too_late_does_not_change_what_is_settled(service: Service) -> None:
    rows = np.random.default_rng(4).normal(size=(80, 2))
    service.play(rows[:70])
    with service.engine.begin() as connection:
        wrong = [finding(START + (70 - LATE) * HOUR, m, 50.0) for m in SERIES]
        stored.store(connection, service.model, wrong, revision=1)
    assert totals(service.play(rows[70:], 71)) == pytest.approx(in_order(rows)[70:], rel=1e-9)


def test_another_version_or_baseline_calibrates_anew_and_says_so(service: Service, stage: Stage) -> None:
    rng = np.random.default_rng(5)
    rows = rng.normal(size=(60, 2))
    rows[54:, 1] += 6
    service.play(rows)
    assert [row.state for row in stage.alerts()] == ["firing"]
    for hour, (version, baseline) in ((61, ("v2", 2)), (62, ("v2", 3))):
        said = {one.modality: one for one in service.window(hour, [0.0, 6.0], version, baseline)}
        assert said[ALL].verdict is Verdict.INSUFFICIENT
        assert "1 of 48 windows of calibration" in said[ALL].explanation
        assert version in said[ALL].explanation
    assert [row.state for row in stage.alerts()] == ["resolved"]


def test_a_state_of_another_release_is_read_again_from_the_findings(service: Service, stage: Stage) -> None:
    rows = np.random.default_rng(6).normal(size=(64, 2))
    service.play(rows[:52])
    with stage.engine.begin() as connection:
        connection.execute(text("""UPDATE sequential_state SET state = jsonb_set(state, '{version}', '0')"""))
    assert totals(service.play(rows[52:], 53)) == pytest.approx(in_order(rows)[52:], rel=1e-9)


def test_a_drift_near_the_usual_is_left_to_it_once_it_is_calibrated(service: Service) -> None:
    rows = np.random.default_rng(7).normal(size=(60, 2))
    service.play(rows[:20])
    sequential = Sequential(service.model, watches=[TICKETS], late=LATE)

    def marked(value: float) -> Any:
        end = START + 61 * HOUR
        drift = replace(finding(end, "image", value), verdict=Verdict.DRIFT)
        with service.engine.connect() as connection:
            return sequential.far_only(connection, [drift, about_baseline(end)])[0]

    assert LEFT_TO_GRADUAL not in marked(2.0).details, "while it calibrates, fixed thresholds serve"
    service.play(rows[20:], 21)
    assert marked(2.0).details[LEFT_TO_GRADUAL] < 5
    assert "the sequential monitor decides" in marked(2.0).explanation
    assert LEFT_TO_GRADUAL not in marked(30.0).details


def traffic(stage: Stage, hops: int = 1) -> None:
    for _ in range(hops * HOP // SLOT):
        stage.slot(NORMAL)
        stage.clock.advance(SLOT)
    stage.clock.advance(GRACE)


def states(stage: Stage) -> Any:
    return stage.scalar("SELECT jsonb_agg(state ORDER BY detector, modality) FROM sequential_state")


def test_a_crash_or_a_second_monitor_counts_no_window_twice(
    stage: Stage, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage.register("v1")
    chosen = settings(database, window_seconds=HOP, late_windows=0)
    first, second = (wiring.detect(chosen, stage.engine, Metrics(), stage.clock) for _ in range(2))
    traffic(stage)

    def crash(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(notifications, "write", crash)
        with pytest.raises(KeyboardInterrupt):
            first.run()
    assert states(stage) is None
    threads = [threading.Thread(target=one.run) for one in (first, second, first, second)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {len(state["history"]) for state in states(stage)} == {1}
    once = states(stage)
    first.run()
    assert states(stage) == once
    traffic(stage)
    second.run()
    assert {len(state["history"]) for state in states(stage)} == {2}


def test_a_window_whose_data_came_late_is_judged_again_once(stage: Stage, database: str) -> None:
    stage.register("v1")
    detect = wiring.detect(settings(database), stage.engine, Metrics(), stage.clock)
    for _ in range(6):
        traffic(stage)
        stage.clock.advance(-GRACE)
        detect.run()
    stage.clock.advance(GRACE)
    detect.run()
    assert stage.scalar("SELECT max(revision) FROM findings") == 0
    now = stage.clock.at
    stage.clock.at = T0 + timedelta(seconds=2 * HOP)  # a worker that was cut off writes its slot now
    stage.slot(NORMAL)
    stage.clock.at = now
    traffic(stage)
    for _ in range(2):
        detect.run()
    revised = "FROM findings WHERE revision = 1 AND detector = 'embedding_mmd' AND modality = 'image'"
    ends = stage.scalar(f"SELECT array_agg(window_end ORDER BY window_end) {revised}")
    assert ends == [T0 + timedelta(seconds=HOP * hop) for hop in (3, 4, 5)], "the windows that hold the slot"
    assert stage.scalar(f"SELECT max(n_current) - min(n_current) {revised}") == 0
    more = (
        "SELECT max(n_current) FILTER (WHERE revision = 1) - max(n_current) FILTER (WHERE revision = 0) FROM findings"
    )
    assert stage.scalar(f"{more} WHERE detector = 'embedding_mmd' AND modality = 'image'") == 200
    assert stage.scalar("SELECT max(revision) FROM findings") == 1
    assert stage.scalar("SELECT max(revision) FROM findings WHERE detector IN ('accuracy', 'calibration')") == 0


def test_a_modality_that_goes_missing_more_often_pages_whichever_version_answers(
    service: Service, stage: Stage
) -> None:
    """Availability falls from 99.8% to 98.6%: of 2000 requests that is hardly off the target, but not as it was."""
    pages = Watch(GRADUAL_PAGE, "GradualUnavailability", "page", HOUR, allowed=1, plan=PLAN)
    rng = np.random.default_rng(8)
    told: list[Finding] = []
    for hour in range(1, 100):
        end, version = START + hour * HOUR, "v1" if hour < 60 else "v2"
        share = 1 - rng.binomial(2000, 0.002 if hour < 80 else 0.014) / 2000
        seen = replace(finding(end, "image", 0.0, version=version), detector="availability", value=share, details={})
        with service.engine.begin() as connection:
            found = [seen, about_baseline(end, version)]
            gradual = Sequential(service.model, watches=[pages], late=LATE).findings(connection, found, end, end)
            ids = stored.store(connection, service.model, [*found, *gradual])
            judged = [Judged(i, one) for i, one in zip(ids, [*found, *gradual], strict=True)]
            service.alerting.apply(connection, judged, end, end)
        told += [one for one in gradual if one.modality == "image"]
        assert told or hour < 90
    (page,) = stage.alerts()
    assert (page.alertname, page.severity, page.state) == ("GradualUnavailability", "page", "firing")
    assert told[0].window.end > START + 80 * HOUR
    assert "percentage points" in told[0].explanation
