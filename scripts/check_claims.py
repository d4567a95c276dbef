"""Hold a finished store against what its suite is there to show: `check_claims.py quickstart STORE`.

It reads records and predictions, trains nothing, prints every number it compares, and exits with 1 when a claim does
not hold. CI does this for `quickstart`; for `smollm2_small` it is done after the table has been made.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from peftbench import Record, Store, Suite, read_suite, registry, scores

# A claim: what is compared, the numbers, and whether it holds.
Claim = tuple[str, str, bool]
# All rows of the mirror that the README's command names.
_SST2_ROWS = 572


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


def smollm2_small(store: Store, records: Sequence[Record]) -> Iterator[Claim]:
    """On SST-2 lora beats the untouched model by at least 5 points in each seed, on the same rows."""
    runs = [record for record in records if record.spec.task.name == "sst2"]
    (floor,) = (record for record in runs if record.spec.method.name == "zero_shot")
    rows = _rows(store, floor)
    for record in runs:
        if record.spec.method.name == "lora":
            before, after = 100 * (floor.score or 0), 100 * (record.score or 0)
            yield f"sst2: lora, seed {record.spec.seed}", f"{after:.1f} after {before:.1f}", after >= before + 5
            same = record.spec.task == floor.spec.task and _rows(store, record) == rows
            holds = same and len(rows) == _SST2_ROWS
            yield f"sst2: lora, seed {record.spec.seed}: same rows", f"{len(rows)} of {_SST2_ROWS}", holds


def complete(suite: Suite, records: Sequence[Record]) -> Iterator[Claim]:
    """Every run of the suite has a record of success: those that train one a seed, the others one."""
    trained = [entry.use for entry in suite.methods if registry.load("methods", entry.use).value.trains]
    once = len(suite.methods) - len(trained)
    wanted = len(suite.tasks) * len(suite.models) * (len(trained) * len(suite.seeds) + once)
    done = sum(record.failure is None for record in records)
    yield "runs without a failure", f"{done} of {wanted}", done == len(records) == wanted


CLAIMS: Mapping[str, Callable[[Store, Sequence[Record]], Iterator[Claim]]] = {
    "quickstart": quickstart,
    "smollm2_small": smollm2_small,
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
        print(f"{'ok' if holds else 'NO':3}{name:40}{numbers}")
    return 0 if all(holds for _, _, holds in found) else 1


if __name__ == "__main__":
    raise SystemExit(main())
