"""PSCP of the methods of one model at one place, and in words how much it takes off.

All methods of a table are held to the same tasks: those that every compared method has a score for. The performance is
the mean over these tasks of the mean over seeds, in per cent, as the table of scores has it. Costs are means over the
runs of these tasks at the place; what was measured on another device is never among them.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from peftbench.record import Cost, Record
from peftbench.report._format import between, factor, line, listed, metric, short_count
from peftbench.report.costs import CostLine, Place, place_of, places
from peftbench.report.grid import is_reference, method_order, over_tasks, tasks_in_common
from peftbench.scoring.aggregate import Score
from peftbench.scoring.pscp import Costs, Pscp, pscp
from peftbench.spec import PscpSpec

# Of a GPU the reserved bytes count: of what is measured they come closest to the device memory of the paper.
_COUNTED = {"cuda_allocated": "cuda_reserved"}
_MEMORY = {"cuda_reserved": "the bytes that the allocator had reserved", "host_resident": "host memory of the process"}


@dataclass(frozen=True)
class Standing:
    """PSCP of a method, or why it has none; the length and the size of the model its costs stand for."""

    method: str
    pscp: Pscp | None = None
    reason: str = ""
    length: int | None = None
    total_parameters: float = 0.0


@dataclass(frozen=True)
class PscpTable:
    """The methods of one model that were trained at one place, in the order of the other tables."""

    model: str
    place: Place
    constants: PscpSpec
    tasks: tuple[str, ...]
    all_tasks: int
    rows: tuple[Standing, ...]

    @property
    def found(self) -> list[tuple[str, Pscp]]:
        """The methods that have one."""
        return [(row.method, row.pscp) for row in self.rows if row.pscp is not None]

    @property
    def name(self) -> str:
        """`PSCP` of GPU memory, as published; any other memory is named with it."""
        return f"PSCP {self.note}".strip()

    @property
    def note(self) -> str:
        """What stands behind or below the word PSCP, nothing for GPU memory."""
        return memory_note(self.place)

    @property
    def bite(self) -> str:
        """Over which tasks it is taken, what the costs leave of the scores, and whether that changes the order."""
        if not self.found:
            return self._absent
        one, two, three = (self._range(cost) for cost in range(3))
        total = max(row.total_parameters for row in self.rows)
        over = over_tasks(self.tasks, self.all_tasks)
        factors = (
            f"{self.name} over {over}: the mean score times what its costs leave of it. With this model of "
            f"{short_count(total)} parameters that is {one} for trained parameters, {two} for forward FLOPs and "
            f"{three} for memory."
        )
        return " ".join(filter(None, (factors, self._order, self._absent)))

    @property
    def definition(self) -> str:
        """Constants and weights, and what is measured."""
        own = self.constants
        lengths = sorted({row.length for row in self.rows if row.length is not None})
        betas = (own.beta_parameters, own.beta_forward_flops, own.beta_memory)
        weights = f"all betas {betas[0]:g}" if len(set(betas)) == 1 else "betas {:g}, {:g} and {:g}".format(*betas)
        read = _MEMORY.get(_COUNTED.get(self.place.memory, self.place.memory), "memory")
        flops, memory = metric(own.forward_flops, "FLOPs"), metric(own.memory_bytes, "B")
        return (
            "PSCP takes a factor (1 + cost / constant)^-beta for each cost (PEFT-Bench, arXiv 2511.21285). Constants: "
            f"{short_count(own.parameters)} trained parameters; {flops} that a forward pass over "
            f"{' or '.join(map(str, lengths))} tokens takes beyond the base's; {memory} of peak memory in training, "
            f"here {read}; {weights}."
        )

    def _range(self, cost: int) -> str:
        """The range of a factor among the compared methods; a reference outside of it stands behind."""
        factors = {method: found.factors[cost] for method, found in self.found}
        compared = {method: share for method, share in factors.items() if not is_reference(method)} or factors
        text = between(list(compared.values()))
        outside = [
            f"{line(method)} {factor(share)}"
            for method, share in factors.items()
            if not factor(min(compared.values())) <= factor(share) <= factor(max(compared.values()))
        ]
        return f"{text} ({', '.join(outside)})" if outside else text

    @property
    def _order(self) -> str:
        ranked = sorted(self.found, key=lambda item: -item[1].value)
        for place, (first, above) in enumerate(ranked):
            for second, below in ranked[place + 1 :]:
                if above.performance < below.performance:
                    return f"PSCP changes the order: {line(first)} comes before {line(second)}, which scores higher."
        return "PSCP follows the score." if len(ranked) > 1 else ""

    @property
    def _absent(self) -> str:
        reasons: dict[str, list[str]] = {}
        for row in self.rows:
            if row.pscp is None:
                reasons.setdefault(row.reason, []).append(line(row.method))
        return " ".join(f"No {self.name} for {listed(methods)}: {reason}." for reason, methods in reasons.items())


def memory_note(place: Place) -> str:
    """The memory of a place that is none of a GPU: `(host memory)`."""
    return "" if place.on_gpu else f"({place.kind})"


def pscp_tables(scores: Iterable[Score], constants: PscpSpec) -> list[PscpTable]:
    """One table for each model and place at which a method was trained; methods without training have no PSCP."""
    rows = list(scores)
    found = []
    for model in sorted({score.model for score in rows}):
        own = [score for score in rows if score.model == model]
        found += [table for place in places(own) if (table := _table(model, own, place, constants)).rows]
    return found


def with_pscp(lines: Iterable[CostLine], tables: Iterable[PscpTable]) -> list[CostLine]:
    """The cost lines with the PSCP of their methods."""
    known = {(table.model, table.place, method): found for table in tables for method, found in table.found}
    return [replace(row, pscp=known.get((row.model, row.place, row.method))) for row in lines]


def _table(model: str, scores: Sequence[Score], place: Place, constants: PscpSpec) -> PscpTable:
    methods: dict[str, list[Score]] = {}
    for score in scores:
        methods.setdefault(score.method, []).append(score)
    here = {
        name: own
        for name, own in sorted(methods.items(), key=lambda item: method_order(item[0]))
        if any(_trained_at(record, place) for score in own for record in score.records)
    }
    tasks = tasks_in_common(score for own in here.values() for score in own)
    standings = tuple(_standing(name, own, tasks, place, constants) for name, own in here.items())
    return PscpTable(model, place, constants, tasks, len({score.task for score in scores}), standings)


def _standing(
    method: str, scores: Sequence[Score], tasks: tuple[str, ...], place: Place, constants: PscpSpec
) -> Standing:
    own = {score.task: score for score in scores if score.task in tasks}
    values = [own[task].value for task in tasks if task in own]
    present = [value for value in values if value is not None]
    if not tasks:
        return Standing(method, reason="not one task has a score of every method")
    if len(present) < len(tasks):
        lacking = [line(task) for task in tasks if task not in own or own[task].value is None]
        return Standing(method, reason=f"no score on {listed(lacking)}")
    records = [record for score in own.values() for record in score.records if _trained_at(record, place)]
    costs = [record.cost for record in records if record.cost is not None]
    if not costs:
        return Standing(method, reason="none of these tasks was run here")
    extras = list(_extra_flops(costs))
    peaks = list(_peaks(costs, place))
    if not extras or not peaks:
        missing = [] if extras else ["forward FLOPs not counted"]
        missing += [] if peaks else ["peak memory not measured"]
        return Standing(method, reason=" and ".join(missing))
    parameters = statistics.fmean(cost.trainable_parameters for cost in costs)
    return Standing(
        method,
        pscp(
            100 * statistics.fmean(present),
            Costs(parameters, statistics.fmean(extras), statistics.fmean(peaks)),
            constants,
        ),
        length=next(cost.forward_length for cost in costs if cost.forward_length is not None),
        total_parameters=statistics.fmean(cost.total_parameters for cost in costs),
    )


def _trained_at(record: Record, place: Place) -> bool:
    return record.spec.train is not None and record.failure is None and place_of(record) == place


def _extra_flops(costs: Iterable[Cost]) -> Iterator[int]:
    """What a forward pass takes beyond the base's: the difference in each run, so that both are of one length."""
    for cost in costs:
        if cost.forward_flops is not None and cost.base_forward_flops is not None:
            yield cost.forward_flops - cost.base_forward_flops


def _peaks(costs: Iterable[Cost], place: Place) -> Iterator[int]:
    wanted = _COUNTED.get(place.memory, place.memory)
    for cost in costs:
        yield from (peak.bytes for peak in cost.peaks if (peak.phase, peak.definition) == ("fit", wanted))
