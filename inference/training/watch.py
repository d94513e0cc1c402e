"""Looks at validation rows while a run goes on: keeps the best weights, stops early, and saves what it goes on from."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from inference.models.preprocess import Preprocessor
from inference.training.annotated import AnnotatedExamples
from inference.training.data import targets
from inference.training.evaluate import predict_logits
from inference.training.keep import Kept, OutputFolder
from inference.training.run import Run
from inference.training.team import Team

EARLY = "early"
_CPU = torch.device("cpu")


@dataclass(frozen=True, slots=True)
class Look:
    """What one look saw: mean training loss since the one before, loss and accuracy on the validation rows.

    `epoch` is how often every training row was drawn until then, on average.
    """

    step: int
    epoch: float
    loss: float
    validation_loss: float
    validation_accuracy: float


class Watch:
    """Called before a run's first step and after each; every process of a team has one and comes to the same ends."""

    def __init__(
        self,
        folder: OutputFolder,
        validation: AnnotatedExamples,
        preprocessor: Preprocessor,
        team: Team,
        *,
        every: int,
        patience: int,
        save_every: int,
        told: Callable[[Look], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`validation` are all rows; each process looks at its share of them."""
        self._folder = folder
        self._preprocessor = preprocessor
        self._team = team
        self._every, self._patience, self._save_every = every, patience, save_every
        self._told = told
        self._rows = len(validation)
        self._mine = AnnotatedExamples(validation.rows[team.mine], validation.names)
        self._losses: list[float] = []
        self._best: dict[str, Tensor] = {}
        self._run: Run | None = None
        self._clock = clock
        self._started = clock()
        self.looks: list[Look] = []

    @property
    def best(self) -> Look | None:
        """The look with the lowest validation loss, the first of equals."""
        return min(self.looks, key=lambda look: look.validation_loss, default=None)

    @property
    def seconds(self) -> float:
        """Training took so long, earlier processes' share included."""
        return self._clock() - self._started

    def before(self, run: Run) -> str | None:
        """Take up what was saved last, if anything was; says `early` where that run had ended so."""
        self._run = run
        kept = self._folder.load()
        if kept is None:
            return None
        run.restore(kept.tensors)
        self._best = {
            name.removeprefix("best."): value for name, value in kept.tensors.items() if name.startswith("best.")
        }
        self.looks = [Look(**each) for each in kept.facts["looks"]]
        self._losses = list(kept.facts["losses"])
        self._started -= float(kept.facts["seconds"])
        return self._ended()

    def after(self, run: Run, loss: float) -> str | None:
        """Look and save where it is time to; says `early` where nothing has got better for long enough."""
        self._losses.append(loss)
        ended = None
        if run.step % self._every == 0 or run.step == run.settings.steps:
            ended = self._look(run)
        if run.step % self._save_every == 0 or run.step == run.settings.steps or ended:
            self.save()
        return ended

    def save(self) -> None:
        """Keep the run's state, as the leader."""
        if self._team.leads and self._run is not None:
            tensors = self._run.state() | {f"best.{name}": value for name, value in self._best.items()}
            looks = [asdict(look) for look in self.looks]
            self._folder.save(Kept(tensors, {"looks": looks, "losses": self._losses, "seconds": self.seconds}))

    def load_best(self, model: nn.Module) -> None:
        """Give the model the weights of the best look."""
        if self._best:
            model.load_state_dict(self._best)

    def _look(self, run: Run) -> str | None:
        labels = targets(self._mine, _CPU)
        if len(self._mine):
            logits = predict_logits(run.model, self._preprocessor, self._mine)
            loss = float(functional.cross_entropy(logits, labels, reduction="sum"))
            right = float((logits.argmax(1) == labels).sum())
        else:
            loss = right = 0.0
        run.model.train()
        total = self._team.total(torch.tensor([loss, right], dtype=torch.float32, device=self._team.device)).tolist()
        self.looks.append(
            Look(
                run.step,
                run.epoch,
                sum(self._losses) / len(self._losses),
                total[0] / self._rows,
                total[1] / self._rows,
            )
        )
        self._losses = []
        if self.best is self.looks[-1]:
            self._best = {name: value.detach().to("cpu", copy=True) for name, value in run.model.state_dict().items()}
        if self._team.leads:
            self._told(self.looks[-1])
        return self._ended()

    def _ended(self) -> str | None:
        best = self.best
        waited = 0 if best is None else len(self.looks) - 1 - self.looks.index(best)
        return EARLY if waited >= self._patience > 0 else None
