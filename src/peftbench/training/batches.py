"""Which examples stand in which step: decided by the seed alone, so that every method sees the same."""

from __future__ import annotations

import hashlib
import math
import random
from collections import Counter
from collections.abc import Sequence

from peftbench.seeding import rng
from peftbench.spec import TrainSpec
from peftbench.tasks._task import Item


def split_validation(items: Sequence[Item], share: float, seed: int) -> tuple[list[Item], list[Item]]:
    """Cut a validation share off the training rows; rows of one group stay on one side.

    At least one group stays on each side when there are two and `share` is not 0.
    """
    sizes = Counter(item.group for item in items)
    wanted = 0 if share == 0 else max(1, round(share * len(items)))
    order = sorted(sizes)
    rng(seed, "split").shuffle(order)
    held_out: set[str] = set()
    count = 0
    for group in order[:-1]:
        if count >= wanted:
            break
        held_out.add(group)
        count += sizes[group]
    train = [item for item in items if item.group not in held_out]
    return train, [item for item in items if item.group in held_out]


def schedule(size: int, spec: TrainSpec, seed: int) -> list[list[int]]:
    """The examples of every optimiser step, as places in the training list. A last batch may be smaller."""
    per_epoch = math.ceil(size / spec.effective_batch)
    total = max(1, round(per_epoch * spec.num_train_epochs))
    if spec.max_steps is not None:
        total = min(total, spec.max_steps)
    generator = rng(seed, "order")
    steps: list[list[int]] = []
    while len(steps) < total:
        steps.extend(_epoch(size, spec.effective_batch, generator))
    return steps[:total]


def fingerprint(steps: Sequence[Sequence[int]], items: Sequence[Item]) -> str:
    """A hash over the ids of the examples of every step, in order."""
    text = ";".join(",".join(items[place].id for place in step) for step in steps)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _epoch(size: int, batch: int, generator: random.Random) -> list[list[int]]:
    order = list(range(size))
    generator.shuffle(order)
    return [order[start : start + batch] for start in range(0, size, batch)]
