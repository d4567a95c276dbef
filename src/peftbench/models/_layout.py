"""How examples are put before a model: several in one row where that answers alike, else side by side with padding."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

import torch
from torch import nn

from peftbench.models import _head
from peftbench.models._batch import pad
from peftbench.models._chat import Encoded
from peftbench.models._head import Head, summed
from peftbench.segments import Segments


@dataclass(frozen=True)
class Layout:
    """Whether examples stand in one row, and whether what they begin with is there once.

    `dense` is the type of a mask that has to be written out; examples of more than `longest` tokens stand in no row
    with others. `because` says why it is not all that it could be. With `apart` the head can be asked by itself.
    """

    packed: bool = False
    shared: bool = False
    dense: torch.dtype | None = None
    longest: int | None = None
    because: str = ""
    apart: bool = False

    def __str__(self) -> str:
        name = "packed behind what is shared" if self.shared else "packed" if self.packed else "padded"
        return f"{name}: {self.because}" if self.because else name

    def takes(self, texts: Sequence[Sequence[int]], behind: int = 0) -> bool:
        """Whether these texts, with at most so many tokens `behind` each, can stand in one row."""
        return self.packed and (self.longest is None or max(map(len, texts)) + behind <= self.longest)


PADDED = Layout()


@dataclass(frozen=True)
class Row:
    """Texts in one row: `input_ids` and `position_ids`, each [1, tokens], int64, and what sees what."""

    input_ids: torch.Tensor
    position_ids: torch.Tensor
    segments: Segments

    def answered(self, module: nn.Module, places: Sequence[int], **options: Any) -> Any:
        """What a module answers at places of the row; nothing else goes through its head."""
        return module(
            input_ids=self.input_ids,
            attention_mask=self.segments.mask(),
            position_ids=self.position_ids,
            logits_to_keep=torch.tensor(places, device=self.input_ids.device),
            **options,
        )

    def logits(self, module: nn.Module, places: Sequence[int]) -> torch.Tensor:
        """[places, vocabulary]: the logits alone."""
        # As a view: the gradient through an index is written into a tensor of zeros first.
        found: torch.Tensor = self.answered(module, places, use_cache=False).logits.flatten(0, 1)
        return found


def in_a_row(
    texts: Sequence[Sequence[int]],
    device: torch.device,
    layout: Layout,
    *,
    common: int,
    branches: Sequence[Sequence[Sequence[int]]] = (),
) -> Row:
    """Put texts, of which the first `common` tokens are the same, one behind the other, each with its branches."""
    ids, positions = [*texts[0][:common]], [*range(common)]
    branches = branches or [()] * len(texts)
    for text, behind in zip(texts, branches, strict=True):
        ids += text[common:]
        positions += range(common, len(text))
        for branch in behind:
            ids += branch
            positions += range(len(text), len(text) + len(branch))
    pairs = zip(texts, branches, strict=True)
    lengths = tuple((len(text) - common, *map(len, behind)) for text, behind in pairs)
    return Row(
        input_ids=torch.tensor([ids], device=device),
        position_ids=torch.tensor([positions], device=device),
        segments=Segments(common, lengths, device, layout.dense),
    )


def common_beginning(prompts: Sequence[Sequence[int]]) -> int:
    """Tokens that all prompts begin with, short of the last of any: that one predicts the first token of an answer."""
    most = min(map(len, prompts)) - 1
    # What the first and the last in order have in common, all have.
    pairs = zip(min(map(tuple, prompts))[:most], max(map(tuple, prompts))[:most], strict=True)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def answer_logits(
    module: nn.Module, examples: Sequence[Encoded], device: torch.device, layout: Layout
) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits [answer tokens, vocabulary] that predict the tokens of the answers, and these, example after example.

    Nothing else goes through the head.
    """
    texts = [(*example.prompt, *example.answer) for example in examples]
    if layout.takes(texts):
        common = common_beginning([example.prompt for example in examples]) if layout.shared else 0
        row = in_a_row(texts, device, layout, common=common)
        ends = zip(examples, row.segments.ends[1:], strict=True)
        asked = [place for one, end in ends for place in range(end - len(one.answer) - 1, end - 1)]
        labels = torch.tensor([token for example in examples for token in example.answer], device=device)
        return row.logits(module, asked), labels
    # Rows are padded on the left, so every answer ends in the last column. A tensor of columns, counted from the end,
    # is taken out of the hidden states as a block of memory of its own: a slice would go through the head more slowly,
    # and the gradient through a sum over the vocabulary that is less exact.
    padded = pad(texts, device)
    tail = max(len(example.answer) for example in examples)
    kept = torch.arange(-tail - 1, -1, device=device)
    logits = module(**padded.inputs(), use_cache=False, logits_to_keep=kept).logits
    if logits.shape[1] > tail:
        # A module of somebody's own may answer for every column.
        logits = logits[:, kept]
    places = [(row, column) for row, one in enumerate(examples) for column in range(tail - len(one.answer), tail)]
    rows, columns = torch.tensor(places, device=device).T
    return logits[rows, columns], padded.input_ids[:, -tail:][rows, columns]


def answer_loss(
    module: nn.Module, examples: Sequence[Encoded], device: torch.device, layout: Layout, at_once: int | None = None
) -> torch.Tensor:
    """Cross-entropy summed over the tokens of the answers; where it can be, with so many logits `at_once` at most."""
    at_once = at_once or _head.AT_ONCE
    head = Head.of(module) if layout.apart else None
    if head is None or answer_tokens(examples) * head.vocabulary <= at_once:
        return summed(*answer_logits(module, examples, device, layout))
    with head.passing():
        hidden, labels = answer_logits(module, examples, device, layout)
    return head.loss(hidden, labels, max(1, at_once // head.vocabulary))


def answer_tokens(examples: Iterable[Encoded]) -> int:
    """Tokens of all answers."""
    return sum(len(example.answer) for example in examples)
