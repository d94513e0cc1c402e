"""A file that an annotated row names: checked as the worker would check what it holds."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inference.modalities import image as images
from inference.modalities.base import Status, modalities

_SEQUENCE = "a .npy array (frames, features) of float16 or float32"
_ALLOWED = {"image": ", ".join(images.FORMATS), "audio": _SEQUENCE, "video": _SEQUENCE}


@dataclass(frozen=True, slots=True)
class Source:
    """An absolute path, the SHA-256 of its bytes, and of a sequence how many features a frame has."""

    path: Path
    digest: str | None = None
    features: int | None = None


def decoded(modality: str, path: Path) -> Any:
    """The value that a file holds. Raises OSError or ValueError where it holds none."""
    found = modalities()[modality].decode(path.read_bytes())
    if found.status is not Status.PRESENT:
        raise ValueError(f"{path}: {modality} is {found.status} ({found.reason})")
    return found.value


def checked(modality: str, path: Path) -> Source | str:
    """What is known of a file once it is read, or why it cannot be used."""
    try:
        data = path.read_bytes()
    except OSError as error:
        return f"{path} cannot be read: {error.strerror}"
    found = modalities()[modality].decode(data)
    if found.status is not Status.PRESENT:
        return f"{path} is {found.status} ({found.reason}); allowed: {_ALLOWED[modality]}"
    features = None if modality == "image" else int(found.value.shape[1])
    return Source(path, hashlib.sha256(data).hexdigest(), features)


def widths(rows: Iterable[tuple[int, Mapping[str, Source]]]) -> Iterator[str]:
    """A problem for each sequence, by line and modality, that has other features than the first of its modality."""
    first: dict[str, tuple[int, int | None]] = {}
    for line, sources in rows:
        for name, source in sorted(sources.items()):
            before, features = first.setdefault(name, (line, source.features))
            if source.features != features:
                yield f":{line}: {name}: {source.features} features a frame; line {before} has {features}"
