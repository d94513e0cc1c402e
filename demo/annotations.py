"""The demo's scenes as a data set for `fusionwatch-inference train` and `ablate`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from demo.captions import Label, draw_claim, write_caption
from demo.deployment import CHECKPOINT
from demo.scenes import draw_scene

CONFIG = Path(__file__).with_name("scenes.toml")
ANNOTATIONS, PICTURES = "annotations.jsonl", "pictures"


def write_scenes(
    folder: Path, pictures: int, seed: int, *, hedged: bool, progress: Callable[[int], None] = lambda _done: None
) -> Path:
    """Write so many pictures with three captions each, one of every class, and a configuration; returns its path.

    No picture can tell the class then, and without `hedged` no caption can either. The same seed gives the same files.
    Raises FileExistsError where the folder holds something.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise FileExistsError(f"{folder}: holds files already; choose an empty folder")
    (folder / PICTURES).mkdir()
    rng = np.random.default_rng([seed, 4])
    with (folder / ANNOTATIONS).open("w", encoding="utf-8") as file:
        for number in range(pictures):
            scene = draw_scene(rng)
            name = f"{PICTURES}/{number:05}.png"
            Image.fromarray(scene.image).save(folder / name, compress_level=1)
            for label in Label:
                text = write_caption(rng, draw_claim(rng, scene, label), label, None if hedged else False)
                row = {"id": f"{number}-{label.name.lower()}", "image": name, "text": text, "label": label.name.lower()}
                file.write(json.dumps(row | {"metadata": {"source": "drawn", "language": "en"}}) + "\n")
            progress(number + 1)
    config = CONFIG.read_text(encoding="utf-8").replace('"checkpoint"', json.dumps(str(CHECKPOINT.resolve())))
    (folder / "train.toml").write_text(config, encoding="utf-8")
    return folder / "train.toml"
