"""Which producer a moved statistic comes from, as the log tells."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import insert

from migrations.schema.prediction_log import modality_log
from monitor.domain.window import Window
from monitor.storage import sources
from tests.support.monitored import Stage, log_row, log_rows


def _log(stage: Stage, name: str, source: str | None, brightness: float, status: str = "present") -> None:
    now = stage.clock.now()
    with stage.engine.begin() as connection:
        log_rows(connection, [log_row(name, now, "v1", "left", 0.9) | {"source": source}])
        connection.execute(
            insert(modality_log).values(
                request_id=name, modality="image", logged_at=now, status=status, quality={"brightness": brightness}
            )
        )


def test_sources_are_ranked_by_their_share_of_the_shift(stage: Stage) -> None:
    window = Window(stage.clock.now(), stage.clock.now() + timedelta(minutes=1))
    for number in range(30):
        _log(stage, f"a{number}", "camera-1", 0.51)
        _log(stage, f"c{number}", None, 0.49)
    for number in range(10):
        _log(stage, f"b{number}", "camera-7", 0.1)
        _log(stage, f"d{number}", "camera-9", 0.0, status="corrupt")
    stage.clock.advance(60)
    _log(stage, "later", "camera-7", 100.0)
    with stage.engine.connect() as connection:
        found = sources.shares(connection, window, "image", "brightness", baseline=0.5)
        none = sources.shares(connection, window, "image", "contrast", baseline=0.5)
    assert [(each.name, each.rows) for each in found] == [("camera-7", 10), ("camera-1", 30), ("unknown", 30)]
    assert found[0].share == 0.87, "4 of 4.6"
    assert none == ()
