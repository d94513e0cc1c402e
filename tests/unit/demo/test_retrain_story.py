"""The closed loop's story: its settings exist, its table tells what broke off, its weaker version lies between two."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from rich.console import Console

from demo import retrain_story, weaker
from demo.deployment import CHECKPOINT, fill_store
from demo.examples import example_stream
from demo.results import Results, StepResult
from demo.retrain_stage import Loop, settings
from demo.stage import Pace, Stage
from demo.view import View
from inference.models.checkpoint import load_checkpoint
from inference.settings import WorkerSettings
from inference.stores.local import LocalFolder
from inference.trainer_settings import TrainerSettings
from inference.training.store import Messages
from monitor.settings import MonitorSettings


def test_every_setting_of_the_story_is_one_of_a_program(tmp_path: Path) -> None:
    known = (
        MonitorSettings.model_fields.keys() | TrainerSettings.model_fields.keys() | WorkerSettings.model_fields.keys()
    )
    assert settings(tmp_path).keys() <= known


def loop() -> Loop:
    stage = cast(Any, Stage)(*[None] * 5, View(Console(quiet=True)), None, None, 7, Pace(), Results())
    return Loop(stage, cast(Any, None), cast(Any, None))


def test_a_step_that_breaks_off_is_told_and_the_others_are_played(monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(_loop: Loop, _result: StepResult) -> None:
        raise RuntimeError("no job was queued")

    def holds(_loop: Loop, result: StepResult) -> None:
        result.expect("one champion", True, 1)

    monkeypatch.setattr(retrain_story, "STORY", (("first", breaks), ("second", holds)))
    results = retrain_story.play(loop())
    assert [step.met for step in results.steps] == [False, True]
    assert "no job was queued" in results.steps[0].expectations[0].found
    assert not results.met


def test_a_mixture_of_two_versions_begins_at_the_one_and_ends_at_the_other() -> None:
    first, last = (load_checkpoint(CHECKPOINT, torch.device("cpu")) for _ in range(2))
    with torch.no_grad():
        for weight in last.model.parameters():
            weight.add_(1.0)
    for share in (0.0, 0.25, 1.0):
        mixed = weaker._between(first, last, share).state_dict()
        for name, start in first.model.named_parameters():
            assert torch.allclose(mixed[name], start + share, atol=1e-5)


def test_a_frozen_set_is_written_as_the_team_keeps_its_messages(tmp_path: Path) -> None:
    fill_store(tmp_path, example_stream(3), 5, "test")
    kept = Messages(LocalFolder(tmp_path))
    expected = [each.label.name.lower() for each in islice(example_stream(3), 5)]
    assert list(kept.labels().values()) == expected
    assert all(kept.fetch(request_id) for request_id in kept.labels())
