"""From records to one score per task, model and method: mean and spread over seeds, failures counted."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from peftbench.record import Record


@dataclass(frozen=True)
class Score:
    """The headline of one method on one task with one model.

    `value` is the mean over `parts`, one for each finished seed, None when none finished; `low` and `high` are the
    lowest and highest part, `spread` their sample standard deviation (None below two parts).
    """

    task: str
    model: str
    method: str
    name: str
    parts: tuple[float, ...]
    failed: int
    records: tuple[Record, ...]

    @property
    def value(self) -> float | None:
        """The mean over seeds."""
        return statistics.fmean(self.parts) if self.parts else None

    @property
    def spread(self) -> float | None:
        """The sample standard deviation over seeds."""
        return statistics.stdev(self.parts) if len(self.parts) > 1 else None

    @property
    def low(self) -> float | None:
        """The lowest seed."""
        return min(self.parts, default=None)

    @property
    def high(self) -> float | None:
        """The highest seed."""
        return max(self.parts, default=None)


def scores(records: Iterable[Record]) -> list[Score]:
    """One score for each task, model and method setting, in the order of names.

    Settings of one method that differ (another rank, another learning rate) are kept apart and named by what differs,
    the same way for every task and model.
    """
    groups: dict[tuple[str, str, str], dict[str, list[Record]]] = {}
    for record in records:
        spec = record.spec
        place = (spec.task.name, spec.model.name, spec.method.name)
        groups.setdefault(place, {}).setdefault(_without_seed(record), []).append(record)
    varied = _varied_settings(groups)
    result: list[Score] = []
    for (task, model, method), variants in sorted(groups.items()):
        labels = _labels(method, list(variants), varied[method])
        result.extend(_score(task, model, label, rows) for label, rows in zip(labels, variants.values(), strict=True))
    return result


def _score(task: str, model: str, method: str, records: Sequence[Record]) -> Score:
    rows = sorted(records, key=lambda record: -1 if record.spec.seed is None else record.spec.seed)
    parts = tuple(record.score for record in rows if record.score is not None)
    name = next((record.headline for record in rows if record.headline), "")
    return Score(task, model, method, name, parts, sum(record.failure is not None for record in rows), tuple(rows))


def _without_seed(record: Record) -> str:
    """The spec without the seed, as canonical text."""
    spec = record.spec.model_dump(mode="json", exclude={"seed"})
    return json.dumps(_flat(spec), sort_keys=True)


def _varied_settings(groups: Mapping[tuple[str, str, str], Iterable[str]]) -> dict[str, set[str]]:
    """For each method the settings that differ on some task with some model.

    A label names them everywhere: else the `lora r=8` of a task with two ranks would be the `lora` of a task with one.
    """
    result: dict[str, set[str]] = {}
    for (_, _, method), variants in groups.items():
        keys = _differing([json.loads(variant) for variant in variants])
        own = {key for key in keys if key.startswith(("method.", "train.", "evaluate."))}
        result.setdefault(method, set()).update(own)
    return result


def _differing(rows: Sequence[Mapping[str, Any]]) -> set[str]:
    """The keys that have not the same value in all rows."""
    return {key for row in rows for key in row if len({json.dumps(other.get(key)) for other in rows}) > 1}


def _labels(method: str, variants: Sequence[str], varied: set[str]) -> list[str]:
    """Names for the settings of one method: the method's own, and the keys in which they differ. No two are equal."""
    flat = [json.loads(variant) for variant in variants]
    keys = sorted(varied | _differing(flat))
    labels = [" ".join([method, *(f"{key.rpartition('.')[2]}={_short(row.get(key))}" for key in keys)]) for row in flat]
    # Long values are cut, and may then look the same.
    repeats = [labels[:index].count(label) for index, label in enumerate(labels)]
    return [f"{label} ({count + 1})" if count else label for label, count in zip(labels, repeats, strict=True)]


def _short(value: object) -> str:
    return value[:12] if isinstance(value, str) else json.dumps(value)


def _flat(data: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, value in data.items():
        result.update(_flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {prefix + key: value})
    return result
