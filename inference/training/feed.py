"""Makes batches ahead of the step that needs them: decoding, augmenting and tokenizing in threads."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from types import TracebackType

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from inference.model_io import ModelInput
from inference.models.base import ModalityBatch
from inference.models.preprocess import Preprocessor
from inference.models.tensors import Loader
from inference.training.augment import augmented
from inference.training.batches import Batches
from inference.training.data import LabelledExample, label_numbers, prepared
from inference.training.fit_settings import Augmentation, FitError, FitSettings
from inference.training.team import Team

MOST_THREADS = 8
"""Batches made at once, hence kept in memory."""

Ready = tuple[ModelInput, NDArray[np.int64], NDArray[np.float64]]


class Feed:
    """This process's share of each step's batch. What a step gets depends on seed and step alone."""

    def __init__(
        self, examples: Sequence[LabelledExample], preprocessor: Preprocessor, settings: FitSettings, team: Team
    ) -> None:
        """Raises FitError without examples, or where the batch cannot be shared equally."""
        if settings.batch_size % team.size:
            raise FitError(f"fit: a batch of {settings.batch_size} cannot be shared equally by {team.size} processes")
        self._examples = examples
        self._preprocessor = preprocessor
        self._settings = settings
        self._team = team
        self._batches = Batches(label_numbers(examples), settings.batch_size, settings.seed, settings.sampling)
        self._loader = Loader(preprocessor.image, team.device)
        self._ahead = min(MOST_THREADS, max(2, (os.cpu_count() or 1) // team.size))
        self._pool = ThreadPoolExecutor(self._ahead, thread_name_prefix="feed")
        self._waiting: dict[int, Future[Ready]] = {}

    def __enter__(self) -> Feed:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._pool.shutdown(cancel_futures=True)

    def __call__(self, step: int) -> tuple[dict[str, ModalityBatch], Tensor]:
        """The step's batch with some modalities taken away, and its labels (B,). Raises what decoding raises."""
        for each in range(step, min(step + self._ahead, max(self._settings.steps, step + 1))):
            if each not in self._waiting:
                self._waiting[each] = self._pool.submit(self._made, each)
        arrays, labels, fate = self._waiting.pop(step).result()
        batch = without_modalities(self._loader(arrays), self._settings.drop, fate)
        return batch, torch.from_numpy(labels).to(self._team.device)

    def _made(self, step: int) -> Ready:
        mine = self._team.mine
        numbers = self._batches(step)
        places = np.arange(len(numbers))[mine]
        examples = [self._example(int(numbers[place]), step, int(place)) for place in places]
        fate = np.random.default_rng([self._settings.seed, 1, step]).random(len(numbers))[mine]
        return prepared(examples, self._preprocessor), label_numbers(examples), fate

    def _example(self, number: int, step: int, place: int) -> LabelledExample:
        example, how = self._examples[number], self._settings.augment
        if how == Augmentation():
            return example
        return augmented(example, how, np.random.default_rng([self._settings.seed, 2, step, place]))


def without_modalities(
    batch: dict[str, ModalityBatch], share: float, fate: NDArray[np.float64]
) -> dict[str, ModalityBatch]:
    """Mark each modality as missing in a `share` of rows, by their `fate` (B,) in [0, 1), never a row's only one.

    Without it a model answers a request that lacks a modality with full confidence at chance accuracy.
    """
    names = sorted(batch)
    drawn = torch.from_numpy(fate).to(batch[names[0]].present.device)
    count = torch.stack([batch[name].present for name in names]).sum(0)
    dropped = {}
    for i, name in enumerate(names):
        lost = (drawn >= i * share) & (drawn < (i + 1) * share) & (count > 1)
        dropped[name] = replace(batch[name], present=batch[name].present & ~lost)
    return dropped
