"""What a model goes by in one request: where it looks, whom its gate trusts, and what it would say with less.

Attention is the family's own, not a proof of cause; what the answer becomes without a modality is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inference.direct import DirectPredictor
from inference.models.checkpoint import Checkpoint
from inference.outcome import Prediction
from inference.predictor import Predictor

PAIR = ("image", "text")
WORDS = 6
"""Tokens that get a picture of their own."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Look:
    """Attention of P patches to T tokens, each patch's a sum of 1; patches lie in rows of `columns`."""

    columns: int
    tokens: tuple[str, ...]
    weights: Floats

    @property
    def by_token(self) -> Floats:
        """(T,) the mean over patches: how much of the picture looks at each token."""
        means: Floats = self.weights.mean(axis=0)
        return means

    @property
    def decided(self) -> Floats:
        """(P,) from 0, a patch that looks at all tokens alike, to 1, one that looks at a single one (by entropy)."""
        logs = np.log(np.maximum(self.weights, 1e-12))
        found: Floats = 1.0 + (self.weights * logs).sum(axis=1) / math.log(max(2, len(self.tokens)))
        return found

    def strongest(self, special: Sequence[str] = ("[CLS]", "[SEP]", "[PAD]")) -> list[int]:
        """The numbers of the tokens that single patches look at most, in the text's order."""
        words = [number for number, token in enumerate(self.tokens) if token not in special]
        best = sorted(words, key=lambda number: -float(self.weights[:, number].max()))[:WORDS]
        return sorted(best)


@dataclass(frozen=True, slots=True)
class Without:
    """The answer where one modality is taken away; `lost` is by how much the first answer's probability fell."""

    modality: str
    label: str
    confidence: float
    lost: float


@dataclass(frozen=True, slots=True)
class Explanation:
    """One request's answer and what it rests on; `note` says why there is no look, where there is none."""

    version: str
    family: str
    present: tuple[str, ...]
    label: str
    confidence: float
    probabilities: Mapping[str, float]
    look: Look | None
    gate: Mapping[str, float]
    without: tuple[Without, ...]
    note: str | None


class UnexplainedError(Exception):
    """The model's answer to the request is not finite; there is nothing to explain."""


def explain(checkpoint: Checkpoint, values: Mapping[str, Any]) -> Explanation:
    """Of one request, `values` its decoded modalities, one at least. Raises UnexplainedError."""
    device = next(checkpoint.model.parameters()).device
    predictor = DirectPredictor(checkpoint.card, Predictor(checkpoint, device, attention=True).run)
    names = sorted(values)
    fewer = [{name: values[name] for name in names if name != left} for left in names] if len(names) > 1 else []
    whole, *rest = predictor.predict([values, *fewer])
    if whole.label is None or whole.probabilities is None or whole.confidence is None:
        raise UnexplainedError(f"the model's answer is not finite ({whole.error})")
    number = whole.classes.index(whole.label)
    told = Explanation(
        version=checkpoint.version,
        family=checkpoint.family.name.removeprefix("fusion_"),
        present=tuple(names),
        label=whole.label,
        confidence=whole.confidence,
        probabilities=dict(zip(whole.classes, whole.probabilities.tolist(), strict=True)),
        look=None,
        gate={},
        without=tuple(_without(left, each, whole.confidence, number) for left, each in zip(names, rest, strict=False)),
        note=None,
    )
    return _attended(told, checkpoint, values, whole.attention)


def _without(modality: str, prediction: Prediction, confidence: float, number: int) -> Without:
    if prediction.probabilities is None or prediction.label is None or prediction.confidence is None:
        raise UnexplainedError(f"the model's answer without {modality} is not finite ({prediction.error})")
    return Without(
        modality, prediction.label, prediction.confidence, confidence - float(prediction.probabilities[number])
    )


def _attended(
    told: Explanation, checkpoint: Checkpoint, values: Mapping[str, Any], attention: NDArray[np.float16] | None
) -> Explanation:
    """With the gate's weights, or the look at the text, or why there is neither."""
    if attention is None:
        return replace(told, note=f"The family {told.family} has no attention and no gate.")
    if len(attention) == 1:
        names = (*checkpoint.card.modalities, "joint")
        gate = dict(zip(names, attention[0].astype(float).tolist(), strict=False))
        return replace(told, gate=gate, note=f"The family {told.family} has no attention: it weighs answers by a gate.")
    if not set(PAIR) <= values.keys():
        return replace(told, note="One modality alone: nothing looks at anything else.")
    ids = checkpoint.card.prepare({"text": values["text"]})["text"].inputs["input_ids"].tolist()
    tokens = tuple(str(checkpoint.preprocessor.tokenizer.id_to_token(each)) for each in ids)
    columns = math.isqrt(len(attention))
    # a class token, and others that stand for no place in the picture, come first
    places = attention[len(attention) - columns**2 :, : len(tokens)].astype(np.float64)
    return replace(told, look=Look(columns, tokens, places / np.maximum(places.sum(axis=1, keepdims=True), 1e-12)))
