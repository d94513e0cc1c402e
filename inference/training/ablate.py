"""The same training with several families and seeds, told in one table."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from inference.modalities.base import modalities
from inference.training.build import families_of, find_family, options_of
from inference.training.config import ConfigError, Modality, TrainConfig
from inference.training.keep import OutputFolder
from inference.training.plan import read_rows
from inference.training.team import Team
from inference.training.tracking import UNTRACKED, Tracker
from inference.training.train import Tell, train

TABLE = "ablation.json"


def _ablated(ablation: str, report: dict[str, Any]) -> float | None:
    found: float | None = report["ablation"].get(ablation, {}).get("share")
    return found


FIGURES: dict[str, Callable[[dict[str, Any]], float | None]] = {
    "accuracy": lambda report: report["fused"]["accuracy"]["share"],
    **{
        f"{name} {state}": partial(_ablated, f"{name} {state}")
        for state in ("missing", "alone")
        for name in sorted(modalities())
    },
    "calibration error": lambda report: report["fused"]["ece"]["value"],
    "seconds": lambda report: report["seconds"],
}
"""What is told of each run, by the name of its column; nothing of modalities that a model does not take."""
ALONE: dict[str, Modality] = {"image_only": "image", "text_only": "text"}
"""What a model that sees one modality reaches: named like families, trained as the family `early`."""


def every_family(config: TrainConfig) -> list[str]:
    """All that can be compared on what the data holds, and of images and texts each alone. Raises AnnotationsError."""
    there = set().union(*(row.modalities for row in read_rows(config)))
    alone = ALONE if there == set(ALONE.values()) else ()
    return [*families_of(there, config.model.family_modules), *alone]


def variants(config: TrainConfig, families: Sequence[str], seeds: Sequence[int]) -> list[tuple[str, TrainConfig]]:
    """The configuration with each family and seed; options that a family does not have are left out for it.

    Each writes to a folder of its own, `<output>-ablation/<family>-<seed>`. Raises ConfigError: an unknown family, or
    a checkpoint to go on from, which has one already.
    """
    if config.model.checkpoint is not None:
        raise ConfigError("model.checkpoint: has its family already; families are compared from their beginning")
    made = []
    for name in families:
        model = config.model.model_copy(update={"family": "early" if name in ALONE else name})
        known = options_of(find_family(model))
        options = {key: value for key, value in model.options.items() if key in known}
        data = config.data.model_copy(update={"modalities": (ALONE[name],)} if name in ALONE else {})
        for seed in seeds:
            changes = {
                "output": folder_of(config) / f"{name}-{seed}",
                "data": data,
                "model": model.model_copy(update={"options": options}),
                "training": config.training.model_copy(update={"seed": seed}),
            }
            made.append((name, config.model_copy(update=changes)))
    return made


def folder_of(config: TrainConfig) -> Path:
    """Where all runs are."""
    return config.output.with_name(f"{config.output.name}-ablation")


def ablate(
    config: TrainConfig,
    families: Sequence[str],
    seeds: Sequence[int],
    team: Team,
    tell: Tell,
    should_stop: Callable[[], bool],
    tracker: Tracker = UNTRACKED,
) -> list[dict[str, Any]] | None:
    """Train every variant that is not finished, and write the table of what there is after each.

    None where it was stopped before the last. Raises what `train` raises, and FolderError where a folder holds a
    finished run of something else.
    """
    reports: dict[str, list[dict[str, Any]]] = {name: [] for name in families}
    cells, told = variants(config, families, seeds), list[dict[str, Any]]()
    rows = {variant.data: read_rows(variant) for variant in {each.data: each for _, each in cells}.values()}
    for number, (name, variant) in enumerate(cells, 1):
        report = OutputFolder(variant.output).finished(variant, rows[variant.data])
        if report is None:
            if team.leads:
                tell.phase(f"{name}, seed {variant.training.seed}: {number} of {len(cells)}")
            trained = train(variant, team, tell, should_stop, force=False, tracker=tracker)
            if trained.ended == "stopped":
                return None
            report = trained.report
        if report is not None:  # only the leader of a team has one
            reports[name].append(report)
            told = [row(each, found) for each, found in reports.items() if found]
            (folder_of(config) / TABLE).write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
    return told


def row(family: str, reports: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """One line of the table: mean and standard deviation over seeds of every figure; null where there is none."""
    figures = {}
    for name, read in FIGURES.items():
        values = [value for report in reports if (value := read(report)) is not None]
        spread = stdev(values) if len(values) > 1 else None
        figures[name] = {"mean": fmean(values) if values else None, "sd": spread}
    return {"family": family, "runs": len(reports), "parameters": reports[0]["parameters"], **figures}
