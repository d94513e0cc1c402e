"""`fusionwatch-inference explain`: one page about one answer, whichever family gave it."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from demo.captions import LABELS
from demo.deployment import CHECKPOINT
from demo.examples import example_stream
from inference.cli import app
from inference.direct import DirectPredictor
from inference.explained import Look, explain
from inference.explained_page import page
from inference.models.base import Family
from inference.models.checkpoint import load_checkpoint, save_checkpoint, write_manifest
from inference.models.registry import families
from inference.predictor import Predictor
from tests.support.tiny_model import LABELS as TINY_LABELS
from tests.support.tiny_model import small_of, small_preprocessor

CPU = torch.device("cpu")
PAIRS = [each for _, each in sorted(families().items()) if set(each.encoders) == {"image", "text"} and not each.raw]
GATED, BLIND = {"fusion_late", "fusion_mixture"}, {"fusion_early", "fusion_clip", "fusion_mvae", "fusion_hybrid"}


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A picture of the demo's and a caption."""
    example = next(example_stream(11))
    path = tmp_path_factory.mktemp("scene") / "scene.png"
    Image.fromarray(example.image).save(path)
    return path, example.caption


def test_a_picture_and_its_text_become_a_page_with_what_the_model_looks_at(
    scene: tuple[Path, str], tmp_path: Path
) -> None:
    image, text = scene
    out = tmp_path / "why.html"
    asked = ["explain", "--checkpoint", str(CHECKPOINT), "--image", str(image), "--text", text, "--out", str(out)]
    done = CliRunner().invoke(app, asked)
    assert done.exit_code == 0, done.output
    shown = out.read_text()
    checkpoint = load_checkpoint(CHECKPOINT, CPU)
    values = {"image": np.asarray(Image.open(image)), "text": text}
    told = explain(checkpoint, values)
    predictor = DirectPredictor(checkpoint.card, Predictor(checkpoint, CPU).run)
    whole, blind, mute = predictor.predict([values, {"text": text}, {"image": values["image"]}])
    assert whole.probabilities is not None
    assert told.probabilities == pytest.approx(dict(zip(LABELS, whole.probabilities.tolist(), strict=True)), abs=1e-5)
    assert (told.label, f"{told.label}, {told.confidence:.1%}") == (whole.label, done.stdout.split(";")[0])
    number = LABELS.index(told.label)
    for each, less in zip(told.without, (blind, mute), strict=True):
        assert less.probabilities is not None
        assert each.label == less.label
        assert each.lost == pytest.approx(told.confidence - float(less.probabilities[number]), abs=1e-5)
    assert told.look is not None
    assert (told.look.columns, told.look.weights.shape) == (4, (16, len(told.look.tokens)))
    assert told.look.tokens[0] == "[CLS]"
    assert told.look.by_token.sum() == pytest.approx(1.0)
    assert shown.count("<rect") == 16 * (1 + len(told.look.strongest()))
    assert text in shown
    assert not re.search(r"(src|href)=\"(?!data:)", shown), "it needs nothing from anywhere"


def test_a_patch_that_looks_at_one_word_is_decided_and_one_that_looks_at_all_is_not() -> None:
    weights = np.array([[1.0, 0.0, 0.0, 0.0], [0.25] * 4, [0.5, 0.5, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]])
    look = Look(2, ("[CLS]", "red", "circle", "[SEP]"), weights)
    assert look.decided == pytest.approx([1.0, 0.0, 0.5, 1.0], abs=1e-6)
    assert look.by_token == pytest.approx([0.4375, 0.1875, 0.0625, 0.3125])
    assert look.strongest() == [1, 2], "tokens that stand for no word are left out"


@pytest.mark.parametrize("family", PAIRS, ids=lambda family: family.name)
def test_every_family_is_explained_or_says_that_it_has_no_attention(family: Family, tmp_path: Path) -> None:
    save_checkpoint(tmp_path, small_of(family), small_preprocessor(), TINY_LABELS, 1.0)
    write_manifest(tmp_path)
    checkpoint = load_checkpoint(tmp_path, CPU)
    picture = np.random.default_rng(0).integers(0, 256, (40, 32, 3), dtype=np.uint8)
    told = explain(checkpoint, {"image": picture, "text": "a red <circle>"})
    assert [each.modality for each in told.without] == ["image", "text"]
    assert sum(told.gate.values()) == pytest.approx(1.0 if family.name in GATED else 0.0, abs=1e-3)
    assert (told.look is None) == (family.name in GATED | BLIND)
    assert told.note is None or "has no attention" in told.note
    shown = page(told, picture, "a red <circle>")
    assert "a red &lt;circle&gt;" in shown
    alone = explain(checkpoint, {"text": "a red circle"})
    assert (alone.without, alone.look) == ((), None)
    assert "there is nothing to take away" in page(alone, None, "a red circle")


def test_a_message_is_taken_as_it_was_sent_and_what_cannot_be_used_is_told(
    scene: tuple[Path, str], tmp_path: Path
) -> None:
    image, text = scene
    data = base64.b64encode(image.read_bytes()).decode()
    message = {"schema_version": 1, "request_id": "r1", "produced_at": "2026-01-31T12:00:00Z"}
    path, out = tmp_path / "r1.json", tmp_path / "why.html"
    asked = ["explain", "--checkpoint", str(CHECKPOINT), "--request", str(path), "--out", str(out)]
    path.write_text(json.dumps(message | {"modalities": {"image": {"data": data}, "text": {"data": text}}}))
    assert CliRunner().invoke(app, asked).exit_code == 0
    assert text in out.read_text()
    for modalities, wrong in (
        ({"image": {"data": "?"}}, "is not base64"),
        ({"image": {"data": data[:80]}, "text": {"data": text}}, "image is corrupt"),
    ):
        path.write_text(json.dumps(message | {"modalities": modalities}))
        done = CliRunner().invoke(app, asked)
        assert done.exit_code == 2
        assert wrong in done.stderr
    nothing = CliRunner().invoke(app, asked[:3])
    assert nothing.exit_code == 2
    assert "expected --image, --text or both, or --request" in nothing.stderr
