"""Cores kept for the model: a forward pass whose core the worker's threads take turns on loses a tenth and more."""

from __future__ import annotations

import os


def available() -> int:
    """How many cores this thread may run on."""
    return len(os.sched_getaffinity(0))


def reserve(count: int) -> tuple[int, ...]:
    """Keep this thread, and whatever it starts from now on, off `count` of its cores; returns these.

    A process that `stay_on` them has them to itself. Raises ValueError where no core would be left.
    """
    cores = sorted(os.sched_getaffinity(0))
    if not count:
        return ()
    if count >= len(cores):
        raise ValueError(f"{count} of {len(cores)} cores cannot be kept for the model: the worker needs one")
    os.sched_setaffinity(0, cores[:-count])
    return tuple(cores[-count:])


def stay_on(cores: tuple[int, ...]) -> None:
    """Keep this thread, and whatever it starts from now on, on these cores; anywhere, where there are none."""
    if cores:
        os.sched_setaffinity(0, cores)
