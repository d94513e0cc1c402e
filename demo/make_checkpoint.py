"""Trains the demo's fusion model from nothing and writes its checkpoint folder (about four minutes of one core)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional

from demo.captions import LABELS, Label, draw_claim, write_caption
from demo.examples import example_stream, labelled
from demo.grounding import WordRoles, attribute_losses, contrastive_loss, patch_targets
from demo.scenes import SIDE, Claim, Scene, draw_scene
from demo.tokenizer import VOCABULARY, build_tokenizer
from inference.collate import collate
from inference.modalities.base import UNREAD, Prepared
from inference.models.base import Encoded, ModalityBatch
from inference.models.checkpoint import save_checkpoint, write_manifest
from inference.models.cross_attention import CrossAttentionConfig, CrossAttentionFusion
from inference.models.preprocess import ImageSettings, Preprocessor
from inference.models.tensors import Loader
from inference.training.calibrate import fit_temperature
from inference.training.data import LabelledExample, targets
from inference.training.evaluate import Evaluation, evaluate, predict_logits
from inference.training.groups import parameter_groups, rate_factor

Progress = Callable[[int, int, float], None]
SEED, STEPS = 7, 1200
MAX_TOKENS = 64
HELPER_WEIGHTS = {"patches": 1.0, "words": 0.5, "contrastive": 0.1, "unimodal": 0.5}


@dataclass(frozen=True, slots=True)
class Recipe:
    """How to train. One picture meets one caption of each class, so every batch is balanced."""

    seed: int = SEED
    scenes: int = 6000
    steps: int = STEPS
    batch: int = 64
    learning_rate: float = 2e-3
    warmup: int = 50
    drop: float = 0.1  # share of rows that lose a modality, each


def model_config() -> CrossAttentionConfig:
    """The tiny ViT + BERT that the scenes need: about 0.83 million parameters."""
    vision = {"model_type": "vit", "image_size": SIDE, "patch_size": 16, "num_hidden_layers": 3}
    text = {"model_type": "bert", "vocab_size": VOCABULARY, "num_hidden_layers": 2}
    size: dict[str, Any] = {"hidden_size": 96, "num_attention_heads": 4, "intermediate_size": 384}
    no_dropout = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    return CrossAttentionConfig(
        vision_config=vision | size | no_dropout,
        text_config=text | size | no_dropout | {"max_position_embeddings": MAX_TOKENS},
        fusion_size=96,
        fusion_heads=4,
        image_stem="convolutional",
        id2label=dict(enumerate(LABELS)),
        label2id={name: i for i, name in enumerate(LABELS)},
    )


def image_settings() -> ImageSettings:
    """Scenes at their own size, scaled to [-1, 1]."""
    return ImageSettings(SIDE, SIDE, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


class Trainer:
    """One training run; `run` gives the trained model."""

    def __init__(self, recipe: Recipe, tokenizer: Tokenizer, scenes: list[Scene]) -> None:
        self.recipe = recipe
        self.rng = np.random.default_rng(recipe.seed)
        torch.manual_seed(recipe.seed)
        self.scenes = scenes
        self.preprocessor = Preprocessor(image_settings(), tokenizer, MAX_TOKENS)
        self.loader = Loader(image_settings(), torch.device("cpu"))
        self.roles = WordRoles(tokenizer)
        self.patches = torch.from_numpy(np.stack([patch_targets(s) for s in scenes], axis=1))
        self.model = CrossAttentionFusion(model_config())
        self.background = nn.Parameter(torch.randn(96) * 0.1)

    def run(self, progress: Progress | None = None) -> CrossAttentionFusion:
        """Train; calls `progress(step, steps, loss)` after every step."""
        recipe = self.recipe
        groups = parameter_groups(self.model, weight_decay=0.05)
        groups.append({"params": [self.background], "weight_decay": 0.0})
        optimiser = torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=(0.9, 0.98))
        self.model.train()
        order = np.empty(0, dtype=np.int64)
        for step in range(recipe.steps):
            if len(order) < recipe.batch:
                order = self.rng.permutation(len(self.scenes))
            picked, order = order[: recipe.batch], order[recipe.batch :]
            for group in optimiser.param_groups:
                group["lr"] = recipe.learning_rate * rate_factor(step, step / recipe.steps, recipe.warmup)
            loss = self._loss(picked)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_([*self.model.parameters(), self.background], 1.0)
            optimiser.step()
            if progress is not None:
                progress(step + 1, recipe.steps, loss.item())
        self.model.requires_grad_(True).train(False)
        return self.model

    def _loss(self, picked: np.ndarray[Any, np.dtype[np.int64]]) -> Tensor:
        claims, captions = self._captions(picked)
        pictures = self._batch("image", [self.preprocessor.picture(self.scenes[i].image) for i in picked])
        texts = self._batch("text", self.preprocessor.captions(captions))
        rows, classes = len(picked), len(Label)
        image, text = self.model.encode_image(pictures), self.model.encode_text(texts)
        output = self.model.fuse(self._drop(image, text, classes))
        labels = torch.arange(classes).repeat(rows)
        loss = functional.cross_entropy(output.logits, labels)
        for name, modality in (("image", image), ("text", text)):
            head = self.model.image_head if name == "image" else self.model.text_head
            pooled = modality.pooled.detach()
            pooled = pooled.repeat_interleave(classes, dim=0) if name == "image" else pooled
            loss = loss + HELPER_WEIGHTS["unimodal"] * functional.cross_entropy(head(pooled), labels)
        words = self.roles.targets(texts.tensors["input_ids"], claims)
        for name, tokens, wanted in (
            ("patches", image.tokens[:, 1:], self.patches[:, picked]),
            ("words", text.tokens, words),
        ):
            loss = loss + HELPER_WEIGHTS[name] * attribute_losses(
                self.model, self.roles, self.background, tokens, wanted
            )
        positives = torch.arange(rows) * classes + Label.CONSISTENT
        return loss + HELPER_WEIGHTS["contrastive"] * contrastive_loss(image, text, positives)

    def _batch(self, modality: str, inputs: Sequence[Mapping[str, np.ndarray[Any, Any]]]) -> ModalityBatch:
        rows = [{modality: Prepared(each, UNREAD.quality)} for each in inputs]
        return self.loader(collate(rows, rows[0]))[modality]

    def _captions(self, picked: np.ndarray[Any, np.dtype[np.int64]]) -> tuple[list[Claim], list[str]]:
        claims, captions = [], []
        for i in picked:
            for label in Label:
                claim = draw_claim(self.rng, self.scenes[i], label)
                claims.append(claim)
                captions.append(write_caption(self.rng, claim, label))
        return claims, captions

    def _drop(self, image: Encoded, text: Encoded, repeats: int) -> dict[str, Encoded]:
        """Pair each picture with its captions and take one modality away from some rows."""
        image = Encoded(*(t.repeat_interleave(repeats, dim=0) for t in (image.tokens, image.mask, image.pooled)))
        fate = torch.from_numpy(self.rng.random(len(text.mask)))
        drop = self.recipe.drop
        return {
            "image": self.model.mask_missing("image", image, fate >= drop),
            "text": self.model.mask_missing("text", text, (fate < drop) | (fate >= 2 * drop)),
        }


@dataclass(frozen=True, slots=True)
class Made:
    """What `main` made: the checkpoint's version, its temperature, and its quality on scenes it never saw."""

    version: str
    temperature: float
    held_out: dict[str, Evaluation]


def held_out_examples(seed: int, purpose: int, count: int) -> list[LabelledExample]:
    """Examples from a stream of their own; `purpose` 1 calibrates and makes baselines, 2 tests."""
    stream = example_stream(seed * 1000 + purpose)
    return [labelled(example) for example in islice(stream, count)]


def main(
    folder: Path,
    seed: int = SEED,
    steps: int = STEPS,
    progress: Progress | None = None,
    before_sealing: Callable[[Path], None] | None = None,
) -> Made:
    """Train, calibrate, and write a checkpoint to `folder` (which must not hold one).

    `before_sealing` may add files, such as a baseline, before the manifest is written. The same seed and number of
    threads on the same kind of processor give the same weights.

    Raises:
        CheckpointError: the folder already holds a checkpoint.
    """
    recipe = replace(Recipe(), seed=seed, steps=steps)
    rng = np.random.default_rng([seed, 0])
    scenes = [draw_scene(rng) for _ in range(recipe.scenes)]
    corpus = [write_caption(rng, draw_claim(rng, s, label), label) for s in scenes[:1000] for label in Label]
    trainer = Trainer(recipe, build_tokenizer(corpus), scenes)
    model, preprocessor = trainer.run(progress), trainer.preprocessor
    validation = held_out_examples(seed, 1, 2000)
    labels = targets(validation, torch.device("cpu"))
    temperature = fit_temperature(predict_logits(model, preprocessor, validation), labels)
    save_checkpoint(folder, model, preprocessor, LABELS, temperature)
    if before_sealing is not None:
        before_sealing(folder)
    version = write_manifest(folder)
    quality = evaluate(model, preprocessor, held_out_examples(seed, 2, 2000), temperature)
    return Made(version, temperature, quality)
