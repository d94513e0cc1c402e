"""An annotations file is checked row by row, and its splits never share a picture."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from inference.training.annotated import AnnotatedExamples, Row
from inference.training.annotations import AnnotationsError, Shares, read_annotations

LABELS = ("no", "yes")


def picture(folder: Path, name: str, seed: int) -> str:
    pixels = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / name)
    return name


def write(folder: Path, rows: Sequence[dict[str, Any] | str]) -> Path:
    path = folder / "rows.jsonl"
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows), encoding="utf-8")
    return path


def row(folder: Path, number: int, **fields: Any) -> dict[str, Any]:
    made = {"id": f"r{number}", "image": picture(folder, f"{number}.png", number), "text": f"text {number}"}
    return {**made, "label": LABELS[number % 2], **fields}


def refused(path: Path, **options: Any) -> list[str]:
    with pytest.raises(AnnotationsError) as caught:
        read_annotations(path, **options)
    assert all(line.startswith(str(path)) for line in str(caught.value).splitlines() if not line.startswith("and "))
    return [problem.removeprefix(str(path)) for problem in str(caught.value).splitlines()]


def test_rows_are_read_with_everything_they_say(tmp_path: Path) -> None:
    metadata = {"source": "camera 3", "language": "de", "annotators": ["a", "b"], "agreement_score": 0.5}
    path = write(
        tmp_path,
        [
            row(tmp_path, 1, split="train", metadata=metadata | {"date": "2026-01-31", "weather": "rain"}),
            "",
            {"id": "t", "text": "text alone", "label": "no", "split": "test", "metadata": {"annotators": 3}},
        ],
    )
    first, second = read_annotations(path, LABELS)
    assert (first.line, first.id, first.label, first.split) == (1, "r1", "yes", "train")
    assert first.metadata.annotators == ("a", "b")
    assert first.metadata.agreement_score == 0.5
    assert (second.line, second.image, second.digest, second.metadata.annotators) == (3, None, None, 3)
    examples = AnnotatedExamples([first, second], LABELS)
    assert examples.labels.tolist() == [1, 0]
    pixels = np.random.default_rng(1).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    assert examples[0].image is not None
    assert np.array_equal(examples[0].image, pixels)
    assert [(e.key, e.caption, e.image is None) for e in examples[:]] == [
        ("r1", "text 1", False),
        ("t", "text alone", True),
    ]


def test_every_problem_is_named_by_line_and_field_at_once(tmp_path: Path) -> None:
    (tmp_path / "torn.png").write_bytes((tmp_path / picture(tmp_path, "whole.png", 0)).read_bytes()[:60])
    problems = refused(
        write(
            tmp_path,
            [
                "{not json",
                "[1]",
                row(tmp_path, 3, split="training", lable="x"),
                {"id": "", "label": "yes", "text": "t"},
                {"id": "a", "label": "yes"},
                row(tmp_path, 6, label="perhaps"),
                row(tmp_path, 7, image="gone.png"),
                row(tmp_path, 8, image="torn.png"),
                row(tmp_path, 9, id="r8", text="  "),
                row(tmp_path, 10, metadata={"agreement_score": 1.5, "date": "yesterday"}),
            ],
        ),
        labels=LABELS,
    )
    told = "\n".join(problems)
    for expected in (
        ":1: expected a JSON object in UTF-8",
        ":2: expected a JSON object, found list",
        ":3: split: Input should be 'train', 'validation' or 'test'",
        ":3: lable: unknown field; allowed: id, label, image, text, audio, video, tabular, split, metadata",
        ":4: id: String should have at least 1 character",
        ":5: image, text, audio, video, tabular: all missing; expected one at least",
        ":6: label: 'perhaps' is unknown; allowed: no, yes",
        ":7: image: ",
        "gone.png cannot be read: No such file or directory",
        "torn.png is corrupt",
        ":9: text: missing (empty)",
        ":9: id: 'r8' is that of line 8 too",
        ":10: metadata.agreement_score: Input should be less than or equal to 1",
        ":10: metadata.date: Input should be a valid datetime or date",
    ):
        assert expected in told, told
    lines = [int(problem.split(":")[1]) for problem in problems]
    assert lines == sorted(lines), "in the order of the file"


def test_only_the_first_problems_are_shown_and_the_rest_counted(tmp_path: Path) -> None:
    problems = refused(write(tmp_path, ["{"] * 50))
    assert len(problems) == 21
    assert problems[-1] == "and 30 more"


def test_a_missing_or_empty_file_is_refused(tmp_path: Path) -> None:
    assert refused(tmp_path / "none.jsonl") == [": cannot be read: No such file or directory"]
    assert refused(write(tmp_path, [""])) == [": no rows; expected one JSON object a line"]


def test_a_picture_in_two_splits_is_refused_with_its_rows_named(tmp_path: Path) -> None:
    rows = [row(tmp_path, number, split="train") for number in range(4)]
    (tmp_path / "copy.png").write_bytes((tmp_path / "2.png").read_bytes())
    rows += [{**rows[2], "id": "copy", "image": "copy.png", "text": "another", "split": "test"}]
    (problem,) = refused(write(tmp_path, rows))
    assert problem == (
        ":3: split: one picture in several splits: 'r2' (line 3, train), 'copy' (line 5, test); expected one split"
    )


def test_a_text_without_a_picture_in_two_splits_is_refused(tmp_path: Path) -> None:
    rows = [{"id": f"r{i}", "text": "same", "label": "no", "split": s} for i, s in enumerate(("train", "test"))]
    (problem,) = refused(write(tmp_path, rows))
    assert "one text in several splits: 'r0' (line 1, train), 'r1' (line 2, test)" in problem


def test_splits_in_some_rows_only_are_refused(tmp_path: Path) -> None:
    (problem,) = refused(write(tmp_path, [row(tmp_path, 0, split="train"), row(tmp_path, 1), row(tmp_path, 2)]))
    assert problem.startswith(":2: split: 2 of 3 rows have none")


def test_rows_without_splits_are_dealt_by_picture_near_the_shares_and_stay(tmp_path: Path) -> None:
    for number in range(100):
        picture(tmp_path, f"p{number}.png", number)
    rows = [{"id": f"r{i}", "image": f"p{i // 3}.png", "label": "no"} for i in range(300)]  # three rows to a picture
    shares = Shares(validation=0.3, test=0.3, seed=5)
    dealt = read_annotations(write(tmp_path, rows), shares=shares)
    by_picture: dict[str, set[str | None]] = {}
    for each in dealt:
        by_picture.setdefault(each.group, set()).add(each.split)
    assert len(by_picture) == 100
    assert all(len(splits) == 1 for splits in by_picture.values())
    counts = {split: sum(each == {split} for each in by_picture.values()) for split in ("train", "validation", "test")}
    assert all(15 < counts[split] < 45 for split in ("validation", "test")), counts
    fewer = read_annotations(write(tmp_path, rows[150:]), shares=shares)
    assert splits_of(fewer).items() <= splits_of(dealt).items()
    other = read_annotations(write(tmp_path, rows), shares=Shares(0.3, 0.3, seed=6))
    assert splits_of(other) != splits_of(dealt)
    assert {each.split for each in read_annotations(write(tmp_path, rows))} == {None}


def splits_of(rows: Sequence[Row]) -> dict[str, str | None]:
    return {each.id: each.split for each in rows}
