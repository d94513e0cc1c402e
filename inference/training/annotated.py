"""What an annotations file holds: rows of labelled values, and the examples that training reads of them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from pathlib import Path
from typing import Annotated, Any, Literal, overload

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from inference.training.data import LabelledExample
from inference.training.source import Source, decoded

SPLITS = ("train", "validation", "test")

Split = Literal["train", "validation", "test"]


class Metadata(BaseModel):
    """What is known of a row beside its content; other keys are ignored. No annotator's name is written anywhere."""

    model_config = ConfigDict(frozen=True)

    source: str | None = None
    language: str | None = None
    annotators: Annotated[int, Field(ge=1)] | tuple[str, ...] | None = None
    agreement_score: Annotated[float, Field(ge=0, le=1)] | None = None
    date: datetime | date | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the file. `image` is absolute; `digest` is the SHA-256 of its bytes, None without a picture.

    `sequences` are the files of `audio` and `video`.
    """

    line: int
    id: str
    image: Path | None
    digest: str | None
    text: str | None
    label: str
    split: Split | None
    metadata: Metadata
    sequences: Mapping[str, Source] = field(default_factory=dict)
    tabular: Mapping[str, float | str] | None = None

    @property
    def modalities(self) -> frozenset[str]:
        """Those that it has."""
        own = {"image": self.image, "text": self.text, "tabular": self.tabular, **self.sequences}
        return frozenset(name for name, value in own.items() if value is not None)

    @property
    def group(self) -> str:
        """Rows of one picture belong together; else those of one video, of one audio, or of one text and table."""
        for name in ("video", "audio"):
            if self.digest is None and name in self.sequences:
                return f"{name} {self.sequences[name].digest}"
        said = (self.text or "").encode() + b"".join(json.dumps(each).encode() for each in self.beside())
        return self.digest or "text " + hashlib.sha256(said).hexdigest()

    def beside(self) -> list[Any]:
        """What it holds beside picture and text, as JSON: the digests of sequences and the table; often nothing."""
        held: list[Any] = [[name, source.digest] for name, source in sorted(self.sequences.items())]
        return held if self.tabular is None else [*held, sorted(self.tabular.items())]

    def content(self, modality: str) -> object:
        """What tells one value of a modality from another; None where there is none."""
        if modality in self.sequences:
            return self.sequences[modality].digest
        return {"image": self.digest, "text": self.text, "tabular": self.tabular}.get(modality)

    def only(self, modalities: Collection[str]) -> Row:
        """The same row without any other modality."""
        image = (self.image, self.digest) if "image" in modalities else (None, None)
        return replace(
            self,
            image=image[0],
            digest=image[1],
            text=self.text if "text" in modalities else None,
            sequences={name: source for name, source in self.sequences.items() if name in modalities},
            tabular=self.tabular if "tabular" in modalities else None,
        )


class AnnotatedExamples(Sequence[LabelledExample]):
    """Rows as examples, decoded when they are asked for, as the worker decodes requests. Safe to read in threads."""

    def __init__(self, rows: Sequence[Row], labels: Sequence[str]) -> None:
        """`labels` in the model's order. Raises KeyError where a row has another."""
        numbers = {name: number for number, name in enumerate(labels)}
        self.names = tuple(labels)
        self.rows = tuple(rows)
        self.labels: NDArray[np.int64] = np.array([numbers[row.label] for row in rows], np.int64)

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, index: int) -> LabelledExample: ...
    @overload
    def __getitem__(self, index: slice) -> list[LabelledExample]: ...
    def __getitem__(self, index: int | slice) -> LabelledExample | list[LabelledExample]:
        """One example, or several. Raises OSError or ValueError where a file has gone since it was checked."""
        if isinstance(index, slice):
            return [self._example(i) for i in range(*index.indices(len(self.rows)))]
        return self._example(index)

    def _example(self, index: int) -> LabelledExample:
        row = self.rows[index]
        values = {name: self.value(index, name) for name in sorted(row.modalities)}
        return LabelledExample.of(row.id, values, int(self.labels[index]))

    def value(self, index: int, modality: str) -> Any:
        """The decoded value of a modality that a row has, None where it has not. Raises as an example does."""
        row = self.rows[index]
        if modality == "text":
            return row.text
        if modality == "tabular":
            return row.tabular
        path = row.image if modality == "image" else row.sequences[modality].path if modality in row.sequences else None
        return None if path is None else decoded(modality, path)
