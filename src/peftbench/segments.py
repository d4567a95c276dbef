"""Several texts in one row behind the beginning that they share: which token sees which.

By causality what stands in front does not depend on what comes after, so tokens that all texts begin with are computed
once for all: the words of a chat template, an instruction, and in front of these a learned prompt.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate, chain, pairwise
from math import inf

import torch

_NAME = "peftbench_segments"


@dataclass(frozen=True)
class Tile:
    """Tokens of a row from `start` to `end`: they see nothing but its first `shared` ones and those from `first` on.

    `unseen` is [tokens, shared + end - first], bool: of these a token (the row) does not see another (the column).
    """

    start: int
    end: int
    first: int
    shared: int
    unseen: torch.Tensor

    @cached_property
    def hidden(self) -> torch.Tensor:
        """The same as numbers of 32 bits, to be added to scores."""
        return torch.zeros(self.unseen.shape, device=self.unseen.device).masked_fill(self.unseen, -torch.inf)


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
    def _owners(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Each [tokens]: the segment of every token, from 1 (0 is shared), and its branch, from 1 (0 is the trunk)."""
        segment, branch = [0] * self.shared, [0] * self.shared
        for number, lengths in enumerate(self.lengths, start=1):
            segment += [number] * sum(lengths)
            branch += chain.from_iterable([part] * length for part, length in enumerate(lengths))
        return torch.tensor(segment), torch.tensor(branch)

    def _unseen(self, start: int, end: int, asked: torch.Tensor) -> torch.Tensor:
        """[end - start, asked], bool: the token of the row does not see that of the column."""
        segment, branch = self._owners
        tokens = torch.arange(start, end)[:, None]
        shared = segment[asked] == 0
        same = (segment[asked] == segment[tokens]) & ((branch[asked] == 0) | (branch[asked] == branch[tokens]))
        return ((asked > tokens) | ~(shared | same)).to(self.device)

    def tiles(self, width: int) -> tuple[Tile, ...]:
        """All tokens of the row, in order, in tiles of at most `width`: short segments together, long ones cut."""
        if width not in self._tiles:
            self._tiles[width] = tuple(self._tile(*span) for span in self._spans(width))
        return self._tiles[width]

    @cached_property
    def _tiles(self) -> dict[int, tuple[Tile, ...]]:
        return {}

    def _spans(self, width: int) -> Iterator[tuple[int, int, int]]:
        """Of every tile where it begins and ends, and where the first segment in it does."""
        begun = 0
        ends = [*dict.fromkeys(end for end in self.ends if end)]
        for end, following in zip(ends, [*ends[1:], inf], strict=True):
            if following - begun <= width:
                continue
            # All from what was `begun`, if there is more than one part, is no longer than the width.
            pieces = -(-(end - begun) // width)
            edges = [begun + (end - begun) * piece // pieces for piece in range(pieces + 1)]
            yield from ((*edge, begun) for edge in pairwise(edges))
            begun = end

    def _tile(self, start: int, end: int, first: int) -> Tile:
        shared = self.shared if first else 0
        asked = torch.cat([torch.arange(shared), torch.arange(first, end)])
        return Tile(start, end, first, shared, self._unseen(start, end, asked))

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
            unseen = self._unseen(0, self.tokens, torch.arange(self.tokens))
            mask = numbers.masked_fill(unseen, torch.finfo(self.dense).min)
            mask = torch.nn.functional.pad(mask, (past, 0))[None, None]
        setattr(mask, _NAME, self)
        return mask


def carried(mask: torch.Tensor | None) -> Segments | None:
    """The segments that a mask was made of, if it was."""
    found: Segments | None = getattr(mask, _NAME, None)
    return found
