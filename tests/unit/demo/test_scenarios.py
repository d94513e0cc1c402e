"""Every drift scenario changes what it says it changes, in the same way each time, and nothing else."""

from __future__ import annotations

from collections import Counter
from itertools import islice

import numpy as np
import pytest

from demo.captions import HEDGES, Label, draw_claim
from demo.examples import Example
from demo.scenarios import NORMAL, SCENARIOS, DriftScenario, inverted_is_misleading
from demo.scenes import UNSEEN_COLOURS, UNSEEN_SHAPES, draw_scene
from demo.wordings import TYPOS, german, russian

COUNT = 60
BY_NAME = {scenario.name: scenario for scenario in SCENARIOS}


def examples(scenario: DriftScenario, count: int = COUNT, seed: int = 3) -> list[Example]:
    return list(islice(scenario.examples(seed), count))


def captions(name: str, count: int = COUNT) -> list[str]:
    return [example.caption for example in examples(BY_NAME[name], count)]


def test_names_are_unique() -> None:
    assert len(BY_NAME) == len(SCENARIOS) == 22


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda s: s.name)
def test_same_seed_gives_the_same_examples(scenario: DriftScenario) -> None:
    first, again, other = examples(scenario, 12), examples(scenario, 12), examples(scenario, 12, seed=4)
    for one, two in zip(first, again, strict=True):
        assert (one.number, one.caption, one.label) == (two.number, two.caption, two.label)
        np.testing.assert_array_equal(one.image, two.image)
    assert [e.caption for e in first] != [e.caption for e in other]
    assert all(e.image.shape == (64, 64, 3) and e.image.dtype == np.uint8 for e in first)


@pytest.mark.parametrize("scenario", [s for s in SCENARIOS if len(s.changed) == 1], ids=lambda s: s.name)
def test_one_modality_changes_and_the_other_does_not(scenario: DriftScenario) -> None:
    usual, found = examples(NORMAL, 1)[0], examples(scenario, 1)[0]
    assert found.label is usual.label
    same_picture = np.array_equal(found.image, usual.image)
    if scenario.changed == ("image",):
        assert found.caption == usual.caption
        assert same_picture != scenario.with_image
    else:
        assert same_picture
        assert found.caption != usual.caption


def test_a_camera_changes_pictures_only() -> None:
    for scenario in (s for s in SCENARIOS if s.changed == ("image",)):
        for usual, found in zip(examples(NORMAL, 5), examples(scenario, 5), strict=True):
            assert (found.caption, found.label) == (usual.caption, usual.label), scenario.name


def test_new_words_and_objects_are_in_the_captions() -> None:
    for name, words in (("new colours", UNSEEN_COLOURS), ("new shapes", UNSEEN_SHAPES)):
        share = np.mean([any(word in caption for word in words) for caption in captions(name)])
        assert share > 0.7, name


def test_wordings_are_of_their_kind() -> None:
    usual = np.array([len(caption.split()) for caption in captions("none")])
    assert all(np.array([len(caption.split()) for caption in captions("short captions")]) < usual)
    assert all(np.array([len(caption.split()) for caption in captions("long captions")]) > 2 * usual)
    assert all(" liegt " in caption and caption.startswith("ein") for caption in captions("German"))
    assert not any(letter in "abcdefghijklmnopqrstuvwxyz" for caption in captions("Russian") for letter in caption)


def test_foreign_captions_are_grammatical() -> None:
    rng = np.random.default_rng(0)
    scenes = [draw_scene(rng) for _ in range(400)]
    claims = [scene.claim for scene in scenes]
    blue_star = next(c for c in claims if (c.first.colour, c.first.shape) == ("blue", "star"))
    assert german(rng, blue_star, Label.CONSISTENT).startswith("ein blauer Stern ")
    assert russian(rng, blue_star, Label.CONSISTENT).startswith("синяя звезда ")
    red_diamond = next(c for c in claims if (c.second.colour, c.second.shape) == ("red", "diamond"))
    assert german(rng, red_diamond, Label.CONSISTENT).endswith(" einer roten Raute")
    assert russian(rng, red_diamond, Label.CONSISTENT).endswith(" красного ромба")


def test_typos_hit_the_share_of_letters() -> None:
    usual, typed = captions("none", 1)[0], captions("typos 4%", 1)[0]  # later ones are of other scenes
    assert len(usual) == len(typed)
    known = {word for caption in captions("none", 300) for word in caption.split()}
    words = [word for caption in captions("typos 4%", 300) for word in caption.split()]
    expected = np.mean([(1 - TYPOS) ** sum(map(str.isalpha, word)) for word in words])
    assert abs(np.mean([word in known for word in words]) - expected) < 0.03


def test_shifted_captions_are_the_previous_ones() -> None:
    usual = examples(NORMAL)
    found = examples(BY_NAME["captions shifted by one"], COUNT - 1)
    assert [e.caption for e in found] == [e.caption for e in usual[:-1]]
    assert [e.label for e in found] == [e.label for e in usual[1:]]


def test_a_tenth_of_the_pairs_is_exchanged() -> None:
    usual, found = examples(NORMAL), examples(BY_NAME["10% mispaired"])
    assert sum(a.caption != b.caption for a, b in zip(usual, found, strict=True)) == COUNT // 10
    assert Counter(e.caption for e in usual) == Counter(e.caption for e in found)
    assert [e.label for e in usual] == [e.label for e in found]


def test_the_prior_moves_and_the_captions_of_a_class_do_not() -> None:
    found = examples(BY_NAME["class prior 0.8/0.1/0.1"], 300)
    shares = {label: np.mean([e.label is label for e in found]) for label in Label}
    assert 0.72 < shares[Label.CONSISTENT] < 0.88
    hedged = np.mean([e.caption.startswith(HEDGES) for e in found if e.label is Label.CONSISTENT])
    assert 0.12 < hedged < 0.3  # 0.2, as of consistent captions anywhere


def test_the_relabelled_concept_changes_labels_only() -> None:
    usual, found = examples(NORMAL, 300), examples(BY_NAME["relabelled concept"], 300)
    for a, b in zip(usual, found, strict=True):
        assert a.caption == b.caption
        np.testing.assert_array_equal(a.image, b.image)
    moved = [(a.label, b.label) for a, b in zip(usual, found, strict=True) if a.label is not b.label]
    assert set(moved) == {(Label.CONTRADICTORY, Label.MISLEADING)}
    assert 0.1 < len(moved) / 300 < 0.24  # half of a third


def test_an_inverted_relation_is_what_is_relabelled() -> None:
    rng = np.random.default_rng(1)
    for _ in range(50):
        scene = draw_scene(rng)
        claim = draw_claim(rng, scene, Label.CONTRADICTORY)
        inverted = claim.first == scene.claim.second
        expected = Label.MISLEADING if inverted else Label.CONTRADICTORY
        assert inverted_is_misleading(scene, claim, Label.CONTRADICTORY) is expected
