"""What a later attempt of a job goes on from: the state of the fit, saved now and then by each attempt on its own."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from inference.training.keep import FolderError, Kept, OutputFolder
from inference.training.run import Run

_log = logging.getLogger(__name__)


class States:
    """The states of one job's attempts, in folders of their own below `folder`, which all its trainers see.

    An attempt writes into its own folder only: a trainer that lost its lease and does not know it yet overwrites
    nothing that its successor has saved.
    """

    def __init__(self, folder: Path, job_id: int, attempt: int) -> None:
        self._folder = folder / f"job-{job_id}-state"
        self._own = OutputFolder(self._folder / f"attempt-{attempt}")

    def newest(self, identity: str) -> Kept | None:
        """The furthest state of the same data and settings; None without one. What cannot be read is left."""
        found = []
        for path in sorted(self._folder.glob("attempt-*")):
            try:
                kept = OutputFolder(path).load()
            except FolderError as error:
                _log.warning("%s; left", error)
                continue
            if kept is not None and kept.facts.get("identity") == identity:
                found.append(kept)
        return max(found, key=lambda kept: int(kept.tensors["at"]), default=None)

    def save(self, kept: Kept) -> None:
        """Keep this attempt's state; a kill leaves the one before."""
        self._own.path.mkdir(parents=True, exist_ok=True)
        self._own.save(kept)

    def clear(self) -> None:
        """Drop the states of every attempt."""
        shutil.rmtree(self._folder, ignore_errors=True)


@dataclass(slots=True)
class Saver:
    """Takes a run up where a state is given, and saves it every so many steps, as the leader of its team."""

    states: States
    identity: str
    every: int
    taken_up: Kept | None
    seconds: Callable[[], float]
    run: Run | None = None

    @property
    def spent(self) -> float:
        """Seconds that earlier attempts trained."""
        return 0.0 if self.taken_up is None else float(self.taken_up.facts["seconds"])

    @property
    def step(self) -> int:
        """The step to go on from."""
        return 0 if self.taken_up is None else int(self.taken_up.tensors["at"])

    def before(self, run: Run) -> None:
        """For `fit`: weights, the optimiser's moments and the step as they were."""
        self.run = run
        if self.taken_up is not None:
            run.restore(self.taken_up.tensors)

    def after(self, run: Run, _loss: float) -> None:
        """For `fit`: save where it is time to."""
        if run.step % self.every == 0 or run.step == run.settings.steps:
            self.save()

    def save(self) -> None:
        """Keep the state of now."""
        if self.run is not None and self.run.team.leads:
            facts = {"identity": self.identity, "seconds": round(self.seconds(), 3)}
            self.states.save(Kept(self.run.state(), facts))
