"""What single families promise beyond the suite for all, and encoders of other architectures."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from transformers import AutoConfig, AutoModel

from demo.tokenizer import build_tokenizer
from inference.direct import DirectPredictor
from inference.models.checkpoint import load_checkpoint, save_checkpoint, write_manifest
from inference.models.clip import ClipFusion
from inference.models.late import LateFusion
from inference.models.mixture import MixtureFusion
from inference.models.mvae import MvaeFusion
from inference.models.pair import masked_mean, masked_softmax
from inference.models.registry import families
from inference.predictor import Predictor
from inference.training.build import build
from inference.training.config import ImageConfig, ModelConfig, TextConfig
from inference.training.fit_settings import Contrast, FitSettings
from inference.training.objective import Objective
from inference.training.team import Team
from tests.support.tiny_model import LABELS, random_batch, small_of

ALONE = Team(torch.device("cpu"))
CLASSES = torch.tensor([0, 1, 2, 0])
SIZE = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
NARROW = {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "layer_type": "basic"}


def small(name: str, **options: Any) -> Any:
    return small_of(families()[f"fusion_{name}"], **options)


def gone(modality: str) -> Any:
    batch = random_batch()
    return {**batch, modality: replace(batch[modality], present=torch.zeros(4, dtype=torch.bool))}


def test_masked_softmax_leaves_out_what_is_masked_and_survives_a_row_of_none() -> None:
    mask = torch.tensor([[True, False, True], [False, False, False]])
    found = masked_softmax(torch.tensor([[0.0, 9.0, 0.0], [1.0, 2.0, 3.0]]), mask)
    assert found[0].tolist() == [0.5, 0.0, 0.5]
    assert torch.isfinite(found[1]).all()


def test_the_posterior_is_the_product_of_the_prior_and_the_experts_present() -> None:
    model: MvaeFusion = small("mvae", latent_size=3)
    encoded = model.encode(random_batch())
    parts = []
    for name in ("image", "text"):
        expert, said = model.experts[name](masked_mean(encoded[name].tokens, encoded[name].mask)).chunk(2, dim=-1)
        parts.append((expert, (8.0 * torch.tanh(said / 8.0)).exp()))
    precision = 1.0 + 1.0 / parts[0][1] + 1.0 / parts[1][1]
    mean, variance = model.posterior(encoded)
    torch.testing.assert_close(variance, 1.0 / precision)
    torch.testing.assert_close(mean, (parts[0][0] / parts[0][1] + parts[1][0] / parts[1][1]) / precision)
    alone, _ = model.posterior(model.encode(gone("image")))
    torch.testing.assert_close(alone, parts[1][0] / parts[1][1] / (1.0 + 1.0 / parts[1][1]))
    nothing, unsure = model.posterior(encoded, ())
    assert torch.all(nothing == 0.0)
    assert torch.all(unsure == 1.0)


def test_a_missing_modality_is_reconstructed_better_than_by_its_mean() -> None:
    """Two kinds of pairs: what the text says tells which picture it was."""
    model: MvaeFusion = small("mvae", latent_size=8)
    batch = random_batch()
    kinds = torch.tensor([0, 1] * 8)
    batch = {
        name: replace(
            part, tensors={k: v[kinds] for k, v in part.tensors.items()}, present=torch.ones(16, dtype=torch.bool)
        )
        for name, part in batch.items()
    }
    encoded = {
        name: replace(each, tokens=each.tokens.detach(), pooled=each.pooled.detach())
        for name, each in model.encode(batch).items()
    }
    optimiser = torch.optim.Adam([*model.experts.parameters(), *model.decoders.parameters()], lr=1e-2)
    torch.manual_seed(0)
    for _ in range(150):
        optimiser.zero_grad()
        model.bound(encoded).mean().backward()
        optimiser.step()
    image = encoded["image"].pooled
    target = torch.nn.functional.layer_norm(image, image.shape[1:])
    blind = model.mask_missing("image", encoded["image"], torch.zeros(16, dtype=torch.bool))
    with torch.inference_mode():
        told = model.reconstruct({**encoded, "image": blind})["image"]
    error, spread = ((told - target) ** 2).mean(), target.var(0, unbiased=False).mean()
    assert float(error) < 0.5 * float(spread)


def test_late_fusion_averages_and_falls_back_on_the_head_that_is_there() -> None:
    model: LateFusion = small("late", weights="equal")
    output = model(random_batch())
    heads = output.unimodal_logits
    torch.testing.assert_close(output.logits, (heads["image"] + heads["text"]) / 2)
    alone = model(gone("text"))
    torch.testing.assert_close(alone.logits, alone.unimodal_logits["image"])
    assert "scores" not in dict(model.named_parameters())
    with pytest.raises(ValueError, match="weights is 'loud'; allowed: learned, equal"):
        small("late", weights="loud")


def test_the_gate_gives_a_lone_modality_everything() -> None:
    model: MixtureFusion = small("mixture")
    alone = model(gone("image"), with_attention=True)
    assert alone.attention is not None
    assert alone.attention[:, 0].tolist() == [[0.0, 1.0, 0.0]] * 4
    torch.testing.assert_close(alone.logits, alone.unimodal_logits["text"])


def test_clip_embeds_in_one_space_and_tells_classes_by_prompts() -> None:
    model: ClipFusion = small("clip")
    batch = random_batch()
    output = model(batch)
    for name in ("image", "text"):
        torch.testing.assert_close(output.embeddings[name].norm(dim=1), torch.ones(4))
    found = model.zero_shot(batch["image"], batch["text"])
    torch.testing.assert_close(found, output.embeddings["image"] @ output.embeddings["text"].T)
    assert torch.all(model.zero_shot(gone("image")["image"], batch["text"]) == 0.0)


def test_contrast_alone_teaches_clip_to_find_each_pictures_prompt() -> None:
    model: ClipFusion = small("clip")
    batch = random_batch()
    settings = FitSettings(unimodal_weight=0.0)
    objective = Objective(model, settings, ALONE)
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3)
    for _ in range(60):
        optimiser.zero_grad()
        objective(batch, CLASSES).loss.backward()
        optimiser.step()
    with torch.inference_mode():
        assert model.zero_shot(batch["image"], batch["text"]).argmax(1).tolist() == [0, 1, 2, 3]


def test_a_family_asks_for_contrast_and_settings_have_the_last_word() -> None:
    batch, losses = random_batch(), {}
    for own, given in ((0.0, 0.0), (0.5, 0.0), (0.5, 2.0), (0.0, 2.0), (0.0, 0.5)):
        settings = FitSettings(contrast=Contrast(given))
        model = small("clip", contrastive_weight=own)
        losses[own, given] = float(Objective(model, settings, ALONE)(batch, CLASSES).loss.detach())
    assert losses[0.5, 0.0] == pytest.approx(losses[0.0, 0.5])
    assert losses[0.5, 2.0] == pytest.approx(losses[0.0, 2.0])
    assert len({round(losses[key], 4) for key in ((0.0, 0.0), (0.5, 0.0), (0.5, 2.0))}) == 3


def test_a_familys_own_loss_is_added_to_that_of_its_answers() -> None:
    model = small("hybrid", generative_weight=0.0)
    batch, settings = random_batch(), FitSettings()
    model.train()
    losses = {}
    for weight in (0.0, 1.0, 3.0):
        model.generative_weight = weight
        torch.manual_seed(0)
        losses[weight] = float(Objective(model, settings, ALONE)(batch, CLASSES).loss.detach())
    assert losses[1.0] > losses[0.0]
    assert losses[3.0] - losses[0.0] == pytest.approx(3 * (losses[1.0] - losses[0.0]), rel=1e-4)


def test_blanks_of_missing_pictures_never_enter_batch_normalisation() -> None:
    found = []
    for pixels in (0.0, 50.0):
        model = small("early", image_stem="linear", vision_config={"model_type": "resnet", **NARROW})
        model.train()
        batch = random_batch()
        values = batch["image"].tensors["pixel_values"].clone()
        values[1] = pixels
        here = torch.tensor([True, False, True, True])
        output = model({**batch, "image": replace(batch["image"], tensors={"pixel_values": values}, present=here)})
        output.logits.sum().backward()
        found.append({name: each for name, each in model.state_dict().items() if "running" in name})
    assert found[0]
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


def test_a_convolutional_stem_is_refused_where_there_are_no_patches() -> None:
    with pytest.raises(ValueError, match="image_stem 'convolutional' is for vit; resnet needs 'linear'"):
        small("early", vision_config={"model_type": "resnet", **NARROW})


VISION = {"image_size": 32, "patch_size": 16}
TOWERS = {"text_config": {"vocab_size": 400, **SIZE}, "vision_config": {**VISION, **SIZE}}
IMAGE_ENCODERS: dict[str, dict[str, Any]] = {
    "vit": {**VISION, **SIZE},
    "dinov2": {**VISION, **SIZE},
    "siglip_vision_model": {**VISION, **SIZE},
    "clip_vision_model": {**VISION, **SIZE},
    "resnet": NARROW,
    "clip": TOWERS,
    "siglip": TOWERS,
}
TEXT_ENCODERS: dict[str, dict[str, Any]] = {
    "bert": {"vocab_size": 400, **SIZE},
    "modernbert": {"vocab_size": 400, "pad_token_id": 0, **SIZE},
    "clip_text_model": {"vocab_size": 400, **SIZE},
    "clip": TOWERS,
    "siglip_text_model": {"vocab_size": 400, **SIZE},
    "siglip": TOWERS,
}


@pytest.mark.parametrize(
    ("modality", "architecture"), [*(("image", a) for a in IMAGE_ENCODERS), *(("text", a) for a in TEXT_ENCODERS)]
)
def test_a_pretrained_encoder_is_taken_from_a_local_folder(modality: str, architecture: str, tmp_path: Path) -> None:
    options = (IMAGE_ENCODERS if modality == "image" else TEXT_ENCODERS)[architecture]
    torch.manual_seed(5)
    source = cast(Any, AutoModel.from_config(AutoConfig.for_model(architecture, **options)))
    source.save_pretrained(tmp_path)
    build_tokenizer(["a red circle"]).save(str(tmp_path / "tokenizer.json"))
    image = ImageConfig(size=32, config={"model_type": "vit", **VISION, **SIZE})
    text = TextConfig(max_tokens=16, config={"model_type": "bert", "vocab_size": 400, **SIZE})
    chosen = {"encoder": tmp_path}
    config = ModelConfig(
        family="early",
        options={"fusion_size": 32},
        image=image.model_copy(update=chosen) if modality == "image" else image,
        text=text.model_copy(update=chosen) if modality == "text" else text,
    )
    model = cast(Any, build(config, LABELS, ["a red circle"], 0).model)
    tower = getattr(source, "vision_model" if modality == "image" else "text_model", source).state_dict()
    taken = model.get_submodule(f"{modality}_encoder").state_dict()
    assert taken
    assert all(torch.equal(value, tower[name]) for name, value in taken.items())
    output = model.eval()(random_batch())
    assert torch.isfinite(output.logits).all()


ALPHABET = "abcdefghijklmnopqrstuvwxyz"
MARKERS = {"clip": ("<|startoftext|>", "<|endoftext|>"), "siglip": ("</s>",)}


def foreign_tokenizer(architecture: str) -> Tokenizer:
    """Letters, and no marker to pad with but the end of the text; SigLIP's marks no beginning."""
    letters = [*ALPHABET, *(f"{letter}</w>" for letter in ALPHABET)]
    markers = MARKERS[architecture]
    numbers = {piece: number for number, piece in enumerate([*letters, *markers])}
    tokenizer = Tokenizer(BPE(numbers, [], unk_token=markers[-1], end_of_word_suffix="</w>"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.add_special_tokens(list(markers))
    tokenizer.post_processor = TemplateProcessing(
        single=" ".join([*markers[:-1], "$A", markers[-1]]), special_tokens=[(name, numbers[name]) for name in markers]
    )
    return tokenizer


@pytest.mark.parametrize("architecture", ["clip", "siglip"])
def test_a_text_tower_works_with_its_own_tokenizer(architecture: str, tmp_path: Path) -> None:
    tokenizer = foreign_tokenizer(architecture)
    folder = tmp_path / "towers"
    torch.manual_seed(5)
    cast(Any, AutoModel.from_config(AutoConfig.for_model(architecture, **TOWERS))).save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    image = ImageConfig(size=32, config={"model_type": "vit", **VISION, **SIZE})
    text = TextConfig(max_tokens=8, encoder=folder)
    config = ModelConfig(family="cross_attention", options={"fusion_size": 32}, image=image, text=text)
    built = build(config, LABELS, [], 0)
    save_checkpoint(tmp_path / "saved", built.model, built.preprocessor, LABELS, 1.0)
    write_manifest(tmp_path / "saved")
    checkpoint = load_checkpoint(tmp_path / "saved", torch.device("cpu"))
    texts = ["a", "red dogs and cats", "two cats"]
    (short, long, _) = prepared = checkpoint.card.prepare_all("text", texts)
    ids = tokenizer.encode("a").ids
    assert short.inputs["input_ids"].tolist() == ids
    assert checkpoint.preprocessor.tokenizer.get_vocab_size() == tokenizer.get_vocab_size(), "no marker is added"
    assert len(long.inputs["input_ids"]) == 8
    assert short.quality.tolist() == [1.0, 0.0, 1.0, 0.0], "one piece beside the markers"
    predictor = DirectPredictor(checkpoint.card, Predictor(checkpoint, torch.device("cpu")).run)
    alone = [predictor.predict([{"text": each}])[0].probabilities for each in texts]
    together = [each.probabilities for each in predictor.predict([{"text": each} for each in texts])]
    for one, other in zip(alone, together, strict=True):
        assert one == pytest.approx(other, abs=1e-5)
    assert len(prepared) == 3
