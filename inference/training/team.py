"""The processes of one training run: one by itself, or those that `torchrun` started."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, distributed
from torch.distributed.nn.functional import all_gather


@dataclass(frozen=True, slots=True)
class Team:
    """`size` processes, of which this one is number `rank`; it works on `device`."""

    device: torch.device
    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process is the one that writes and speaks."""
        return self.rank == 0

    @property
    def mine(self) -> slice:
        """This process's rows of a batch."""
        return slice(self.rank, None, self.size)

    def total(self, values: Tensor) -> Tensor:
        """The sum of everyone's `values`, elementwise; gradients do not flow through it."""
        if self.size > 1:
            values = values.detach().clone()
            distributed.all_reduce(values)
        return values

    def any(self, flag: bool) -> bool:
        """Whether anyone's flag is set: all must take the same turn."""
        return flag if self.size == 1 else bool(self.total(torch.tensor(float(flag), device=self.device)))

    def gathered(self, rows: Tensor) -> Tensor:
        """Everyone's (B, ...) as (size · B, ...), by rank; gradients flow back to whose rows they are."""
        return rows if self.size == 1 else torch.cat(list(all_gather(rows)))

    def shared(self, thing: Any) -> Any:
        """The leader's `thing`, for everyone; what the others give is left."""
        if self.size == 1:
            return thing
        box = [thing]
        distributed.broadcast_object_list(box, device=self.device)
        return box[0]

    def wait(self) -> None:
        """Until all are here."""
        if self.size > 1:
            distributed.barrier()


@contextmanager
def joined(device: torch.device) -> Iterator[Team]:
    """This process's team, by the variables that `torchrun` sets; without them it is alone.

    With CUDA each process takes the device of its local rank.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield Team(device)
        return
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(device)
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield Team(device, distributed.get_rank(), size)
    finally:
        distributed.destroy_process_group()
