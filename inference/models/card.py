"""A checkpoint folder as the worker's front sees it: everything but the weights, and no torch.

Files: `config.json` (architecture), `model.safetensors` (float16), `checkpoint.json` (labels, temperature,
fingerprints), and, unless the model is raw, what each of its modalities is prepared by (`PREPROCESSING`):
`preprocessor_config.json` for pictures, `tokenizer.json` and `tokenizer_config.json` for texts, and
`<modality>_preprocessor.json` for sequences (`mean`, `std`, `max_frames`) and tables (`numbers`, `categories`).
`manifest.json` seals them: the SHA-256 of every other file, also of those added by others, such as a baseline.
Pickled weights are refused: they run code.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from inference.modalities.base import UNREAD, Decoded, Prepared, Status, modalities
from inference.models.columns import SequenceSettings, TabularSettings
from inference.models.preprocess import ImageSettings, Preprocessor

CONFIG, WEIGHTS = "config.json", "model.safetensors"
TOKENIZER, TOKENIZER_CONFIG = "tokenizer.json", "tokenizer_config.json"
PROCESSOR, CARD, MANIFEST = "preprocessor_config.json", "checkpoint.json", "manifest.json"
SEQUENCES = ("audio", "video")
PREPROCESSING = {
    "image": PROCESSOR,
    "text": TOKENIZER,
    **{name: f"{name}_preprocessor.json" for name in (*SEQUENCES, "tabular")},
}
"""The file by which a modality's inputs are prepared: part of its fingerprint."""
FORMAT_VERSION = 1
FUSED = "fused"
PICKLES = frozenset({".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib", ".npy"})


class CheckpointError(Exception):
    """A checkpoint folder cannot be used; the message names the file and what was expected of it."""


@dataclass(frozen=True, slots=True, eq=False)
class ModelCard:
    """What the front needs of a checkpoint. `version` is the first 12 hex digits of the manifest's SHA-256.

    `family` is the architecture's name; `labels` are in the order of the probabilities; `temperature` divides the
    logits. `modalities` are sorted. `fingerprints` maps each of them, and `fused`, to a SHA-256 over that encoder's
    weights and preprocessing: embeddings of two checkpoints are comparable exactly where these are equal. `blanks`
    maps each modality to a prepared blank value. A `raw` model is told only which modalities are there: nothing is
    decoded or measured for it, and it has no `preprocessor`.
    """

    version: str
    family: str
    labels: tuple[str, ...]
    temperature: float
    modalities: tuple[str, ...]
    fingerprints: Mapping[str, str]
    preprocessor: Preprocessor | None
    blanks: Mapping[str, Prepared]
    raw: bool
    folder: Path

    @property
    def quality(self) -> dict[str, int]:
        """How many quality statistics each modality has; a raw model's have none."""
        return {} if self.raw else {name: len(modalities()[name].quality_names) for name in self.modalities}

    def fitting(self, name: str, decoded: Decoded) -> Decoded:
        """The decoded value where the model can take it, or why it cannot."""
        if self.preprocessor is None or decoded.status is not Status.PRESENT:
            return decoded
        reason = self.preprocessor.unfit(name, decoded.value)
        return decoded if reason is None else Decoded(Status.REJECTED, reason)

    def prepare(self, values: Mapping[str, Any]) -> dict[str, Prepared]:
        """One request's decoded values, by modality, as the model takes them. Safe to call from several threads."""
        return {name: self.prepare_all(name, [value])[0] for name, value in values.items()}

    def prepare_all(self, name: str, values: Sequence[Any]) -> list[Prepared]:
        """N decoded values of one modality as the model takes them. Safe to call from several threads."""
        if self.preprocessor is None:
            return [UNREAD] * len(values)
        return modalities()[name].prepare(values, self.preprocessor)


def load_card(folder: Path) -> ModelCard:
    """Read a sealed checkpoint's card.

    Raises:
        CheckpointError: the manifest does not match, or a file does not hold what it must.
    """
    folder = Path(folder)
    version = verify_manifest(folder)
    config, path = read_json(folder / CONFIG), folder / CARD
    card = read_json(path)
    labels, temperature, fingerprints = _parse(card, path)
    classes = len(config.get("id2label", {}))
    if classes != len(labels):
        raise CheckpointError(f"{path}: {len(labels)} labels, but {CONFIG} has {classes} classes")
    raw = card.get("raw", False) is True
    names = tuple(sorted(fingerprints.keys() - {FUSED}))
    known = modalities()
    if unknown := sorted(set(names) - known.keys()):
        raise CheckpointError(f"{path}: expected modalities among {sorted(known)}, found {unknown}")
    preprocessor = None if raw else _preprocessor(folder, names)
    return ModelCard(
        version=version,
        family=str(config.get("model_type")),
        labels=labels,
        temperature=temperature,
        modalities=names,
        fingerprints=fingerprints,
        preprocessor=preprocessor,
        blanks={
            n: UNREAD if preprocessor is None else known[n].prepare([known[n].blank], preprocessor)[0] for n in names
        },
        raw=raw,
        folder=folder,
    )


def write_manifest(folder: Path) -> str:
    """Seal a folder: record the SHA-256 and size of every file in it; returns the version."""
    files = {
        path.relative_to(folder).as_posix(): {"sha256": _sha256(path), "bytes": path.stat().st_size}
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != MANIFEST
    }
    write_json(folder / MANIFEST, {"format_version": FORMAT_VERSION, "files": files})
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
    files = read_json(folder / MANIFEST).get("files")
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


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file. Raises CheckpointError where there is none."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(f"{path}: missing; expected a JSON object") from None
    except ValueError as error:
        raise CheckpointError(f"{path}: expected JSON: {error}") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: expected a JSON object, found {type(content).__name__}")
    return content


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON object; equal objects give equal bytes."""
    path.write_text(json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")


def _preprocessor(folder: Path, names: tuple[str, ...]) -> Preprocessor:
    files = {name: folder / PREPROCESSING[name] for name in names}
    try:
        return Preprocessor(
            ImageSettings.from_processor(read_json(files["image"])) if "image" in files else None,
            _tokenizer(files["text"]) if "text" in files else None,
            int(read_json(folder / TOKENIZER_CONFIG)["model_max_length"]) if "text" in files else 0,
            sequences={
                name: SequenceSettings.from_config(read_json(files[name])) for name in SEQUENCES if name in files
            },
            tabular=TabularSettings.from_config(read_json(files["tabular"])) if "tabular" in files else None,
        )
    except (KeyError, ValueError) as error:
        raise CheckpointError(f"{folder}: preprocessing: {error}") from error


def _tokenizer(path: Path) -> Tokenizer:
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises plain Exception
        raise CheckpointError(f"{path}: expected a tokenizer: {error}") from error


def _parse(card: dict[str, Any], path: Path) -> tuple[tuple[str, ...], float, dict[str, str]]:
    if card.get("format_version") != FORMAT_VERSION:
        raise CheckpointError(f"{path}: expected format_version {FORMAT_VERSION}, found {card.get('format_version')}")
    labels, temperature, prints = card.get("labels"), card.get("temperature"), card.get("fingerprints")
    if not isinstance(labels, list) or not labels or not all(isinstance(label, str) for label in labels):
        raise CheckpointError(f"{path}: expected a list of names 'labels'")
    if not isinstance(temperature, float) or not 0.0 < temperature < 1000.0:
        raise CheckpointError(f"{path}: expected 'temperature' above 0, found {temperature!r}")
    if not isinstance(prints, dict) or FUSED not in prints or len(prints) < 2:
        raise CheckpointError(f"{path}: expected 'fingerprints' of each modality and of {FUSED}")
    return tuple(labels), temperature, {str(k): str(v) for k, v in prints.items()}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
