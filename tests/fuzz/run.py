"""Feeds targets mutated inputs; ends at the first crash, at one that takes too long, or where memory grows."""

from __future__ import annotations

import faulthandler
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

from tests.fuzz.mutate import mutated
from tests.fuzz.targets import Target

LONGEST_SECONDS = 2.0  # of computing time, for one input of 20 kB
HANG_SECONDS = 120  # of wall time: then the process ends with every thread's stack
GROWTH_BYTES = 64 * 2**20  # from the first tenth of a target's inputs on, when caches are warm
_PAGE = 4096


@dataclass(frozen=True)
class Fuzzed:
    """What was run of one target; `seconds` of computing."""

    target: str
    inputs: int
    seconds: float
    longest: float
    grown: int


def fuzz(targets: Sequence[Target], inputs: int, seed: int) -> Iterator[Fuzzed]:
    """Share `inputs` among the targets. Raises AssertionError with the input, in hexadecimal, that broke a promise."""
    for target in targets:
        yield _fuzz(target, max(20, round(inputs * target.share)), Random(f"{seed} {target.name}"))


def _fuzz(target: Target, inputs: int, random: Random) -> Fuzzed:
    longest, warm, begun = 0.0, _resident(), time.process_time()
    try:
        for number in range(inputs):
            if number == inputs // 10:
                warm = _resident()
            if number % 1000 == 0:
                faulthandler.dump_traceback_later(HANG_SECONDS, exit=True)
            longest = max(longest, _check(target, mutated(random, target.seeds)))
    finally:
        faulthandler.cancel_dump_traceback_later()  # it would end the process long after this
    grown = _resident() - warm
    assert grown < GROWTH_BYTES, f"{target.name}: {grown / 2**20:.0f} MiB more after {inputs} inputs"
    return Fuzzed(target.name, inputs, time.process_time() - begun, longest, grown)


def _check(target: Target, data: bytes) -> float:
    """How many seconds of computing one input took."""
    started = time.process_time()
    try:
        target.check(data)
    except Exception as error:
        raise AssertionError(f"{target.name}: {type(error).__name__}: {error}\ninput: {data.hex()}") from error
    took = time.process_time() - started
    assert took < LONGEST_SECONDS, f"{target.name}: {took:.1f} s for {data.hex()}"
    return took


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE
