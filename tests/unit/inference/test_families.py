"""What every family must hold, whichever it is: each is found by scanning and put through all of this."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
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
from inference.models.preprocess import Preprocessor
from inference.models.registry import families
from inference.predictor import Predictor
from inference.training.data import LabelledExample
from inference.training.evaluate import evaluate
from inference.training.fit import fit
from inference.training.fit_settings import FitSettings
from inference.training.objective import Objective
from inference.training.team import Team
from tests.support.tiny_model import LABELS, random_batch, small_of, small_preprocessor, some_value

Batch = Mapping[str, ModalityBatch]
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Case:
    """A family, and the modalities that its model takes, sorted."""

    family: Family
    names: tuple[str, ...]

    def __str__(self) -> str:
        return self.family.name if self.family.modalities is None else f"{self.family.name} {'+'.join(self.names)}"

    def model(self, seed: int = 0) -> PairFusion:
        return small_of(self.family, seed, self.names)

    def preprocessor(self) -> Preprocessor:
        return small_preprocessor(self.names)

    def patterns(self) -> list[set[str]]:
        """All, each alone, none."""
        return [set(self.names), *({name} for name in self.names), set()]


def cases() -> list[Case]:
    """Every family; one of any modalities with two of the new ones, and with all."""
    found = []
    for _, family in sorted(families().items()):
        if not family.raw:
            found.append(Case(family, tuple(sorted(family.encoders))))
            if family.modalities is not None:
                found.append(Case(family, SEQUENCES))
    return found


SEQUENCES = ("audio", "video")
CASES = cases()
every = pytest.mark.parametrize("case", CASES, ids=str)


def run(model: PairFusion, batch: Batch) -> FusionOutput:
    with torch.inference_mode():
        output: FusionOutput = model(batch, with_attention=True)
    return output


def rows(batch: Batch, chosen: Tensor) -> dict[str, ModalityBatch]:
    return {
        name: ModalityBatch({k: v[chosen] for k, v in part.tensors.items()}, part.present[chosen])
        for name, part in batch.items()
    }


def mixed(case: Case, seed: int = 0) -> dict[str, ModalityBatch]:
    """Six rows: two with all modalities, four with one each."""
    alone = {row: case.names[place % len(case.names)] for place, row in enumerate((1, 3, 4, 5))}
    here = {name: torch.tensor([alone.get(row, name) == name for row in range(6)]) for name in case.names}
    batch = random_batch(6, seed=seed, names=case.names)
    return {name: replace(part, present=here[name]) for name, part in batch.items()}


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
    names = {case.family.name.removeprefix("fusion_") for case in CASES}
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
        "joint_transformer",
    }


@every
def test_shapes(case: Case) -> None:
    output = run(case.model(), mixed(case))
    assert output.logits.shape == (6, len(LABELS))
    assert output.embeddings.keys() == {*case.names, "fused"}
    assert all(len(each) == 6 and each.ndim == 2 for each in output.embeddings.values())
    assert {name: tuple(each.shape) for name, each in output.unimodal_logits.items()} == dict.fromkeys(
        case.names, (6, 3)
    )
    assert output.auxiliary is None, "in training mode only"


@every
def test_attention_sums_to_one_over_what_is_there(case: Case) -> None:
    model, batch = case.model(), mixed(case)
    output = run(model, batch)
    assert model(batch).attention is None, "not asked"
    if output.attention is None:
        return
    assert len(output.attention) == 6
    torch.testing.assert_close(output.attention.sum(-1), torch.ones(output.attention.shape[:2]))
    if output.attention.shape[1] == 1:  # weights of modalities, by name, and perhaps of what needs all
        for place, name in enumerate(case.names):
            assert torch.all((output.attention[:, 0, place] > 0.0) == batch[name].present)
        whole = torch.stack([part.present for part in batch.values()]).all(0)
        assert torch.all(output.attention[~whole, 0, len(case.names) :] == 0.0)
    elif case.family.modalities is None:  # text's tokens, or the one that stands for it
        first = torch.arange(output.attention.shape[2]) == 0
        real = torch.where(batch["text"].present[:, None], batch["text"].tensors["attention_mask"].bool(), first)
        assert torch.all((output.attention > 0.0).any(1) == real)
    else:  # one token that is always there, then everyone's
        encoded = model.encode(batch)
        real = torch.cat([torch.ones(6, 1, dtype=torch.bool), *(encoded[name].mask for name in case.names)], dim=1)
        assert torch.all((output.attention > 0.0).any(1) == real)


@every
def test_a_row_does_not_depend_on_its_mates(case: Case) -> None:
    model, batch = case.model(), mixed(case)
    together = results(run(model, batch), presence(batch))
    for chosen in (torch.tensor([i]) for i in range(6)):
        alone = rows(batch, chosen)
        assert_close(results(run(model, alone), presence(alone)), {k: v[chosen] for k, v in together.items()})
    order = torch.tensor([5, 2, 0, 1, 4, 3])
    shuffled = rows(batch, order)
    assert_close(results(run(model, shuffled), presence(shuffled)), {k: v[order] for k, v in together.items()})


def with_padding(tensors: Mapping[str, Tensor], extra: int) -> dict[str, Tensor]:
    """`extra` more tokens or frames of junk that the mask leaves out; what has neither stays."""
    longer = dict(tensors)
    for values, mask in (("input_ids", "attention_mask"), ("features", "frame_mask")):
        if values in tensors:
            junk = torch.full((len(tensors[values]), extra, *tensors[values].shape[2:]), 17)
            longer[values] = torch.cat((tensors[values], junk.to(tensors[values].dtype)), 1)
            longer[mask] = torch.nn.functional.pad(tensors[mask], (0, extra))
    return longer


@every
@pytest.mark.parametrize("extra", [1, 20])
def test_a_row_does_not_depend_on_padding(case: Case, extra: int) -> None:
    model, batch = case.model(), mixed(case)
    padded = {name: replace(part, tensors=with_padding(part.tensors, extra)) for name, part in batch.items()}
    here = presence(batch)
    assert_close(results(run(model, padded), here), results(run(model, batch), here))


@pytest.mark.parametrize(
    ("case", "pattern"),
    [pytest.param(case, seen, id=f"{case}, {'+'.join(sorted(seen))}") for case in CASES for seen in case.patterns()],
)
def test_what_is_missing_is_not_looked_at_and_what_is_there_is(case: Case, pattern: set[str]) -> None:
    model, first, other = case.model(), random_batch(names=case.names), random_batch(seed=9, names=case.names)
    seen = {name: torch.full((4,), name in pattern) for name in case.names}
    batch = {name: replace(part, present=seen[name]) for name, part in first.items()}
    output = run(model, batch)
    assert all(torch.isfinite(each).all() for each in results(output, seen).values())
    for name in case.names:
        changed = run(model, {**batch, name: replace(other[name], present=seen[name])})
        # row 0 is as long in both: what changes is what it says
        assert (changed.logits[0] == output.logits[0]).all() != (name in pattern)
        if name not in pattern:
            assert_close(results(changed, seen), results(output, seen))
            assert torch.all(output.embeddings[name] == 0.0)


@every
def test_blank_input_of_a_missing_modality_is_finite(case: Case) -> None:
    model, batch = case.model(), random_batch(names=case.names)
    nobody = torch.zeros(4, dtype=torch.bool)
    for name in case.names:
        blank = {key: torch.zeros_like(each) for key, each in batch[name].tensors.items()}
        output = run(model, {**batch, name: ModalityBatch(blank, nobody)})
        assert torch.isfinite(output.logits).all()
        assert torch.isfinite(output.embeddings["fused"]).all()


@every
def test_the_steps_are_the_forward_pass(case: Case) -> None:
    model, batch = case.model(), mixed(case)
    assert isinstance(model, StagedModel)
    told: list[str] = []
    with torch.inference_mode():
        encoded = model.encode(batch, told.append)
        steps, heads = model.fuse(encoded, with_attention=True), model.heads(encoded)
        some = model.fuse({name: each.rows(torch.tensor([4, 0])) for name, each in encoded.items()})
    whole = run(model, batch)
    assert told == list(case.names)
    assert torch.equal(steps.logits, whole.logits)
    assert all(torch.equal(heads[name], whole.unimodal_logits[name]) for name in case.names)
    assert all(torch.equal(encoded[name].pooled, whole.embeddings[name]) for name in case.names)
    torch.testing.assert_close(some.logits, whole.logits[[4, 0]], atol=3e-6, rtol=1e-5)


@every
def test_a_seed_gives_one_model_and_an_input_one_answer(case: Case) -> None:
    model, batch = case.model(), mixed(case)
    one, again, twin, other = (run(m, batch).logits for m in (model, model, case.model(), case.model(1)))
    assert torch.equal(one, again)
    assert torch.equal(one, twin)
    assert not torch.equal(one, other)


@every
def test_a_checkpoint_comes_back_bit_for_bit(case: Case, tmp_path: Path) -> None:
    model = case.model()
    saved = []
    for name in ("one", "two"):
        save_checkpoint(tmp_path / name, model, case.preprocessor(), LABELS, 1.25)
        version = write_manifest(tmp_path / name)
        model = load_checkpoint(tmp_path / name, CPU).model  # type: ignore[assignment]  # the family's own class
        saved.append((version, run(model, mixed(case)).logits, model.state_dict()))
    (version, logits, weights), (other_version, other_logits, other_weights) = saved
    assert version == other_version
    assert torch.equal(logits, other_logits)
    assert weights.keys() == case.model().state_dict().keys()
    assert all(torch.equal(weights[name], other_weights[name]) for name in weights)
    torch.testing.assert_close(logits, run(case.model(), mixed(case)).logits, atol=0.02, rtol=0.02)


@every
def test_every_parameter_gets_a_finite_gradient(case: Case) -> None:
    model = case.model()
    model.train()
    objective = Objective(model, FitSettings(), Team(CPU))
    terms = objective(mixed(case), torch.tensor([0, 1, 2, 0, 1, 2]))
    terms.loss.backward()
    assert len(terms.scores) == len(case.names)
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name


@every
def test_the_worker_runs_it_with_cascade_and_contributions(case: Case, tmp_path: Path) -> None:
    save_checkpoint(tmp_path, case.model(), case.preprocessor(), LABELS, 1.25)
    write_manifest(tmp_path)
    checkpoint = load_checkpoint(tmp_path, CPU)
    for threshold, share in ((None, 1.0), (0.34, 1.0), (0.9, 0.0)):
        predictor = Predictor(
            checkpoint, CPU, cascade_threshold=threshold, contribution_share=share, attention=threshold is None
        )
        predictor.warm_up()
        output = predictor.run(model_input(case, checkpoint.blanks))
        np.testing.assert_allclose(output.probabilities.sum(1), 1.0, atol=1e-5)
        assert output.embeddings.keys() == {*case.names, "fused"}


def model_input(case: Case, blanks: Mapping[str, Prepared]) -> ModelInput:
    """Six requests: four with every modality, two with one each."""
    preprocessor, rng = case.preprocessor(), np.random.default_rng(0)
    batch = []
    for i in range(6):
        sent = case.names if i < 4 else (case.names[i % 2],)
        values = {name: preprocessor.inputs(name, some_value(name, rng)) for name in sent}
        batch.append({name: Prepared(inputs, blanks[name].quality) for name, inputs in values.items()})
    return collate(batch, blanks)


@every
def test_it_learns_what_one_modality_says(case: Case) -> None:
    """The text where there is one, else the video."""
    rng, examples = np.random.default_rng(0), []
    for i in range(48):
        values = {name: some_value(name, rng) for name in case.names}
        if "text" in case.names:
            values["text"] = ("a red circle", "a blue square")[i % 2]
        else:
            values["video"] += 2.0 * (i % 2) - 1.0
        examples.append(LabelledExample.of(f"r{i}", values, i % 2))
    model = case.model()
    settings = FitSettings(steps=40, batch_size=16, learning_rate=3e-3, warmup=3, drop=0.0, deadline_s=120.0)
    encoders = {name: case.family.encoders[name] for name in case.names}
    fit(model, case.preprocessor(), examples, settings, encoders=encoders)
    assert evaluate(model, case.preprocessor(), examples, 1.0, ["fused"])["fused"].accuracy > 0.9
