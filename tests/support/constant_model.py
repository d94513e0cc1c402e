"""A worker whose model is no process: what remains is everything else, and it starts without loading torch.

`python -m tests.support.constant_model worker` is `fusionwatch-inference worker` with such a model.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from inference import cli
from inference.model_io import ModelDiedError, ModelInput, ModelOptions, ModelOutput
from inference.models.card import load_card
from inference.serving import Serving


class ConstantModel:
    """A model process's interface: each class is as probable as any other."""

    pid = None
    alive = True

    def __init__(self, classes: int, going: threading.Event, dying: Callable[[], bool] = lambda: False) -> None:
        """It answers while `going` is set; until then a forward pass takes as long as that takes.

        While it is `dying`, each pass is its last.
        """
        self._classes = classes
        self._going = going
        self._dying = dying
        self._waiting: deque[int] = deque()

    @property
    def outstanding(self) -> int:
        return len(self._waiting)

    def submit(self, batch: ModelInput) -> None:
        self._waiting.append(len(batch))

    def result(self, timeout: float | None = None) -> ModelOutput:
        if not self._going.wait(timeout):
            raise ModelDiedError("a test held it for too long")
        if self._dying():
            self._waiting.clear()
            raise ModelDiedError("a test killed it")
        rows = self._waiting.popleft()
        return ModelOutput(
            probabilities=np.full((rows, self._classes), 1 / self._classes, np.float32),
            embeddings={},
            agreement=np.full(rows, -1, np.int8),
            skipped=np.zeros(rows, np.bool_),
            encode_ms={"all": 0.1},
            fuse_ms=0.1,
        )

    def restart(self) -> None:
        self._waiting.clear()

    def close(self) -> None:
        self._waiting.clear()


class Models:
    """The models of all workers of this process."""

    def __init__(self) -> None:
        self._going = threading.Event()
        self._going.set()
        self.dying: set[str] = set()
        self.loaded: list[str] = []

    def load(self, folder: Path, _options: ModelOptions) -> Serving:
        """Stands for `inference.serving.load`."""
        card = load_card(folder)
        self.loaded.append(card.version)
        model: Any = ConstantModel(len(card.labels), self._going, lambda: card.version in self.dying)
        return Serving(card, None, model)

    @contextmanager
    def held(self) -> Iterator[None]:
        """No forward pass ends before this is left."""
        self._going.clear()
        try:
            yield
        finally:
            self._going.set()


@contextmanager
def constant_models() -> Iterator[Models]:
    """While this lasts, workers that are started in this process get a constant model."""
    models = Models()
    with mock.patch("inference.wiring.load", models.load):
        yield models


if __name__ == "__main__":
    with constant_models():
        cli.main()
