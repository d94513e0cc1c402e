"""Runs a loaded checkpoint: one forward pass a batch, with its times, precision and cascade."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import combinations, pairwise
from typing import Any, Protocol, cast

import numpy as np
import torch
from torch import Tensor, nn

from inference import log
from inference.collate import collate
from inference.contribution import Shuffle, drawn
from inference.devices import require_compiler
from inference.modalities.base import Prepared
from inference.model_io import WHOLE, Dtype, ModelInput, ModelOutput
from inference.models.base import Encoded, FusionModel, FusionOutput, ModalityBatch, StagedModel
from inference.models.preprocess import ImageSettings
from inference.models.tensors import Loader, Staged

_log = logging.getLogger(__name__)
FUSED = "fused"


class Runnable(Protocol):
    """The parts of a checkpoint that the predictor needs; `inference.models.checkpoint.Checkpoint` has them."""

    @property
    def model(self) -> nn.Module:
        """A fusion model in eval mode, float32, on the predictor's device."""
        ...

    @property
    def encoders(self) -> Mapping[str, str]:
        """The names of its encoder submodules, by modality."""
        ...

    @property
    def image(self) -> ImageSettings | None:
        """How pixels are scaled."""
        ...

    @property
    def blanks(self) -> Mapping[str, Prepared]:
        """A prepared blank value of each modality."""
        ...

    @property
    def temperature(self) -> float:
        """What the logits are divided by before softmax."""
        ...


_BEGIN, _FUSE = "begin", "fuse"  # steps of a forward pass, beside those of the encoders


@dataclass(frozen=True, slots=True)
class _Forward:
    """B rows before they leave the device; `skipped` (B,), or None where every row was fused.

    `encoded` is what the fusion step was given, None for a family that runs in one step.
    """

    probabilities: Tensor
    embeddings: Mapping[str, Tensor]
    heads: Mapping[str, Tensor]
    skipped: Tensor | None
    attention: Tensor | None
    encoded: Mapping[str, Encoded] | None = None


class Predictor:
    """Runs one checkpoint. `stage` may be called by another thread than `run`; neither by several at once."""

    def __init__(
        self,
        checkpoint: Runnable,
        device: torch.device,
        *,
        dtype: Dtype = "float32",
        compile: bool = False,
        cascade_threshold: float | None = None,
        cascade_sample: float = 0.0,
        attention: bool = False,
        contribution_share: float = 0.0,
    ) -> None:
        """`dtype` bfloat16 casts the encoders' weights, which hold nearly all of the work and of the memory.

        What joins and judges stays float32: bfloat16 logits would round probabilities in their second digit, and
        autocast, the other way, would convert the float32 weights again in every pass. `cascade_sample` of the batches
        are fused whole: requests whose heads are not sure do not stand for all. `contribution_share` of the batches are
        measured as `Shuffle` does, where the model has steps.

        Raises RuntimeError where `compile` finds no compiler, ValueError where the model cannot do the cascade.
        """
        self._checkpoint = checkpoint
        self.device = device
        self._threshold = cascade_threshold
        self._sample = cascade_sample
        self._batches = 0
        self._attention = attention
        self._loader = Loader(checkpoint.image, device)
        self._staged = isinstance(checkpoint.model, StagedModel)
        if cascade_threshold is not None and not self._staged:
            raise ValueError("the cascade needs a family with encode, heads and fuse")
        self._shuffle = Shuffle(contribution_share, self._refuse) if contribution_share and self._staged else None
        if contribution_share and not self._staged:
            _log.info("contributions are not measured: the model's family has no encode and fuse to run apart")
        encoders = [checkpoint.model.get_submodule(prefix.rstrip(".")) for prefix in checkpoint.encoders.values()]
        if dtype == "bfloat16":
            torch.set_float32_matmul_precision("high")  # what stays float32 may use the tensor cores
            for encoder in encoders:
                encoder.to(torch.bfloat16)
        if compile:
            require_compiler(device)
            for encoder in encoders:
                encoder.compile(dynamic=True)

    def warm_up(self) -> None:
        """Run blanks in every presence pattern, together and alone, so that the first request waits for nothing.

        Raises RuntimeError where the model cannot run or answers a blank input with NaN.
        """
        blanks = self._checkpoint.blanks
        names = sorted(blanks)
        patterns = [chosen for size in range(len(names), 0, -1) for chosen in combinations(names, size)]
        rows = [{name: blanks[name] for name in chosen} for chosen in patterns]
        for batch in (rows, rows[:1]):
            output = self._run(self.stage(collate(batch, blanks)), None, cascade=self._threshold is not None)
            if not all(np.isfinite(array).all() for array in (output.probabilities, *output.embeddings.values())):
                raise RuntimeError("the model failed on a blank input: its output is not finite")

    def allocate(self, size: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
        """Memory (size,) for a batch's arrays, the kind from which the device copies fastest."""
        return self._loader.allocate(size)

    def stage(self, batch: ModelInput) -> Staged:
        """Start copying a batch to the device."""
        return self._loader.stage(batch)

    def recover(self) -> None:
        """Make ready for the next batch after `run` raised. Raises RuntimeError where the device is past help."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
            torch.cuda.empty_cache()

    def run(self, batch: ModelInput | Staged) -> ModelOutput:
        """One forward pass. Raises whatever the model or its device raises, RuntimeError for want of memory."""
        staged = batch if isinstance(batch, Staged) else self.stage(batch)
        cascade = self._threshold is not None and drawn(self._batches, self._sample) is None
        self._batches += 1
        return self._run(staged, None if self._shuffle is None else self._shuffle.draws(), cascade=cascade)

    def _run(self, staged: Staged, draws: np.random.Generator | None, *, cascade: bool) -> ModelOutput:
        present = staged.arrays.present
        clock = _Clock(self.device)
        with torch.inference_mode():
            inputs = self._loader.finish(staged)
            clock.mark(_BEGIN)
            result = self._forward(inputs, clock, cascade=cascade)
            clock.mark(_FUSE)
            probabilities = result.probabilities.float().cpu().numpy()
            skipped = np.zeros(len(probabilities), np.bool_) if result.skipped is None else _numpy(result.skipped)
            agreement = _agreement(probabilities, {k: _numpy(v) for k, v in result.heads.items()}, present)
            output = {name: _numpy(rows.float()) for name, rows in result.embeddings.items()}
            attention = None if result.attention is None else _numpy(result.attention.half())
            spent = clock.milliseconds()
            answer = ModelOutput(
                probabilities, output, agreement, skipped, spent, spent.pop(_FUSE), attention, cascaded=cascade
            )
            if draws is None or result.encoded is None:
                return answer
            return self._with_contribution(answer, result.encoded, present, draws)

    def _with_contribution(
        self,
        answer: ModelOutput,
        encoded: Mapping[str, Encoded],
        present: Mapping[str, Any],
        draws: np.random.Generator,
    ) -> ModelOutput:
        assert self._shuffle is not None
        began = time.perf_counter()
        try:
            lost = self._shuffle.measure(encoded, answer.probabilities, answer.skipped, present, draws)
        except Exception as error:  # noqa: BLE001  # the answers are there: what fails after them costs the figures only
            _log.warning("contributions of a batch could not be measured", extra=log.fields(error=type(error).__name__))
            self._shuffle.forget()
            self.recover()
            return answer
        return replace(answer, contribution=lost, contribution_ms=(time.perf_counter() - began) * 1000)

    def _forward(self, batch: Mapping[str, ModalityBatch], clock: _Clock, *, cascade: bool) -> _Forward:
        if not self._staged:
            output = cast(FusionModel, self._checkpoint.model)(batch, with_attention=self._attention)
            clock.mark(WHOLE)
            return self._fused(output)
        model = cast(StagedModel, self._checkpoint.model)
        encoded = model.encode(batch, clock.mark)
        if self._threshold is None or not cascade:
            return self._fused(model.fuse(encoded, with_attention=self._attention), encoded)
        complete = torch.stack([each.present for each in batch.values()]).all(0)
        return self._cascade(model, encoded, complete, self._threshold)

    def _fused(self, output: FusionOutput, encoded: Mapping[str, Encoded] | None = None) -> _Forward:
        probabilities = torch.softmax(output.logits.float() / self._checkpoint.temperature, dim=-1)
        return _Forward(probabilities, output.embeddings, output.unimodal_logits, None, output.attention, encoded)

    def _refuse(self, encoded: Mapping[str, Encoded]) -> Tensor:
        """Probabilities of rows whose modalities were exchanged."""
        return self._fused(cast(StagedModel, self._checkpoint.model).fuse(encoded)).probabilities

    def _cascade(
        self, model: StagedModel, encoded: Mapping[str, Encoded], complete: Tensor, threshold: float
    ) -> _Forward:
        """Fuse only the rows whose heads disagree, or one of whose heads is not sure, or that lack a modality.

        Sure means that the softmax of the head's own logits, at temperature 1, is above the threshold: the
        checkpoint's temperature was fitted for the fused logits only. The others get the mean of the heads' softmaxes.
        """
        heads = model.heads(encoded)
        softmaxes = torch.stack([logits.float().softmax(-1) for logits in heads.values()])
        confidence, choices = softmaxes.max(-1)
        skipped = complete & (choices == choices[0]).all(0) & (confidence > threshold).all(0)
        probabilities = softmaxes.mean(0)
        embeddings = {name: each.pooled for name, each in encoded.items()}
        rest = (~skipped).nonzero()[:, 0]
        if len(rest) == 0:
            return _Forward(probabilities, embeddings, heads, skipped, None)
        chosen = encoded if len(rest) == len(skipped) else {name: each.rows(rest) for name, each in encoded.items()}
        fused = self._fused(model.fuse(chosen, with_attention=self._attention))
        probabilities[rest] = fused.probabilities
        embeddings |= {
            name: _scattered(rows, rest, len(skipped)) for name, rows in fused.embeddings.items() if name not in encoded
        }
        attention = None if fused.attention is None else _scattered(fused.attention, rest, len(skipped))
        return _Forward(probabilities, embeddings, heads, skipped, attention, chosen)


class _Clock:
    """Marks points of a forward pass; on CUDA with events, so that nothing waits for the measurement."""

    def __init__(self, device: torch.device) -> None:
        self._cuda = device.type == "cuda"
        self._marks: list[tuple[str, Any]] = []

    def mark(self, name: str) -> None:
        """The step of that name ends here, and the next begins."""
        mark: Any = torch.cuda.Event(enable_timing=True) if self._cuda else time.perf_counter()
        if self._cuda:
            mark.record()
        self._marks.append((name, mark))

    def milliseconds(self) -> dict[str, float]:
        """By step, in order; the first mark is the beginning and no step."""
        if self._cuda:
            self._marks[-1][1].synchronize()
        return {name: self._between(before, after) for (_, before), (name, after) in pairwise(self._marks)}

    def _between(self, before: Any, after: Any) -> float:
        return float(before.elapsed_time(after)) if self._cuda else (after - before) * 1000


def _numpy(tensor: Tensor) -> np.ndarray[Any, Any]:
    return cast("np.ndarray[Any, Any]", tensor.cpu().numpy())


def _scattered(rows: Tensor, at: Tensor, count: int) -> Tensor:
    """(count, ...) with `rows` at those places and zeros elsewhere."""
    full = rows.new_zeros((count, *rows.shape[1:]))
    full[at] = rows
    return full


def _agreement(
    probabilities: np.ndarray[Any, Any], heads: Mapping[str, np.ndarray[Any, Any]], present: Mapping[str, Any]
) -> np.ndarray[Any, np.dtype[np.int8]]:
    """(B,) as `ModelOutput` has it."""
    if not heads:
        return np.full(len(probabilities), -1, np.int8)
    choices = np.stack([logits.argmax(-1) for logits in heads.values()])
    same = (choices == probabilities.argmax(-1)).all(0).astype(np.int8)
    complete = np.stack(list(present.values())).all(0)
    return np.where(complete, same, np.int8(-1)).astype(np.int8)
