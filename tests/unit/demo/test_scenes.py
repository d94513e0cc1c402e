"""Scenes, captions and the tokenizer: what is drawn is what is said, and neither half gives the label away."""

from __future__ import annotations

from collections import Counter
from itertools import islice

import numpy as np
import pytest

from demo.captions import (
    HEDGES,
    LABELS,
    TEXT_ONLY_BAYES_ACCURACY,
    Label,
    draw_claim,
    write_caption,
)
from demo.examples import example_stream, with_shifted_captions
from demo.grounding import IGNORE, WordRoles, patch_targets
from demo.scenes import COLOURS, PALETTE, SHAPES, UNSEEN_COLOURS, UNSEEN_SHAPES, Claim, Item, Scene, draw_scene
from demo.shapes import signed_distance
from demo.tokenizer import VOCABULARY, build_tokenizer


def scenes(count: int, seed: int = 0) -> list[Scene]:
    rng = np.random.default_rng(seed)
    return [draw_scene(rng) for _ in range(count)]


def test_scene_matches_its_claim() -> None:
    for scene in scenes(200):
        assert scene.image.shape == (64, 64, 3)
        assert scene.image.dtype == np.uint8
        assert scene.items[:2] == (scene.claim.first, scene.claim.second)
        assert scene.claim.first.colour != scene.claim.second.colour
        assert scene.claim.first.shape != scene.claim.second.shape
        middle = [np.argwhere(scene.objects == number).mean(0) for number in (1, 2)]
        along = 1 if scene.claim.axis == "horizontal" else 0
        gap = middle[1] - middle[0]
        assert 0.3 * 64 < gap[along] < 0.7 * 64
        assert abs(gap[1 - along]) < gap[along]
        for item in scene.items[2:]:
            assert item.colour not in scene.free_colours
            assert item.colour not in {scene.claim.first.colour, scene.claim.second.colour}


def test_objects_wear_their_colour() -> None:
    """The mean hue direction of an object's pixels is nearest to the colour that names it."""
    palette = np.array([PALETTE[c] for c in COLOURS])
    right = total = 0
    for scene in scenes(100):
        for number, item in enumerate(scene.items[:2], start=1):
            mean = scene.image[scene.objects == number].mean(0) / 255.0
            scaled = palette * (mean @ palette.T / (palette**2).sum(1))[:, None]
            right += COLOURS[int(((scaled - mean) ** 2).sum(1).argmin())] == item.colour
            total += 1
    assert right / total > 0.95


def test_same_seed_same_scene_other_seed_other_scene() -> None:
    assert np.array_equal(scenes(3)[2].image, scenes(3)[2].image)
    assert not np.array_equal(scenes(1, 0)[0].image, scenes(1, 1)[0].image)


@pytest.mark.parametrize("shape", [*SHAPES, *UNSEEN_SHAPES])
def test_every_shape_has_a_body_of_its_own(shape: str) -> None:
    grid = ((np.arange(64) + 0.5) / 64 - 0.5).astype(np.float32)
    x, y = np.broadcast_to(grid, (64, 64)), np.broadcast_to(grid[:, None], (64, 64))
    bodies = {s: signed_distance(s, x, y, 0.3, 0.0) < 0.0 for s in (*SHAPES, *UNSEEN_SHAPES)}
    area = bodies[shape].mean() / 0.3**2
    assert 0.8 < area < 3.0
    for other, body in bodies.items():
        if other != shape:
            assert (body != bodies[shape]).mean() > 0.01


def test_drift_scenes_use_new_concepts() -> None:
    scene = draw_scene(np.random.default_rng(0), colours=(*UNSEEN_COLOURS, "red", "green"), shapes=UNSEEN_SHAPES)
    assert {item.shape for item in scene.items} <= set(UNSEEN_SHAPES)


def differences(a: Claim, b: Claim) -> int:
    pairs = ((a.first, b.first), (a.second, b.second))
    return sum((x.colour != y.colour) + (x.shape != y.shape) for x, y in pairs)


def test_claims_differ_from_the_truth_as_their_label_says() -> None:
    rng = np.random.default_rng(0)
    swapped = 0
    for scene in scenes(300):
        truth = scene.claim
        assert draw_claim(rng, scene, Label.CONSISTENT) == truth
        assert differences(truth, draw_claim(rng, scene, Label.MISLEADING)) == 1
        said = draw_claim(rng, scene, Label.CONTRADICTORY)
        assert differences(truth, said) == 4
        swapped += said == Claim(truth.second, truth.first, truth.axis)
        for label in Label:
            claim = draw_claim(rng, scene, label)
            assert {claim.first.colour, claim.second.colour} <= set(scene.free_colours)
            assert claim.first.colour != claim.second.colour
            assert claim.first.shape != claim.second.shape
    assert 110 < swapped < 190


def test_the_facts_said_do_not_give_the_label_away() -> None:
    """Each fact's frequency is the same under every label: differences stay within four standard errors."""
    rng = np.random.default_rng(0)
    counts = {label: Counter[object]() for label in Label}
    drawn = scenes(500)
    for scene in drawn:
        for label in Label:
            claim = draw_claim(rng, scene, label)
            counts[label].update(
                [claim.axis, ("1", claim.first.colour), ("1", claim.first.shape), ("2", claim.second.colour)]
            )
    for fact in set().union(*counts.values()):
        share = np.array([counts[label][fact] for label in Label]) / len(drawn)
        error = np.sqrt(2 * share.mean() * (1 - share.mean()) / len(drawn))
        assert np.ptp(share) < 4 * error + 1e-9, fact


def test_hedge_word_is_the_stated_cue() -> None:
    rng = np.random.default_rng(0)
    claim = Claim(Item("red", "circle"), Item("blue", "square"), "vertical")
    share = {
        label: np.mean([write_caption(rng, claim, label).startswith(HEDGES) for _ in range(3000)]) for label in Label
    }
    assert share[Label.MISLEADING] == pytest.approx(0.6, abs=0.04)
    assert share[Label.CONSISTENT] == pytest.approx(0.2, abs=0.04)
    hedged = sum(share.values()) / 3
    best = max(share.values()) / 3 + (1 - min(share.values())) / 3
    assert hedged == pytest.approx(1 / 3, abs=0.03)
    assert best == pytest.approx(TEXT_ONLY_BAYES_ACCURACY, abs=0.03)
    assert not write_caption(rng, claim, Label.MISLEADING, hedged=False).startswith(HEDGES)


def test_caption_says_the_claim_from_either_side() -> None:
    rng = np.random.default_rng(0)
    claim = Claim(Item("orange", "circle"), Item("blue", "square"), "vertical")
    down, up = {"above", "over", "higher"}, {"below", "under", "lower"}
    seen = Counter[bool]()
    for _ in range(300):
        words = write_caption(rng, claim, Label.CONSISTENT).split()
        assert "a orange" not in " ".join(words)
        relation = next(w for w in words if w in down | up)
        fronted = words.index(relation) < min(words.index("orange"), words.index("blue"))
        first_named = "orange" if words.index("orange") < words.index("blue") else "blue"
        subject = {"orange": "blue", "blue": "orange"}[first_named] if fronted else first_named
        assert (relation in down) == (subject == "orange")
        seen[subject == "orange"] += 1
    assert min(seen.values()) > 100


def test_labels_are_in_the_models_order() -> None:
    assert LABELS == ("consistent", "misleading", "contradictory")


def test_stream_is_seeded_and_pairs_can_be_shifted() -> None:
    first, second = (list(islice(example_stream(3), 20)) for _ in range(2))
    assert [e.caption for e in first] == [e.caption for e in second]
    assert all(np.array_equal(a.image, b.image) for a, b in zip(first, second, strict=True))
    assert [e.caption for e in islice(example_stream(4), 20)] != [e.caption for e in first]
    shifted = list(with_shifted_captions(iter(first)))
    assert [e.caption for e in shifted] == [e.caption for e in first[:-1]]
    assert all(np.array_equal(a.image, b.image) for a, b in zip(shifted, first[1:], strict=True))


def test_stream_follows_the_prior() -> None:
    labels = Counter(e.label for e in islice(example_stream(3, prior=(0.8, 0.1, 0.1)), 300))
    assert labels[Label.CONSISTENT] / 300 == pytest.approx(0.8, abs=0.08)


def test_tokenizer_knows_caption_words_and_spells_the_rest() -> None:
    tokenizer = build_tokenizer(["a red circle", "the blue square"])
    again = build_tokenizer(["the blue square", "a red circle"])
    assert tokenizer.to_str() == again.to_str()
    assert tokenizer.encode("The RED circle").tokens == ["[CLS]", "the", "red", "circle", "[SEP]"]
    assert tokenizer.encode("cat").tokens == ["[CLS]", "c", "##a", "##t", "[SEP]"]
    assert tokenizer.encode("круг").tokens == ["[CLS]", "[UNK]", "[SEP]"]
    words = [a + b + c for a in "abcdefgh" for b in "abcdefgh" for c in "abcdefgh"]
    with pytest.raises(ValueError, match=f"do not fit a vocabulary of {VOCABULARY}"):
        build_tokenizer(words)


def test_patch_targets_name_what_the_patch_shows() -> None:
    for scene in scenes(30):
        targets = patch_targets(scene)
        assert targets.shape == (3, 16)
        for patch, (colour, shape, side) in enumerate(targets.T):
            row, column = divmod(patch, 4)
            pixels = scene.objects[row * 16 : row * 16 + 16, column * 16 : column * 16 + 16]
            if colour == len(COLOURS):
                assert (pixels > 0).mean() <= 0.05
                assert shape == side == IGNORE
            elif colour != IGNORE:
                owner = int(np.bincount(pixels[pixels > 0]).argmax())
                assert COLOURS[colour] == scene.items[owner - 1].colour
                assert SHAPES[shape] == scene.items[owner - 1].shape
                assert (side == IGNORE) == (owner > 2)


def test_word_roles_follow_the_claim() -> None:
    from torch import tensor

    tokenizer = build_tokenizer([" ".join((*COLOURS, *SHAPES, "a is left right above below of"))])
    claim = Claim(Item("red", "star"), Item("cyan", "cross"), "horizontal")
    encoding = tokenizer.encode("a cyan cross is right of a red star")
    targets = WordRoles(tokenizer).targets(tensor([encoding.ids]), [claim])[:, 0]
    by_word = {w: targets[:, i].tolist() for i, w in enumerate(encoding.tokens)}
    cyan = [COLOURS.index("cyan"), SHAPES.index("cross"), 1]
    assert by_word["cyan"] == by_word["cross"] == cyan
    assert by_word["red"] == by_word["star"] == [COLOURS.index("red"), SHAPES.index("star"), 0]
    assert by_word["right"] == [IGNORE] * 3
