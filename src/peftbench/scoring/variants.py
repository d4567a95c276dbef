"""What the runs of one method with different settings are called: `lora`, or `lora r=8` beside a `lora r=16`."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from peftbench.spec import RunSpec

# Specs as flat data, without the seed.
_Flat = dict[str, Any]
_NUMBER = re.compile(r"(\d+(?:\.\d+)?(?:e[-+]?\d+)?)")


def variants(specs: Sequence[RunSpec]) -> list[str]:
    """For every run its method, with the settings in which runs of that method differ in more than the seed.

    A setting that differs on one task with one model is named everywhere: else the `lora r=8` of a task with two ranks
    would be the `lora` of a task with one.
    """
    groups: dict[tuple[str, str, str], dict[str, list[int]]] = {}
    for number, spec in enumerate(specs):
        place = (spec.task.name, spec.model.name, spec.method.name)
        groups.setdefault(place, {}).setdefault(_without_seed(spec), []).append(number)
    varied = _varied_settings(groups)
    result = [""] * len(specs)
    for (_, _, method), found in groups.items():
        for label, numbers in zip(_labels(method, list(found), varied[method]), found.values(), strict=True):
            for number in numbers:
                result[number] = label
    return result


def natural(label: str) -> list[str | float]:
    """A sort key that takes numbers as numbers, so that `r=8` comes before `r=16`."""
    return [float(part) if place % 2 else part for place, part in enumerate(_NUMBER.split(label))]


def _without_seed(spec: RunSpec) -> str:
    """The spec without the seed, as canonical text."""
    return json.dumps(_flat(spec.model_dump(mode="json", exclude={"seed"})), sort_keys=True)


def _varied_settings(groups: Mapping[tuple[str, str, str], Iterable[str]]) -> dict[str, set[str]]:
    """For each method the settings that differ on some task with some model."""
    result: dict[str, set[str]] = {}
    for (_, _, method), found in groups.items():
        keys = _differing([json.loads(text) for text in found])
        own = {key for key in keys if key.startswith(("method.", "train.", "evaluate."))}
        result.setdefault(method, set()).update(own)
    return result


def _differing(rows: Sequence[_Flat]) -> set[str]:
    """The keys that have not the same value in all rows."""
    return {key for row in rows for key in row if len({json.dumps(other.get(key)) for other in rows}) > 1}


def _labels(method: str, found: Sequence[str], varied: set[str]) -> list[str]:
    """Names for the settings of one method: the method's own, and the keys in which they differ. No two are equal."""
    rows = [json.loads(text) for text in found]
    keys = sorted(varied | _differing(rows))
    labels = [" ".join([method, *(f"{key.rpartition('.')[2]}={_short(row.get(key))}" for key in keys)]) for row in rows]
    # Long values are cut, and may then look the same.
    repeats = [labels[:index].count(label) for index, label in enumerate(labels)]
    return [f"{label} ({count + 1})" if count else label for label, count in zip(labels, repeats, strict=True)]


def _short(value: object) -> str:
    return value[:12] if isinstance(value, str) else json.dumps(value)


def _flat(data: Mapping[str, Any], prefix: str = "") -> _Flat:
    result: _Flat = {}
    for key, value in data.items():
        result.update(_flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {prefix + key: value})
    return result
