"""Past windows judged again out of Parquet say what the live path said, bit for bit, on every engine."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, text

from migrations.schema.prediction_log import modality_log
from monitor import wiring
from monitor.archive.folder import Archive
from monitor.backfill.base import engines
from monitor.telemetry import Metrics
from tests.support.commands import monitor_says
from tests.support.monitored import GRACE, HOP, NORMAL, SLOT, T0, Stage, Traffic, settings

HOPS = 10
START = T0 - timedelta(hours=1, seconds=4 * HOP)  # a minute before midnight: windows of two days
END = START + timedelta(seconds=HOPS * HOP)
# The monitor's settings of `settings`, for commands.
TIMES = {"SLOT": SLOT, "HOP": HOP, "WINDOW": 30, "GRACE": GRACE, "SILENCE": 40, "LABEL_WINDOW": 120}
COMPARED = (
    "SELECT window_start, window_end, model_version, detector, modality, verdict, value, p_value, effect, "
    "interval_low, interval_high, threshold, n_reference, n_current, baseline_id, explanation, "
    "(details - 'label_changes')::text FROM ("  # how often labels changed leaves no trace in an archive
    "SELECT DISTINCT ON (window_end, detector, modality) * FROM findings "
    "ORDER BY window_end, detector, modality, revision DESC) AS newest "
    "WHERE detector NOT LIKE 'sequential%' ORDER BY window_end, detector, modality"
)


def newest(stage: Stage) -> Sequence[Any]:
    """Every finding in its newest revision, each value as it is stored."""
    with stage.engine.connect() as connection:
        return [tuple(row) for row in connection.execute(text(COMPARED))]


def producers(stage: Stage) -> None:
    """Answers of two producers, one of whose pictures are darker than the baseline's."""
    at = stage.clock.now()
    stage.label(12, right=0.8)
    with stage.engine.begin() as connection:
        for n in range(12):
            answer = f"r{stage.offset - 12 + n}"
            source = "phone" if n % 3 else None
            told = {"answer": answer, "source": source}
            connection.execute(text("UPDATE prediction_log SET source = :source WHERE request_id = :answer"), told)
            quality = {"noise": 0.1 * n, "brightness": -2.0 - 0.3 * (n % 3)}
            connection.execute(
                insert(modality_log).values(
                    request_id=answer, modality="image", logged_at=at, status="present", quality=quality
                )
            )


@pytest.fixture
def lived(stage: Stage, database: str, monkeypatch: pytest.MonkeyPatch) -> Stage:
    """Quiet, then a new camera, then no images; labels from midnight on; judged by the live path hop by hop."""
    for name, value in TIMES.items():
        monkeypatch.setenv(f"FUSIONWATCH_{name}_SECONDS", str(value))
    monkeypatch.setenv("FUSIONWATCH_DATABASE_URL", database)
    monkeypatch.setenv("RAY_worker_niceness", "0")  # it gives way to all others by default, and they are many here
    stage.clock.at = START
    stage.register("v1")
    detect = wiring.detect(settings(database), stage.engine, Metrics(), stage.clock)
    for number in range(HOPS):
        traffic = NORMAL if number < 4 else Traffic(image_shift=1.0) if number < 8 else Traffic(image_gone=True)
        for _ in range(HOP // SLOT):
            stage.slot(traffic)
            stage.clock.advance(SLOT)
        if number >= 5:
            producers(stage)
        stage.clock.advance(GRACE)
        detect.run()
        stage.clock.advance(-GRACE)
    return stage


def period(first: int = 0) -> list[str]:
    return ["--from", (START + timedelta(seconds=first * HOP)).isoformat(), "--to", END.isoformat()]


def test_what_was_judged_live_comes_out_of_parquet_bit_for_bit(lived: Stage, tmp_path: Path) -> None:
    as_it_was(lived, tmp_path, sorted(engines().keys() - {"spark"}))
    out_of_the_database()
    what_is_wrong_is_told(tmp_path / "empty")


@pytest.mark.servers
def test_and_on_spark_which_needs_java(lived: Stage, tmp_path: Path) -> None:
    as_it_was(lived, tmp_path, ["spark"])


def as_it_was(lived: Stage, folder: Path, engines: Sequence[str]) -> None:
    """What was lost of what was judged live is judged again on each engine, and is what it was."""
    before = newest(lived)
    drifting = [json.loads(row[-1]) for row in before if row[3] == "quality" and row[5] == "drift"]
    assert any("sources" in details for details in drifting), "what the log says of producers is compared too"
    assert len({row[1].date() for row in before}) == 2, "two days, so two parts"
    everything = ["--from", (START - timedelta(days=1)).isoformat(), "--to", END.isoformat()]
    assert "summaries/day=" in monitor_says("export", str(folder), *everything)
    assert lived.scalar("SELECT details->>'folder' FROM audit_log WHERE action = 'exported'") == str(folder)
    for engine in engines:
        lose(lived)
        asked = ["--engine", engine, "--parquet", str(folder), "--processes", "2"]
        told = monitor_says("backfill", *asked, *period())
        assert told.startswith(f"{HOPS - 3} windows as they were; 1 changed, stored as a new revision; 2 never"), told
        assert newest(lived) == before, engine
    assert lived.scalar("SELECT count(*) FROM findings WHERE revision > 0") > 0


def lose(stage: Stage) -> None:
    """Two windows that were never judged, and one that was judged on something else."""
    end = {"end": END - timedelta(seconds=HOP)}
    with stage.engine.begin() as connection:
        lost = "DELETE FROM findings WHERE window_end < :end AND window_end > :end - interval '30 s'"
        connection.execute(text(lost), end)
        other = "UPDATE findings SET value = value / 2 WHERE window_end = :end AND effect IS NOT NULL"
        connection.execute(text(other), end)


def out_of_the_database() -> None:
    assert monitor_says("backfill", "--dry-run", *period(6)).startswith(f"{HOPS - 6} windows as they were; 0 changed")


def what_is_wrong_is_told(folder: Path) -> None:
    assert "has no summaries of" in monitor_says("backfill", "--parquet", str(folder), *period())
    assert "unknown engine 'abacus'; there are local, ray, spark" in monitor_says(
        "backfill", "--engine", "abacus", *period()
    )
    beyond = ["--from", END.isoformat(), "--to", (END + timedelta(minutes=1)).isoformat()]
    assert "later ones are still its" in monitor_says("backfill", *beyond)
    assert "must be a multiple of the hop, 10 s" in monitor_says("backfill", "--every", "15", *period())
    assert "that is no period" in monitor_says("backfill", "--from", END.isoformat(), "--to", START.isoformat())
    assert "takes no address" in monitor_says("backfill", "--address", "ray://nowhere:1", *period())

    archive = Archive(folder)
    monitor_says("export", str(folder), *period())
    path = archive.path("summaries", END.date())
    path.write_bytes(path.read_bytes()[:-30])
    assert f"{path} is no file of an archive" in monitor_says("backfill", "--parquet", str(folder), *period(6))
