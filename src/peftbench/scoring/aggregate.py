"""From records to one score per task, model and method: mean and spread over seeds, failures counted."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from peftbench.record import Record
from peftbench.scoring.variants import natural, variants


@dataclass(frozen=True)
class Score:
    """The headline of one method on one task with one model; `task` is its label, as tables show it.

    `value` is the mean over `parts`, one for each finished seed, None when none finished; `low` and `high` are the
    lowest and highest part, `spread` their sample standard deviation (None below two parts). `undefined` counts the
    finished seeds for which the headline is no number, as a correlation is not where all answers are the same. Then the
    score has no mean and no spread: those of the other seeds would be of the runs that went well.
    """

    task: str
    model: str
    method: str
    name: str
    parts: tuple[float, ...]
    failed: int
    undefined: int
    records: tuple[Record, ...] = field(repr=False)

    @property
    def value(self) -> float | None:
        """The mean over seeds."""
        return statistics.fmean(self._counted) if self._counted else None

    @property
    def spread(self) -> float | None:
        """The sample standard deviation over seeds."""
        return statistics.stdev(self._counted) if len(self._counted) > 1 else None

    @property
    def low(self) -> float | None:
        """The lowest seed."""
        return min(self._counted, default=None)

    @property
    def high(self) -> float | None:
        """The highest seed."""
        return max(self._counted, default=None)

    @property
    def _counted(self) -> tuple[float, ...]:
        return () if self.undefined else self.parts


def scores(records: Iterable[Record]) -> list[Score]:
    """One score for each task, model and method setting, in the order of names.

    Settings of one method that differ (another rank, another learning rate) are kept apart, see `variants`.
    """
    found = list(records)
    names = variants([record.spec for record in found])
    groups: dict[tuple[str, str, str], list[Record]] = {}
    for record, name in zip(found, names, strict=True):
        place = (record.spec.task.label, record.spec.model.label, name)
        groups.setdefault(place, []).append(record)
    places = sorted(groups, key=lambda place: (*place[:2], natural(place[2])))
    return [_score(*place, groups[place]) for place in places]


def is_undefined(record: Record) -> bool:
    """Whether a run finished and its headline is no number, which is not the same as to have no headline."""
    return record.failure is None and bool(record.headline) and record.score is None


def _score(task: str, model: str, method: str, records: Sequence[Record]) -> Score:
    rows = sorted(records, key=lambda record: -1 if record.spec.seed is None else record.spec.seed)
    parts = tuple(record.score for record in rows if record.score is not None)
    name = next((record.headline for record in rows if record.headline), "")
    failed = sum(record.failure is not None for record in rows)
    return Score(task, model, method, name, parts, failed, sum(map(is_undefined, rows)), tuple(rows))
