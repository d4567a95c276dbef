"""What training has to be: of declared parameters only, downhill, repeatable, alike in any portions, at its best."""

from __future__ import annotations

import random
from statistics import fmean

import torch
from torch import nn

from peftbench.models._batch import pad
from peftbench.models._chat import Encoded
from peftbench.spec import TrainSpec
from peftbench.testing.answers import answers
from peftbench.testing.subject import Lent, Subject, read_log
from peftbench.testing.toy import SEED, furthest, perturb, toy
from peftbench.training.loop import How, backward, mean_loss

_CHECKPOINT_STEPS = 12
# How far gradients may be apart, beside the largest: of the same parameter, and of all, where a parameter has none.
_OF_OWN, _OF_ALL = 1e-3, 1e-6


def gradients(subject: Subject) -> str | None:
    """The fault of gradients that go elsewhere than to the declared parameters, or nowhere."""
    with subject.lend() as lent:
        module, trainable = lent.adapter.module, lent.adapter.trainable
        perturb(lent.adapter)
        loss(module, lent).backward()  # type: ignore[no-untyped-call]  # torch leaves it unannotated
        strangers = _strangers(module, lent)
        if strangers:
            return f"{strangers[0]!r} gets a gradient and was not declared by `attach`."
        without = [name for name, value in trainable.items() if value.grad is None]
        if without:
            return f"{without[0]!r} is to be trained and gets no gradient."
        if not any(value.grad is not None and bool(value.grad.any()) for value in trainable.values()):
            return "All gradients are zero, also away from the start."
    return None


def _strangers(module: nn.Module, lent: Lent) -> list[str]:
    """Names of parameters, of the base or the module, that take part in training without being declared."""
    declared = set(lent.adapter.trainable.values())
    everything = {**dict(lent.base.model.named_parameters()), **dict(module.named_parameters())}
    return [
        name
        for name, value in everything.items()
        if value not in declared and (value.requires_grad or value.grad is not None)
    ]


def loss(module: nn.Module, lent: Lent) -> torch.Tensor:
    """A number that depends on all that an attached module answers in training."""
    batch = pad([(*example.prompt, *example.answer) for example in _some(lent)], lent.base.device)
    module.train()
    answered: torch.Tensor = module(**batch.inputs(), use_cache=False, logits_to_keep=2).logits
    return answered.float().logsumexp(dim=-1).mean() - answered[..., 7].float().mean()


def _some(lent: Lent) -> tuple[Encoded, ...]:
    return toy(lent.base.chat.end_id).train[:8]


def trains(subject: Subject) -> str | None:
    """The fault of training that does not come to its end; what it raises is the fault."""
    subject.trained()
    return None


def learns(subject: Subject) -> str | None:
    """The fault of a loss that does not fall."""
    losses = subject.trained().losses
    first, last = fmean(losses[:5]), fmean(losses[-5:])
    return None if last < first else f"The loss went from {first:.3f} to {last:.3f} in {len(losses)} steps."


def repeatable(subject: Subject) -> str | None:
    """The fault of a second training that differs from the first."""
    first = subject.trained()
    # A method that draws from a generator which no run seeds draws something else now.
    random.seed(random.random())  # noqa: S311 - any other state will do
    with subject.lend() as lent:
        second = subject.train(lent)
        differing = [
            step for step, pair in enumerate(zip(first.losses, second.losses, strict=True), 1) if pair[0] != pair[1]
        ]
        if differing:
            return f"Trained again, the loss of step {differing[0]} is another one."
        if not all(
            torch.equal(value, second.lent.adapter.state()[name]) for name, value in first.lent.adapter.state().items()
        ):
            return "Trained again, the weights are others."
        if answers(first.lent) != answers(second.lent):
            return "Trained again, the answers are others."
    return None


def portions(subject: Subject) -> str | None:
    """The fault of a step whose gradients depend on how many of its examples go through the model at once.

    Where noise is drawn in training there is nothing to compare.
    """
    with subject.lend() as lent:
        perturb(lent.adapter)
        whole, again = _of_a_step(subject, lent, SEED, 8), _of_a_step(subject, lent, SEED + 1, 8)
        if not all(torch.equal(value, again[name]) for name, value in whole.items()):
            return None
        parts = _of_a_step(subject, lent, SEED, 3)
    largest = max(float(value.abs().max()) for value in whole.values())
    for name, value in whole.items():
        far = furthest(value, parts[name])
        if not far <= _OF_OWN * float(value.abs().max()) + _OF_ALL * largest:
            return f"In portions of three examples the gradient of {name!r} is another one, by {far:.2g}."
    return None


def _of_a_step(subject: Subject, lent: Lent, seed: int, micro_batch: int) -> dict[str, torch.Tensor]:
    """The gradients of a step of eight examples; the random numbers in it are those of `seed`."""
    torch.manual_seed(seed)
    lent.adapter.module.train()
    how = How(lent.base.device, micro_batch, subject.scratch / "train.jsonl", lambda phase, done, total: None)
    backward(lent.adapter, _some(lent), TrainSpec(), how)
    trainable = lent.adapter.trainable
    found = {name: torch.zeros_like(value) if value.grad is None else value.grad for name, value in trainable.items()}
    for value in trainable.values():
        value.grad = None
    return found


def checkpoint(subject: Subject) -> str | None:
    """The fault of a best step that is not the one the adapter holds: something is kept outside its parameters."""
    with subject.lend() as lent:
        fitted = subject.train(lent, _CHECKPOINT_STEPS, contradicted=True).fitted
        assert fitted is not None
        logged = [line["validation_loss"] for line in read_log(subject.scratch / "train.jsonl")]
        if fitted.best_validation_loss != min(logged):
            return f"The best validation loss was {min(logged):.4f}, kept was {fitted.best_validation_loss:.4f}."
        how = How(lent.base.device, 8, subject.scratch / "train.jsonl", lambda phase, done, total: None)
        restored = mean_loss(lent.adapter.module, toy(lent.base.chat.end_id).contradicting, TrainSpec(), how)
    if restored != fitted.best_validation_loss:
        return f"The validation loss was {fitted.best_validation_loss:.6f} at its best and is {restored:.6f} put back."
    return None
