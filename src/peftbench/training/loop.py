"""The training loop, in plain sight."""

from __future__ import annotations

import contextlib
import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from peftbench.errors import DataProblem, Diverged
from peftbench.methods._attach import Adapter
from peftbench.methods._snapshot import Snapshot
from peftbench.models._chat import Encoded
from peftbench.models._layout import PADDED, Layout, answer_loss, answer_tokens
from peftbench.seeding import stream_seed
from peftbench.spec import TrainSpec
from peftbench.training.checkpoint import Checkpoints, Course, Kept, cut
from peftbench.training.optim import learning_rate_factor, optimizer
from peftbench.training.recompute import recomputed

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class TrainingData:
    """Encoded examples; `steps` names the training examples of every optimiser step."""

    train: Sequence[Encoded]
    validation: Sequence[Encoded]
    steps: Sequence[Sequence[int]]


@dataclass(frozen=True)
class How:
    """Where and in what portions the loop runs; nothing here changes what is computed but rounding, and dropout."""

    device: torch.device
    micro_batch: int
    log: Path
    progress: Progress
    layout: Layout = PADDED
    lean: bool = False
    checkpoints: Checkpoints | None = None


@dataclass(frozen=True)
class Fitted:
    """What the loop did; the adapter holds the weights of `best_step` (or the last) when it returns.

    All of it is told of the whole training, also where earlier processes did the steps up to `resumed_at`.
    """

    first_loss: float
    last_loss: float
    tokens: int
    step_seconds: float
    best_step: int | None
    best_validation_loss: float | None
    resumed_at: int | None = None


def fit(adapter: Adapter, data: TrainingData, spec: TrainSpec, seed: int, how: How) -> Fitted:
    """Train the adapter in place; a training that was killed goes on where `how.checkpoints` find it.

    The loss of a step is the mean over the answer tokens of its whole effective batch, however it is split.

    Raises:
        DataProblem: there is no step.
        Diverged: the loss is not a finite number.
    """
    total = len(data.steps)
    if not total:
        # Others may fit: less than an epoch draws some of the examples.
        raise DataProblem(
            "No example that was drawn for a step fits, not even with its body cut away.",
            f"Raise train.max_length={spec.max_length}, or train more steps (train.max_steps, train.num_train_epochs).",
        )
    stepper = optimizer(adapter, spec)
    factor = torch.optim.lr_scheduler.LambdaLR(stepper, lambda step: learning_rate_factor(step, total, spec))
    validate_at = validation_steps(total, spec) if data.validation else set()
    torch.manual_seed(stream_seed(seed, "dropout"))
    adapter.method.begin(adapter.module, total)
    # The log is written line by line, to be read while it runs.
    with (
        how.log.open("a", encoding="utf-8", buffering=1) as log,
        Snapshot(how.log.parent) as snapshot,
        recomputed(adapter.module) if how.lean else contextlib.nullcontext(),
    ):
        course = Course(adapter, stepper, factor, Kept(spec, snapshot))
        _take_up(course, how)
        adapter.module.train()
        for number, places in enumerate(data.steps[course.step :], start=course.step + 1):
            started = time.perf_counter()
            batch = [data.train[place] for place in places]
            loss = backward(adapter, batch, spec, how)
            norm = nn.utils.clip_grad_norm_(adapter.trainable.values(), spec.max_grad_norm)
            _check_finite(number, {"loss": loss, "gradient norm": float(norm)})
            rate = factor.get_last_lr()[0]
            stepper.step()
            adapter.method.after_step(adapter.module, number)
            factor.step()
            stepper.zero_grad(set_to_none=True)
            took = time.perf_counter() - started
            course.done(number, loss, took)
            line = {"step": number, "loss": loss, "learning_rate": rate, "grad_norm": float(norm), "seconds": took}
            if number in validate_at:
                line["validation_loss"] = held_out = mean_loss(adapter.module, data.validation, spec, how)
                _check_finite(number, {"validation loss": held_out})
                course.kept.offer(number, held_out, adapter)
                adapter.module.train()
            log.write(json.dumps(line) + "\n")
            if how.checkpoints is not None:
                how.checkpoints.offer(course)
            how.progress("fit", number, total)
        course.kept.restore(adapter)
    tokens = sum(data.train[place].tokens for places in data.steps for place in places)
    first, last, kept = course.losses[0], course.losses[-1], course.kept
    return Fitted(first, last, tokens, course.seconds, kept.step, kept.loss, course.resumed_at)


def _take_up(course: Course, how: How) -> None:
    """Begin where an earlier process came to, if there was one; the log has the steps up to there, and no others."""
    if how.checkpoints is not None:
        how.checkpoints.resume(course, how.log)
    cut(how.log, course.step)


def _check_finite(step: int, numbers: dict[str, float]) -> None:
    for name, number in numbers.items():
        if not math.isfinite(number):
            raise Diverged(f"The {name} of step {step} is {number}.", "Lower train.learning_rate.")


def validation_steps(total: int, spec: TrainSpec) -> set[int]:
    """Steps (from 1) after which the validation loss is taken; the last one always is."""
    every = max(1, round(spec.eval_steps * total if spec.eval_steps < 1 else spec.eval_steps))
    return {*range(every, total + 1, every), total}


def backward(adapter: Adapter, batch: Sequence[Encoded], spec: TrainSpec, how: How) -> float:
    """Add the gradients of one effective batch, in micro-batches; return its loss.

    What a method adds to the loss has its gradient too, and is no part of the loss that is returned. Each micro-batch
    has as much of it as it has of the tokens, for it may be a mean over them.
    """
    answers, tokens = answer_tokens(batch), sum(encoded.tokens for encoded in batch)
    loss = 0.0
    for start in range(0, len(batch), how.micro_batch):
        portion = batch[start : start + how.micro_batch]
        part = summed_loss(adapter.module, portion, spec, how) / answers
        loss += float(part.detach())
        penalty = adapter.method.penalty(adapter.module)
        if penalty is not None:
            part = part + penalty * (sum(encoded.tokens for encoded in portion) / tokens)
        part.backward()  # type: ignore[no-untyped-call]  # torch leaves it unannotated
    return loss


@torch.no_grad()
def mean_loss(module: nn.Module, examples: Sequence[Encoded], spec: TrainSpec, how: How) -> float:
    """The loss over the answer tokens of all examples, without dropout."""
    module.eval()
    total = 0.0
    for start in range(0, len(examples), how.micro_batch):
        total += float(summed_loss(module, examples[start : start + how.micro_batch], spec, how))
    return total / answer_tokens(examples)


def summed_loss(module: nn.Module, batch: Sequence[Encoded], spec: TrainSpec, how: How) -> torch.Tensor:
    """Cross-entropy summed over the answer tokens of a batch."""
    with torch.autocast(how.device.type, dtype=torch.bfloat16, enabled=spec.precision == "bf16"):
        return answer_loss(module, batch, how.device, how.layout)
