"""Cores kept for the model. Affinity is a thread's own: each test has one, so that pytest's stays as it is."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import pytest

from inference import cores

Result = TypeVar("Result")
ALL = sorted(os.sched_getaffinity(0))


def apart(action: Callable[[], Result]) -> Result:
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(action).result()


def mine() -> list[int]:
    return sorted(os.sched_getaffinity(0))


def test_what_a_thread_starts_stays_off_the_kept_cores_and_the_model_on_them() -> None:
    def worker() -> tuple[tuple[int, ...], list[int], int]:
        kept = cores.reserve(len(ALL) - 1)
        return kept, apart(mine), cores.available()

    def model() -> list[int]:
        cores.stay_on(tuple(ALL[-1:]))
        return apart(mine)

    assert apart(worker) == (tuple(ALL[1:]), ALL[:1], 1)
    assert apart(model) == ALL[-1:]


def test_by_default_all_cores_are_shared() -> None:
    def both() -> list[int]:
        cores.stay_on(cores.reserve(0))
        return mine()

    assert apart(both) == ALL


def test_the_worker_needs_a_core() -> None:
    with pytest.raises(ValueError, match="the worker needs one"):
        apart(lambda: cores.reserve(len(ALL)))
