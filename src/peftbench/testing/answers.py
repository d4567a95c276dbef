"""How an attached model has to answer: at the caller's positions, whatever the padding, the batch or the cache."""

from __future__ import annotations

import torch

from peftbench.evaluation.predict import Decoding, greedy
from peftbench.models._batch import Batch, pad
from peftbench.testing.subject import Lent, Subject
from peftbench.testing.toy import all_logits, furthest, logits, padded, reference_logits, single, toy

EXACT = 1e-6
CLOSE = 1e-4
NEW_TOKENS = 6
# Of the largest logit.
_ROUNDING = 5e-6
# Padding before and behind, and the id it is made of, which must not matter either.
_PADS = ((9, 0, 0), (0, 9, 3), (40, 0, 3), (4, 4, 0))


def identity(subject: Subject) -> str | None:
    """The fault of a method that says it starts at the base and does not."""
    with subject.lend() as lent:
        started = reference_logits(lent.adapter.module, lent.base)
    base = subject.base()
    untouched = reference_logits(base.model, base)
    distance = furthest(started, untouched)
    # A layer that was taken apart and put together again differs by what rounding does to large logits.
    if distance <= _ROUNDING * max(1.0, float(untouched.abs().max())):
        return None
    return f"Attached and untrained, its logits differ from the base's by {distance:.2g}."


def steady(subject: Subject) -> str | None:
    """The fault of an evaluated module that does not answer the same call the same way."""
    lent = subject.trained().lent
    first = reference_logits(lent.adapter.module, lent.base)
    if not torch.isfinite(first).all():
        return "Its logits are not all finite numbers."
    if not torch.equal(first, reference_logits(lent.adapter.module, lent.base)):
        return "The same call gives other logits the second time, after `eval()`."
    return None


def causal(subject: Subject) -> str | None:
    """The fault of an answer that knows tokens to come, or knows none where it is said that it does."""
    known, blind = _known_ahead(subject)
    if subject.method.causal:
        return known or blind
    return blind or (None if known else "It says that it is not causal, and no answer knows tokens to come.")


def looks_ahead(subject: Subject) -> str | None:
    """The fault of an answer that knows tokens to come, whatever the method says of itself."""
    return _known_ahead(subject)[0]


def _known_ahead(subject: Subject) -> tuple[str | None, str | None]:
    """How an answer knows tokens to come, and how it fails to know those there are."""
    lent = subject.trained().lent
    prompt = toy(lent.base.chat.end_id).prompts[3]
    before = _of(lent, prompt)
    for place in (1, len(prompt) // 2, len(prompt) - 1):
        changed = (*prompt[:place], prompt[place] + 1, *prompt[place + 1 :])
        after = _of(lent, changed)
        distance = furthest(before[:, :place], after[:, :place])
        if distance > EXACT:
            return f"Changing token {place} changes the logits before it by {distance:.2g}.", None
        if torch.equal(before[:, place:], after[:, place:]):
            return None, f"Changing token {place} changes nothing at all."
    return None, None


def padding(subject: Subject) -> str | None:
    """The fault of an answer that depends on padding, or on the other rows of its batch."""
    lent = subject.trained().lent
    prompts = toy(lent.base.chat.end_id).prompts
    for prompt in prompts:
        alone = _of(lent, prompt)
        for left, right, filler in _PADS:
            distance = furthest(alone, _own(lent, padded(prompt, lent.base.device, left, right, filler), 0))
            if distance > CLOSE:
                place = f"{left} padding tokens before and {right} behind"
                return f"With {place}, the logits of a prompt of {len(prompt)} differ by {distance:.2g}."
    return _together(lent, prompts)


def _together(lent: Lent, prompts: tuple[tuple[int, ...], ...]) -> str | None:
    for side in ("left", "right"):
        batch = pad(prompts, lent.base.device, "left" if side == "left" else "right")
        for row, prompt in enumerate(prompts):
            distance = furthest(_of(lent, prompt), _own(lent, batch, row))
            if distance > CLOSE:
                return f"In a batch padded on the {side}, the logits of row {row} differ by {distance:.2g}."
    if answers(lent, batch=1) != answers(lent, batch=len(prompts)):
        return "Greedy answers differ between one at a time and a batch."
    return None


def calls(subject: Subject) -> str | None:
    """The fault of a module that does not answer the calls of the base: a cache, and a tail of the logits."""
    lent = subject.trained().lent
    batch = pad(toy(lent.base.chat.end_id).prompts, lent.base.device)
    whole = all_logits(lent.adapter.module, batch)
    tail = all_logits(lent.adapter.module, batch, logits_to_keep=2)
    if tail.shape[1] != 2 or furthest(whole[:, -2:], tail) > CLOSE:
        return "`logits_to_keep` does not give the last logits."
    if whole.shape[:2] != batch.input_ids.shape:
        return f"{batch.input_ids.shape[1]} tokens get {whole.shape[1]} logits."
    return cache(subject)


def cache(subject: Subject) -> str | None:
    """The fault of a module that answers otherwise when it goes on from a cache of keys and values."""
    lent = subject.trained().lent
    batch = pad(toy(lent.base.chat.end_id).prompts, lent.base.device)
    distance = furthest(all_logits(lent.adapter.module, batch)[:, -2:], _continued(lent, batch, 2))
    return None if distance <= CLOSE else f"Continued from a cache, its logits differ by {distance:.2g}."


def _continued(lent: Lent, batch: Batch, new: int) -> torch.Tensor:
    """Logits of the last tokens, given the others through the cache."""
    ids, mask, positions = batch.input_ids, batch.attention_mask, batch.position_ids
    with torch.no_grad():
        first = lent.adapter.module(
            input_ids=ids[:, :-new], attention_mask=mask[:, :-new], position_ids=positions[:, :-new], use_cache=True
        )
        second = lent.adapter.module(
            input_ids=ids[:, -new:],
            attention_mask=mask,
            position_ids=positions[:, -new:],
            past_key_values=first.past_key_values,
            use_cache=True,
        )
    answered: torch.Tensor = second.logits
    return answered.float()


def context(subject: Subject) -> str | None:
    """The fault of a method that takes other positions of the context than it says."""
    lent = subject.trained().lent
    batch = single(toy(lent.base.chat.end_id).prompts[0], lent.base.device)
    with torch.no_grad():
        cached = lent.adapter.module.eval()(**batch.inputs(), use_cache=True).past_key_values.get_seq_length()
    taken = cached - batch.input_ids.shape[1]
    if taken != subject.method.virtual_tokens:
        return f"It takes {taken} positions of the context and says {subject.method.virtual_tokens}."
    longest = [10] * (subject.facts.context - taken) if 0 < subject.facts.context <= 256 else [10]
    logits(lent.adapter.module, single(longest, lent.base.device))
    return None


def answers(lent: Lent, batch: int = 2) -> list[list[int]]:
    """Greedy answers to the toy prompts."""
    end = lent.base.chat.end_id
    how = Decoding(max_new_tokens=NEW_TOKENS, end_id=end, batch=batch, device=lent.base.device)
    return greedy(lent.adapter.module, toy(end).prompts, how)


def _of(lent: Lent, prompt: tuple[int, ...]) -> torch.Tensor:
    return logits(lent.adapter.module, single(prompt, lent.base.device))


def _own(lent: Lent, batch: Batch, row: int) -> torch.Tensor:
    """The logits of the tokens of one row that are no padding."""
    return logits(lent.adapter.module, batch)[row : row + 1, batch.attention_mask[row].bool()]
