"""Which layout a module gets: found by trying. No family of models and no method is known here by its name."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import accumulate

import torch
from torch import nn

from peftbench.errors import first_line
from peftbench.models._chat import Encoded
from peftbench.models._head import Head, summed
from peftbench.models._layout import PADDED, Layout, answer_logits, answer_loss
from peftbench.models._prefilled import prefill

# Of the loss, and of the gradient of a tensor, by the type of the logits.
_CLOSE = {torch.float32: (1e-5, 1e-3)}
_ROUGHLY = (2e-2, 2e-1)
# Gradients of more numbers than this are compared in part.
_ENOUGH = 4_000_000
# Beginnings that are shared, prompts and answers of different lengths; what is asked behind the answers; and a token
# that none has.
_PROMPTS = (3, 4, 5, 6), (3, 4, 5, 11, 12), (3, 4, 8)
_ANSWERS, _BEHIND, _WRONG = ((7,), (4, 5), (9, 10)), ((13, 14), (13, 14), ()), 15


def choose_for_answers(module: nn.Module, device: torch.device, longest: int | None = None) -> Layout:
    """The layout in which a module answers as it does with padded rows, in evaluation; it is left as it was."""
    asked = partial(_asked, module, device)
    with _as_it_was(module), _own_numbers(device), torch.no_grad():
        return _best(asked, asked(PADDED), Layout(packed=True, shared=True, longest=longest))


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
    tried = partial(_tried, module, _few(trained), device)
    with _own_numbers(device):
        layout = _rows(module, tried, device, longest, learned_beginning=learned_beginning)
        return _apart(tried, layout) if apart and Head.of(module) else layout


def _apart(tried: _Try, layout: Layout) -> Layout:
    """The same layout, `apart` where the head answers by itself as it does in the model."""
    apart = replace(layout, apart=True)
    found = []
    try:
        for each in (layout, apart):
            torch.manual_seed(1)
            found.append(tried(each))
    except Exception:  # noqa: BLE001 - modules of anybody's: what they do not take is not done
        return layout
    return apart if _alike(*found) else layout


def _rows(
    module: nn.Module, tried: _Try, device: torch.device, longest: int | None, *, learned_beginning: bool
) -> Layout:
    padded = _settled(tried, device)
    if padded is not None:
        return _best(tried, padded, Layout(packed=True, shared=True, longest=longest))
    if learned_beginning:
        return Layout(because="there is dropout in what examples would share")
    with _without_dropout(module):
        padded = _settled(tried, device)
        if padded is None:
            return Layout(because="it draws other numbers than those of dropout")
        return _best(tried, padded, Layout(packed=True, longest=longest, because="there is dropout"))


def _best(tried: _Try, padded: _Tried, wanted: Layout) -> Layout:
    """The layout that is wanted, or the next best, in which a module answers as it does with padded rows."""
    why = ""
    for layout in dict.fromkeys((wanted, replace(wanted, shared=False), replace(wanted, dense=padded.dtype))):
        try:
            found = tried(layout)
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


_Try = Callable[[Layout], _Tried]


def _trial(module: nn.Module) -> tuple[list[Encoded], list[tuple[int, ...]], int]:
    """Examples, what is asked behind the answer of each, and a wrong token.

    Their ids are not the first of a vocabulary: those are control tokens for many models, and some were never learned,
    with which a model magnifies what rounding does a hundred times.
    """
    head = Head.of(module)
    first = 0 if head is None else max(0, min(head.vocabulary // 8, head.vocabulary - _WRONG - 1))

    def moved(ids: Sequence[int]) -> tuple[int, ...]:
        return tuple(first + one for one in ids)

    examples = [Encoded(moved(prompt), moved(answer)) for prompt, answer in zip(_PROMPTS, _ANSWERS, strict=True)]
    return examples, [moved(ids) for ids in _BEHIND], first + _WRONG


def _few(trained: Iterable[nn.Parameter]) -> list[nn.Parameter]:
    """Small tensors first, as many as are enough."""
    ordered = sorted(trained, key=lambda value: value.numel())
    sizes = accumulate(value.numel() for value in ordered)
    return [value for value, total in zip(ordered, sizes, strict=True) if total <= _ENOUGH] or ordered[:1]


def _settled(tried: _Try, device: torch.device) -> _Tried | None:
    """What comes of padded rows; None where that depends on random numbers. That some are drawn does not yet say so."""
    torch.manual_seed(1)
    before = _state(device)
    found = tried(PADDED)
    if torch.equal(before, _state(device)):
        return found
    torch.manual_seed(2)
    return found if all(map(torch.equal, found.numbers, tried(PADDED).numbers)) else None


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


def _tried(module: nn.Module, trained: Sequence[nn.Parameter], device: torch.device, layout: Layout) -> _Tried:
    """The loss in training, and the gradients of what is trained."""
    # Those that are too long for a row would be tried with padding, whatever the layout.
    layout = replace(layout, longest=None)
    examples, *_ = _trial(module)
    with _as_it_was(module):
        module.train()
        if layout.apart:
            # Token by token.
            loss, dtype = answer_loss(module, examples, device, layout, at_once=1), torch.float32
        else:
            logits, labels = answer_logits(module, examples, device, layout)
            loss, dtype = summed(logits, labels), logits.dtype
        if not (trained and loss.requires_grad):
            return _Tried([loss.detach()], dtype)
        gradients = torch.autograd.grad(loss, trained, allow_unused=True)
    known = (torch.zeros(()) if one is None else one for one in gradients)
    return _Tried([loss.detach(), *known], dtype)


def _asked(module: nn.Module, device: torch.device, layout: Layout) -> _Tried:
    """The loss of the same answers, and of more behind some: of padded rows as a whole, else as they are written."""
    module.eval()
    examples, behind, wrong = _trial(module)
    if not layout.packed:
        whole = [Encoded(one.prompt, (*one.answer, *more)) for one, more in zip(examples, behind, strict=True)]
        logits, labels = answer_logits(module, whole, device, layout)
        return _Tried([summed(logits, labels)], logits.dtype)
    layout = replace(layout, longest=None)
    read, first = prefill(module, [one.prompt for one in examples], device, layout, behind=4, worth=1)
    if not read.loose:
        raise ValueError("what it reads in a row it does not hold as others do")
    # A token that is taken back, and two that go on; a prompt is whole, and is dropped; then two tokens at once.
    (short,), (long, longer), (other, end) = (one.answer for one in examples)
    second = read.feed(torch.tensor([[wrong], [long], [other]], device=device))
    read.take_back([1, 0, 0])
    read.only([0, 1])
    more = behind[0][0]
    third = read.feed(torch.tensor([[short, more], [longer, more]], device=device))
    known = [short, long, other, longer, end, *behind[0], *behind[1]]
    logits = torch.cat([first, second[1:, 0], third.flatten(0, 1)])
    return _Tried([summed(logits, torch.tensor(known, device=device))], logits.dtype)


def _own_numbers(device: torch.device) -> contextlib.AbstractContextManager[None]:
    """Random numbers of its own; those to come are afterwards what they were."""
    return torch.random.fork_rng(devices=[device] if device.type == "cuda" else [])


@contextlib.contextmanager
def _as_it_was(module: nn.Module) -> Iterator[None]:
    """The mode of a module and its buffers are afterwards what they were."""
    training = {each: each.training for each in module.modules()}
    # Some count what is seen in training.
    buffers = [(buffer, buffer.clone()) for buffer in module.buffers()]
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
