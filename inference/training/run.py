"""One training run, step by step: what is learnt from a batch, and everything that a later step depends on."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from inference.models.int8 import is_quantised
from inference.models.preprocess import Preprocessor
from inference.training.balance import coefficients, modulate, normalise
from inference.training.data import LabelledExample
from inference.training.feed import Feed
from inference.training.fit_settings import FitError, FitSettings
from inference.training.groups import encoder_parameters, freeze, parameter_groups, rate_factor
from inference.training.objective import Objective, Teacher, Terms
from inference.training.team import Team

BETAS = (0.9, 0.98)
_MOMENTS = ("exp_avg", "exp_avg_sq", "step")


class Run:
    """Trains `model` in place. All randomness of a step comes from seed and step, so that a run can be taken up again.

    Every process of a team holds the same model and makes the same steps.
    """

    def __init__(
        self,
        model: nn.Module,
        preprocessor: Preprocessor,
        examples: Sequence[LabelledExample],
        settings: FitSettings,
        encoders: Mapping[str, str],
        team: Team,
        teacher: Teacher | None = None,
    ) -> None:
        """`encoders` maps modalities to the prefixes of their encoders' parameters.

        Raises FitError: no examples, a model in int8, `frozen` names nothing, or the settings speak of encoders and
        there are none.
        """
        if not encoders and (settings.thaw or settings.balance != "none" or settings.encoder_rate != 1.0):
            raise FitError("fit: thaw, balance and encoder_rate need to know the model's encoders")
        if is_quantised(model):
            raise FitError("fit: the model is in int8, which cannot learn; train the checkpoint that it was made of")
        self.model = model
        self.settings = settings
        self.team = team
        self.step = 0
        self._rows = len(examples)
        self._encoders = dict(encoders)
        self._feed = Feed(examples, preprocessor, settings, team)
        self._objective = Objective(model, settings, team, teacher)
        freeze(model, settings.frozen)
        rate = settings.encoder_rate
        prefixes = tuple(encoders.values()) if rate != 1.0 else ()
        groups = parameter_groups(model, settings.weight_decay, prefixes, rate)
        self._optimiser = torch.optim.AdamW(groups, lr=settings.learning_rate, betas=BETAS)
        self._parts = encoder_parameters(model, encoders)
        self._frozen: tuple[str, ...] | None = None
        self._together: nn.Module = self._objective
        self._stack = ExitStack()

    def __enter__(self) -> Run:
        self._stack.enter_context(self._feed)
        self.model.train()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stack.close()
        self.model.requires_grad_(True).eval()

    @property
    def epoch(self) -> float:
        """How often every example was drawn, on average."""
        return self.step * self.settings.batch_size / self._rows

    def advance(self, done: float) -> float:
        """Make one step; `done` (0 to 1) is how far the learning rate's course has come. Returns the batch's loss.

        Raises FloatingPointError: the loss is not finite.
        """
        self._thaw()
        settings, step = self.settings, self.step
        rate = settings.learning_rate * rate_factor(step, done, settings.warmup)
        for group in self._optimiser.param_groups:
            group["lr"] = rate * group["factor"]
        batch, labels = self._feed(step)
        # dropout differs between processes, but not between a run and the same run taken up again
        torch.manual_seed(_seed(settings.seed, 3, step, self.team.rank))
        terms: Terms = self._together(batch, labels)
        loss = float(self.team.total(terms.loss.detach())) / self.team.size
        if not math.isfinite(loss):
            raise FloatingPointError(f"training loss is {loss}; lower the learning rate or check the labels")
        self._optimiser.zero_grad(set_to_none=True)
        terms.loss.backward()
        self._balance(terms.scores)
        nn.utils.clip_grad_norm_(self.model.parameters(), settings.clip)
        self._optimiser.step()
        self.step += 1
        return loss

    def state(self) -> dict[str, Tensor]:
        """All that later steps depend on, by name, on the CPU: weights, the optimiser's moments, the step."""
        tensors = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        for name, parameter in self.model.named_parameters():
            if moments := self._optimiser.state.get(parameter):
                tensors |= {f"{key}.{name}": moments[key] for key in _MOMENTS}
        found = {name: value.detach().to("cpu", copy=True).contiguous() for name, value in tensors.items()}
        return found | {"at": torch.tensor(self.step)}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on from what `state` gave. Raises RuntimeError or KeyError where it is another model's."""
        own = {name.removeprefix("model."): value for name, value in state.items() if name.startswith("model.")}
        self.model.load_state_dict(own)
        for name, parameter in self.model.named_parameters():
            if f"step.{name}" in state:
                moments: dict[str, Any] = {key: state[f"{key}.{name}"].clone() for key in _MOMENTS}
                for key in ("exp_avg", "exp_avg_sq"):
                    moments[key] = moments[key].to(parameter.device)
                self._optimiser.state[parameter] = moments
        self.step = int(state["at"])

    def _thaw(self) -> None:
        """Freeze what keeps its values at this step; a team's wrapper must know, as it waits for every gradient."""
        encoders = tuple(self._encoders.values()) if self.step < self.settings.thaw else ()
        frozen = (*self.settings.frozen, *encoders)
        if frozen == self._frozen:
            return
        freeze(self.model, frozen)
        self._frozen = frozen
        if self.team.size > 1:
            self._together = DistributedDataParallel(self._objective, find_unused_parameters=True)

    def _balance(self, scores: Tensor) -> None:
        settings = self.settings
        if settings.balance == "normalised":
            normalise(self._parts)
        elif settings.balance == "modulated":
            names = sorted(self._parts)
            if len(scores) != len(names):
                raise FitError("fit: modulated balance needs a head for each modality, which this family lacks")
            named = dict(zip(names, scores.tolist(), strict=True))
            generator = torch.Generator().manual_seed(_seed(settings.seed, 4, self.step))
            modulate(self._parts, coefficients(named, settings.balance_strength), generator)


def _seed(*parts: int) -> int:
    return int(np.random.default_rng(parts).integers(2**31))
