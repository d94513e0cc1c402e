"""The demo's scenes as a data set: neither picture nor caption tells the class, and training takes it as it is."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path

import pytest

from demo.annotations import write_scenes
from demo.captions import HEDGES, LABELS
from inference.training.annotations import read_annotations
from inference.training.config import read_config
from inference.training.plan import plan


def test_every_picture_meets_a_caption_of_every_class_and_no_word_betrays_it(tmp_path: Path) -> None:
    config = read_config(write_scenes(tmp_path / "one", 60, 3, hedged=False))
    rows = read_annotations(config.data.annotations)
    labels = defaultdict(set)
    for row in rows:
        labels[row.digest].add(row.label)
        assert not set(HEDGES) & set((row.text or "").split())
    assert len(labels) == 60
    assert all(found == set(LABELS) for found in labels.values())
    planned = plan(config.model_copy(update={"data": config.data.model_copy(update={"modalities": ("text",)})}))
    assert planned.built.labels == LABELS
    assert planned.sets["train"].rows[0].image is None


def test_the_same_seed_gives_the_same_files_and_another_folder_is_not_overwritten(tmp_path: Path) -> None:
    files = []
    for name, seed in (("one", 3), ("two", 3), ("three", 4)):
        write_scenes(tmp_path / name, 3, seed, hedged=True)
        files.append({path.name: path.read_bytes() for path in (tmp_path / name).rglob("*") if path.is_file()})
    assert files[0] == files[1]
    assert files[0]["annotations.jsonl"] != files[2]["annotations.jsonl"]
    assert len({json.loads(line)["id"] for line in files[0]["annotations.jsonl"].splitlines()}) == 9
    with pytest.raises(FileExistsError, match="holds files already; choose an empty folder"):
        write_scenes(tmp_path / "one", 3, 3, hedged=True)
