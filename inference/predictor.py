"""From decoded requests to predictions: one forward pass a batch, each row checked before it becomes a probability."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from inference.errors import Code
from inference.modalities.base import Modality, Prepared, Preprocessing
from inference.models.base import FusionOutput, ModalityBatch
from inference.outcome import Prediction, Vector

FUSED = "fused"


class ServableModel(Protocol):
    """The parts of a checkpoint that the predictor needs; `inference.models.checkpoint.Checkpoint` has them."""

    @property
    def model(self) -> nn.Module:
        """A fusion model in eval mode."""
        ...

    @property
    def preprocessor(self) -> Preprocessing:
        """Its preprocessing."""
        ...

    @property
    def labels(self) -> tuple[str, ...]:
        """Class names in the order of the logits."""
        ...

    @property
    def temperature(self) -> float:
        """What the logits are divided by before softmax."""
        ...

    @property
    def version(self) -> str:
        """The version's name."""
        ...


def pick_device(name: str) -> torch.device:
    """The device by its name; `auto` takes CUDA, then Apple's MPS, then the CPU."""
    if name != "auto":
        return torch.device(name)
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


class Predictor:
    """Runs one checkpoint. Not for several threads at once."""

    def __init__(
        self,
        checkpoint: ServableModel,
        modalities: Mapping[str, Modality],
        encoders: Mapping[str, str],
        device: torch.device,
    ) -> None:
        """`encoders` maps the model's modalities to the names of their encoder submodules, whose time is taken."""
        self.checkpoint = checkpoint
        self.modalities = {name: modalities[name] for name in sorted(encoders)}
        self._device = device
        self._watch = _EncoderWatch(
            [checkpoint.model.get_submodule(name.rstrip(".")) for name in encoders.values()], device
        )

    def warm_up(self) -> None:
        """Run one request of every presence pattern, so that the first real one waits for nothing.

        Raises RuntimeError where the model cannot run or answers a blank input with NaN.
        """
        blank = {name: modality.blank for name, modality in self.modalities.items()}
        patterns = [blank, *({name: value} for name, value in blank.items())]
        for prediction in self.predict(patterns):
            if prediction.error is not None:
                raise RuntimeError(f"the model failed on a blank input: {prediction.error}")

    def predict(self, inputs: Sequence[Mapping[str, Any]]) -> list[Prediction]:
        """Predict N requests, each a mapping from its present modalities (one at least) to their decoded values.

        A batch that the device cannot run (out of memory, for one) is split until the request that cannot be run
        stands alone; that one becomes an error, not an exception.
        """
        if not inputs:
            return []
        started = time.perf_counter()
        batch, quality = self._prepare(inputs)
        preprocess_ms = (time.perf_counter() - started) * 1000
        try:
            output, encode_ms, fuse_ms = self._forward(batch)
        except RuntimeError:  # torch's class for whatever a device refuses
            if len(inputs) > 1:
                half = len(inputs) // 2
                return self.predict(inputs[:half]) + self.predict(inputs[half:])
            return [self._failed(inputs[0], Code.MODEL_FAILED, quality[0], (preprocess_ms, 0.0, 0.0))]
        return self._judge(inputs, output, quality, (preprocess_ms, encode_ms, fuse_ms))

    def _prepare(self, inputs: Sequence[Mapping[str, Any]]) -> tuple[dict[str, ModalityBatch], list[dict[str, Vector]]]:
        batch = {}
        quality: list[dict[str, Vector]] = [{} for _ in inputs]
        for name, modality in self.modalities.items():
            rows = [index for index, values in enumerate(inputs) if name in values]
            values = [inputs[index][name] for index in rows] or [modality.blank]
            prepared = modality.prepare(values, self.checkpoint.preprocessor)
            for index, statistics in zip(rows, prepared.quality, strict=False):
                quality[index][name] = statistics
            batch[name] = self._scatter(prepared, rows, len(inputs))
        return batch, quality

    def _scatter(self, prepared: Prepared, rows: list[int], n: int) -> ModalityBatch:
        present = torch.zeros(n, dtype=torch.bool)
        present[rows] = True
        tensors = {}
        for name, tensor in prepared.tensors.items():
            if len(rows) == n:
                tensors[name] = tensor.to(self._device)
                continue
            full = tensor.new_zeros((n, *tensor.shape[1:]))
            if rows:
                full[rows] = tensor
            tensors[name] = full.to(self._device)
        return ModalityBatch(tensors, present.to(self._device))

    def _forward(self, batch: Mapping[str, ModalityBatch]) -> tuple[FusionOutput, float, float]:
        """The output on the CPU, and milliseconds in the encoders and in all that follows them."""
        self._watch.reset()
        started = time.perf_counter()
        with torch.inference_mode():
            output: FusionOutput = self.checkpoint.model(batch)
            output = FusionOutput(
                logits=output.logits.float().cpu(),
                embeddings={name: rows.float().cpu() for name, rows in output.embeddings.items()},
                unimodal_logits={name: rows.float().cpu() for name, rows in output.unimodal_logits.items()},
            )
        total = (time.perf_counter() - started) * 1000
        encode = min(self._watch.milliseconds(), total)
        return output, encode, total - encode

    def _judge(
        self,
        inputs: Sequence[Mapping[str, Any]],
        output: FusionOutput,
        quality: list[dict[str, Vector]],
        times: tuple[float, float, float],
    ) -> list[Prediction]:
        probabilities = torch.softmax(output.logits / self.checkpoint.temperature, dim=-1).numpy()
        choices = probabilities.argmax(axis=1)
        agreement = _agreement(output, choices)
        embeddings = {name: rows.numpy() for name, rows in output.embeddings.items()}
        predictions = []
        for index, values in enumerate(inputs):
            row = {name: vectors[index] for name, vectors in embeddings.items() if name in values or name == FUSED}
            finite = np.isfinite(probabilities[index]).all() and all(np.isfinite(v).all() for v in row.values())
            if not finite:
                predictions.append(self._failed(values, Code.MODEL_NOT_FINITE, quality[index], times))
                continue
            choice = int(choices[index])
            route = self._route(values)
            predictions.append(
                Prediction(
                    model_version=self.checkpoint.version,
                    classes=self.checkpoint.labels,
                    route=route,
                    error=None,
                    label=self.checkpoint.labels[choice],
                    confidence=float(probabilities[index, choice]),
                    probabilities=probabilities[index],
                    agreement=bool(agreement[index]) if route == FUSED and agreement is not None else None,
                    embeddings=row,
                    quality=quality[index],
                    preprocess_ms=times[0],
                    encode_ms=times[1],
                    fuse_ms=times[2],
                )
            )
        return predictions

    def _failed(
        self,
        values: Mapping[str, Any],
        code: Code,
        quality: Mapping[str, Vector],
        times: tuple[float, float, float],
    ) -> Prediction:
        version, classes = self.checkpoint.version, self.checkpoint.labels
        return Prediction(version, classes, self._route(values), code, None, None, None, None, {}, quality, *times)

    def _route(self, values: Mapping[str, Any]) -> str:
        present = [name for name in self.modalities if name in values]
        return FUSED if len(present) == len(self.modalities) else "fallback:" + "+".join(present)


def _agreement(output: FusionOutput, choices: NDArray[np.int64]) -> NDArray[np.bool_] | None:
    """(B,) whether every unimodal head's class is the fused one; None where the family has no such heads."""
    if not output.unimodal_logits:
        return None
    heads = np.stack([logits.argmax(dim=-1).numpy() for logits in output.unimodal_logits.values()])
    same: NDArray[np.bool_] = (heads == choices).all(axis=0)
    return same


class _EncoderWatch:
    """Adds up the time spent in encoder modules, on CUDA with events so that nothing waits for the measurement."""

    def __init__(self, encoders: Sequence[nn.Module], device: torch.device) -> None:
        self._cuda = device.type == "cuda"
        self._marks: list[Any] = []
        for encoder in encoders:
            encoder.register_forward_pre_hook(lambda *_: self._mark())
            encoder.register_forward_hook(lambda *_: self._mark())

    def reset(self) -> None:
        self._marks = []

    def _mark(self) -> None:
        if not self._cuda:
            self._marks.append(time.perf_counter())
            return
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        self._marks.append(event)

    def milliseconds(self) -> float:
        pairs = zip(self._marks[::2], self._marks[1::2], strict=False)
        if self._cuda:
            return sum(float(begin.elapsed_time(end)) for begin, end in pairs)
        return float(sum((end - begin) * 1000 for begin, end in pairs))
