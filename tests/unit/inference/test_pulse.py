"""When a loop that does not come round counts as hanging, and that waiting for servers does not."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any
from unittest.mock import Mock

from sqlalchemy.exc import OperationalError

from inference.intake import Intake
from inference.loops import Loops
from inference.pulse import Pulse
from inference.retry import Stop


@dataclass
class Clock:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_loop_is_asked_for_nothing_before_its_first_beat_and_after_its_end() -> None:
    clock = Clock()
    pulse = Pulse("requests", 60, clock)
    clock.now += 1e6
    assert pulse.problem is None, "models take minutes to load"
    pulse.beat()
    clock.now += 60
    assert pulse.problem is None
    clock.now += 1
    assert pulse.problem == "requests has not come round for 61 s; 60 s are allowed"
    pulse.beat()
    assert pulse.problem is None
    clock.now += 1e6
    pulse.end()
    assert pulse.problem is None


def test_one_of_several_loops_that_hangs_is_the_programs_problem_until_it_ends() -> None:
    stop = Stop(0)
    loops = Loops(stop, liveness_seconds=0)
    released, beaten = threading.Event(), threading.Event()

    def hang() -> None:
        loops.pulse("labels").beat()
        beaten.set()
        assert released.wait(60)

    loops.start("labels", hang)
    assert beaten.wait(60)
    assert loops.problem is not None
    assert loops.problem.startswith("labels has not come round")
    assert loops.failure is None
    released.set()
    loops.join(60)
    assert loops.problem is None
    loops.run("requests", Mock(side_effect=ValueError))
    assert loops.problem == loops.failure == "requests ended by an error"


def test_a_loop_that_waits_for_its_database_is_healthy_however_long_that_takes() -> None:
    clock = Clock()
    pulse = Pulse("labels", 60, clock)
    others: Any = {"read_offsets": Mock(), "record_gaps": Mock(), "handle": Mock(), "observer": Mock()}
    intake = Intake(consumer=Mock(), name="label", stop=Stop(0), pulse=pulse, batch=1, **others)
    found, tries = [], iter(range(4))

    def write() -> str:
        found.append(pulse.problem)
        clock.now += 50  # what a try takes until it fails
        if next(tries) < 3:
            raise OperationalError("INSERT", {}, Exception())
        return "written"

    pulse.beat()
    assert intake.until_done(write, "writing labels") == "written"
    assert found == [None] * 4
    assert pulse.problem is None, "the last try took 50 s, all together 200"
