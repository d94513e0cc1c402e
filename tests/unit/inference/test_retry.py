from __future__ import annotations

import itertools
import random
from collections.abc import Iterator

import pytest

from inference.backoff import delays
from inference.errors import StoppingError
from inference.retry import Stop, until_done


def test_delays_double_up_to_a_bound_with_jitter() -> None:
    found = list(itertools.islice(delays(0.2, 5.0, rng=random.Random(1)), 8))
    for delay, full in zip(found, (0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0, 5.0), strict=True):
        assert full / 2 <= delay <= full


def test_an_action_is_tried_until_it_succeeds() -> None:
    failures: list[str] = []
    outcomes: Iterator[str | OSError] = iter([OSError(), OSError(), "done"])

    def action() -> str:
        outcome = next(outcomes)
        if isinstance(outcome, OSError):
            raise outcome
        return outcome

    assert until_done(action, name="a", on=(OSError,), stop=Stop(5.0), failed=failures.append) == "done"
    assert failures == ["a", "a"]


def test_other_exceptions_pass() -> None:
    with pytest.raises(ZeroDivisionError):
        until_done(lambda: 1 // 0, name="a", on=(OSError,), stop=Stop(5.0))


def test_a_stop_ends_the_trying_at_its_deadline_not_before() -> None:
    now = [0.0]
    stop = Stop(10.0, clock=lambda: now[0])
    tried = []

    def action() -> None:
        tried.append(now[0])
        now[0] += 4.0
        stop.request()
        raise OSError

    with pytest.raises(StoppingError):
        until_done(action, name="a", on=(OSError,), stop=stop)
    assert tried == [0.0, 4.0, 8.0, 12.0]  # asked to stop at 4, left at 14
