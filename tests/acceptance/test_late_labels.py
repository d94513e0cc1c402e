"""Labels that come hours late, and their corrections: the windows they touch say what is known now and page nobody."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta

from inference.feedback import Label, store
from monitor import wiring
from monitor.storage.views.findings import series
from monitor.storage.views.models.base import Period
from monitor.tasks.detect import Detect
from monitor.telemetry import Metrics
from tests.support.monitored import GRACE, NORMAL, T0, Stage, log_row, log_rows, settings

HOUR, ANSWERS = 3600, 120
LABELLED = 5 * HOUR  # how far labels look back
RIGHT, WRONG = "consistent", "misleading"


def of_hour(hour: int) -> list[str]:
    return [f"h{hour}-{number}" for number in range(ANSWERS)]


class Traffic:
    """An hour of answers at a time, all of one class; labels as the label reader stores them."""

    def __init__(self, stage: Stage, detect: Detect) -> None:
        self._stage = stage
        self._detect = detect
        self.hour = 0

    def log(self) -> None:
        """The answers of the hour, in the middle of it."""
        now = self._stage.clock.now()
        self._stage.slot(NORMAL)
        with self._stage.engine.begin() as connection:
            ids = of_hour(self.hour)
            log_rows(connection, [log_row(name, now, "v1", RIGHT, 0.97) for name in ids])

    def label(self, ids: Iterable[str], label: str) -> None:
        """Labels that come now."""
        now = self._stage.clock.now()
        with self._stage.engine.begin() as connection:
            store(connection, [Label(name, label, now, "ground_truth", None, None, None) for name in ids], now)

    def end(self) -> None:
        """The hour ends and is judged; the next one's middle comes."""
        self._stage.clock.advance(HOUR / 2 + GRACE)
        self._detect.run()
        self._stage.clock.advance(HOUR / 2 - GRACE)
        self.hour += 1


def revisions(stage: Stage) -> dict[int, list[float]]:
    """By the hour a window ended at, its accuracy in every revision."""
    ends = f"extract(epoch FROM window_end - '{T0.isoformat()}')::int / 3600"
    query = (
        f"SELECT jsonb_agg(jsonb_build_array(e, v) ORDER BY e) FROM (SELECT {ends} AS e, "
        "jsonb_agg(round(value::numeric, 4) ORDER BY revision) AS v FROM findings WHERE detector = 'accuracy' "
        "GROUP BY 1) AS by_end"
    )
    return {int(end): [float(each) for each in values] for end, values in stage.scalar(query)}


def test_windows_say_what_labels_that_came_hours_late_say_and_what_corrects_them(stage: Stage, database: str) -> None:
    chosen = settings(
        database, hop_seconds=HOUR, window_seconds=HOUR, label_window_seconds=LABELLED, silence_seconds=2 * HOUR
    )
    traffic = Traffic(stage, wiring.detect(chosen, stage.engine, Metrics(), stage.clock))
    stage.clock.advance(HOUR / 2)
    for hour in range(6):
        if hour == 2:  # labels of this hour come before their answers
            traffic.label(of_hour(hour), RIGHT)
        traffic.log()
        if hour not in (2, 3):
            traffic.label(of_hour(hour), RIGHT)
        traffic.end()
    before = revisions(stage)
    assert before == {hour: [1.0] for hour in range(1, 7)}

    traffic.label(of_hour(3), WRONG)  # three hours late
    traffic.end()
    known = {1: [1.0], 2: [1.0], 3: [1.0], 4: [1.0, 0.75], 5: [1.0, 0.8], 6: [1.0, 0.8]}
    # the newest window goes by the labels that came in it, and counts no answer without one
    assert revisions(stage) == known | {7: [0.75]}
    [alert] = [each for each in stage.alerts() if each.alertname == "AccuracyDrop"]
    assert alert.state == "pending"
    assert alert.pending_since == T0 + timedelta(hours=7), "no old window moves an alert"
    traffic.end()
    told = len(stage.notifications())

    for name in (RIGHT, RIGHT):  # a correction, which comes twice
        traffic.label(of_hour(3), name)
    traffic.label(["nobody's"], WRONG)
    traffic.label(of_hour(0), RIGHT)
    traffic.end()
    once = revisions(stage)
    assert {hour: once[hour] for hour in (4, 5, 6)} == {hour: [*known[hour], 1.0] for hour in (4, 5, 6)}
    assert {hour: len(each) for hour, each in once.items()} == {1: 1, 2: 1, 3: 1, 4: 3, 5: 3, 6: 3, 7: 2, 8: 1, 9: 1}
    traffic.end()  # a run judges four windows again; the fifth comes with the next
    twice = revisions(stage)
    assert twice[8] == [*once[8], 1.0]
    assert [twice[hour] for hour in range(1, 8)] == [once[hour] for hour in range(1, 8)]
    assert len(stage.notifications()) - told <= 1, "what fired is over, once"

    traffic.label(of_hour(3), RIGHT)
    traffic.end()
    assert [revisions(stage)[hour] for hour in range(1, 11)] == [twice[hour] for hour in range(1, 11)]
    with stage.engine.connect() as connection:
        [shown] = series(connection, "fusion", Period(start=T0, end=T0 + timedelta(hours=6)), detector="accuracy")
    assert {point.value for point in shown.points} == {1.0}, "history shows what is known now"
