"""How feature sequences and tables become the arrays that a model takes: scales and codes fitted on training rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

MAX_DEVIATION = 10.0  # farther ones say no more than that they are far, and would drown the other columns

Floats = NDArray[np.float32]
Table = Mapping[str, float | str]


@dataclass(frozen=True, slots=True, eq=False)
class SequenceSettings:
    """How a sequence (T, F) is scaled, `mean` and `std` (F,), and to how many frames a longer one is thinned out."""

    mean: Floats
    std: Floats
    max_frames: int

    @classmethod
    def fit(cls, sequences: Iterable[Floats], max_frames: int) -> SequenceSettings:
        """Mean and deviation over all frames. Raises ValueError where there is none, or where F differs."""
        count, total, squares = 0, np.zeros(0), np.zeros(0)
        for frames in sequences:
            wide = frames.astype(np.float64)
            if count and wide.shape[1] != len(total):
                raise ValueError(f"sequences have {len(total)} and {wide.shape[1]} features; expected one number")
            total = wide.sum(0) + (total if count else 0)
            squares = (wide**2).sum(0) + (squares if count else 0)
            count += len(wide)
        if not count:
            raise ValueError("expected one sequence at least")
        mean = total / count
        std = np.sqrt(np.maximum(squares / count - mean**2, 0.0))
        return cls(mean.astype(np.float32), np.where(std > 0, std, 1.0).astype(np.float32), max_frames)

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> SequenceSettings:
        """Read what `to_config` wrote. Raises ValueError where it is something else."""
        try:
            mean, std = (np.asarray(config[key], np.float32) for key in ("mean", "std"))
            frames = int(config["max_frames"])
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"sequence: expected mean, std and max_frames: {error}") from error
        fit = mean.ndim == 1 and mean.shape == std.shape and len(mean) and frames > 0
        if not fit or not np.isfinite(mean).all() or not (np.isfinite(std) & (std > 0)).all():
            raise ValueError("sequence: expected as many means as positive deviations, and max_frames above 0")
        return cls(mean, std, frames)

    def to_config(self) -> dict[str, Any]:
        """As JSON."""
        return {"mean": self.mean.tolist(), "std": self.std.tolist(), "max_frames": self.max_frames}

    @property
    def features(self) -> int:
        """F."""
        return len(self.mean)

    def __call__(self, frames: Floats) -> dict[str, NDArray[Any]]:
        """`features` (T, F) float32, T at most `max_frames`, and `frame_mask` (T,) int64.

        Of a longer sequence evenly spaced frames are kept. One without features (T, 0) gives the mean of training's.
        """
        if len(frames) > self.max_frames:
            frames = frames[np.linspace(0, len(frames) - 1, self.max_frames).round().astype(np.intp)]
        scaled = (frames - self.mean) / self.std if frames.shape[1] else np.zeros((len(frames), self.features))
        return {"features": scaled.astype(np.float32, copy=False), "frame_mask": np.ones(len(frames), np.int64)}


@dataclass(frozen=True, slots=True)
class TabularSettings:
    """The columns of a model by name, in its order: each number's mean and deviation, each category's values."""

    numbers: Mapping[str, tuple[float, float]]
    categories: Mapping[str, tuple[str, ...]]

    @classmethod
    def fit(cls, tables: Sequence[Table]) -> TabularSettings:
        """A column of numbers only is a number, any other a category. Raises ValueError without columns."""
        values: dict[str, list[float | str]] = {}
        for table in tables:
            for name, value in table.items():
                values.setdefault(name, []).append(value)
        if not values:
            raise ValueError("expected one column at least")
        numbers, categories = {}, {}
        for name, found in sorted(values.items()):
            if all(isinstance(value, float) for value in found):
                column = np.array(found, np.float64)
                numbers[name] = (float(column.mean()), float(column.std()) or 1.0)
            else:
                categories[name] = tuple(sorted({word(value) for value in found}))
        return cls(numbers, categories)

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> TabularSettings:
        """Read what `to_config` wrote. Raises ValueError where it is something else."""
        try:
            numbers = {
                str(name): (float(mean), float(std)) for name, mean, std in (tuple(each) for each in config["numbers"])
            }
            categories = {
                str(name): tuple(str(value) for value in values) for name, values in map(tuple, config["categories"])
            }
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"tabular: expected lists of numbers and categories: {error}") from error
        if not numbers and not categories:
            raise ValueError("tabular: expected one column at least")
        if not all(np.isfinite(each).all() and each[1] > 0 for each in numbers.values()):
            raise ValueError("tabular: expected a finite mean and a positive deviation of each number")
        return cls(numbers, categories)

    def to_config(self) -> dict[str, Any]:
        """As JSON; lists, since the order of the columns is that of the model's weights."""
        return {
            "numbers": [[name, mean, std] for name, (mean, std) in self.numbers.items()],
            "categories": [[name, list(values)] for name, values in self.categories.items()],
        }

    @property
    def names(self) -> tuple[str, ...]:
        """All columns."""
        return (*self.numbers, *self.categories)

    def __call__(self, table: Table) -> dict[str, NDArray[Any]]:
        """`numbers` and `known` (N,) float32, `codes` (C,) int64.

        Numbers are scaled, zero where `known` is; codes count from 1, 0 stands for an absent or unseen category.
        """
        numbers, known = np.zeros(len(self.numbers), np.float32), np.zeros(len(self.numbers), np.float32)
        for place, (name, (mean, std)) in enumerate(self.numbers.items()):
            value = table.get(name)
            if isinstance(value, float):
                numbers[place] = np.clip((value - mean) / std, -MAX_DEVIATION, MAX_DEVIATION)
                known[place] = 1.0
        codes = np.zeros(len(self.categories), np.int64)
        for place, (name, values) in enumerate(self.categories.items()):
            if name in table and (said := word(table[name])) in values:
                codes[place] = values.index(said) + 1
        return {"numbers": numbers, "known": known, "codes": codes}


def word(value: float | str) -> str:
    """A category's name; of a number the shortest: 3.0 and 3 are one.

    >>> word(3.0)
    '3'
    """
    return value if isinstance(value, str) else format(value, ".12g")
