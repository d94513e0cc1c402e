"""Linear layers in int8: weights by output, inputs by row as they come (dynamic quantisation).

Each row of an input gets a step of its own, its largest number by 127 (as LLM.int8 does; Dettmers et al. 2022,
arXiv:2208.07339), so that a request's answer does not depend on its batch-mates, which one step for a whole tensor
would make it do. Products are exact sums of integers.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional

LARGEST = 127
LEAST_STEP = 2.0**-20
"""A float16, as checkpoints keep it, that is still precise to some percent."""


class Int8Linear(nn.Module):
    """`weight` (out, in) int8 times `scale` (out,), and `bias` (out,) where there is one; nothing in it can learn."""

    weight: Tensor
    scale: Tensor
    bias: Tensor | None

    def __init__(self, source: nn.Linear) -> None:
        super().__init__()
        weight = source.weight.detach().float()
        step = (weight.abs().amax(1) / LARGEST).clamp(min=LEAST_STEP).half().float()
        codes = (weight / step[:, None]).round().clamp(-LARGEST, LARGEST)
        self.register_buffer("weight", codes.to(torch.int8))
        self.register_buffer("scale", step)
        self.register_buffer("bias", None if source.bias is None else source.bias.detach().float())

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) to (..., out), in integers on the CPU; elsewhere the weights are made floats again."""
        if x.device.type != "cpu":
            whole = (self.weight.float() * self.scale.float()[:, None]).to(x.dtype)
            return functional.linear(x, whole, None if self.bias is None else self.bias.to(x.dtype))
        rows = x.reshape(-1, x.shape[-1]).float()
        step = rows.abs().amax(1, keepdim=True).clamp(min=torch.finfo(torch.float32).tiny) / LARGEST
        codes = (rows / step).round_().to(torch.int8)
        # the one int8 product that this torch offers without deprecated tensor types
        product = torch._int_mm(codes, self.weight.t()).float().mul_(step).mul_(self.scale.float())
        if self.bias is not None:
            product += self.bias.float()
        return product.view(*x.shape[:-1], -1).to(x.dtype)


def quantise(model: nn.Module, prefixes: Iterable[str]) -> int:
    """Put `Int8Linear` in place of the linear layers under `prefixes` (`image_encoder.`); returns how many."""
    wanted = tuple(prefixes)
    found = [
        (name, module)
        for name, module in model.named_modules()
        if type(module) is nn.Linear and name.startswith(wanted)
    ]
    for name, module in found:
        parent, _, own = name.rpartition(".")
        setattr(model.get_submodule(parent), own, Int8Linear(module))
    return len(found)


def is_quantised(model: nn.Module) -> bool:
    """Whether any layer is in int8."""
    return any(isinstance(module, Int8Linear) for module in model.modules())
