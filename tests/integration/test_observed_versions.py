"""Versions that are served elsewhere, as they are first seen: bounded, agreed about, never mixed up."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, func, select, update

from inference.errors import Code, Refusal
from inference.observations import Observation, parse
from inference.observed_versions import IDLE_SECONDS, Declared, Known, ObservedVersions
from inference.summarise import WindowSummaries
from migrations.schema.monitoring import audit_log, model_aliases, model_versions
from tests.support.observing import (
    SECONDS,
    observation,
    rows,
)
from tests.unit.inference.messages import packed


@pytest.fixture
def engine(database: str) -> Iterator[Engine]:
    engine = create_engine(database)
    yield engine
    engine.dispose()


def parsed(**changes: Any) -> Observation:
    found = parse(packed(observation("r", **changes)), 1_000_000)
    assert isinstance(found, Observation), found
    return found


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def versions(engine: Engine, declared: Declared = Declared(), *, most: int = 8, **more: Any) -> ObservedVersions:
    windows = WindowSummaries({}, 60, 8, "o1")
    return ObservedVersions(engine, "fusion", declared, windows, actor="observer:o1", most=most, **more)


def code(found: Known | Refusal) -> Code | None:
    return found.code if isinstance(found, Refusal) else None


def test_versions_in_use_are_bounded_and_one_that_fell_silent_makes_room(engine: Engine) -> None:
    clock = Clock()
    held = versions(engine, most=2, clock=clock)
    for name in ("v1", "v2"):
        assert code(held.find(parsed(model_version=name))) is None
    assert code(held.find(parsed(model_version="v3"))) is Code.TOO_MANY_VERSIONS
    assert rows(engine, select(func.count()).select_from(model_versions)) == [(2,)]
    clock.now = IDLE_SECONDS
    assert code(held.find(parsed(model_version="v2"))) is None
    assert code(held.find(parsed(model_version="v3"))) is None  # v1 had to go
    assert code(held.find(parsed(model_version="v1"))) is Code.TOO_MANY_VERSIONS
    clock.now = 2 * IDLE_SECONDS
    assert code(held.find(parsed(model_version="v1"))) is None
    assert rows(engine, select(func.count()).select_from(model_versions)) == [(3,)]


def test_a_message_that_is_refused_registers_nothing(engine: Engine) -> None:
    declared = Declared(classes=("yes", "no"))
    assert code(versions(engine).find(parsed(probabilities=None))) is Code.MODEL_VERSION_UNKNOWN
    assert code(versions(engine, declared).find(parsed(probabilities={"a": 1.0}))) is Code.CLASSES_DIFFER
    assert rows(engine, select(model_versions)) == rows(engine, select(model_aliases)) == []


def test_declared_classes_keep_their_order_and_need_no_answer_to_be_known(engine: Engine) -> None:
    found = versions(engine, Declared(classes=("yes", "no"))).find(parsed(probabilities=None))
    assert isinstance(found, Known)
    assert found.classes == ("yes", "no")
    after_restart = versions(engine).find(parsed())
    assert isinstance(after_restart, Known)
    assert after_restart.classes == ("yes", "no")
    assert code(versions(engine).find(parsed(probabilities={"a": 1.0}))) is Code.CLASSES_DIFFER


def test_a_version_of_another_model_is_not_taken(engine: Engine) -> None:
    assert code(versions(engine).find(parsed())) is None
    other = ObservedVersions(
        engine, "ranking", Declared(), WindowSummaries({}, 60, 8, "o2"), actor="observer:o2", most=8
    )
    assert code(other.find(parsed())) is Code.MODEL_VERSION_UNKNOWN


def test_observers_that_see_a_version_at_once_agree_about_it(engine: Engine) -> None:
    found: list[Known | Refusal] = []
    barrier = threading.Barrier(4)

    def look(classes: tuple[str, ...]) -> None:
        held = versions(engine, Declared(classes=classes))
        barrier.wait()
        found.append(held.find(parsed()))

    threads = [threading.Thread(target=look, args=(each,)) for each in 2 * [("yes", "no"), ("no", "yes")]]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=SECONDS)
    assert len({each.classes for each in found if isinstance(each, Known)}) == 1
    assert len(found) == 4
    assert len(rows(engine, select(model_versions))) == len(rows(engine, select(audit_log))) == 1


def champion(engine: Engine) -> list[Any]:
    return [tuple(row) for row in rows(engine, select(model_aliases.c.version))]


def test_the_newest_version_that_answers_is_champion_and_an_older_one_does_not_come_back(engine: Engine) -> None:
    held = versions(engine)
    for name in ("v1", "v2"):
        assert code(held.find(parsed(model_version=name))) is None
        assert champion(engine) == [(name,)]
    assert code(versions(engine).find(parsed(model_version="v1"))) is None  # as after a restart
    assert champion(engine) == [("v2",)]
    told = rows(engine, select(audit_log.c.action, audit_log.c.details["from"].astext).order_by(audit_log.c.audit_id))
    assert [tuple(row) for row in told] == [("adopt_champion", None), ("follow_champion", "v1")]


def test_a_version_that_is_served_here_stays_champion_beside_an_observed_one(engine: Engine) -> None:
    held = versions(engine)
    assert code(held.find(parsed(model_version="v1"))) is None
    with engine.begin() as connection:
        connection.execute(update(model_versions).values(family="cross_attention"))
    assert code(held.find(parsed(model_version="v2"))) is None
    assert champion(engine) == [("v1",)]
