"""What the runs of one method with different settings are called: `lora`, or `lora r=8` beside a `lora r=16`."""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from peftbench.methods._variants import recognised
from peftbench.spec import NOT_CAUSAL, MethodRef, RunSpec, Settings

# A spec as flat keys and canonical texts of their values, without the seed.
_Flat = dict[str, str]
_Place = tuple[str, str, str]
_NUMBER = re.compile(r"(\d+(?:\.\d+)?(?:e[-+]?\d+)?)")
_ABSENT = "null"
# Characters of a value that a name shows.
_LONG = 24


def variants(specs: Sequence[RunSpec]) -> list[str]:
    """For every run its method, with the settings in which runs of that method differ in more than the seed.

    Runs with equal names have equal hyperparameters of the method, whatever task and model. Settings of training, of
    examples and of evaluation may be a task's or a model's own: they are named when they differ on one task with one
    model, and then everywhere, else the `lora lr=1e-3` of a task with two rates would be the `lora` of a task with one.

    Settings that have a name of their own are called by it: `olora` is `lora` with `init_lora_weights=olora`.
    """
    called = [recognised(spec.method) for spec in specs]
    rows = [_row(spec, settings) for spec, (_, settings) in zip(specs, called, strict=True)]
    named = _named_keys(specs, rows)
    labels = [
        " ".join([_called(spec.method, name), *_settings(row, keys)])
        for spec, (name, _), row, keys in zip(specs, called, rows, named, strict=True)
    ]
    whole = [json.dumps([row.get(key, _ABSENT) for key in keys]) for row, keys in zip(rows, named, strict=True)]
    return _distinct(labels, whole)


def _called(method: MethodRef, variant: str) -> str:
    name = method.label if variant == method.name else variant
    return name + (NOT_CAUSAL if method.not_causal else "")


def _row(spec: RunSpec, settings: Settings) -> _Flat:
    """A run with settings in the place of its method's."""
    data = spec.model_dump(mode="json", exclude={"seed"})
    return _flat({**data, "method": {**data["method"], "settings": settings}})


def natural(label: str) -> list[str | float]:
    """A sort key that takes numbers as numbers, so that `r=8` comes before `r=16`."""
    return [float(part) if place % 2 else part for place, part in enumerate(_NUMBER.split(label))]


def _named_keys(specs: Sequence[RunSpec], rows: Sequence[_Flat]) -> list[list[str]]:
    """For every run the keys that its name shows."""
    methods: dict[str, list[_Flat]] = defaultdict(list)
    places: dict[_Place, list[_Flat]] = defaultdict(list)
    for spec, row in zip(specs, rows, strict=True):
        methods[spec.method.label].append(row)
        places[_place(spec)].append(row)
    shown = {name: {key for key in _differing(found) if key.startswith("method.")} for name, found in methods.items()}
    local = {place: _differing(found) for place, found in places.items()}
    for (_, _, method), keys in local.items():
        shown[method] |= {key for key in keys if key.startswith(("train.", "drawn_from.", "evaluate."))}
    return [sorted(shown[spec.method.label] | local[_place(spec)]) for spec in specs]


def _place(spec: RunSpec) -> _Place:
    return spec.task.label, spec.model.label, spec.method.label


def _settings(row: _Flat, keys: Sequence[str]) -> list[str]:
    """`key=value` for each key that is there; the section stands before those whose last part is not enough."""
    last = Counter(key.rpartition(".")[2] for key in keys)
    names = {key: key.rpartition(".")[2] if last[key.rpartition(".")[2]] == 1 else key for key in keys}
    there = [key for key in keys if row.get(key, _ABSENT) != _ABSENT]
    return [f"{names[key]}={_short(json.loads(row[key]))}" for key in there]


def _distinct(labels: Sequence[str], whole: Sequence[str]) -> list[str]:
    """Long values are cut in names, and may then look the same: equal names of unequal settings are numbered."""
    meanings: dict[str, set[str]] = defaultdict(set)
    for label, text in zip(labels, whole, strict=True):
        meanings[label].add(text)
    order = {label: sorted(texts) for label, texts in meanings.items()}
    return [
        label if len(order[label]) == 1 else f"{label} ({order[label].index(text) + 1})"
        for label, text in zip(labels, whole, strict=True)
    ]


def _differing(rows: Iterable[_Flat]) -> set[str]:
    """The keys that have not the same value in all rows; a key that a row lacks is null in it."""
    count = 0
    values: dict[str, Counter[str]] = defaultdict(Counter)
    for row in rows:
        count += 1
        for key, value in row.items():
            values[key][value] += 1
    return {key for key, found in values.items() if len(found) > 1 or (found.total() < count and _ABSENT not in found)}


def _short(value: object) -> str:
    if isinstance(value, list):
        return "+".join(map(_short, value))[:_LONG]
    return value[:_LONG] if isinstance(value, str) else json.dumps(value)


def _flat(data: Mapping[str, Any], prefix: str = "") -> _Flat:
    result: _Flat = {}
    for key, value in data.items():
        inner = isinstance(value, Mapping)
        result.update(_flat(value, f"{prefix}{key}.") if inner else {prefix + key: json.dumps(value, sort_keys=True)})
    return result
