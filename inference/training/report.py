"""Asks a finished checkpoint what it is worth: on rows as they are, and on rows that are changed on purpose."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, cast

import numpy as np
import torch

from inference.models.base import FusionModel, FusionOutput
from inference.models.checkpoint import Checkpoint
from inference.models.columns import SequenceSettings
from inference.models.preprocess import Preprocessor
from inference.training import measures
from inference.training.annotated import AnnotatedExamples
from inference.training.data import LabelledExample, collate
from inference.training.measures import Floats, Numbers, Share
from inference.training.objective import PAIR

BATCH = 64
SEED = 0
MOST_GROUPS = 50
"""Sources and languages that are told of."""

Change = Callable[[LabelledExample, int], LabelledExample | None]
"""An example and its number to what is asked instead; None where the change means nothing for it."""


def report(checkpoint: Checkpoint, examples: AnnotatedExamples, true_pair: str | None = None) -> dict[str, Any]:
    """Figures on N ≥ 1 rows that the model was not trained on; shares come with 95% intervals and their counts.

    `fused`: quality on the rows as they are. `ablation`: accuracy where a modality is missing, noise or blank, and of
    three or more where it is alone.
    `flips`: how often the answer changes when one modality alone is another row's. `retrieval`:
    how far up a picture's text is found among all texts, and the reverse, over rows of the class `true_pair` (by
    default all); null without a shared space. `by`: accuracy by what the rows' metadata say, the most rows first.
    """
    asked = _Asked(checkpoint, examples)
    logits, embeddings = asked.as_they_are()
    predicted = logits.argmax(1).numpy()
    probabilities = (logits / checkpoint.temperature).softmax(1).double().numpy()
    ablation, flips = {}, {}
    for name, change in _ablations(checkpoint.preprocessor).items():
        answers = asked.answers(change)
        ablation[name] = _share(answers == examples.labels, answers)
    for name, change in _swaps(examples, checkpoint.card.modalities).items():
        answers = asked.answers(change)
        flips[name] = _share(answers != predicted, answers)
    return {
        "fused": measures.quality(probabilities, examples.labels, checkpoint.labels),
        "by": {key: _by(examples, predicted, key) for key in ("source", "language")},
        "ablation": ablation,
        "flips": flips,
        "retrieval": _retrieval(embeddings, examples, true_pair),
    }


def _ablations(preprocessor: Preprocessor) -> dict[str, Change]:
    """What is asked instead of each row, by what is told of it."""
    names = preprocessor.modalities
    changes: dict[str, Change] = {f"{name} missing": partial(_without, name) for name in names}
    if len(names) > 2:
        changes |= {f"{name} alone": partial(_alone, name) for name in names}
    if "image" in names:
        changes["image is noise"] = _noise
    for name, scale in preprocessor.sequences.items():
        changes[f"{name} is noise"] = partial(_noisy_frames, name, scale)
    if "text" in names:
        changes["text is blank"] = lambda example, _: example.with_value("text", "") if example.caption else None
    return changes


def _without(modality: str, example: LabelledExample, _: int) -> LabelledExample | None:
    changed = example.with_value(modality, None)
    return changed if changed.values else None


def _alone(modality: str, example: LabelledExample, _: int) -> LabelledExample | None:
    changed = example.only([modality])
    return changed if changed.values else None


def _noise(example: LabelledExample, number: int) -> LabelledExample | None:
    if example.image is None:
        return None
    rng = np.random.default_rng([SEED, number])
    return example.with_value("image", rng.integers(0, 256, example.image.shape, dtype=np.uint8))


def _noisy_frames(
    modality: str, scale: SequenceSettings, example: LabelledExample, number: int
) -> LabelledExample | None:
    """As many frames, of numbers with the mean and deviation that each feature had in training."""
    if modality not in example.others:
        return None
    shape = example.others[modality].shape
    drawn = np.random.default_rng([SEED, number]).normal(scale.mean, scale.std, shape)
    return example.with_value(modality, drawn.astype(np.float32))


class _Asked:
    """Runs a checkpoint's model over examples, a batch at a time."""

    def __init__(self, checkpoint: Checkpoint, examples: AnnotatedExamples) -> None:
        self._model = cast(FusionModel, checkpoint.model)
        self._preprocessor = checkpoint.preprocessor
        self.modalities = checkpoint.card.modalities
        self._device = next(checkpoint.model.parameters()).device
        self.examples = examples

    def as_they_are(self) -> tuple[torch.Tensor, dict[str, Floats]]:
        """Logits (N, C), on the CPU, and embeddings (N, d) of each modality; rows without it mean nothing there."""
        outputs = [self._run(tuple(self.examples[at : at + BATCH])) for at in range(0, len(self.examples), BATCH)]
        vectors = {
            name: np.concatenate([each.embeddings[name].float().cpu().numpy() for each in outputs]).astype(np.float64)
            for name in PAIR
            if name in self.modalities
        }
        return torch.cat([each.logits.cpu() for each in outputs]), vectors

    def answers(self, change: Change) -> Numbers:
        """(N,) predicted classes of the changed rows, -1 where the change means nothing."""
        found = np.full(len(self.examples), -1, np.int64)
        for start in range(0, len(self.examples), BATCH):
            changed = [
                (number, asked)
                for number, example in enumerate(self.examples[start : start + BATCH], start)
                if (asked := change(example, number)) is not None
            ]
            if changed:
                numbers, asked_rows = zip(*changed, strict=True)
                found[list(numbers)] = self._run(asked_rows).logits.argmax(1).cpu().numpy()
        return found

    def _run(self, rows: tuple[LabelledExample, ...]) -> FusionOutput:
        with torch.inference_mode():
            return self._model(collate(rows, self._preprocessor, self._device))


def _by(examples: AnnotatedExamples, predicted: Numbers, key: str) -> dict[str, dict[str, object]]:
    """Accuracy of each source, or language, that rows name."""
    names = np.array([getattr(row.metadata, key) or "" for row in examples.rows])
    known, counts = np.unique(names[names != ""], return_counts=True)
    right = predicted == examples.labels
    return {
        str(name): Share(int(right[names == name].sum()), int(count)).told()
        for name, count in sorted(zip(known, counts, strict=True), key=lambda each: (-each[1], each[0]))[:MOST_GROUPS]
    }


def _share(hits: np.ndarray[Any, np.dtype[np.bool_]], answers: Numbers) -> dict[str, object]:
    meant = answers >= 0
    return Share(int(hits[meant].sum()), int(meant.sum())).told()


def _swaps(examples: AnnotatedExamples, modalities: Sequence[str]) -> dict[str, Change]:
    """Give each row one modality of the next one in a random ring; nothing where it is the same one."""
    ring = np.random.default_rng(SEED).permutation(len(examples))
    follows = np.empty_like(ring)
    follows[ring] = np.roll(ring, -1)

    def swapped(modality: str, example: LabelledExample, number: int) -> LabelledExample | None:
        other = int(follows[number])
        own, others = (examples.rows[row].content(modality) for row in (number, other))
        if own is None or others is None or own == others:
            return None
        return example.with_value(modality, examples.value(other, modality))

    return {f"another row's {name}": partial(swapped, name) for name in modalities}


def _retrieval(
    embeddings: Mapping[str, Floats], examples: AnnotatedExamples, true_pair: str | None
) -> dict[str, Any] | None:
    left, right = PAIR
    if not embeddings.keys() >= set(PAIR):
        return None
    here = np.array([row.digest is not None and row.text is not None for row in examples.rows])
    pairs = here & np.array([true_pair in (None, row.label) for row in examples.rows])
    if not pairs.any():
        return None
    image, text = embeddings[left], embeddings[right]
    if image.shape[1] != text.shape[1]:
        return None
    pictures = _distinct([row.digest for row in examples.rows], here)
    texts = _distinct([row.text for row in examples.rows], here)
    return {
        f"{left}_to_{right}": _found(image, text, pairs, texts),
        f"{right}_to_{left}": _found(text, image, pairs, pictures),
    }


def _distinct(contents: list[str | None], here: np.ndarray[Any, np.dtype[np.bool_]]) -> tuple[Numbers, Numbers]:
    """The first row of each distinct content, (K,), and for each row (N,) the place of its own content among them."""
    places: dict[str | None, int] = {}
    first: list[int] = []
    for number in np.flatnonzero(here):
        if contents[number] not in places:
            places[contents[number]] = len(first)
            first.append(int(number))
    return np.array(first), np.array([places.get(content, -1) for content in contents])


def _found(
    queries: Floats,
    candidates: Floats,
    pairs: np.ndarray[Any, np.dtype[np.bool_]],
    distinct: tuple[Numbers, Numbers],
) -> dict[str, object]:
    first, own = distinct
    return measures.retrieval(measures.ranks(queries[pairs], candidates[first], own[pairs]), len(first))
