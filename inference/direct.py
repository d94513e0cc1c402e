"""Decoded requests to predictions in one call: for training, which has no stages around its model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from inference.collate import collate
from inference.judge import predictions
from inference.model_io import ModelInput, ModelOutput
from inference.models.card import ModelCard
from inference.outcome import Prediction

Run = Callable[[ModelInput], ModelOutput]


class DirectPredictor:
    """Prepares, runs and judges; `run` is `Predictor.run` or `ModelProcess.run`."""

    def __init__(self, card: ModelCard, run: Run) -> None:
        self._card = card
        self._run = run

    def predict(self, inputs: Sequence[Mapping[str, Any]]) -> list[Prediction]:
        """Predict N requests, each a mapping from its present modalities (one at least) to their decoded values.

        Raises what `run` raises.
        """
        if not inputs:
            return []
        rows = [self._card.prepare(values) for values in inputs]
        return predictions(self._card, rows, self._run(collate(rows, self._card.blanks)))
