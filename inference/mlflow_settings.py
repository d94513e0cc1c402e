"""Where MLflow is: apart from what writes to it, so that programs that track nothing can read settings."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class MlflowSettings:
    """Where MLflow is, the experiment that jobs' runs belong to, and whether `weights` are kept there too.

    `files` is where a new experiment keeps files, by default where a server does.
    """

    uri: str
    experiment: str = "fusionwatch"
    weights: bool = False
    files: Path | None = None
