"""What a model is run on, and what compiling it there takes."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence

import torch


def pick_device(name: str) -> torch.device:
    """The device by its name; `auto` takes CUDA, then Apple's MPS, then the CPU."""
    if name != "auto":
        return torch.device(name)
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def require_compiler(device: torch.device) -> None:
    """Raises RuntimeError where a compiled model would find no compiler for its device."""
    candidates: Sequence[str] = (os.environ["CXX"],) if "CXX" in os.environ else ("g++", "clang++")
    if not any(shutil.which(name) for name in candidates):
        raise RuntimeError(f"compile needs a C++ compiler; none of {', '.join(candidates)} is on the PATH")
    if device.type == "cuda" and not torch.utils._triton.has_triton():
        raise RuntimeError("compile needs triton, which torch brings on Linux, and a GPU that it supports")
