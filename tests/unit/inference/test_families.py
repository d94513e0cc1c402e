"""What every image-text family must hold, whichever it is: each is found by scanning and put through all of this."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from inference.collate import collate
from inference.modalities.base import Prepared
from inference.model_io import ModelInput
from inference.models.base import Family, FusionOutput, ModalityBatch, StagedModel
from inference.models.checkpoint import load_checkpoint, save_checkpoint, write_manifest
from inference.models.pair import PairFusion
from inference.models.registry import families
from inference.predictor import Predictor
from inference.training.data import LabelledExample
from inference.training.evaluate import evaluate
from inference.training.fit import fit
from inference.training.fit_settings import FitSettings
from inference.training.objective import Objective
from inference.training.team import Team
from tests.support.tiny_model import LABELS, random_batch, small_of, small_preprocessor

Batch = Mapping[str, ModalityBatch]
PAIR = {"image", "text"}
CPU = torch.device("cpu")
FAMILIES = [family for _, family in sorted(families().items()) if not family.raw and set(family.encoders) == PAIR]
PATTERNS = {"both": PAIR, "image": {"image"}, "text": {"text"}, "none": set[str]()}

every = pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)


def run(model: PairFusion, batch: Batch) -> FusionOutput:
    with torch.inference_mode():
        output: FusionOutput = model(batch, with_attention=True)
    return output


def rows(batch: Batch, chosen: Tensor) -> dict[str, ModalityBatch]:
    return {
        name: ModalityBatch({k: v[chosen] for k, v in part.tensors.items()}, part.present[chosen])
        for name, part in batch.items()
    }


def mixed(seed: int = 0) -> dict[str, ModalityBatch]:
    """Six rows: two with both modalities, two with each alone."""
    here = {"image": [True, True, True, False, True, False], "text": [True, False, True, True, False, True]}
    return {name: replace(part, present=torch.tensor(here[name])) for name, part in random_batch(6, seed=seed).items()}


def results(output: FusionOutput, present: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """All that means something: heads of a missing modality do not."""
    heads = {f"head {name}": x * present[name][:, None] for name, x in output.unimodal_logits.items()}
    return {"logits": output.logits, **output.embeddings, **heads}


def assert_close(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    for name in one:
        torch.testing.assert_close(one[name], other[name], atol=3e-6, rtol=1e-5, msg=name)


def presence(batch: Batch) -> dict[str, Tensor]:
    return {name: part.present for name, part in batch.items()}


def test_the_families_are_found() -> None:
    names = {family.name.removeprefix("fusion_") for family in FAMILIES}
    assert names >= {
        "cross_attention",
        "bidirectional",
        "early",
        "late",
        "clip",
        "vilbert",
        "mvae",
        "hybrid",
        "mixture",
    }


@every
def test_shapes(family: Family) -> None:
    output = run(small_of(family), mixed())
    assert output.logits.shape == (6, len(LABELS))
    assert output.embeddings.keys() == PAIR | {"fused"}
    assert all(len(each) == 6 and each.ndim == 2 for each in output.embeddings.values())
    assert {name: tuple(each.shape) for name, each in output.unimodal_logits.items()} == dict.fromkeys(PAIR, (6, 3))
    assert output.auxiliary is None, "in training mode only"


@every
def test_attention_sums_to_one_over_what_is_there(family: Family) -> None:
    model, batch = small_of(family), mixed()
    output = run(model, batch)
    assert model(batch).attention is None, "not asked"
    if output.attention is None:
        return
    assert len(output.attention) == 6
    torch.testing.assert_close(output.attention.sum(-1), torch.ones(output.attention.shape[:2]))
    if output.attention.shape[1] == 1:  # weights of modalities, by name, and perhaps of what needs all
        for place, name in enumerate(sorted(PAIR)):
            assert torch.all((output.attention[:, 0, place] > 0.0) == batch[name].present)
        assert torch.all(output.attention[~(batch["image"].present & batch["text"].present), 0, 2:] == 0.0)
    else:
        first = torch.arange(output.attention.shape[2]) == 0
        real = torch.where(batch["text"].present[:, None], batch["text"].tensors["attention_mask"].bool(), first)
        assert torch.all((output.attention > 0.0).any(1) == real)


@every
def test_a_row_does_not_depend_on_its_mates(family: Family) -> None:
    model, batch = small_of(family), mixed()
    together = results(run(model, batch), presence(batch))
    for chosen in (torch.tensor([i]) for i in range(6)):
        alone = rows(batch, chosen)
        assert_close(results(run(model, alone), presence(alone)), {k: v[chosen] for k, v in together.items()})
    order = torch.tensor([5, 2, 0, 1, 4, 3])
    shuffled = rows(batch, order)
    assert_close(results(run(model, shuffled), presence(shuffled)), {k: v[order] for k, v in together.items()})


@every
@pytest.mark.parametrize("extra", [1, 20])
def test_a_row_does_not_depend_on_padding(family: Family, extra: int) -> None:
    model, batch = small_of(family), mixed()
    ids, mask = batch["text"].tensors["input_ids"], batch["text"].tensors["attention_mask"]
    junk = torch.full((len(ids), extra), 17)
    wide = {"input_ids": torch.cat((ids, junk), 1), "attention_mask": torch.nn.functional.pad(mask, (0, extra))}
    padded = {**batch, "text": replace(batch["text"], tensors=wide)}
    here = presence(batch)
    assert_close(results(run(model, padded), here), results(run(model, batch), here))


@every
@pytest.mark.parametrize("pattern", PATTERNS)
def test_what_is_missing_is_not_looked_at_and_what_is_there_is(family: Family, pattern: str) -> None:
    model, first, other = small_of(family), random_batch(), random_batch(seed=9)
    seen = {name: torch.full((4,), name in PATTERNS[pattern]) for name in PAIR}
    batch = {name: replace(part, present=seen[name]) for name, part in first.items()}
    output = run(model, batch)
    assert all(torch.isfinite(each).all() for each in results(output, seen).values())
    for name in PAIR:
        changed = run(model, {**batch, name: replace(other[name], present=seen[name])})
        # row 0 is as long in both: what changes is what it says
        assert (changed.logits[0] == output.logits[0]).all() != (name in PATTERNS[pattern])
        if name not in PATTERNS[pattern]:
            assert_close(results(changed, seen), results(output, seen))
            assert torch.all(output.embeddings[name] == 0.0)


@every
def test_blank_input_of_a_missing_modality_is_finite(family: Family) -> None:
    model, batch = small_of(family), random_batch()
    nobody = torch.zeros(4, dtype=torch.bool)
    for name in PAIR:
        blank = {key: torch.zeros_like(each) for key, each in batch[name].tensors.items()}
        output = run(model, {**batch, name: ModalityBatch(blank, nobody)})
        assert torch.isfinite(output.logits).all()
        assert torch.isfinite(output.embeddings["fused"]).all()


@every
def test_the_steps_are_the_forward_pass(family: Family) -> None:
    model, batch = small_of(family), mixed()
    assert isinstance(model, StagedModel)
    told: list[str] = []
    with torch.inference_mode():
        encoded = model.encode(batch, told.append)
        steps, heads = model.fuse(encoded, with_attention=True), model.heads(encoded)
        some = model.fuse({name: each.rows(torch.tensor([4, 0])) for name, each in encoded.items()})
    whole = run(model, batch)
    assert told == ["image", "text"]
    assert torch.equal(steps.logits, whole.logits)
    assert all(torch.equal(heads[name], whole.unimodal_logits[name]) for name in PAIR)
    assert all(torch.equal(encoded[name].pooled, whole.embeddings[name]) for name in PAIR)
    torch.testing.assert_close(some.logits, whole.logits[[4, 0]], atol=3e-6, rtol=1e-5)


@every
def test_a_seed_gives_one_model_and_an_input_one_answer(family: Family) -> None:
    model, batch = small_of(family), mixed()
    one, again, twin, other = (run(m, batch).logits for m in (model, model, small_of(family), small_of(family, seed=1)))
    assert torch.equal(one, again)
    assert torch.equal(one, twin)
    assert not torch.equal(one, other)


@every
def test_a_checkpoint_comes_back_bit_for_bit(family: Family, tmp_path: Path) -> None:
    model = small_of(family)
    saved = []
    for name in ("one", "two"):
        save_checkpoint(tmp_path / name, model, small_preprocessor(), LABELS, 1.25)
        version = write_manifest(tmp_path / name)
        model = load_checkpoint(tmp_path / name, CPU).model  # type: ignore[assignment]  # the family's own class
        saved.append((version, run(model, mixed()).logits, model.state_dict()))
    (version, logits, weights), (other_version, other_logits, other_weights) = saved
    assert version == other_version
    assert torch.equal(logits, other_logits)
    assert weights.keys() == small_of(family).state_dict().keys()
    assert all(torch.equal(weights[name], other_weights[name]) for name in weights)
    torch.testing.assert_close(logits, run(small_of(family), mixed()).logits, atol=0.02, rtol=0.02)


@every
def test_every_parameter_gets_a_finite_gradient(family: Family) -> None:
    model = small_of(family)
    model.train()
    objective = Objective(model, FitSettings(), Team(CPU))
    terms = objective(mixed(), torch.tensor([0, 1, 2, 0, 1, 2]))
    terms.loss.backward()
    assert len(terms.scores) == 2
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name


@every
def test_the_worker_runs_it_with_cascade_and_contributions(family: Family, tmp_path: Path) -> None:
    save_checkpoint(tmp_path, small_of(family), small_preprocessor(), LABELS, 1.25)
    write_manifest(tmp_path)
    checkpoint = load_checkpoint(tmp_path, CPU)
    for threshold, share in ((None, 1.0), (0.34, 1.0), (0.9, 0.0)):
        predictor = Predictor(
            checkpoint, CPU, cascade_threshold=threshold, contribution_share=share, attention=threshold is None
        )
        predictor.warm_up()
        output = predictor.run(model_input(checkpoint.blanks))
        np.testing.assert_allclose(output.probabilities.sum(1), 1.0, atol=1e-5)
        assert output.embeddings.keys() == PAIR | {"fused"}


def model_input(blanks: Mapping[str, Prepared]) -> ModelInput:
    """Six requests: four with both modalities, one with each alone."""
    preprocessor, rng = small_preprocessor(), np.random.default_rng(0)
    batch = []
    for i in range(6):
        values = {
            "image": preprocessor.picture(rng.integers(0, 256, (32, 32, 3), np.uint8)),
            "text": preprocessor.captions(["a red circle " * (i + 1)])[0],
        }
        sent = PAIR if i < 4 else {("image", "text")[i % 2]}
        batch.append({name: Prepared(values[name], blanks[name].quality) for name in sent})
    return collate(batch, blanks)


@every
def test_it_learns_what_the_text_says(family: Family) -> None:
    rng = np.random.default_rng(0)
    examples = []
    for i in range(48):
        image = rng.integers(0, 256, (32, 32, 3), np.uint8)
        examples.append(LabelledExample(f"r{i}", image, ("a red circle", "a blue square")[i % 2], i % 2))
    model = small_of(family)
    settings = FitSettings(steps=40, batch_size=16, learning_rate=3e-3, warmup=3, drop=0.0, deadline_s=120.0)
    fit(model, small_preprocessor(), examples, settings, encoders=family.encoders)
    assert evaluate(model, small_preprocessor(), examples, 1.0, ["fused"])["fused"].accuracy > 0.9
