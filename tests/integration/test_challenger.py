"""A challenger in a worker: in shadow behind the champion, in canary beside it, champion, rolled back, and dying."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, insert, select, text, update

from inference import registry
from inference.challenger import Arm, different_inputs
from inference.models import pass_through
from inference.models.card import ModelCard, load_card
from migrations.schema.monitoring import model_aliases
from migrations.schema.prediction_log import prediction_log
from migrations.schema.rollouts import rollout_reports, rollouts, shadow_log
from migrations.schema.summaries import summaries
from tests.support.constant_model import Models, constant_models
from tests.support.exactly_once import assert_exactly_once, names, send_all, traffic
from tests.support.worker import WorkerProcess, in_process, wait_until

SECONDS = 60


@pytest.fixture
def engine(database: str) -> Iterator[Engine]:
    engine = create_engine(database)
    yield engine
    engine.dispose()


def card(folder: Path, yes: float, classes: tuple[str, str] = ("yes", "no")) -> ModelCard:
    pass_through.save(folder, {classes[0]: yes, classes[1]: 1 - yes})
    return load_card(folder)


def rollout(engine: Engine, version: str, champion: str, stage: str, percent: int) -> int:
    now = datetime.now(UTC)
    row = {"model": "fusion", "version": version, "champion": champion, "stage": stage, "percent": percent}
    with engine.begin() as connection:
        statement = insert(rollouts).values(**row, step_since=now, checked_until=now)
        found = connection.scalar(statement.returning(rollouts.c.rollout_id))
    assert found is not None
    return int(found)


def change(engine: Engine, **values: Any) -> None:
    """Change the open rollout, as the monitor does."""
    with engine.begin() as connection:
        connection.execute(update(rollouts).where(rollouts.c.outcome.is_(None)).values(**values))


def promote(engine: Engine, version: str) -> float:
    """Move the alias; the monotonic second at which that was done."""
    with engine.begin() as connection:
        connection.execute(update(model_aliases).values(version=version, updated_at=datetime.now(UTC)))
    return time.monotonic()


def versions(engine: Engine, ids: list[str] | None = None) -> dict[str, str]:
    """The version of each logged request."""
    log = prediction_log.c
    query = select(log.request_id, log.model_version)
    with engine.connect() as connection:
        rows = connection.execute(query if ids is None else query.where(log.request_id.in_(ids)))
        return {row.request_id: row.model_version for row in rows}


def served(engine: Engine, worker: WorkerProcess, prefix: str, count: int = 40) -> dict[str, str]:
    """Send so many requests; the version of each, once all are logged."""
    ids = names(prefix, count)
    send_all(worker, ids)
    wait_until(lambda: len(versions(engine, ids)) == count, SECONDS, f"{prefix}: not logged")
    return versions(engine, ids)


def newest_by(engine: Engine, version: str) -> None:
    """Wait until the newest row of the log is by that version, and by none of another for the ten before."""
    query = select(prediction_log.c.model_version).order_by(prediction_log.c.logged_at.desc()).limit(10)

    def answers() -> bool:
        with engine.connect() as connection:
            return set(connection.scalars(query)) == {version}

    wait_until(answers, SECONDS, f"{version} does not answer")


def said(engine: Engine, rollout_id: int) -> str | None:
    query = select(rollout_reports.c.state).where(rollout_reports.c.rollout_id == rollout_id)
    with engine.connect() as connection:
        return connection.scalar(query)


def test_a_challenger_goes_all_the_way_and_back_and_no_request_is_lost(
    engine: Engine, database: str, broker: str, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    old, new = card(tmp_path / "old", 0.5), card(tmp_path / "new", 0.4)
    settings = {"CHECKPOINT": str(tmp_path / "old"), "CHALLENGER_SECONDS": "2"}
    worker = WorkerProcess("challenged", database, broker, tmp_path / "log", settings)
    with constant_models() as models, in_process(worker), traffic(worker, 0.05) as finish:
        with engine.begin() as connection:
            registry.register(connection, new, None, "fusion")
        sent = list(_shadow_then_canary(engine, worker, old, new))
        sent += _champion_and_back(engine, worker, models, old, new, record_property)
        sent += _dying(engine, worker, models, old, new)
        assert_exactly_once(engine, worker, [*finish(), *sent])


def _shadow_then_canary(engine: Engine, worker: WorkerProcess, old: ModelCard, new: ModelCard) -> list[str]:
    rollout_id = rollout(engine, new.version, old.version, "shadow", 100)
    wait_until(lambda: said(engine, rollout_id) == "ready", SECONDS, "not loaded")
    count = text("SELECT count(*) FROM shadow_log WHERE status = 'ok' AND request_id LIKE 'shadow-%'")

    def shadowed() -> bool:
        with engine.connect() as connection:
            return bool(connection.scalar(count) == 40)

    behind = served(engine, worker, "shadow")
    assert set(behind.values()) == {old.version}, "only the champion answers"
    wait_until(shadowed, SECONDS, "not all were run in shadow")
    with engine.connect() as connection:
        assert set(connection.scalars(select(summaries.c.model_version))) == {old.version}
        row = connection.execute(select(shadow_log).limit(1)).one()
    assert (row.rollout_id, row.champion_model_ms > 0, row.model_ms > 0) == (rollout_id, True, True)
    change(engine, stage="canary", percent=50)
    wait_until(lambda: new.version in versions(engine).values(), SECONDS, "the canary has no share")
    beside = served(engine, worker, "canary", 80)
    arm = Arm(None, rollout_id, 0.5)  # type: ignore[arg-type]
    assert beside == {name: new.version if arm.takes(name) else old.version for name in beside}
    assert 20 < list(beside.values()).count(new.version) < 60
    change(engine, percent=100)
    newest_by(engine, new.version)
    return [*behind, *beside]


def _champion_and_back(
    engine: Engine,
    worker: WorkerProcess,
    models: Models,
    old: ModelCard,
    new: ModelCard,
    record_property: Callable[[str, object], None],
) -> list[str]:
    change(engine, outcome="promoted")
    promote(engine, new.version)
    newest_by(engine, new.version)
    first = served(engine, worker, "promoted")
    began = promote(engine, old.version)
    newest_by(engine, old.version)
    took = time.monotonic() - began
    record_property("rollback_seconds", round(took, 2))
    print(f"rollback until the former model answers: {took:.2f} s")
    assert set(served(engine, worker, "back").values()) == {old.version}
    assert models.loaded == [old.version, new.version], "taken over, and kept: neither was loaded again"
    return [*first, *names("back", 40)]


def _dying(engine: Engine, worker: WorkerProcess, models: Models, old: ModelCard, new: ModelCard) -> list[str]:
    models.dying.add(new.version)
    rollout_id = rollout(engine, new.version, old.version, "canary", 100)
    wait_until(lambda: said(engine, rollout_id) == "failed", SECONDS, "nobody says that it failed")
    found = served(engine, worker, "dying")
    assert set(found.values()) == {old.version}, "the champion answers what the challenger cannot"
    return [*found]


def test_the_same_requests_stay_a_canarys_when_its_share_grows_and_are_others_in_the_next() -> None:
    ids = names("r", 4000)
    serving: Any = None
    taken = {share: {name for name in ids if Arm(serving, 1, share).takes(name)} for share in (0.0, 0.1, 0.5, 1.0)}
    assert taken[0.0] == set()
    assert taken[0.1] < taken[0.5] < taken[1.0] == set(ids)
    assert len(taken[0.1]) == pytest.approx(400, abs=80)
    again = {name for name in ids if Arm(serving, 2, 0.1).takes(name)}
    assert len(again & taken[0.1]) == pytest.approx(40, abs=30)


def test_a_challenger_that_takes_other_inputs_or_gives_other_classes_is_told(tmp_path: Path) -> None:
    old, new = card(tmp_path / "old", 0.5), card(tmp_path / "new", 0.4)
    assert different_inputs(old, new) is None
    assert different_inputs(old, card(tmp_path / "b", 0.5, ("yes", "maybe"))) == "its labels are not the champion's"
