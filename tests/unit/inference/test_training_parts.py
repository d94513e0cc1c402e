"""What a training step is made of: batches, augmentation, loss, balance between modalities, and staged rates."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from inference.models.base import Family, FusionOutput, ModalityBatch
from inference.models.registry import families
from inference.training.augment import augmented, cropped, without_words
from inference.training.balance import coefficients, modulate, normalise
from inference.training.batches import Batches, inverse_frequency
from inference.training.data import LabelledExample
from inference.training.fit import fit
from inference.training.fit_settings import Augmentation, Balance, Contrast, FitSettings, Precision
from inference.training.groups import parameter_groups
from inference.training.objective import Objective, contrastive
from inference.training.run import Run
from inference.training.team import Team
from tests.support.tiny_model import small_model, small_of, small_preprocessor

ALONE = Team(torch.device("cpu"))
ENCODERS = {"image": "image_encoder.", "text": "text_encoder."}
SETTINGS = FitSettings(steps=6, batch_size=8, learning_rate=1e-3, warmup=1, drop=0.0, deadline_s=120.0)


def examples(count: int = 16) -> list[LabelledExample]:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
    return [LabelledExample(f"r{i}", images[i], "a red circle", i % 3) for i in range(count)]


@given(st.integers(1, 40), st.integers(1, 15), st.integers(0, 5))
def test_every_example_comes_once_before_any_again(count: int, size: int, seed: int) -> None:
    batches = Batches(np.zeros(count, np.int64), size, seed)
    drawn = np.concatenate([batches(step) for step in range(3 * count // size + 1)])
    whole = len(drawn) // count * count
    for one in drawn[:whole].reshape(-1, count):
        assert sorted(one) == list(range(count))
    assert np.array_equal(batches(1), Batches(np.zeros(count, np.int64), size, seed)(1)), "of seed and step alone"


@given(st.lists(st.integers(0, 3), min_size=1, max_size=60), st.integers(0, 5))
def test_balanced_passes_hold_every_class_equally_often(labels: Sequence[int], seed: int) -> None:
    of = np.array(labels)
    drawn = Batches(of, len(of), seed, "balanced")(0)
    classes = Counter(of[drawn].tolist())
    assert classes.keys() <= set(labels)
    assert max(classes.values()) - min(classes.get(c, 0) for c in set(labels)) <= 1
    rows = Counter(drawn.tolist())
    for c in set(labels):
        of_class = [rows.get(int(row), 0) for row in np.flatnonzero(of == c)]
        assert max(of_class) - min(of_class) <= 1, "no row of a class is preferred"


def test_class_weights_give_every_class_the_same_say() -> None:
    labels = np.array([0, 0, 0, 0, 0, 0, 2, 2])
    weights = inverse_frequency(labels, 3)
    assert weights == pytest.approx((8 / 12, 0.0, 8 / 4))
    assert sum(np.array(weights)[labels]) == pytest.approx(len(labels)), "the loss keeps its size"


def test_augmentation_changes_what_it_is_told_and_repeats_itself() -> None:
    example = examples(1)[0]
    assert example.image is not None
    same = augmented(example, Augmentation(), np.random.default_rng(0))
    assert np.array_equal(same.image if same.image is not None else 0, example.image)
    flipped = augmented(example, Augmentation(flip=1.0), np.random.default_rng(0))
    assert flipped.image is not None
    assert np.array_equal(flipped.image, example.image[:, ::-1])
    how = Augmentation(flip=0.5, brightness=0.4, crop=0.3, words=0.5)
    one, two, three = (augmented(example, how, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert one.image is not None
    assert two.image is not None
    assert three.image is not None
    assert np.array_equal(one.image, two.image)
    assert one.caption == two.caption
    assert one.image.shape != three.image.shape or not np.array_equal(one.image, three.image)
    assert one.label == example.label
    missing = augmented(replace(example, image=None, caption=None), how, np.random.default_rng(0))
    assert missing.image is None
    assert missing.caption is None


@given(st.integers(1, 30), st.integers(1, 30), st.floats(0, 0.9), st.integers(0, 9))
def test_a_crop_is_a_part_of_the_picture_no_smaller_than_allowed(h: int, w: int, most: float, seed: int) -> None:
    pixels = np.arange(h * w * 3, dtype=np.int64).reshape(h, w, 3)
    part = cropped(pixels.astype(np.uint8), most, np.random.default_rng(seed))
    numbered = cropped(pixels, most, np.random.default_rng(seed))  # type: ignore[arg-type]  # the same cut, by number
    assert part.shape == numbered.shape
    assert part.shape[0] >= h * (1 - most) > 0
    assert part.shape[1] >= w * (1 - most) > 0
    top, left = divmod(int(numbered[0, 0, 0]) // 3, w)
    assert np.array_equal(numbered, pixels[top : top + part.shape[0], left : left + part.shape[1]])


@given(st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=9), st.floats(0, 1), st.integers(0, 9))
def test_some_word_always_stays_and_none_is_made_up(words: list[str], share: float, seed: int) -> None:
    kept = without_words(" ".join(words), share, np.random.default_rng(seed)).split()
    assert kept
    rest = iter(words)
    assert all(word in rest for word in kept), "in their order"


class Fixed(nn.Module):
    """Says what it is told to say."""

    def __init__(self, logits: Tensor, heads: dict[str, Tensor], embeddings: dict[str, Tensor]) -> None:
        super().__init__()
        self.said = FusionOutput(logits, embeddings, heads)

    def forward(self, _: object) -> FusionOutput:
        return self.said


def fixed(rows: int = 6) -> tuple[Fixed, dict[str, ModalityBatch], Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits, image, text = (torch.randn(rows, 3, generator=generator) for _ in range(3))
    vectors = {name: torch.randn(rows, 4, generator=generator) for name in ("image", "text")}
    here = {"image": torch.arange(rows) > 0, "text": torch.arange(rows) < rows - 1}
    batch = {name: ModalityBatch({}, present) for name, present in here.items()}
    return Fixed(logits, {"image": image, "text": text}, vectors), batch, torch.arange(rows) % 3


def test_the_loss_is_the_sum_of_its_terms_over_the_rows_they_are_about() -> None:
    model, batch, labels = fixed()
    said = model.said
    weights = torch.tensor([0.5, 1.0, 2.0])
    settings = replace(SETTINGS, unimodal_weight=0.3, class_weights=(0.5, 1.0, 2.0))
    expected = functional.cross_entropy(said.logits, labels, weight=weights)
    for name, logits in said.unimodal_logits.items():
        here = batch[name].present
        expected = expected + 0.3 * functional.cross_entropy(logits[here], labels[here], weight=weights)
    terms = Objective(model, settings, ALONE)(batch, labels)
    assert float(terms.loss) == pytest.approx(float(expected), rel=1e-6)
    for place, name in enumerate(("image", "text")):
        here = batch[name].present
        right = said.unimodal_logits[name].softmax(1)[torch.arange(6), labels]
        assert float(terms.scores[place]) == pytest.approx(float(right[here].mean()), rel=1e-6)


def test_the_contrastive_term_is_clips_over_true_pairs() -> None:
    model, batch, labels = fixed()
    full = {name: replace(part, present=torch.ones(6, dtype=torch.bool)) for name, part in batch.items()}
    image, text = (functional.normalize(model.said.embeddings[name], dim=1) for name in ("image", "text"))
    scores = image @ text.T / 0.2
    own = torch.arange(6)
    each = (
        functional.cross_entropy(scores, own, reduction="none")
        + functional.cross_entropy(scores.T, own, reduction="none")
    ) / 2
    for label, chosen in ((None, own >= 0), (1, labels == 1)):
        plain = Objective(model, SETTINGS, ALONE)(full, labels).loss
        settings = replace(SETTINGS, contrast=Contrast(0.5, 0.2, label))
        more = Objective(model, settings, ALONE)(full, labels).loss - plain
        assert float(more) == pytest.approx(0.5 * float(each[chosen].mean()), rel=1e-5)


def test_rows_that_lack_a_modality_are_nobodys_candidates() -> None:
    _, batch, _ = fixed()
    generator = torch.Generator().manual_seed(1)
    left, right = (torch.randn(6, 4, generator=generator) for _ in range(2))
    how, here = Contrast(1.0, 0.1), (batch["image"].present, batch["text"].present)
    found = contrastive(left, right, *here, how, ALONE)
    inner = slice(1, 5)  # rows 0 and 5 lack a modality each
    alone = torch.ones(4, dtype=torch.bool)
    only_text_lost = contrastive(left[1:], right[1:], alone.new_ones(5), here[1][1:], how, ALONE)
    assert torch.isfinite(found).all()
    changed = contrastive(torch.cat((torch.full((1, 4), 9.0), left[1:])), right, *here, how, ALONE)
    torch.testing.assert_close(changed[inner], found[inner])
    assert torch.isfinite(only_text_lost).all()


def test_a_contrastive_term_without_a_shared_space_is_refused() -> None:
    model, batch, labels = fixed()
    model.said = replace(model.said, embeddings={"image": torch.zeros(6, 4), "text": torch.zeros(6, 5)})
    with pytest.raises(ValueError, match="image has embeddings of 4 numbers and text of 5; expected a shared space"):
        Objective(model, replace(SETTINGS, contrast=Contrast(1.0)), ALONE)(batch, labels)


def test_the_modality_ahead_is_slowed_and_the_other_is_not() -> None:
    found = coefficients({"image": 0.3, "text": 0.6}, 0.5)
    assert found == {"image": 1.0, "text": pytest.approx(1 - np.tanh(1.0))}
    three = coefficients({"a": 0.6, "b": 0.2, "c": 0.4}, 0.5)
    assert three == {"a": pytest.approx(1 - np.tanh(1.0)), "b": 1.0, "c": 1.0}
    assert coefficients({"a": 0.9}, 0.5) == {"a": 1.0}


def parts() -> Iterator[tuple[str, list[nn.Parameter]]]:
    for name, size in (("image", 3.0), ("text", 0.5)):
        parameters = [nn.Parameter(torch.zeros(4, 4)), nn.Parameter(torch.zeros(4))]
        for each in parameters:
            each.grad = torch.linspace(-size, size, each.numel()).reshape(each.shape)
        yield name, parameters


def test_normalised_gradients_have_their_mean_norm() -> None:
    encoders = dict(parts())
    before = {name: norm(each) for name, each in encoders.items()}
    normalise(encoders)
    for each in encoders.values():
        assert norm(each) == pytest.approx(sum(before.values()) / 2, rel=1e-5)


def test_modulation_scales_and_adds_noise_of_the_gradients_own_spread() -> None:
    encoders = dict(parts())
    first = encoders["image"][0]
    assert first.grad is not None
    before, untouched = first.grad.clone(), [p.grad.clone() for p in encoders["text"] if p.grad is not None]
    modulate(encoders, {"image": 0.25, "text": 1.0}, torch.Generator().manual_seed(0))
    noise = first.grad - 0.25 * before
    assert 0.4 < float(noise.std() / before.std()) < 1.8
    after = [p.grad for p in encoders["text"] if p.grad is not None]
    assert all(torch.equal(one, two) for one, two in zip(untouched, after, strict=True))


def norm(parameters: list[nn.Parameter]) -> float:
    return float(torch.cat([p.grad.flatten() for p in parameters if p.grad is not None]).norm())


@pytest.mark.parametrize("balance", ["none", "modulated", "normalised"])
def test_encoders_wait_until_they_are_thawed(balance: Balance) -> None:
    model, start = small_model(), small_model().state_dict()
    settings = replace(SETTINGS, thaw=3, encoder_rate=0.1, balance=balance)
    moved: list[set[str]] = []

    def after(run: Run, _: float) -> None:
        now = run.model.state_dict()
        moved.append({name for name in start if not torch.equal(now[name], start[name])})

    fit(model, small_preprocessor(), examples(), settings, encoders=ENCODERS, after=after)
    assert not any(name.startswith(tuple(ENCODERS.values())) for name in moved[2])
    assert moved[2]
    assert any(name.startswith("image_encoder.") for name in moved[3])
    assert any(name.startswith("text_encoder.") for name in moved[3])
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_encoders_have_groups_at_their_own_rate() -> None:
    model = small_model()
    groups = parameter_groups(model, 0.05, tuple(ENCODERS.values()), 0.1)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    for group in groups:
        for parameter in group["params"]:
            encoder = names[id(parameter)].startswith(tuple(ENCODERS.values()))
            assert group["factor"] == (0.1 if encoder else 1.0)
    assert sum(len(group["params"]) for group in groups) == len(names)


PRECISIONS: tuple[Precision, ...] = ("float32", "bfloat16")
FAMILIES = [family for _, family in sorted(families().items()) if set(family.encoders) == {"image", "text"}]


@pytest.mark.parametrize("family", [each for each in FAMILIES if not each.raw], ids=lambda family: family.name)
def test_bfloat16_multiplies_in_half_precision_and_keeps_weights_and_loss_whole(family: Family) -> None:
    model = small_of(family)
    products: set[torch.dtype] = set()
    model.image_projection.register_forward_hook(lambda _module, _given, product: products.add(product.dtype))
    losses: dict[Precision, list[float]] = {}
    for precision in PRECISIONS:
        start = small_of(family).state_dict()
        model.load_state_dict(start)
        losses[precision] = losses_of(model, replace(SETTINGS, steps=2, precision=precision))
        assert all(value.dtype == start[name].dtype for name, value in model.state_dict().items())
        assert torch.bfloat16 in products or precision == "float32"
    assert losses["bfloat16"] != losses["float32"]
    assert losses["bfloat16"] == pytest.approx(losses["float32"], rel=0.02)


def losses_of(model: nn.Module, settings: FitSettings) -> list[float]:
    found: list[float] = []
    fit(model, small_preprocessor(), examples(8), settings, progress=lambda _step, _steps, loss: found.append(loss))
    return found


def test_settings_that_need_encoders_are_refused_without() -> None:
    with pytest.raises(ValueError, match="need to know the model's encoders"):
        fit(small_model(), small_preprocessor(), examples(), replace(SETTINGS, thaw=1))


def test_a_batch_that_cannot_be_shared_equally_is_refused() -> None:
    with pytest.raises(ValueError, match="a batch of 8 cannot be shared equally by 3 processes"):
        fit(small_model(), small_preprocessor(), examples(), SETTINGS, team=Team(torch.device("cpu"), 0, 3))


def test_a_state_restored_in_another_model_goes_on_bit_for_bit() -> None:
    rows, preprocessor = examples(), small_preprocessor()
    settings = replace(SETTINGS, drop=0.2, augment=Augmentation(brightness=0.2))
    states: list[dict[str, Tensor]] = []

    def keep(run: Run, _: float) -> str | None:
        states.append(run.state())
        return None

    whole = small_model()
    fit(whole, preprocessor, rows, settings, after=keep)
    other = small_model(seed=9)

    def restore(run: Run) -> None:
        run.restore(states[2])

    fit(other, preprocessor, rows, settings, before=restore)
    one, two = whole.state_dict(), other.state_dict()
    assert all(torch.equal(one[name], two[name]) for name in one)
