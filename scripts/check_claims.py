"""Hold a finished store against what its suite is there to show: `check_claims.py quickstart STORE`.

It reads records and predictions, trains nothing, prints every number it compares, and exits with 1 when a claim does
not hold. CI does this for `quickstart`; for `smollm2` it is done after the table has been made.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from peftbench import Record, Store, Suite, read_suite, registry, scores

# A claim: what is compared, the numbers, and whether it holds.
Claim = tuple[str, str, bool]
# What a method has to gain on SST-2, in points, and how many methods have to.
_GAIN, _METHODS = 5.0, 5


def quickstart(store: Store, records: Sequence[Record]) -> Iterator[Claim]:
    """The untouched model is within 5 points of chance, and the best method at least 20 points above both."""
    del store
    means = {(score.task, score.method): score.value for score in scores(records)}
    for task in sorted({task for task, _ in means}):
        chance = 100 * registry.load("tasks", task).value.chance
        floor = 100 * (means[task, "zero_shot"] or 0)
        best = max(100 * (value or 0) for (name, _), value in means.items() if name == task)
        yield f"{task}: zero_shot near chance", f"{floor:.1f} and {chance:.1f}", abs(floor - chance) <= 5
        yield f"{task}: best method above", f"{best:.1f} and {max(floor, chance):.1f}", best >= max(floor, chance) + 20


def smollm2(store: Store, records: Sequence[Record]) -> Iterator[Claim]:
    """On SST-2 five methods or more beat the untouched model by 5 points in each seed, on the same rows.

    And all methods of a seed saw the same batches.
    """
    runs = [record for record in records if record.spec.task.name == "sst2"]
    (floor,) = (record for record in runs if record.spec.method.name == "zero_shot")
    rows = _rows(store, floor)
    gains: dict[str, list[float]] = {}
    for record in runs:
        name, seed = record.spec.method.name, record.spec.seed
        yield f"sst2: {name}, seed {seed}: same rows", str(len(rows)), _rows(store, record) == rows
        if registry.load("methods", name).value.reference is None:
            gains.setdefault(name, []).append(100 * (record.score or 0) - 100 * (floor.score or 0))
    better = [name for name, found in gains.items() if min(found) >= _GAIN]
    told = ", ".join(f"{name} {min(found):+.1f}" for name, found in sorted(gains.items()))
    yield f"sst2: methods that gain {_GAIN:.0f} points in each seed", f"{len(better)} ({told})", len(better) >= _METHODS
    batches: dict[str, list[str]] = {}
    for record in records:
        if record.fit:
            batches.setdefault(f"{record.spec.task.name}, seed {record.spec.seed}", []).append(record.fit.batches)
    for place, found in sorted(batches.items()):
        yield f"{place}: equal batches", f"{len(found)} runs", len(set(found)) == 1


def complete(suite: Suite, records: Sequence[Record]) -> Iterator[Claim]:
    """Every run of the suite has a record of success: those that train one a seed, the others one."""
    wanted = 0
    for task in suite.tasks:
        asked = task.own().get("methods")
        for method in suite.methods:
            if asked is None or (isinstance(asked, list) and method.use in asked):
                wanted += len(suite.seeds) if registry.load("methods", method.use).value.trains else 1
    wanted *= len(suite.models)
    done = sum(record.failure is None for record in records)
    yield "runs without a failure", f"{done} of {wanted}", done == len(records) == wanted


CLAIMS: Mapping[str, Callable[[Store, Sequence[Record]], Iterator[Claim]]] = {
    "quickstart": quickstart,
    "smollm2": smollm2,
}


def claims(name: str, store: Store) -> Iterator[Claim]:
    """Every claim about a suite; the numbers of an incomplete store are not looked at."""
    records = store.records()
    whole = list(complete(read_suite(name), records))
    yield from whole
    if all(holds for _, _, holds in whole):
        yield from CLAIMS[name](store, records)


def _rows(store: Store, record: Record) -> list[tuple[str, str]]:
    return sorted((row.id, row.target) for row in store.predictions(record.run_id) if row.split == "test")


def main() -> int:
    """Print every claim; 1 when one does not hold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("suite", choices=CLAIMS)
    parser.add_argument("store", type=Path)
    asked = parser.parse_args()
    found = list(claims(asked.suite, Store(asked.store)))
    for name, numbers, holds in found:
        print(f"{'ok' if holds else 'NO':3}{name:55} {numbers}")
    return 0 if all(holds for _, _, holds in found) else 1


if __name__ == "__main__":
    raise SystemExit(main())
