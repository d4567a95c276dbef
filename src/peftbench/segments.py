"""Several texts in one row behind the beginning that they share: which token sees which.

By causality what stands in front does not depend on what comes after, so tokens that all texts begin with are computed
once for all: the words of a chat template, an instruction, and in front of these a learned prompt.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate, chain, pairwise

import torch

_NAME = "peftbench_segments"


@dataclass(frozen=True)
class Segments:
    """`shared` tokens in front, seen by all, then segments that are blind to each other.

    Each of `lengths` is a segment: its trunk, and the branches behind that, blind to each other as well. With `dense`
    the mask is written out, as numbers of that type; without, only attention that knows of segments can use it.
    """

    shared: int
    lengths: tuple[tuple[int, ...], ...]
    device: torch.device
    dense: torch.dtype | None = None

    @cached_property
    def ends(self) -> tuple[int, ...]:
        """The places in the row where the shared tokens and each of the segments end."""
        return tuple(accumulate(map(sum, self.lengths), initial=self.shared))

    @property
    def tokens(self) -> int:
        """Tokens of the row."""
        return self.ends[-1]

    def behind(self, count: int) -> Segments:
        """The same row behind `count` more tokens that all see."""
        return replace(self, shared=self.shared + count)

    @cached_property
    def grid(self) -> torch.Tensor:
        """[segments, longest], int64: the place in the row of each token; behind the end of a segment, of its first."""
        starts, ends = (torch.tensor(places, device=self.device)[:, None] for places in (self.ends[:-1], self.ends[1:]))
        places = starts + torch.arange(max(map(sum, self.lengths)), device=self.device)
        return places.where(places < ends, starts)

    @cached_property
    def cells(self) -> torch.Tensor:
        """[tokens - shared], int64: where in the flat grid each token stands."""
        width = self.grid.shape[1]
        rows = (range(row * width, row * width + sum(lengths)) for row, lengths in enumerate(self.lengths))
        return torch.tensor([*chain.from_iterable(rows)], device=self.device)

    @cached_property
    def unseen(self) -> torch.Tensor:
        """[segments or 1, longest, longest], bool: a token of a segment (the row) does not see another (the column)."""
        width = self.grid.shape[1]
        later = torch.ones(1, width, width, dtype=torch.bool).triu(1)
        if any(len(lengths) > 1 for lengths in self.lengths):
            branch = torch.zeros(self.grid.shape, dtype=torch.long)
            for row, lengths in enumerate(self.lengths):
                for number, (start, end) in enumerate(pairwise(accumulate(lengths)), start=1):
                    branch[row, start:end] = number
            later = later | (branch[:, None] != 0) & (branch[:, None] != branch[:, :, None])
        return later.to(self.device)

    def mask(self, past: int = 0) -> torch.Tensor:
        """[1, 1, tokens, past + tokens]: what a model takes as its mask; `past` tokens in a cache are seen by all.

        Where it is not `dense` it is NaN everywhere, in the memory of one number: whoever uses it as it is gets NaN,
        and never a number that is wrong.
        """
        if self.dense is None:
            number = torch.full((1, 1, 1, 1), float("nan"), device=self.device)
            mask = number.expand(1, 1, self.tokens, past + self.tokens)
        else:
            numbers = torch.zeros(self.tokens, self.tokens, dtype=self.dense, device=self.device)
            mask = numbers.masked_fill(self._all_unseen(), torch.finfo(self.dense).min)
            mask = torch.nn.functional.pad(mask, (past, 0))[None, None]
        setattr(mask, _NAME, self)
        return mask

    def _all_unseen(self) -> torch.Tensor:
        unseen = torch.ones(self.tokens, self.tokens, dtype=torch.bool, device=self.device).triu(1)
        for row, (start, end) in enumerate(pairwise(self.ends)):
            unseen[start:end, self.shared : start] = True
            unseen[start:end, start:end] |= self.unseen[row % len(self.unseen), : end - start, : end - start]
        return unseen


def carried(mask: torch.Tensor | None) -> Segments | None:
    """The segments that a mask was made of, if it was."""
    found: Segments | None = getattr(mask, _NAME, None)
    return found
