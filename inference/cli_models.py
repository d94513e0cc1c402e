"""`fusionwatch-inference quantize` and `explain`: what is done with a checkpoint that is there."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from inference.baseline import BaselineError
from inference.errors import Refusal
from inference.explained import UnexplainedError
from inference.explained import explain as explained
from inference.explained_page import page
from inference.modalities.base import modalities
from inference.models.checkpoint import CheckpointError, load_checkpoint
from inference.record import Record
from inference.request import RequestParser
from inference.training.annotations import AnnotationsError
from inference.training.config import ConfigError, read_config
from inference.training.quantised import quantised
from inference.training.store import CONTENT_TYPES
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


def explain(source: Path, image: Path | None, text: str | None, request: Path | None, out: Path) -> int:
    """Write a page about the answer to one request, given in parts or as a message; returns the exit code."""
    try:
        sent = _parts(image, text) if request is None else _message(request)
        values = _decoded(sent)
        checkpoint = load_checkpoint(source, torch.device("cpu"))
        if checkpoint.card.raw or (unknown := sorted(values.keys() - set(checkpoint.card.modalities))):
            takes = "no input" if checkpoint.card.raw else f"{', '.join(checkpoint.card.modalities)}, not {unknown}"
            raise RequestError(f"{source}: the family {checkpoint.family.name} takes {takes}")
        told = explained(checkpoint, values)
        out.write_text(page(told, values.get("image"), values.get("text")), encoding="utf-8")
    except (RequestError, CheckpointError) as error:
        return _failed(error, REFUSED)
    except (UnexplainedError, OSError) as error:
        return _failed(error, FAILED)
    sys.stdout.write(f"{told.label}, {told.confidence:.1%}; see {out}\n")
    return DONE


class RequestError(Exception):
    """The input cannot be used; the text says which part, and why."""


def _parts(image: Path | None, text: str | None) -> dict[str, Any]:
    sent: dict[str, Any] = {} if image is None else {"image": image.read_bytes()}
    if text is not None:
        sent["text"] = text
    if not sent:
        raise RequestError("expected --image, --text or both, or --request")
    return sent


def _message(path: Path) -> dict[str, Any]:
    """The modalities of a request message as producers send it."""
    kind = CONTENT_TYPES.get(path.suffix)
    if kind is None:
        raise RequestError(f"{path}: expected a file that ends in {' or '.join(CONTENT_TYPES)}")
    wires = {name: modality.wire for name, modality in modalities().items()}
    headers = (("content-type", kind),)
    record = Record(str(path), 0, 0, None, path.read_bytes(), headers, 0.0, datetime.now(UTC))
    parsed = RequestParser(wires).parse(record)
    if isinstance(parsed, Refusal):
        raise RequestError(f"{path}: {parsed.code}: {parsed.detail}")
    return {name: given.data for name, given in parsed.modalities.items()}


def _decoded(sent: Mapping[str, Any]) -> dict[str, Any]:
    found = {name: modalities()[name].decode(data) for name, data in sent.items()}
    if unusable := [f"{name} is {each.status} ({each.reason})" for name, each in found.items() if each.value is None]:
        raise RequestError("; ".join(unusable))
    return {name: each.value for name, each in found.items()}


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
