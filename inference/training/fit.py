"""Fine-tunes a fusion model on labelled examples, within a given number of steps and a given time."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from torch import nn

from inference.models.preprocess import Preprocessor
from inference.training.data import LabelledExample
from inference.training.fit_settings import FitSettings
from inference.training.objective import Teacher
from inference.training.run import Run
from inference.training.team import Team

Progress = Callable[[int, int, float], None]


@dataclass(frozen=True, slots=True)
class FitResult:
    """How a run went: steps done, mean loss of the last tenth, seconds, and why it ended."""

    steps: int
    loss: float
    seconds: float
    ended: str  # finished | deadline | stopped, or what `after` said


def fit(
    model: nn.Module,
    preprocessor: Preprocessor,
    examples: Sequence[LabelledExample],
    settings: FitSettings,
    *,
    encoders: Mapping[str, str] | None = None,
    team: Team | None = None,
    teacher: Teacher | None = None,
    before: Callable[[Run], str | None] | None = None,
    after: Callable[[Run, float], str | None] | None = None,
    progress: Progress | None = None,
    should_stop: Callable[[], bool] | None = None,
    spent: float = 0.0,
    clock: Callable[[], float] = time.monotonic,
) -> FitResult:
    """Fine-tune `model` in place and leave it in eval mode.

    `encoders` maps modalities to the prefixes of their encoders' parameters. The model learns from `teacher` too, where
    there is one. `before` may take up an earlier run, and
    `after` is called with each step's loss; either ends the run by saying why. `progress` gets (step, steps, loss)
    after each step; `should_stop` is asked before each. `spent` is what an earlier run took, in seconds.

    Raises:
        FitError: no examples, `frozen` names nothing, or the settings do not fit the model.
        FloatingPointError: the loss is not finite.
    """
    team = team or Team(next(model.parameters()).device)
    losses: list[float] = []
    with Run(model, preprocessor, examples, settings, encoders or {}, team, teacher) as run:
        over = None if before is None else before(run)
        started, ended = clock() - spent, over or "finished"
        while run.step < settings.steps and over is None:
            elapsed = clock() - started
            late = elapsed >= settings.deadline_s
            if team.any(late or (should_stop is not None and should_stop())):
                ended = "deadline" if late else "stopped"
                break
            done = max(run.step / settings.steps, elapsed / settings.deadline_s)
            losses.append(run.advance(done))
            if progress is not None:
                progress(run.step, settings.steps, losses[-1])
            if after is not None and (over := after(run, losses[-1])):
                ended = over
    tail = losses[-max(1, len(losses) // 10) :]
    mean = sum(tail) / len(tail) if tail else math.nan
    return FitResult(run.step, mean, clock() - started, ended)
