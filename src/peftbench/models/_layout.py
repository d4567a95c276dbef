"""How examples are put before a model: several in one row where that answers alike, else side by side with padding.

Which of the two is found by trying: no family of models and no method is known here by its name.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, takewhile

import torch
from torch import nn

from peftbench.errors import first_line
from peftbench.models import _head
from peftbench.models._batch import pad
from peftbench.models._chat import Encoded
from peftbench.models._head import Head, summed
from peftbench.segments import Segments

# Of the loss, and of the gradient of a tensor, by the type of the logits.
_CLOSE = {torch.float32: (1e-5, 1e-3)}
_ROUGHLY = (2e-2, 2e-1)
# Gradients of more numbers than this are compared in part.
_ENOUGH = 4_000_000
# Beginnings that are shared, prompts and answers of different lengths; no id is one that models use for padding.
_TRIED = (Encoded((3, 4, 5, 6), (7,)), Encoded((3, 4, 8), (9, 10)), Encoded((3, 4, 5, 11, 12), (4, 5)))


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

    def logits(self, module: nn.Module, places: Sequence[int]) -> torch.Tensor:
        """[places, vocabulary]: what a module answers at places of the row; nothing else goes through its head."""
        answered = module(
            input_ids=self.input_ids,
            attention_mask=self.segments.mask(),
            position_ids=self.position_ids,
            use_cache=False,
            logits_to_keep=torch.tensor(places, device=self.input_ids.device),
        )
        # As a view: the gradient through an index is written into a tensor of zeros first.
        found: torch.Tensor = answered.logits.flatten(0, 1)
        return found


def in_a_row(
    texts: Sequence[Sequence[int]],
    device: torch.device,
    layout: Layout,
    *,
    common: int,
    branches: Sequence[Sequence[int]] = (),
) -> Row:
    """Put texts, of which the first `common` tokens are the same, one behind the other, each with all the branches."""
    ids, positions = [*texts[0][:common]], [*range(common)]
    for text in texts:
        ids += text[common:]
        positions += range(common, len(text))
        for branch in branches:
            ids += branch
            positions += range(len(text), len(text) + len(branch))
    lengths = tuple((len(text) - common, *map(len, branches)) for text in texts)
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


def choose_for_answers(module: nn.Module, device: torch.device, longest: int | None = None) -> Layout:
    """The layout in which a module answers as it does with padded rows, in evaluation; it is left as it was."""
    with _as_it_was(module, device), torch.no_grad():
        return _best(module, (), device, Layout(packed=True, shared=True, longest=longest))


def choose(
    module: nn.Module,
    trained: Iterable[nn.Parameter],
    device: torch.device,
    longest: int | None = None,
    *,
    learned_beginning: bool = False,
    apart: bool = False,
) -> Layout:
    """The layout in which a module answers, and learns, as it does with padded rows; it is left as it was.

    With a `learned_beginning` the module itself puts something in front that all examples would share. With `apart`
    it is tried as well whether its head can be asked by itself.
    """
    few = _few(trained)
    layout = _rows(module, few, device, longest, learned_beginning=learned_beginning)
    return _apart(module, few, device, layout) if apart and Head.of(module) else layout


def _apart(module: nn.Module, few: Sequence[nn.Parameter], device: torch.device, layout: Layout) -> Layout:
    """The same layout, `apart` where the head answers by itself as it does in the model."""
    apart = replace(layout, apart=True)
    with _as_it_was(module, device):
        try:
            alike = _alike(*(_tried(module, few, device, each) for each in (layout, apart)))
        except Exception:  # noqa: BLE001 - modules of anybody's: what they do not take is not done
            return layout
    return apart if alike else layout


def _rows(
    module: nn.Module,
    few: Sequence[nn.Parameter],
    device: torch.device,
    longest: int | None,
    *,
    learned_beginning: bool,
) -> Layout:
    with _as_it_was(module, device):
        if not _random(module, few, device):
            return _best(module, few, device, Layout(packed=True, shared=True, longest=longest))
        if learned_beginning:
            return Layout(because="there is dropout in what examples would share")
        with _without_dropout(module):
            if _random(module, few, device):
                return Layout(because="it draws other numbers than those of dropout")
        return _best(module, few, device, Layout(packed=True, longest=longest, because="there is dropout"))


def _best(module: nn.Module, trained: Sequence[nn.Parameter], device: torch.device, wanted: Layout) -> Layout:
    """The layout that is wanted, or the next best, in which a module answers as it does with padded rows."""
    padded = _tried(module, trained, device, PADDED)
    why = ""
    for layout in dict.fromkeys((wanted, replace(wanted, shared=False), replace(wanted, dense=padded.dtype))):
        try:
            found = _tried(module, trained, device, layout)
        except Exception as error:  # noqa: BLE001 - modules of anybody's: what they do not take is not done
            why = first_line(error)
            continue
        if _alike(padded, found):
            return layout if layout.shared == wanted.shared else replace(layout, because=why)
        why = why or "examples in one row are answered otherwise"
    return Layout(because=why)


@dataclass(frozen=True)
class _Tried:
    """A loss and gradients, and the type of the logits that they come from."""

    numbers: list[torch.Tensor]
    dtype: torch.dtype


def _few(trained: Iterable[nn.Parameter]) -> list[nn.Parameter]:
    """Small tensors first, as many as are enough."""
    ordered = sorted(trained, key=lambda value: value.numel())
    sizes = accumulate(value.numel() for value in ordered)
    return [value for value, total in zip(ordered, sizes, strict=True) if total <= _ENOUGH] or ordered[:1]


def _random(module: nn.Module, trained: Sequence[nn.Parameter], device: torch.device) -> bool:
    """Whether what is computed in training depends on random numbers; that some are drawn does not yet say so."""
    with _as_it_was(module, device), torch.no_grad():
        before = _state(device)
        _tried(module, (), device, PADDED, training=True)
        if torch.equal(before, _state(device)):
            return False
    found = []
    for seed in (1, 2):
        with _as_it_was(module, device):
            torch.manual_seed(seed)
            found.append(_tried(module, trained, device, PADDED, training=True).numbers)
    return not all(map(torch.equal, *found))


def _state(device: torch.device) -> torch.Tensor:
    return torch.cuda.get_rng_state(device) if device.type == "cuda" else torch.get_rng_state()


@contextlib.contextmanager
def _without_dropout(module: nn.Module) -> Iterator[None]:
    """Without the dropout of single numbers: layers of it, and what layers of attention and others do by themselves."""
    rates = [
        (each, name, rate)
        for each in module.modules()
        for name in (("p",) if isinstance(each, nn.Dropout) else ("dropout", "attention_dropout"))
        if isinstance(rate := getattr(each, name, None), float)
    ]
    for each, name, _ in rates:
        setattr(each, name, 0.0)
    try:
        yield
    finally:
        for each, name, rate in rates:
            setattr(each, name, rate)


def _tried(
    module: nn.Module,
    trained: Sequence[nn.Parameter],
    device: torch.device,
    layout: Layout,
    *,
    training: bool = False,
) -> _Tried:
    """The loss, and the gradients of what is trained."""
    module.train(training)
    # Those that are too long for a row would be tried with padding, whatever the layout.
    layout = replace(layout, longest=None)
    if layout.apart:
        # Token by token.
        loss, dtype = answer_loss(module, _TRIED, device, layout, at_once=1), torch.float32
    else:
        logits, labels = answer_logits(module, _TRIED, device, layout)
        loss, dtype = summed(logits, labels), logits.dtype
    if not (trained and loss.requires_grad):
        return _Tried([loss.detach()], dtype)
    gradients = torch.autograd.grad(loss, trained, allow_unused=True)
    known = (torch.zeros(()) if one is None else one for one in gradients)
    return _Tried([loss.detach(), *known], dtype)


@contextlib.contextmanager
def _as_it_was(module: nn.Module, device: torch.device) -> Iterator[None]:
    """The mode of a module, its buffers and the random numbers to come are afterwards what they were."""
    training = {each: each.training for each in module.modules()}
    # Some count what is seen in training.
    buffers = [(buffer, buffer.clone()) for buffer in module.buffers()]
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        try:
            yield
        finally:
            for each, mode in training.items():
                each.training = mode
            for buffer, value in buffers:
                # Most never change, and some that do not are views that cannot be written.
                if not torch.equal(buffer, value):
                    buffer.copy_(value)


def _alike(wanted: _Tried, found: _Tried) -> bool:
    of_loss, of_gradient = _CLOSE.get(wanted.dtype, _ROUGHLY)
    (loss, *gradients), (other_loss, *others) = wanted.numbers, found.numbers
    # Written so that NaN is not near.
    near = [float((loss - other_loss).abs()) <= of_loss * float(loss)]
    largest = max((float(one.norm()) for one in gradients), default=0.0)
    for one, other in zip(gradients, others, strict=True):
        near.append(float((one - other).norm()) <= of_gradient * (float(one.norm()) + 0.1 * largest))
    return all(near)
