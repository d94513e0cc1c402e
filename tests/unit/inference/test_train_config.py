"""The configuration of a training run: every problem is named at once, and the printed default is a valid one."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner

from inference.cli import app
from inference.training.build import build
from inference.training.config import (
    TINY_TEXT,
    AugmentConfig,
    ConfigError,
    DataConfig,
    ImageConfig,
    ModelConfig,
    TextConfig,
    TrainConfig,
    TrainingConfig,
    annotated_default,
    read_config,
)
from tests.support.annotated import write_config

LABELS = ("no", "yes")
TEXTS = ("a red circle", "a blue square")


def refused(folder: Path, content: str) -> list[str]:
    path = folder / "train.toml"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        read_config(path)
    lines = str(caught.value).splitlines()
    assert all(line.startswith(f"{path}: ") for line in lines)
    return [line.removeprefix(f"{path}: ") for line in lines]


def test_the_printed_default_is_the_default_and_describes_every_key(tmp_path: Path) -> None:
    printed = CliRunner().invoke(app, ["train", "--print-config"])
    assert printed.exit_code == 0
    assert printed.stdout == annotated_default()
    path = tmp_path / "train.toml"
    path.write_text(printed.stdout, encoding="utf-8")
    read = read_config(path)
    bare = {"output": tmp_path / "trained", "data": {"annotations": tmp_path / "annotations.jsonl"}}
    assert read == TrainConfig.model_validate(bare)
    assert (read.output, read.data.annotations) == (tmp_path / "trained", tmp_path / "annotations.jsonl")
    for section in (TrainConfig, DataConfig, AugmentConfig, ModelConfig, ImageConfig, TextConfig, TrainingConfig):
        for name, field in section.model_fields.items():
            assert (field.description or f"{name}]  # ") in printed.stdout
    assert tomllib.loads(printed.stdout)["training"]["clip"] == 1.0


def test_every_wrong_key_and_value_is_named_with_what_is_allowed(tmp_path: Path) -> None:
    problems = refused(
        tmp_path,
        """
        output = "o"
        colour = "red"
        [data]
        annotations = "a.jsonl"
        validation_share = 0.6
        test_share = 0.5
        [augment]
        flipp = 0.5
        [model]
        checkpoint = "nowhere"
        [training]
        steps = 10
        warmup = 11
        balance = "maybe"
        """,
    )
    told = "\n".join(problems)
    for expected in (
        "colour: unknown key; allowed: output, data, augment, model, training",
        "data: validation_share must be above 0 and leave, with test_share, something to train on",
        "augment.flipp: unknown key; allowed: flip, brightness, crop, words",
        "model.checkpoint: no such folder",
        "training.balance: Input should be 'none', 'modulated' or 'normalised'",
    ):
        assert expected in told, told
    assert refused(tmp_path, 'output = "o"\n[data]\nannotations = "a"\n[training]\nsteps = 10\nwarmup = 11') == [
        "training: warmup 11 and thaw 0 must be within the 10 steps"
    ]


def test_a_file_that_is_no_toml_or_not_there_is_refused(tmp_path: Path) -> None:
    assert refused(tmp_path, "[data")[0].startswith("expected TOML: ")
    with pytest.raises(ConfigError, match=r"none\.toml: cannot be read: No such file"):
        read_config(tmp_path / "none.toml")
    asked = CliRunner().invoke(app, ["train"])
    assert asked.exit_code == 2
    assert "expected --config FILE" in asked.output


@pytest.mark.parametrize(
    ("model", "told"),
    [
        ({"family": "crossed"}, r"model\.family: 'crossed' is unknown; allowed: .*cross_attention"),
        ({"family": "pass_through"}, r"takes what was sent as it came; there is nothing to train"),
        ({"options": {"fusion_heds": 2}}, r"model\.options: fusion_heds: unknown; allowed: .*fusion_heads"),
        ({"options": {"image_stem": "wooden"}}, r"cannot be built of these options: image_stem is 'wooden'"),
        ({"family_modules": ["no.such"]}, r"model\.family_modules: the family module 'no\.such' cannot be imported"),
        ({"image": {"size": 96}}, r"model: a picture of 96×96 and a text of 64 tokens do not pass its encoders"),
        ({"text": {"config": TINY_TEXT | {"max_position_embeddings": 8}}}, r"a text of 64 tokens do not pass"),
        ({"text": {"config": TINY_TEXT | {"vocab_size": 9}}}, r"the tokenizer has \d+ pieces, .* vocab_size is 9"),
        ({"text": {"vocabulary": 128}}, r"model\.text\.vocabulary: .* do not fit a vocabulary of 128"),
    ],
)
def test_a_model_that_cannot_be_built_says_why(model: dict[str, object], told: str) -> None:
    many_letters = [chr(0x0400 + i) for i in range(100)]
    with pytest.raises(ConfigError, match=told):
        build(ModelConfig.model_validate(model), LABELS, many_letters, seed=0)


def test_the_same_seed_builds_the_same_model(tmp_path: Path) -> None:
    config = read_config(write_config(tmp_path)).model
    one, two, other = (build(config, LABELS, TEXTS, seed) for seed in (1, 1, 2))
    states = [built.model.state_dict() for built in (one, two, other)]
    assert all(states[0][name].equal(states[1][name]) for name in states[0])
    assert not all(states[0][name].equal(states[2][name]) for name in states[0])
    assert one.labels == LABELS
    assert one.preprocessor.image is not None
    assert one.preprocessor.image.height == 64
    assert one.preprocessor.tokenizer.token_to_id("circle") is not None


def test_pretrained_encoders_of_local_folders_are_taken_with_their_weights(tmp_path: Path) -> None:
    source = build(read_config(write_config(tmp_path)).model, LABELS, TEXTS, seed=1)
    folder = tmp_path / "bert"
    source.model.get_submodule("text_encoder").save_pretrained(folder)  # type: ignore[operator]
    source.preprocessor.tokenizer.save(str(folder / "tokenizer.json"))
    content = (tmp_path / "train.toml").read_text().replace("[model.text]", '[model.text]\nencoder = "bert"')
    (tmp_path / "train.toml").write_text(content)
    built = build(read_config(tmp_path / "train.toml").model, LABELS, ("other words",), seed=2)
    for name, value in source.model.get_submodule("text_encoder").state_dict().items():
        assert built.model.get_submodule("text_encoder").state_dict()[name].equal(value), name
    assert built.preprocessor.tokenizer.token_to_id("circle") is not None
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ConfigError, match=r"model\.text\.encoder: "):
        build(read_config(tmp_path / "train.toml").model, LABELS, TEXTS, seed=2)
