"""A short run of the fuzzer: nothing crashes, hangs or grows; what the fuzzer itself would miss shows too."""

from __future__ import annotations

from random import Random

import pytest

from migrations.connect import connect
from tests.fuzz import targets
from tests.fuzz.mutate import mutated
from tests.fuzz.run import fuzz
from tests.fuzz.targets import Target

INPUTS = 2000


def test_parsers_decoders_settings_and_api_stand_whatever_comes(database: str) -> None:
    engine = connect(database, application="test")
    chosen = [*targets.parsers(), *targets.decoders(), targets.settings(), targets.api(engine)]
    found = list(fuzz(chosen, INPUTS, seed=7))
    engine.dispose()
    assert sum(target.share for target in chosen) == pytest.approx(1)
    assert {each.target for each in found} >= {"request", "label", "observation", "image", "text", "settings", "api"}


def test_good_inputs_and_bad_ones_are_both_met() -> None:
    random, seeds = Random(1), [b'{"a": 1}']
    made = [mutated(random, seeds) for _ in range(500)]
    assert seeds[0] in made
    assert len(set(made)) > 300


def test_a_target_that_breaks_its_promise_is_told_with_the_input() -> None:
    def check(data: bytes) -> None:
        if b"\xff" in data:
            raise ValueError("met")

    with pytest.raises(AssertionError, match=r"fragile: ValueError: met\ninput: [0-9a-f]*ff"):
        list(fuzz([Target("fragile", 1, [b"abc"], check)], 5000, seed=1))
