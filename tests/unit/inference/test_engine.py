"""Batches on a model that dies: whoever was not to blame gets an answer, and their own."""

from __future__ import annotations

from typing import Any

import pytest

from inference.collate import Row
from inference.engine import Engine
from inference.errors import Refusal
from inference.model_io import ModelDiedError, ModelInput, ModelOutput
from inference.outcome import Prediction
from inference.retry import Stop
from tests.support.local import LocalModel, LocalServing
from tests.unit.inference.tiny import tiny_card, tiny_model_predictor, tiny_predictor

CARD = tiny_card()
TEXTS = ("a", "bb", "ccc", "dddd", "eeeee")
EXPECTED = {text: tiny_predictor().predict([{"text": text}])[0].confidence for text in TEXTS}


class MortalModel(LocalModel):
    """Dead until it is started again."""

    def __init__(self) -> None:
        super().__init__(tiny_model_predictor())
        self.dead = False

    def submit(self, batch: ModelInput) -> None:
        self._require_life()
        super().submit(batch)

    def result(self, seconds: float | None = None) -> ModelOutput:
        self._require_life()
        return super().result(seconds)

    def restart(self) -> None:
        super().restart()
        self.dead = False

    def _require_life(self) -> None:
        if self.dead:
            raise ModelDiedError("dead")


def served() -> tuple[Any, MortalModel]:
    model = MortalModel()
    return LocalServing(CARD, model), model


def engine() -> Engine:
    return Engine(Stop(1.0), failed=lambda _: None, seconds=60.0)


def rows(*texts: str) -> list[Row]:
    return [CARD.prepare({"text": text}) for text in texts]


def assert_answered(found: list[Prediction | Refusal], *texts: str) -> None:
    assert [each.confidence for each in found if isinstance(each, Prediction)] == pytest.approx(
        [EXPECTED[text] for text in texts]
    )


def test_who_finds_a_process_dead_is_not_to_blame_for_it() -> None:
    engines, (serving, model) = engine(), served()
    model.dead = True
    ticket = engines.submit(serving, rows("a"))
    assert_answered(engines.collect(ticket), "a")
    assert model.restarts == 1


def test_batches_lost_with_their_process_are_run_again_in_order() -> None:
    engines, (serving, model) = engine(), served()
    tickets = [engines.submit(serving, rows(*texts)) for texts in (("a", "bb"), ("ccc",))]
    model.dead = True
    tickets.append(engines.submit(serving, rows("dddd")))
    for ticket, texts in zip(tickets, (("a", "bb"), ("ccc",), ("dddd",)), strict=True):
        assert_answered(engines.collect(ticket), *texts)


def test_a_model_that_dies_takes_none_of_its_successors_outputs_along() -> None:
    engines, (old, dying), (new, _) = engine(), served(), served()
    first = engines.submit(old, rows("a"))
    others = [engines.submit(new, rows(text)) for text in ("bb", "ccc")]
    dying.dead = True
    assert_answered(engines.collect(first), "a")
    others.append(engines.submit(new, rows("dddd")))
    for ticket, text in zip(others, ("bb", "ccc", "dddd"), strict=True):
        assert_answered(engines.collect(ticket), text)
