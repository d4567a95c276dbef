"""The update of SVFT beside a linear layer: a sparse matrix between the singular vectors of its weight."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import nn
from torch.nn.functional import linear, pad
from torch.utils.hooks import RemovableHandle

Pattern = Literal["plain", "banded", "random", "top_k"]


class SparseUpdate(nn.Module):
    """Computes `gate * U M V^T x`; of M, [n, n], only some entries are there, n being the smaller side of the weight.

    `entries` are those of M, `rows` and `columns` where they stand. A band has its places from its offsets: diagonal
    first, then one above it, one below, two above, ...
    """

    def __init__(self, weight: torch.Tensor, pattern: Pattern, count: int, seed: int) -> None:
        """Make the update of a weight [outputs, inputs] with `count` entries, all of them zero."""
        super().__init__()
        left, values, right = _singular(weight)
        size = len(values)
        self._offsets = _offsets(size, count) if pattern in {"plain", "banded"} else []
        if self._offsets:
            places = torch.cat([_diagonal(size, offset) for offset in self._offsets])
        elif pattern == "random":
            places = torch.randperm(size * size, generator=torch.Generator().manual_seed(seed))[:count].sort().values
        else:
            places = _strongest(left, values, right).flatten().topk(count).indices.sort().values
        where: dict[str, Any] = {"dtype": torch.float32, "device": weight.device}
        self.entries = nn.Parameter(torch.zeros(count, **where))
        self.gate = nn.Parameter(torch.zeros(1, **where))
        for name, buffer in {"left": left.to(weight.dtype), "right": right.to(weight.dtype)}.items():
            self.register_buffer(name, buffer.contiguous(), persistent=False)
        places = places.to(weight.device)
        self.register_buffer("rows", places // size, persistent=False)
        self.register_buffer("columns", places % size, persistent=False)

    left: torch.Tensor
    right: torch.Tensor
    rows: torch.Tensor
    columns: torch.Tensor
    handle: RemovableHandle

    @property
    def banded(self) -> bool:
        """Whether the places of the entries are known without being kept."""
        return bool(self._offsets)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """[..., inputs of the layer] to [..., its outputs]."""
        turned = linear(inputs, self.right).float()
        mixed = self._mixed(turned) if self.banded else linear(turned, self._matrix())
        return linear(mixed.to(inputs.dtype), self.left)

    def weight(self) -> torch.Tensor:
        """The update as a matrix, [outputs, inputs], in full precision."""
        return self.left.float() @ self._matrix() @ self.right.float()

    def _matrix(self) -> torch.Tensor:
        """Gate and M together."""
        size = len(self.right)
        return self.entries.new_zeros(size, size).index_put((self.rows, self.columns), self._values())

    def _values(self) -> torch.Tensor:
        return self.entries * self.gate.sigmoid()

    def _mixed(self, turned: torch.Tensor) -> torch.Tensor:
        """M times a vector, diagonal by diagonal: the whole of M would take as much memory as the layer."""
        size = turned.shape[-1]
        mixed = torch.zeros_like(turned)
        bands = torch.split(self._values(), [size - abs(offset) for offset in self._offsets])
        for offset, band in zip(self._offsets, bands, strict=True):
            above, below = max(offset, 0), max(-offset, 0)
            mixed = mixed + pad(band * turned[..., above : size - below], (below, above))
        return mixed


def _singular(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """U [outputs, n], the singular values and V^T [n, inputs]; the largest number of each column of U is positive.

    The sign of a pair of vectors is free, and libraries and devices choose it differently.
    """
    left, values, right = torch.linalg.svd(weight.detach().float(), full_matrices=False)
    signs = left.gather(0, left.abs().argmax(dim=0, keepdim=True)).sign()
    return left * signs, values, right * signs.T


def _strongest(left: torch.Tensor, values: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """How much each left and right vector have to do with each other, [n, n]."""
    if left.shape[0] == right.shape[1]:
        return (left.T @ right.T).abs()
    return values[:, None] * values[None]


def _offsets(size: int, count: int) -> list[int]:
    """0, 1, -1, 2, -2, ... as far as `count` entries reach in a square of `size`."""
    offsets = [0]
    while sum(size - abs(offset) for offset in offsets) < count:
        further = len(offsets) // 2 + 1
        offsets += [further, -further]
    return offsets


def _diagonal(size: int, offset: int) -> torch.Tensor:
    """The places of a diagonal, row by row, in a square that is read row by row."""
    rows = torch.arange(max(-offset, 0), size - max(offset, 0))
    return rows * size + rows + offset
