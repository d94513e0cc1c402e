"""`fusionwatch-inference quantize` and `explain`: what is done with a checkpoint that is there."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from inference.baseline import BaselineError
from inference.models.checkpoint import CheckpointError
from inference.training.annotations import AnnotationsError
from inference.training.config import ConfigError, read_config
from inference.training.quantised import quantised
from inference.training.validation import UnusableModelError

DONE, FAILED, REFUSED = 0, 1, 2


def quantize(source: Path, target: Path, config: Path, report: Path | None) -> int:
    """Write a checkpoint in int8 and say what it cost; returns the exit code."""
    try:
        told = quantised(source, target, read_config(config))
        if report is not None:
            report.write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
    except (ConfigError, AnnotationsError, CheckpointError) as error:
        return _failed(error, REFUSED)
    except (BaselineError, UnusableModelError, OSError) as error:
        return _failed(error, FAILED)
    show_costs(told, {"before": "as it was", "after": "int8"})
    return DONE


def show_costs(told: Mapping[str, Any], names: Mapping[str, str]) -> None:
    """Print what `inference.training.costs.compared` found, each model under its name."""
    table = Table()
    columns = ("model", "accuracy", "95% interval", "calibration error", "MB", "ms, alone", "ms, of a batch of 32")
    for name in columns:
        table.add_column(name, justify="left" if name == "model" else "right")
    for key, name in names.items():
        found = told[key]
        low, high = found["accuracy"]["interval"]
        table.add_row(
            name,
            f"{found['accuracy']['share']:.3f}",
            f"{low:.3f} to {high:.3f}",
            f"{found['ece']['value']:.3f}",
            f"{found['megabytes']:.2f}",
            f"{found['ms_alone']:.2f}",
            f"{found['ms_in_batch']:.2f}",
        )
    console = Console()
    console = console if console.is_terminal else Console(width=120)
    console.print(table)
    same = told["same_answers"]
    console.print(f"the same answer to {same['share']:.1%} of {same['n']} rows", highlight=False)


def _failed(error: Exception, code: int) -> int:
    sys.stderr.write(f"{error}\n")
    return code
