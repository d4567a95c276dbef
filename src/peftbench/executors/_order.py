"""Which run a worker takes next: one that it has the model and the rows for."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from peftbench.spec import Resources, RunSpec


@dataclass(frozen=True)
class Needs:
    """What a run needs in memory, by names that are equal when one copy serves both."""

    base: str
    task: str


def needs(spec: RunSpec, resources: Resources) -> Needs:
    """What a run needs."""
    return Needs(f"{spec.base.model_dump_json()} on {resources.device}", spec.task.model_dump_json())


def choose(waiting: Sequence[str], wanted: Mapping[str, Needs], warm: Needs | None, elsewhere: Collection[str]) -> str:
    """The run to take next.

    Best is one of the base and task that are `warm`, then one of that base, then one of a base that no other worker
    has (those are named in `elsewhere`); among equals the one that stands first.
    """

    def rank(run_id: str) -> int:
        needed = wanted[run_id]
        if warm is not None and needed.base == warm.base:
            return 0 if needed == warm else 1
        return 3 if needed.base in elsewhere else 2

    return min(waiting, key=rank)
