"""Sequences of different lengths as one rectangle of ids, with positions that do not count the padding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch


@dataclass(frozen=True)
class Batch:
    """`input_ids`, `attention_mask` and `position_ids`, each [rows, longest row], int64.

    Padding stands where the mask is 0; which id it has does not matter, so models without a pad token need none.
    """

    input_ids: torch.Tensor
    attention_mask: torch.Tensor
    position_ids: torch.Tensor

    def inputs(self) -> dict[str, torch.Tensor]:
        """Keyword arguments of a model's forward call."""
        return {"input_ids": self.input_ids, "attention_mask": self.attention_mask, "position_ids": self.position_ids}


def pad(rows: Sequence[Sequence[int]], device: torch.device, side: Literal["left", "right"] = "left") -> Batch:
    """Pad rows of ids. Left padding aligns the ends, where answers are."""
    width = max(len(row) for row in rows)
    ids = torch.zeros(len(rows), width, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for number, row in enumerate(rows):
        place = slice(width - len(row), width) if side == "left" else slice(0, len(row))
        ids[number, place] = torch.tensor(row)
        mask[number, place] = 1
    positions = (mask.cumsum(dim=1) - 1).clamp(min=0)
    return Batch(ids.to(device), mask.to(device), positions.to(device))
