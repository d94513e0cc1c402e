"""What `fusionwatch-inference train` is told: one TOML file, every key of which is described here."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, model_validator
from pydantic.fields import FieldInfo

from inference.training.fit_settings import Augmentation, Balance, Precision, Sampling

Modality = Literal["image", "text", "audio", "video", "tabular"]
TINY_IMAGE: dict[str, Any] = {
    "model_type": "vit",
    "image_size": 64,
    "patch_size": 16,
    "hidden_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 384,
}
TINY_TEXT: dict[str, Any] = {
    "model_type": "bert",
    "hidden_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 384,
}


class ConfigError(ValueError):
    """The configuration cannot be used; the text has one line for each problem: where, what, and what is allowed."""


def _placed(path: Path, info: ValidationInfo) -> Path:
    """Relative paths are meant from the configuration's folder."""
    return (Path((info.context or {}).get("folder", ".")) / path).resolve()


def _folder(path: Path) -> Path:
    if not path.is_dir():
        raise ValueError("no such folder")
    return path


Somewhere = Annotated[Path, AfterValidator(_placed)]
Folder = Annotated[Path, AfterValidator(_placed), AfterValidator(_folder)]
Share = Annotated[float, Field(ge=0, lt=1)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class DataConfig(_Section):
    """Labelled rows."""

    annotations: Somewhere = Field(
        description="JSON lines: id, image, audio, video (paths), text, tabular (an object), label, split, metadata"
    )
    labels: tuple[str, ...] = Field(default=(), description="the classes in the model's order; empty: sorted by name")
    validation_share: Share = Field(default=0.15, description="share of pictures, where rows name no split")
    test_share: Share = Field(default=0.15, description="share of pictures, where rows name no split")
    split_seed: int = Field(default=0, ge=0, description="of the deal; a picture's rows are never split")
    modalities: tuple[Modality, ...] = Field(
        default=(), description="those that the model sees; empty: all. Fewer than it takes: no baseline"
    )
    sampling: Sampling = Field(default="shuffled", description="balanced: every class equally often in training")
    class_weights: Literal["none", "balanced"] = Field(default="none", description="balanced: rare classes weigh more")

    @model_validator(mode="after")
    def _checked(self) -> Self:
        if self.validation_share + self.test_share >= 1 or not self.validation_share:
            raise ValueError("validation_share must be above 0 and leave, with test_share, something to train on")
        if len(set(self.labels)) != len(self.labels) or len(self.labels) == 1:
            raise ValueError("labels must be two or more different names, or empty")
        return self


class AugmentConfig(_Section):
    """Random changes to training rows; they must not change what the right label is."""

    flip: float = Field(default=0.0, ge=0, le=1, description="share of pictures mirrored; wrong where sides matter")
    brightness: Share = Field(default=0.0, description="largest relative change of a picture's brightness")
    crop: Share = Field(default=0.0, description="largest share cut off a picture's height and width")
    words: Share = Field(default=0.0, description="share of words left out of texts")

    def settings(self) -> Augmentation:
        """The same for the fit."""
        return Augmentation(self.flip, self.brightness, self.crop, self.words)


class ImageConfig(_Section):
    """How pictures are read and encoded."""

    encoder: Folder | None = Field(default=None, description="local folder of a pretrained encoder; none: a random one")
    size: int | None = Field(default=None, ge=8, le=4096, description="side in pixels; by default as the encoder says")
    mean: tuple[float, float, float] = Field(default=(0.5, 0.5, 0.5), description="of channels; unless encoder says")
    std: tuple[float, float, float] = Field(default=(0.5, 0.5, 0.5), description="of channels; unless encoder says")
    config: dict[str, Any] = Field(default=TINY_IMAGE, description="of a random encoder, in transformers' words")


class TextConfig(_Section):
    """How texts are read and encoded."""

    encoder: Folder | None = Field(default=None, description="local folder of a pretrained encoder; none: a random one")
    tokenizer: Folder | None = Field(
        default=None, description="folder with tokenizer.json; by default the encoder's, else one made of the texts"
    )
    vocabulary: int = Field(default=4000, ge=128, le=1_000_000, description="most pieces of a tokenizer that is made")
    max_tokens: int = Field(default=64, ge=4, le=8192, description="longer texts are cut")
    config: dict[str, Any] = Field(default=TINY_TEXT, description="of a random encoder, in transformers' words")


class SequenceConfig(_Section):
    """How feature sequences are read: .npy arrays (frames, features)."""

    max_frames: int = Field(default=256, ge=1, le=8192, description="longer sequences are thinned out evenly")


class ModelConfig(_Section):
    """What is trained."""

    checkpoint: Folder | None = Field(default=None, description="a checkpoint to go on from; the rest is then its own")
    encoders: Folder | None = Field(
        default=None, description="a checkpoint whose encoders, tokenizer and picture size are taken; the fusion is new"
    )
    family: str = Field(default="cross_attention", description="how modalities are fused")
    family_modules: tuple[str, ...] = Field(default=(), description="importable modules with families of your own")
    options: dict[str, Any] = Field(
        default={"fusion_size": 96, "image_stem": "convolutional"}, description="the family's own configuration"
    )
    image: ImageConfig = ImageConfig()
    text: TextConfig = TextConfig()
    audio: SequenceConfig = SequenceConfig()
    video: SequenceConfig = SequenceConfig()

    @model_validator(mode="after")
    def _checked(self) -> Self:
        sources = {"checkpoint": self.checkpoint, "encoders": self.encoders}
        own = {"image.encoder": self.image.encoder, "text.encoder": self.text.encoder}
        own["text.tokenizer"] = self.text.tokenizer
        named = [name for name, folder in {**sources, **own}.items() if folder is not None]
        if len(named) > 1 and set(named) & set(sources):
            raise ValueError(f"{', '.join(named)}: the weights of one of them would be lost; name one source")
        return self


class TrainingConfig(_Section):
    """How it is trained."""

    steps: int = Field(default=2000, ge=1, description="batches at most")
    batch_size: int = Field(default=64, ge=2, le=65_536, description="rows in a batch, over all processes")
    learning_rate: float = Field(default=1e-3, gt=0, le=1, description="of AdamW at its peak; then a half cosine")
    encoder_rate: float = Field(default=1.0, gt=0, le=10, description="what encoders' learning rate is multiplied by")
    warmup: int = Field(default=50, ge=0, description="steps in which the rate rises")
    thaw: int = Field(default=0, ge=0, description="steps in which encoders keep their values")
    weight_decay: float = Field(default=0.05, ge=0, le=1, description="of matrices")
    clip: float = Field(default=1.0, gt=0, description="largest norm of the gradient")
    drop: float = Field(default=0.1, ge=0, lt=0.5, description="share of rows that lose each modality")
    unimodal_weight: float = Field(default=0.5, ge=0, description="of the loss of each modality's own head")
    balance: Balance = Field(default="none", description="of modalities that learn at different speed")
    balance_strength: float = Field(default=0.5, gt=0, description="of modulated balance")
    contrastive_weight: float = Field(default=0.0, ge=0, description="of pairs finding each other; needs equal sizes")
    contrastive_temperature: float = Field(default=0.1, gt=0, description="of the contrastive term")
    contrastive_label: str | None = Field(default=None, description="class of true pairs; by default every row is one")
    evaluate_every: int = Field(default=100, ge=1, description="steps between looks at the validation rows")
    patience: int = Field(default=0, ge=0, description="looks without a lower loss before it stops early; 0: never")
    save_every: int = Field(default=200, ge=1, description="steps between saves, from which a killed run goes on")
    seed: int = Field(default=0, ge=0, description="of weights, batches, augmentation and dropout")
    precision: Precision = Field(default="float32", description="of products in training; weights stay float32")
    device: str = Field(default="auto", pattern=r"^(auto|cpu|cuda(:\d+)?|mps)$", description="auto, cpu, cuda or mps")
    torch_threads: int = Field(default=0, ge=0, le=1024, description="cores of one process; 0: as torch likes")

    @model_validator(mode="after")
    def _checked(self) -> Self:
        if max(self.warmup, self.thaw) > self.steps:
            raise ValueError(f"warmup {self.warmup} and thaw {self.thaw} must be within the {self.steps} steps")
        return self


class DistillConfig(_Section):
    """A trained model that this one learns from, beside the labels; without a teacher the rest means nothing."""

    teacher: Folder | None = Field(
        default=None, description="its checkpoint; labels, tokenizer and picture size are taken from it"
    )
    temperature: float = Field(default=2.0, gt=0, le=100, description="by which both answers are softened")
    weight: float = Field(default=0.5, gt=0, le=1, description="of the teacher's answers; the labels have the rest")


class TrackingConfig(_Section):
    """Where the run is written down beside its folder; MLFLOW_TRACKING_URI names a server, else it is a local file."""

    mlflow: Literal["auto", "on", "off"] = Field(default="auto", description="auto: where MLflow is installed")
    experiment: str = Field(default="fusionwatch", min_length=1, description="under which name MLflow keeps its runs")


class TrainConfig(_Section):
    """The file."""

    output: Somewhere = Field(description="folder for checkpoint, report and what a killed run goes on from")
    data: DataConfig
    augment: AugmentConfig = AugmentConfig()
    model: ModelConfig = ModelConfig()
    training: TrainingConfig = TrainingConfig()
    distill: DistillConfig = DistillConfig()
    tracking: TrackingConfig = TrackingConfig()


def read_config(path: Path) -> TrainConfig:
    """Read and check the file. Raises ConfigError naming every problem."""
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ConfigError(f"{path}: expected TOML: {error}") from error
    try:
        return TrainConfig.model_validate(content, context={"folder": path.parent})
    except ValidationError as error:
        raise ConfigError("\n".join(f"{path}: {_told(each)}" for each in error.errors())) from error


def _told(error: Mapping[str, Any]) -> str:
    where = [str(part) for part in error["loc"]]
    if error["type"] != "extra_forbidden":
        return f"{'.'.join(where)}: {error['msg'].removeprefix('Value error, ')}"
    section: Any = TrainConfig
    for part in where[:-1]:
        section = section.model_fields[part].annotation
    return f"{'.'.join(where)}: unknown key; allowed: {', '.join(section.model_fields)}"


REQUIRED = {"annotations": "annotations.jsonl", "output": "trained"}


def annotated_default() -> str:
    """A file that says what is the default anyway, every key with its meaning."""
    return "\n".join([f"# {_DOC}", *_written(TrainConfig, "")]) + "\n"


_DOC = "fusionwatch-inference train --config THIS; relative paths are meant from this file's folder"


def _written(section: type[BaseModel], name: str) -> Iterator[str]:
    nested: list[tuple[str, FieldInfo]] = []
    for key, field in section.model_fields.items():
        if isinstance(field.default, BaseModel | dict) or key == "data":
            nested.append((key, field))
        else:
            value = REQUIRED[key] if field.is_required() else field.default
            shown = f"{key} = {_toml(value)}" if value is not None else f"# {key} = ..."
            yield f"{shown:<34} # {field.description}{_allowed(field)}"
    for key, field in nested:
        path = f"{name}.{key}".lstrip(".")
        if isinstance(field.default, dict):
            yield from ("", f"[{path}]  # {field.description}")
            yield from (f"{inner} = {_toml(value)}" for inner, value in field.default.items())
        else:
            assert isinstance(field.annotation, type)
            yield from ("", f"[{path}]  # {(field.annotation.__doc__ or '').strip()}")
            yield from _written(field.annotation, path)


def _toml(value: Any) -> str:
    return json.dumps(list(value) if isinstance(value, tuple) else value, ensure_ascii=False)


def _allowed(field: FieldInfo) -> str:
    choices = getattr(field.annotation, "__args__", ())
    named = [choice for choice in choices if isinstance(choice, str)]
    return f"; one of {', '.join(named)}" if named else ""
