"""An annotations file: labelled values of modalities, one JSON object a line, checked before anything is trained on it.

Each line is `{"id", "image", "text", "audio", "video", "tabular", "label", "split", "metadata": {"source", "language",
"annotators", "agreement_score", "date"}}`. `image`, `audio` and `video` are paths, relative to the file's folder, of a
picture or a `.npy` feature sequence; `tabular` is an object. Any of them may be left out, one at least is there.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from inference.modalities import tabular as tables
from inference.modalities import text as texts
from inference.modalities.base import Decoded, Status
from inference.training.annotated import SPLITS, Metadata, Row, Split
from inference.training.source import Source, checked, widths

SHOWN = 20
"""Problems told at once: enough to see a pattern, few enough to read."""

Name = Annotated[str, Field(min_length=1, max_length=128)]


class AnnotationsError(ValueError):
    """The file cannot be used; the text has one line for each problem: where, what, and what is allowed."""

    def __init__(self, path: Path, problems: Sequence[str]) -> None:
        shown = [f"{path}{problem}" for problem in problems[:SHOWN]]
        more = [f"and {len(problems) - SHOWN} more"] if len(problems) > SHOWN else []
        super().__init__("\n".join(shown + more))
        self.problems = tuple(problems)


class _Line(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    id: Name
    label: Name
    image: Annotated[str, Field(min_length=1)] | None = None
    text: str | None = None
    audio: Annotated[str, Field(min_length=1)] | None = None
    video: Annotated[str, Field(min_length=1)] | None = None
    tabular: dict[str, float | str | bool | None] | None = None
    split: Split | None = None
    metadata: Metadata = Metadata()


@dataclass(frozen=True, slots=True)
class Shares:
    """How groups of rows without a split are dealt; the rest is for training."""

    validation: float = 0.15
    test: float = 0.15
    seed: int = 0


def read_annotations(path: Path, labels: Sequence[str] | None = None, shares: Shares | None = None) -> list[Row]:
    """Read and check every line and every picture; `labels` are those that are allowed, by default any.

    With `shares`, rows of a file that names no splits are dealt by their pictures; without, they keep None.

    Raises:
        AnnotationsError: anything is wrong with any row, or rows of one picture are in different splits.
    """
    rows, problems = _parse(path, labels)
    problems += _repeated(rows)
    if len({row.split is None for row in rows}) > 1:
        without = [row for row in rows if row.split is None]
        problems.append(
            f":{without[0].line}: split: {len(without)} of {len(rows)} rows have none; "
            f"expected one of {', '.join(SPLITS)} in every row or in none"
        )
    if not rows and not problems:
        problems.append(": no rows; expected one JSON object a line")
    rows, unreadable = _with_digests(rows)
    problems += unreadable
    if problems:
        raise AnnotationsError(path, sorted(problems, key=_line_number))
    if shares is not None and rows[0].split is None:
        rows = [replace(row, split=_dealt(row.group, shares)) for row in rows]
    if leaks := leaked(rows):
        raise AnnotationsError(path, leaks)
    return rows


def leaked(rows: Iterable[Row]) -> list[str]:
    """A problem for each picture (or what else groups rows) whose rows are in several splits."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(row.group, []).append(row)
    problems = []
    for members in groups.values():
        if len({row.split for row in members}) > 1:
            named = ", ".join(f"{row.id!r} (line {row.line}, {row.split})" for row in members[:SHOWN])
            more = f" and {len(members) - SHOWN} more" if len(members) > SHOWN else ""
            what = "picture" if members[0].digest else members[0].group.split(" ")[0]
            problems.append(
                f":{members[0].line}: split: one {what} in several splits: {named}{more}; expected one split"
            )
    return problems


def _parse(path: Path, labels: Sequence[str] | None) -> tuple[list[Row], list[str]]:
    rows, problems = [], []
    for number, line in _lines(path):
        try:
            parsed = _Line.model_validate(_object(line))
        except ValidationError as error:
            problems += [f":{number}: {_told(each)}" for each in error.errors()]
            continue
        except ValueError as error:
            problems.append(f":{number}: {error}")
            continue
        problems += [f":{number}: {problem}" for problem in _unusable(parsed, labels)]
        image = path.parent / parsed.image if parsed.image else None
        fields = (parsed.text, parsed.label, parsed.split, parsed.metadata)
        sequences = {name: Source(path.parent / file) for name, file in _files(parsed) if file}
        rows.append(Row(number, parsed.id, image, None, *fields, sequences, _table(parsed).value))
    return rows, problems


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    try:
        with path.open("rb") as file:
            yield from ((number, line) for number, line in enumerate(file, 1) if line.strip())
    except OSError as error:
        raise AnnotationsError(path, [f": cannot be read: {error.strerror}"]) from error


def _object(line: bytes) -> dict[str, Any]:
    try:
        content = json.loads(line)
    except ValueError as error:
        raise ValueError(f"expected a JSON object in UTF-8: {error}") from None
    if not isinstance(content, dict):
        raise ValueError(f"expected a JSON object, found {type(content).__name__}")
    return content


def _told(error: Mapping[str, Any]) -> str:
    field = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        return f"{field}: unknown field; allowed: {', '.join(_Line.model_fields)}"
    return f"{field}: {error['msg']}"


def _unusable(line: _Line, labels: Sequence[str] | None) -> Iterator[str]:
    if all(each is None for each in (line.image, line.text, line.audio, line.video, line.tabular)):
        yield "image, text, audio, video, tabular: all missing; expected one at least"
    table = _table(line)
    if line.tabular is not None and table.status is not Status.PRESENT:
        yield f"tabular: {table.status} ({table.reason}); leave it out where there is none"
    if labels is not None and line.label not in labels:
        yield f"label: {line.label!r} is unknown; allowed: {', '.join(labels)}"
    if line.text is not None:
        text = texts.decode(line.text)
        if text.status is not Status.PRESENT:
            yield f"text: {text.status} ({text.reason}); leave it out where there is none"


def _files(line: _Line) -> list[tuple[str, str | None]]:
    return [("audio", line.audio), ("video", line.video)]


def _table(line: _Line) -> Decoded:
    """As the worker would take it."""
    return tables.decode("" if line.tabular is None else json.dumps(line.tabular))


def _repeated(rows: Sequence[Row]) -> list[str]:
    first: dict[str, int] = {}
    return [
        f":{row.line}: id: {row.id!r} is that of line {first[row.id]} too; expected unique ids"
        for row in rows
        if first.setdefault(row.id, row.line) != row.line
    ]


def _with_digests(rows: Sequence[Row]) -> tuple[list[Row], list[str]]:
    """The rows with digests of their pictures, and what is wrong with those that the worker could not decode."""
    with ThreadPoolExecutor() as pool:
        found = list(pool.map(_with_digest, rows))
    done = [row for row, _ in found]
    told = [(row.line, row.sequences) for row in done]
    return done, [*(f":{row.line}: {wrong}" for row, problems in found for wrong in problems), *widths(told)]


def _with_digest(row: Row) -> tuple[Row, list[str]]:
    """The row with what is known of its files, and why each that cannot be used cannot."""
    problems, found = [], {}
    files = {name: source.path for name, source in row.sequences.items()}
    if row.image is not None:
        files["image"] = row.image
    for name, path in sorted(files.items()):
        read = checked(name, path)
        if isinstance(read, str):
            problems.append(f"{name}: {read}")
        else:
            found[name] = read
    picture = found.pop("image", None)
    return replace(row, digest=None if picture is None else picture.digest, sequences=found), problems


def _dealt(group: str, shares: Shares) -> Split:
    """By a hash: a picture keeps its split when rows are added, in whatever order."""
    digest = hashlib.sha256(f"{shares.seed}\0{group}".encode()).digest()
    place = int.from_bytes(digest[:8], "big") / 2.0**64
    if place < shares.test:
        return "test"
    return "validation" if place < shares.test + shares.validation else "train"


def _line_number(problem: str) -> int:
    head = problem[1:].split(":", 1)[0]
    return int(head) if head.isdigit() else 0
