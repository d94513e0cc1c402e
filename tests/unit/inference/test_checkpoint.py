"""Checkpoint folders: what is saved is what is loaded, and a touched folder is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModel, AutoTokenizer

from inference.direct import DirectPredictor
from inference.models.checkpoint import (
    Checkpoint,
    CheckpointError,
    load_checkpoint,
    save_checkpoint,
    write_manifest,
)
from inference.predictor import Predictor
from inference.training.data import LabelledExample, collate
from tests.support import faulty_family
from tests.support.tiny_model import LABELS, random_batch, small_model, small_preprocessor

CPU = torch.device("cpu")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "checkpoint"
    save_checkpoint(path, small_model(), small_preprocessor(), LABELS, 1.25)
    write_manifest(path)
    return path


def logits(checkpoint: Checkpoint) -> torch.Tensor:
    with torch.inference_mode():
        output: torch.Tensor = checkpoint.model(random_batch()).logits
    return output


def test_loads_what_was_saved(folder: Path) -> None:
    checkpoint = load_checkpoint(folder, CPU)
    assert checkpoint.labels == LABELS
    assert checkpoint.temperature == 1.25
    assert checkpoint.image == small_preprocessor().image
    assert not checkpoint.model.training
    assert {p.dtype for p in checkpoint.model.parameters()} == {torch.float32}
    rounded = small_model()
    rounded.load_state_dict({k: v.half().float() for k, v in rounded.state_dict().items()})
    with torch.inference_mode():
        assert torch.equal(logits(checkpoint), rounded(random_batch()).logits)
    caption = "a red circle, left of xylophones"
    assert np.array_equal(
        checkpoint.preprocessor.captions([caption])[0]["input_ids"],
        small_preprocessor().captions([caption])[0]["input_ids"],
    )


def test_weights_are_float16_on_disk(folder: Path) -> None:
    assert {t.dtype for t in load_file(folder / "model.safetensors").values()} == {torch.float16}


def test_saving_a_loaded_checkpoint_gives_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    first = load_checkpoint(folder, CPU)
    again = tmp_path / "again"
    save_checkpoint(again, first.model, first.preprocessor, first.labels, first.temperature)
    write_manifest(again)
    for path in folder.iterdir():
        assert (again / path.name).read_bytes() == path.read_bytes(), path.name
    second = load_checkpoint(again, CPU)
    assert second.version == first.version
    assert torch.equal(logits(first), logits(second))


def test_transformers_loads_the_same_folder(folder: Path) -> None:
    model = AutoModel.from_pretrained(folder, dtype=torch.float32, local_files_only=True)
    with torch.inference_mode():
        assert torch.equal(model(random_batch()).logits, logits(load_checkpoint(folder, CPU)))
    assert AutoConfig.from_pretrained(folder).id2label == dict(enumerate(LABELS))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert (
        tokenizer("a red circle")["input_ids"]
        == small_preprocessor().captions(["a red circle"])[0]["input_ids"].tolist()
    )


def test_fingerprints_follow_their_encoder(folder: Path, tmp_path: Path) -> None:
    before = load_checkpoint(folder, CPU)
    with torch.no_grad():
        before.model.get_parameter("image_encoder.layernorm.weight").mul_(1.5)
    changed = tmp_path / "changed"
    save_checkpoint(changed, before.model, before.preprocessor, before.labels, before.temperature)
    write_manifest(changed)
    after = load_checkpoint(changed, CPU)
    assert after.fingerprints["text"] == before.fingerprints["text"]
    assert after.fingerprints["image"] != before.fingerprints["image"]
    assert after.fingerprints["fused"] != before.fingerprints["fused"]
    assert after.version != before.version


def test_files_of_others_are_sealed_too(folder: Path) -> None:
    (folder / "baseline.safetensors").write_bytes(b"sums")
    with pytest.raises(CheckpointError, match=r"baseline\.safetensors: not listed in manifest\.json"):
        load_checkpoint(folder, CPU)
    version = write_manifest(folder)
    assert load_checkpoint(folder, CPU).version == version


@pytest.mark.parametrize(
    "name", ["model.safetensors", "config.json", "tokenizer.json", "preprocessor_config.json", "checkpoint.json"]
)
def test_one_changed_byte_is_refused(folder: Path, name: str) -> None:
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=f"{name}: expected SHA-256"):
        load_checkpoint(folder, CPU)


def test_missing_file_and_missing_manifest_are_refused(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()
    with pytest.raises(CheckpointError, match=r"tokenizer\.json: listed in manifest\.json but missing"):
        load_checkpoint(folder, CPU)
    (folder / "manifest.json").unlink()
    with pytest.raises(CheckpointError, match=r"manifest\.json: missing"):
        load_checkpoint(folder, CPU)
    with pytest.raises(CheckpointError, match="expected a checkpoint folder"):
        load_checkpoint(folder / "nowhere", CPU)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "weights.pt", "extra.pkl"])
def test_pickles_are_refused_even_when_listed(folder: Path, name: str) -> None:
    torch.save({"a": torch.zeros(1)}, folder / name)
    write_manifest(folder)
    with pytest.raises(CheckpointError, match="pickled weights are refused"):
        load_checkpoint(folder, CPU)


def test_pickle_under_the_weights_name_is_refused(folder: Path) -> None:
    torch.save(small_model().state_dict(), folder / "model.safetensors")
    write_manifest(folder)
    with pytest.raises(CheckpointError, match=r"model\.safetensors: expected safetensors"):
        load_checkpoint(folder, CPU)


def edit(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("config.json", {"model_type": "unheard_of"}, "expected model_type in .*found 'unheard_of'"),
        ("config.json", {"fusion_size": 64}, "weights do not fit config.json"),
        ("checkpoint.json", {"format_version": 2}, "expected format_version 1, found 2"),
        ("checkpoint.json", {"temperature": 0.0}, "expected 'temperature' above 0, found 0.0"),
        ("checkpoint.json", {"labels": ["yes"]}, "1 labels, but config.json has 3 classes"),
        ("checkpoint.json", {"fingerprints": {"image": "x"}}, "expected 'fingerprints' of each modality and of fused"),
        ("preprocessor_config.json", {"size": 32}, "expected size.height"),
        ("preprocessor_config.json", {"image_std": [0.5, 0.0, 0.5]}, "three positive deviations"),
    ],
)
def test_wrong_content_is_named(folder: Path, name: str, changes: dict[str, object], message: str) -> None:
    edit(folder / name, **changes)
    write_manifest(folder)
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(folder, CPU)


def test_refuses_to_overwrite(folder: Path) -> None:
    with pytest.raises(CheckpointError, match="already holds a checkpoint"):
        save_checkpoint(folder, small_model(), small_preprocessor(), LABELS, 1.0)


def test_a_copy_keeps_its_version(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "copy")
    assert load_checkpoint(tmp_path / "copy", CPU).version == load_checkpoint(folder, CPU).version


def test_families_from_elsewhere_are_named(tmp_path: Path) -> None:
    faulty_family.save(tmp_path / "model")
    with pytest.raises(CheckpointError, match=r"expected model_type in .*found 'faulty'"):
        load_checkpoint(tmp_path / "model", CPU)
    with pytest.raises(CheckpointError, match=r"'no\.such' cannot be imported"):
        load_checkpoint(tmp_path / "model", CPU, ("no.such",))
    with pytest.raises(CheckpointError, match=r"'inference\.models\.card' has no FAMILY"):
        load_checkpoint(tmp_path / "model", CPU, ("inference.models.card",))
    loaded = load_checkpoint(tmp_path / "model", CPU, ("tests.support.faulty_family",))
    assert loaded.family is faulty_family.FAMILY


def test_a_family_that_decodes_needs_a_preprocessor(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="fusion_cross_attention needs a preprocessor"):
        save_checkpoint(tmp_path / "model", small_model(), None, LABELS, 1.0)


def scene(height: int, width: int) -> NDArray[np.uint8]:
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([x * 255 // width, y * 255 // height, (x + y) % 256], -1).astype(np.uint8)


def test_the_committed_checkpoint_answers_as_it_always_did() -> None:
    """Logits, and absolute sums of embeddings, as recorded when it was made: pictures at other sizes included."""
    checkpoint = load_checkpoint(Path("demo/checkpoint"), CPU)
    assert checkpoint.version == "f122fae92833"
    examples = [
        LabelledExample("a", scene(64, 64), "the red square sits lower than the cyan triangle", 0),
        LabelledExample("b", scene(120, 90), "a blue circle, quite far from 3 xylophones!", 0),
        LabelledExample("c", None, "reportedly left of the blue circle there is an orange square", 0),
        LabelledExample("d", scene(33, 200), None, 0),
    ]
    recorded = [
        [-11.035954475402832, -2.606653928756714, 15.16614818572998],
        [-8.630306243896484, -0.13587099313735962, 11.46773624420166],
        [-0.4913780093193054, 0.6763039827346802, -0.34777799248695374],
        [0.11526499688625336, -0.09913399815559387, 0.013009999878704548],
    ]
    with torch.inference_mode():
        trained = checkpoint.model(collate(examples, checkpoint.preprocessor, CPU)).logits
    assert trained.numpy() == pytest.approx(np.array(recorded), rel=1e-5, abs=1e-5)
    # and on the worker's way
    sent = [{"image": e.image, "text": e.caption} for e in examples]
    inputs = [{name: value for name, value in each.items() if value is not None} for each in sent]
    found = DirectPredictor(checkpoint.card, Predictor(checkpoint, CPU).run).predict(inputs)
    expected = (torch.tensor(recorded) / checkpoint.temperature).softmax(1).numpy()
    for row, prediction in zip(expected, found, strict=True):
        assert prediction.probabilities == pytest.approx(row, abs=1e-6)
    assert {name: float(np.abs(v).sum()) for name, v in found[0].embeddings.items()} == pytest.approx(
        {"image": 48.3639030456543, "text": 46.74102783203125, "fused": 405.2755126953125}, rel=1e-5
    )
    assert found[1].quality["image"] == pytest.approx([0.48389, 0.20922, 0.53202, 0, 0], abs=1e-4)
    assert found[1].quality["text"].tolist() == pytest.approx([28, 0, 2.8, 0])
