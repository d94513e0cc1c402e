"""A whole training run: rows in; a sealed checkpoint with its temperature and baseline, and a report on it, out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from inference.training.config import TrainConfig
from inference.training.finish import finish
from inference.training.fit import FitResult, fit
from inference.training.keep import OutputFolder
from inference.training.mlflow_run import STOPPED
from inference.training.objective import Teacher
from inference.training.plan import Plan, plan
from inference.training.team import Team
from inference.training.tracking import UNTRACKED, Tracker, followed
from inference.training.watch import Look, Watch


class Tell(Protocol):
    """Who is told how far the run has come; only the leader of a team tells."""

    def phase(self, name: str) -> None:
        """Something else begins."""
        ...

    def step(self, step: int, steps: int, loss: float) -> None:
        """A step was made."""
        ...

    def look(self, look: Look) -> None:
        """The validation rows were looked at."""
        ...


@dataclass(frozen=True, slots=True)
class Trained:
    """How it ended: the version and the report of a finished run; neither where it was stopped, or not the leader."""

    ended: str
    steps: int
    version: str | None = None
    report: dict[str, Any] | None = None


def train(
    config: TrainConfig,
    team: Team,
    tell: Tell,
    should_stop: Callable[[], bool],
    *,
    force: bool,
    tracker: Tracker = UNTRACKED,
) -> Trained:
    """Train as the configuration says, or go on where an earlier run of it was stopped or killed.

    Raises AnnotationsError, ConfigError, FolderError, TrackingError: nothing was begun. FloatingPointError: the loss is
    not finite.
    """
    if team.leads:
        tell.phase("reading annotations")
    planned, folder = plan(config), OutputFolder(config.output)
    if team.leads:
        folder.open(config, planned.rows, force=force)
    team.wait()

    def seen(look: Look) -> None:
        tell.look(look)
        tracker.look(look)

    with followed(tracker, config, folder):
        watch = _watch(planned, folder, team, seen)
        fitted = _fit(planned, watch, team, tell, should_stop)
        if fitted.ended == "stopped":
            tracker.end(STOPPED)
        if fitted.ended == "stopped" or not team.leads:
            return Trained(fitted.ended, fitted.steps)
        report = finish(planned, folder, team.device, fitted, watch, tell.phase)
        tracker.finish(report)
    return Trained(fitted.ended, fitted.steps, report["version"], report)


def _watch(planned: Plan, folder: OutputFolder, team: Team, told: Callable[[Look], None]) -> Watch:
    training = planned.config.training
    return Watch(
        folder,
        planned.sets["validation"],
        planned.built.preprocessor,
        team,
        every=training.evaluate_every,
        patience=training.patience,
        save_every=training.save_every,
        told=told,
    )


def _fit(planned: Plan, watch: Watch, team: Team, tell: Tell, should_stop: Callable[[], bool]) -> FitResult:
    if team.leads:
        tell.phase("training")
    config: Any = planned.built.model.config
    built, teacher, how = planned.built, planned.teacher, planned.config.distill
    fitted = fit(
        built.model.to(team.device),
        built.preprocessor,
        planned.sets["train"],
        planned.settings,
        encoders=built.family.encoders_of(config),
        team=team,
        teacher=None if teacher is None else Teacher(teacher.model.to(team.device), how.temperature, how.weight),
        before=watch.before,
        after=watch.after,
        progress=tell.step if team.leads else None,
        should_stop=should_stop,
    )
    if fitted.ended == "stopped":
        watch.save()
    watch.load_best(built.model)
    return fitted
