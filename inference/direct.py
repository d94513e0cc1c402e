"""Decoded requests to predictions in one call: for training, which has no pipeline around its model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from inference.collate import Row, collate
from inference.errors import Code
from inference.judge import failed, predictions
from inference.modalities.base import Modality, modalities
from inference.model_io import ModelFailedError, ModelInput, ModelOutput
from inference.models.card import ModelCard
from inference.outcome import Prediction

Run = Callable[[ModelInput], ModelOutput]


class DirectPredictor:
    """Prepares, runs and judges; `run` is `Predictor.run` or `ModelProcess.run`."""

    def __init__(self, card: ModelCard, run: Run) -> None:
        self._card = card
        self._run = run

    @property
    def modalities(self) -> Mapping[str, Modality]:
        """The model's."""
        return {name: modalities()[name] for name in self._card.modalities}

    def predict(self, inputs: Sequence[Mapping[str, Any]]) -> list[Prediction]:
        """Predict N requests, each a mapping from its present modalities (one at least) to their decoded values.

        A batch that the device cannot run (out of memory, for one) is split until the request that cannot be run
        stands alone; that one becomes an error, not an exception.
        """
        return self._predict([self._card.prepare(values) for values in inputs])

    def _predict(self, rows: Sequence[Row]) -> list[Prediction]:
        if not rows:
            return []
        try:
            output = self._run(collate(rows, self._card.blanks))
        except (RuntimeError, ModelFailedError):  # torch's class for whatever a device refuses, and the process's
            if len(rows) > 1:
                half = len(rows) // 2
                return self._predict(rows[:half]) + self._predict(rows[half:])
            return [failed(self._card, rows[0], Code.MODEL_FAILED)]
        return predictions(self._card, rows, output)
