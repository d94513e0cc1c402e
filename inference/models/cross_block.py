"""The cross-attention block that several families are made of."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class CrossBlock(nn.Module):
    """Pre-norm cross-attention whose update sees the query, what it found, and their product.

    The product lets a token test whether what it attends to agrees with it, which attention alone only averages.
    """

    def __init__(self, size: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query_norm, self.key_norm, self.feed_norm = (nn.LayerNorm(size) for _ in range(3))
        self.query, self.key, self.value = (nn.Linear(size, size) for _ in range(3))
        self.update = nn.Linear(3 * size, size)
        self.feed = nn.Sequential(nn.Linear(size, 2 * size), nn.GELU(), nn.Linear(2 * size, size))

    def align(self) -> None:
        """Start with queries and keys in the same rotated space, so that like attends to like from the first step."""
        nn.init.orthogonal_(self.query.weight, gain=2.0)
        with torch.no_grad():
            self.key.weight.copy_(self.query.weight)

    def forward(self, queries: Tensor, keys: Tensor, key_mask: Tensor) -> tuple[Tensor, Tensor]:
        """Update `queries` (B, Q, d) from `keys` (B, K, d); attention (B, Q, K) is the mean over heads."""
        x, y = self.query_norm(queries), self.key_norm(keys)
        q, k, v = self._split(self.query(x)), self._split(self.key(y)), self._split(self.value(y))
        scores = q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5
        weights = scores.masked_fill(~key_mask[:, None, None, :], torch.finfo(scores.dtype).min).softmax(-1)
        found = (weights @ v).transpose(1, 2).flatten(2)
        queries = queries + self.update(torch.cat((x, found, x * found), dim=-1))
        return queries + self.feed(self.feed_norm(queries)), weights.mean(1)

    def _split(self, x: Tensor) -> Tensor:
        return x.view(*x.shape[:2], self.heads, -1).transpose(1, 2)
