"""What the methods cost: means over finished runs, never over different devices.

A `Place` is where and how a cost was measured. Runs of different places are never averaged: each place has its own
lines, and a table shows one place.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from peftbench.record import Cost, Record
from peftbench.report._format import line, plural
from peftbench.report.grid import method_order, over_tasks, tasks_in_common
from peftbench.scoring.aggregate import Score
from peftbench.scoring.pscp import Pscp

_MEMORY = {
    "host_resident": "host memory: the high-water mark of the process's resident set, "
    "which holds the interpreter, the libraries and the base model too",
    "cuda_allocated": "GPU memory: the most bytes that tensors held at one time; "
    "what the allocator and the driver keep beside them is not counted",
    "cuda_reserved": "GPU memory: the most bytes the allocator had reserved at one time",
    "": "not measured on this system",
}


@dataclass(frozen=True, order=True)
class Place:
    """A device, its processor, the CPU threads of a run, which memory was read, and how the run was to be done."""

    device: str
    processor: str
    threads: int
    memory: str
    matmul: str = "torch"
    mode: str = "fast"

    @property
    def name(self) -> str:
        """The device in words."""
        own = self.device.upper() if self.device in {"cpu", "mps"} else self.device
        host = self.processor if self.device == "cpu" else f"host {self.processor}"
        how = ", oneDNN" if (self.device, self.matmul) == ("cpu", "onednn") else ""
        how += ", lean" if self.mode == "lean" else ""
        return line(f"{own} ({host}, {plural(self.threads, 'thread')}{how})")

    @property
    def kind(self) -> str:
        """Whose memory was read: `host memory` or `GPU memory`."""
        return self.definition.partition(":")[0] if self.memory else "memory"

    @property
    def on_gpu(self) -> bool:
        """Whether the memory of a GPU was read."""
        return self.memory.startswith("cuda")

    @property
    def definition(self) -> str:
        """What a peak of memory is here."""
        return _MEMORY.get(self.memory, self.memory)


@dataclass(frozen=True)
class CostLine:
    """The costs of one method with one model at one place: means over its finished runs.

    They are of the tasks that the compared methods have in common, for the passages of one task are longer than those
    of another; `over` names those of them that this line has. Where there is none, they are of the method's own tasks.
    `merged_changed` are the answers that became others when the adapter was folded into the base, of how many.
    FLOPs are means over the runs that counted both those of model and adapter and those of the base alone; `pscp` is
    filled in by `report.pscp`, which knows the other methods.
    """

    model: str
    method: str
    place: Place
    runs: int
    asked: int
    over: str
    trainable_parameters: float
    total_parameters: float
    adapter_bytes: float | None
    fit_seconds: float | None
    fit_tokens_per_second: float | None
    fit_peak_bytes: float | None
    predict_seconds: float
    predict_tokens_per_second: float
    predict_peak_bytes: float | None
    merged_changed: tuple[int, int] | None
    merged_predict_seconds: float | None
    merged_predict_tokens_per_second: float | None
    forward_flops: float | None
    base_forward_flops: float | None
    forward_length: float | None
    pscp: Pscp | None = None

    @property
    def extra_forward_flops(self) -> float | None:
        """FLOPs of a forward pass beyond those of the base."""
        if self.forward_flops is None or self.base_forward_flops is None:
            return None
        return self.forward_flops - self.base_forward_flops


def place_of(record: Record) -> Place | None:
    """Where the costs of a run were measured, None when it has none."""
    if record.cost is None:
        return None
    peak = record.cost.peak("fit") or record.cost.peak("predict")
    where = record.environment
    memory = peak.definition if peak else ""
    return Place(where.device, where.processor, where.threads, memory, where.matmul, record.resources.mode)


def places(scores: Iterable[Score]) -> list[Place]:
    """All places at which costs were measured."""
    found = {place_of(record) for score in scores for record in score.records}
    return sorted(place for place in found if place is not None)


def cost_lines(scores: Iterable[Score]) -> list[CostLine]:
    """One line for each model, method and place, references around the compared methods."""
    models: dict[str, list[Score]] = {}
    for score in scores:
        models.setdefault(score.model, []).append(score)
    return [one for model in sorted(models) for one in _of_model(model, models[model])]


def _of_model(model: str, scores: Sequence[Score]) -> list[CostLine]:
    common = tasks_in_common(scores)
    every = len({score.task for score in scores})
    groups: dict[str, list[Record]] = {}
    for score in scores:
        if score.task in common or not common:
            groups.setdefault(score.method, []).extend(score.records)
    ordered = sorted(groups.items(), key=lambda item: method_order(item[0]))
    return [one for method, records in ordered for one in _lines(model, method, every, records)]


def _lines(model: str, method: str, every: int, records: Sequence[Record]) -> list[CostLine]:
    by_place: dict[Place, list[Record]] = {}
    for record in records:
        place = place_of(record)
        if place is not None:
            by_place.setdefault(place, []).append(record)
    found = sorted(by_place.items())
    return [_line(model, method, place, own, len(records), every) for place, own in found]


def _line(model: str, method: str, place: Place, records: Sequence[Record], asked: int, every: int) -> CostLine:
    """`asked` is how many runs the line could have, `every` how many tasks there are."""
    costs = [record.cost for record in records if record.cost is not None]
    merged = [record.merged for record in records if record.merged is not None]
    counted = [cost for cost in costs if None not in {cost.forward_flops, cost.base_forward_flops}]
    return CostLine(
        model=model,
        method=method,
        place=place,
        runs=len(costs),
        asked=asked,
        over=over_tasks(sorted({record.spec.task.label for record in records}), every),
        trainable_parameters=statistics.fmean(cost.trainable_parameters for cost in costs),
        total_parameters=statistics.fmean(cost.total_parameters for cost in costs),
        adapter_bytes=mean(cost.adapter_bytes for cost in costs),
        fit_seconds=mean(cost.fit_seconds for cost in costs),
        fit_tokens_per_second=mean(cost.fit_tokens_per_second for cost in costs),
        fit_peak_bytes=mean(peak_bytes(cost, "fit") for cost in costs),
        predict_seconds=statistics.fmean(cost.predict_seconds for cost in costs),
        predict_tokens_per_second=statistics.fmean(cost.predict_tokens_per_second for cost in costs),
        predict_peak_bytes=mean(peak_bytes(cost, "predict") for cost in costs),
        merged_changed=_changed(records),
        merged_predict_seconds=mean(one.predict_seconds for one in merged),
        merged_predict_tokens_per_second=mean(one.predict_tokens_per_second for one in merged),
        forward_flops=mean(cost.forward_flops for cost in counted),
        base_forward_flops=mean(cost.base_forward_flops for cost in counted),
        forward_length=mean(cost.forward_length for cost in counted),
    )


def _changed(records: Iterable[Record]) -> tuple[int, int] | None:
    """Of the answers of all runs that merged, how many became others, and how many there are."""
    pairs = [
        (record.merged.changed, split.examples)
        for record in records
        for split in (record.test if record.spec.evaluate.split == "test" else record.validation,)
        if record.merged and split
    ]
    return (sum(changed for changed, _ in pairs), sum(every for _, every in pairs)) if pairs else None


def peak_bytes(cost: Cost, phase: str) -> int | None:
    """The peak of a phase, None when it was not measured."""
    peak = cost.peak(phase)
    return None if peak is None else peak.bytes


def mean(numbers: Iterable[float | None]) -> float | None:
    """The mean of the numbers that are there, None when there is none."""
    present = [number for number in numbers if number is not None]
    return statistics.fmean(present) if present else None
