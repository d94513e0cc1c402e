"""Reads and writes a checkpoint: one folder with everything a worker needs, and a manifest that seals it.

Files: `config.json` (architecture), `model.safetensors` (float16), `tokenizer.json`, `tokenizer_config.json`,
`preprocessor_config.json`, `checkpoint.json` (labels, temperature, fingerprints), `manifest.json` (SHA-256 of every
other file, also of those added by others, such as a baseline). Pickled weights are refused: they run code.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from tokenizers import Tokenizer
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast

from inference.models.base import Family
from inference.models.preprocess import ImageSettings, Preprocessor
from inference.models.registry import families

CONFIG, WEIGHTS, TOKENIZER = "config.json", "model.safetensors", "tokenizer.json"
PROCESSOR, CARD, MANIFEST = "preprocessor_config.json", "checkpoint.json", "manifest.json"
FORMAT_VERSION = 1
PICKLES = frozenset({".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib", ".npy"})


class CheckpointError(Exception):
    """A checkpoint folder cannot be used; the message names the file and what was expected of it."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A loaded checkpoint. `version` is the first 12 hex digits of the manifest's SHA-256.

    `fingerprints` maps `image`, `text` and `fused` to a SHA-256 over that encoder's weights and preprocessing:
    embeddings of two checkpoints are comparable exactly where these are equal.
    """

    model: nn.Module
    tokenizer: Tokenizer
    image: ImageSettings
    preprocessor: Preprocessor
    labels: tuple[str, ...]
    temperature: float
    version: str
    fingerprints: Mapping[str, str]
    folder: Path


def save_checkpoint(
    folder: Path,
    model: nn.Module,
    preprocessor: Preprocessor,
    labels: tuple[str, ...],
    temperature: float,
) -> None:
    """Write every file of a checkpoint except the manifest, so that others can add theirs before it is sealed.

    Weights are rounded to float16: `model` in memory and the one that is loaded differ by that rounding.

    Raises:
        CheckpointError: the folder already holds a checkpoint, or the model belongs to no known family.
    """
    if (folder / CONFIG).exists():
        raise CheckpointError(f"{folder}: already holds a checkpoint; expected an empty folder")
    config = getattr(model, "config", None)
    family = _family(getattr(config, "model_type", None), folder)
    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: value.detach().to("cpu", torch.float16).contiguous() for name, value in model.state_dict().items()}
    config = json.loads(config.to_json_string(use_diff=True)) | {"dtype": "float16"}  # type: ignore[union-attr]
    _write_json(folder / CONFIG, config)
    # written as bytes: safetensors' own file writer makes it unreadable for the worker's user
    (folder / WEIGHTS).write_bytes(save(weights, metadata={"format": "pt"}))
    tokenizer = Tokenizer.from_str(preprocessor.tokenizer.to_str())
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=preprocessor.max_tokens,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
    ).save_pretrained(folder)
    _write_json(folder / PROCESSOR, preprocessor.image.to_processor())
    card = {
        "format_version": FORMAT_VERSION,
        "labels": list(labels),
        "temperature": temperature,
        "fingerprints": _fingerprints(weights, family, folder),
    }
    _write_json(folder / CARD, card)


def write_manifest(folder: Path) -> str:
    """Seal a folder: record the SHA-256 and size of every file in it; returns the version."""
    files = {
        path.relative_to(folder).as_posix(): {"sha256": _sha256(path), "bytes": path.stat().st_size}
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != MANIFEST
    }
    _write_json(folder / MANIFEST, {"format_version": FORMAT_VERSION, "files": files})
    return _sha256(folder / MANIFEST)[:12]


def verify_manifest(folder: Path) -> str:
    """Check that a folder holds exactly the files its manifest lists, unchanged; returns the version.

    Raises:
        CheckpointError: no manifest, a file missing, changed or not listed, or pickled weights.
    """
    if not folder.is_dir():
        raise CheckpointError(f"{folder}: expected a checkpoint folder")
    present = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()} - {MANIFEST}
    for name in sorted(present):
        if Path(name).suffix in PICKLES:
            raise CheckpointError(f"{folder / name}: pickled weights are refused; expected {WEIGHTS}")
    files = _read_json(folder / MANIFEST).get("files")
    if not isinstance(files, dict):
        raise CheckpointError(f"{folder / MANIFEST}: expected an object 'files'")
    for name in sorted(present - files.keys()):
        raise CheckpointError(f"{folder / name}: not listed in {MANIFEST}")
    for name, entry in sorted(files.items()):
        if name not in present:
            raise CheckpointError(f"{folder / name}: listed in {MANIFEST} but missing")
        found = _sha256(folder / name)
        if found != entry["sha256"]:
            raise CheckpointError(f"{folder / name}: expected SHA-256 {entry['sha256']}, found {found}")
    return _sha256(folder / MANIFEST)[:12]


def load_checkpoint(folder: Path, device: torch.device) -> Checkpoint:
    """Load a sealed checkpoint onto `device`, weights as float32, model in eval mode. Touches no network.

    Raises:
        CheckpointError: the manifest does not match, or a file does not hold what it must.
    """
    folder = Path(folder)
    version = verify_manifest(folder)
    config = _read_json(folder / CONFIG)
    family = _family(config.get("model_type"), folder / CONFIG)
    model = family.build(family.config.from_dict(config | {"dtype": "float32"}))
    weights = _read_weights(folder)
    try:
        model.load_state_dict({k: v.to(torch.float32) for k, v in weights.items()}, strict=True)
    except RuntimeError as error:
        raise CheckpointError(f"{folder / WEIGHTS}: weights do not fit {CONFIG}: {error}") from error
    card = _read_json(folder / CARD)
    labels, temperature, fingerprints = _parse_card(card, folder / CARD)
    classes = len(config.get("id2label", {}))
    if classes != len(labels):
        raise CheckpointError(f"{folder / CARD}: {len(labels)} labels, but {CONFIG} has {classes} classes")
    try:
        image = ImageSettings.from_processor(_read_json(folder / PROCESSOR))
        tokenizer = Tokenizer.from_file(str(folder / TOKENIZER))
        limit = int(_read_json(folder / "tokenizer_config.json")["model_max_length"])
        preprocessor = Preprocessor(image, tokenizer, limit)
    except (KeyError, ValueError) as error:
        raise CheckpointError(f"{folder}: preprocessing: {error}") from error
    model.to(device).eval()
    return Checkpoint(model, tokenizer, image, preprocessor, labels, temperature, version, fingerprints, folder)


def _read_weights(folder: Path) -> dict[str, Tensor]:
    try:
        return load_file(folder / WEIGHTS)
    except SafetensorError as error:
        raise CheckpointError(f"{folder / WEIGHTS}: expected safetensors: {error}") from error


def _parse_card(card: dict[str, Any], path: Path) -> tuple[tuple[str, ...], float, dict[str, str]]:
    if card.get("format_version") != FORMAT_VERSION:
        raise CheckpointError(f"{path}: expected format_version {FORMAT_VERSION}, found {card.get('format_version')}")
    labels, temperature, prints = card.get("labels"), card.get("temperature"), card.get("fingerprints")
    if not isinstance(labels, list) or not labels or not all(isinstance(label, str) for label in labels):
        raise CheckpointError(f"{path}: expected a list of names 'labels'")
    if not isinstance(temperature, float) or not 0.0 < temperature < 1000.0:
        raise CheckpointError(f"{path}: expected 'temperature' above 0, found {temperature!r}")
    if not isinstance(prints, dict) or not {"image", "text", "fused"} <= prints.keys():
        raise CheckpointError(f"{path}: expected 'fingerprints' of image, text and fused")
    return tuple(labels), temperature, {str(k): str(v) for k, v in prints.items()}


def _fingerprints(weights: Mapping[str, Tensor], family: Family, folder: Path) -> dict[str, str]:
    """SHA-256 per modality over its encoder's float16 weights and its preprocessing file; `fused` over everything."""
    preprocessing = {"image": PROCESSOR, "text": TOKENIZER}
    prints = {}
    for modality, prefix in (*sorted(family.encoders.items()), ("fused", "")):
        digest = hashlib.sha256()
        for name in sorted(weights):
            if name.startswith(prefix):
                digest.update(name.encode())
                digest.update(weights[name].numpy().tobytes())
        for source in sorted(preprocessing) if modality == "fused" else [modality]:
            if source in preprocessing:
                digest.update((folder / preprocessing[source]).read_bytes())
        prints[modality] = digest.hexdigest()
    return prints


def _family(name: object, path: Path) -> Family:
    known = families()
    if not isinstance(name, str) or name not in known:
        raise CheckpointError(f"{path}: expected model_type in {sorted(known)}, found {name!r}")
    return known[name]


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(f"{path}: missing; expected a JSON object") from None
    except ValueError as error:
        raise CheckpointError(f"{path}: expected JSON: {error}") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: expected a JSON object, found {type(content).__name__}")
    return content


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")
