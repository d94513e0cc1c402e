"""The model process: `python -m inference.model_child <socket> <checkpoint folder>`, started by `ModelProcess`.

One thread receives batches and starts copying them to the device, so that the next is there when a pass ends; the
main thread runs them. When the socket closes, the process ends at once: its parent is gone or done with it.
"""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import socket
import sys
import threading
from queue import SimpleQueue
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from inference import cores, frames, log
from inference.model_io import ModelOutput
from inference.model_process import Failed, Start, Started
from inference.models.card import CheckpointError

if TYPE_CHECKING:  # torch takes seconds to import: signals are dealt with before
    from inference.models.tensors import Staged
    from inference.predictor import Predictor

_log = logging.getLogger(__name__)
_NAME = b"fusion-model"  # at most 15 bytes
_PR_SET_NAME = 15
_BROKEN_DEVICE = 3


def main(arguments: list[str]) -> int:
    """Serve one parent; the exit code."""
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, signal.SIG_IGN)  # the parent drains, then closes the socket
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_NAME, _NAME, 0, 0, 0)
    stream = socket.socket(fileno=int(arguments[0]))
    start = frames.receive(stream)
    cores.stay_on(start.options.cores)
    log.configure(logging.getLevelName(start.log_level))
    reader = _Reader(stream)
    threading.Thread(target=reader.run, name="reader", daemon=True).start()
    try:
        predictor = _load(start)
    except Exception as error:  # noqa: BLE001  # whatever keeps the model from running is told to the parent
        _log.exception("the model cannot be used")
        bad = isinstance(error, CheckpointError)
        frames.send(stream, Started("", str(error) if bad else f"{type(error).__name__}: {error}", bad))
        return 1
    reader.predictor = predictor
    frames.send(stream, Started(str(predictor.device)))
    while True:
        frames.send(stream, _answer(predictor, reader.batches.get()))


class _Reader:
    """Receives batches; ends the process when the stream ends, whatever the main thread is doing."""

    def __init__(self, stream: socket.socket) -> None:
        self.predictor: Predictor | None = None
        self.batches: SimpleQueue[Staged | Exception] = SimpleQueue()  # as many as the parent leaves outstanding
        self._stream = stream

    def run(self) -> None:
        try:
            while True:
                batch = frames.receive(self._stream, self._allocate)
                assert self.predictor is not None
                try:
                    self.batches.put(self.predictor.stage(batch))
                except Exception as error:  # noqa: BLE001  # as if the forward pass had raised it
                    self.batches.put(error)
        except (OSError, EOFError):
            os._exit(0)
        except Exception:  # noqa: BLE001  # memory for one: a thread that ends by itself would leave the parent waiting
            _log.exception("batches cannot be received")
            os._exit(1)

    def _allocate(self, size: int) -> NDArray[np.uint8]:
        assert self.predictor is not None
        return self.predictor.allocate(size)


def _load(start: Start) -> Predictor:
    import torch

    from inference.devices import pick_device
    from inference.models.checkpoint import load_checkpoint
    from inference.predictor import Predictor

    options = start.options
    if options.torch_threads:
        torch.set_num_threads(options.torch_threads)
    device = pick_device(options.device)
    predictor = Predictor(
        load_checkpoint(start.folder, device, options.family_modules),
        device,
        dtype=options.dtype,
        compile=options.compile,
        cascade_threshold=options.cascade_threshold,
        cascade_sample=options.cascade_sample,
        attention=options.attention,
        contribution_share=options.contribution_share,
    )
    predictor.warm_up()
    return predictor


def _answer(predictor: Predictor, batch: Staged | Exception) -> ModelOutput | Failed:
    try:
        if isinstance(batch, Exception):
            raise batch
        return predictor.run(batch)
    except Exception as error:  # noqa: BLE001  # one batch's failure, which the parent deals with
        _log.exception("forward pass failed")
        failed = Failed(type(error).__name__)
    try:
        predictor.recover()
    except RuntimeError:
        _log.exception("the device does not recover")
        os._exit(_BROKEN_DEVICE)
    return failed


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
