"""Where the numbers come from: what was asked for, on what it ran, what failed, and how to do it again."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from peftbench.record import Environment, Record
from peftbench.report._format import line, plain
from peftbench.report.grid import method_order
from peftbench.store import Store

# A message longer than this is folded: the first part is shown, the whole on request.
_GLANCE = 280


@dataclass(frozen=True)
class Fault:
    """A failure, and all runs that ended with the same one."""

    phase: str
    kind: str
    message: str
    fix: str
    run_ids: tuple[str, ...]

    @property
    def glance(self) -> str:
        """The message, or its start when it is long."""
        return self.message if len(self.message) <= _GLANCE else self.message[:_GLANCE].rstrip() + " …"


@dataclass(frozen=True)
class Fact:
    """A name, its value, and a further remark."""

    name: str
    value: str
    remark: str = ""


@dataclass(frozen=True)
class Machine:
    """An environment, and how many runs were done there."""

    environment: Environment
    runs: int

    @property
    def packages(self) -> str:
        """Names and versions in one line."""
        return ", ".join(f"{name} {version}" for name, version in sorted(self.environment.packages.items()))


@dataclass(frozen=True)
class Provenance:
    """All of it."""

    store: str
    machines: tuple[Machine, ...]
    models: tuple[Fact, ...]
    tasks: tuple[Fact, ...]
    methods: tuple[Fact, ...]
    training: tuple[Fact, ...]
    evaluation: tuple[Fact, ...]
    runs: tuple[Fact, ...]
    waiting: tuple[str, ...]

    def command(self, *run_ids: str) -> str:
        """The line that does runs of the store that are not done yet."""
        return shlex.join(["peftbench", "exec", self.store, *run_ids])

    @property
    def first_command(self) -> str:
        """The line that puts a first run into an empty store."""
        return shlex.join(["peftbench", "run", "quickstart", "--store", self.store])


def provenance(store: Store, records: Sequence[Record]) -> Provenance:
    """Read from records, and from the store what waits to be done."""
    done = {record.run_id for record in records}
    specs = [record.spec for record in records]
    return Provenance(
        store=str(store.path),
        machines=_machines(records),
        models=_facts(
            (spec.base.label, spec.base.revision, f"{spec.base.dtype}, {spec.base.chat} chat") for spec in specs
        ),
        tasks=_facts((spec.task.label, spec.task.data, f"version {spec.task.version}") for spec in specs),
        methods=_methods(records),
        training=settings([spec.train.model_dump(mode="json") for spec in specs if spec.train is not None]),
        evaluation=settings([spec.evaluate.model_dump(mode="json") for spec in specs]),
        runs=tuple(Fact(record.run_id, _ended(record), _times(record)) for record in records),
        waiting=tuple(run_id for run_id in store.run_ids() if run_id not in done),
    )


def _ended(record: Record) -> str:
    if record.failure:
        return "failed"
    return "; ".join(["done", *(f"without {line(what)}" for what in record.unmeasured)])


def faults(records: Iterable[Record]) -> list[Fault]:
    """Failures, equal ones together, in the order of their first run."""
    groups: dict[tuple[str, str, str, str], list[str]] = {}
    for record in records:
        if record.failure is not None:
            seen = record.failure
            key = (seen.phase, line(seen.kind), plain(seen.message).strip(), plain(seen.fix).strip())
            groups.setdefault(key, []).append(record.run_id)
    return [Fault(*key, run_ids=tuple(run_ids)) for key, run_ids in groups.items()]


def chances(records: Iterable[Record]) -> dict[str, float]:
    """The chance level of every task that says one; of tasks with several versions the one named last."""
    return {record.spec.task.label: record.chance for record in records if record.chance is not None}


def settings(rows: Sequence[Mapping[str, object]]) -> tuple[Fact, ...]:
    """Every setting with its value, or with all of its values where runs differ."""
    keys = sorted({key for row in rows for key in row})
    return tuple(Fact(key, *_values([row.get(key) for row in rows])) for key in keys)


def _values(values: Iterable[object]) -> tuple[str, str]:
    texts = sorted({_text(value) for value in values})
    return ", ".join(texts), "differs between runs" if len(texts) > 1 else ""


def _text(value: object) -> str:
    if value is None:
        return "not set"
    return line(value) if isinstance(value, str) else line(json.dumps(value, ensure_ascii=False))


def _machines(records: Iterable[Record]) -> tuple[Machine, ...]:
    groups: dict[str, list[Environment]] = {}
    for record in records:
        groups.setdefault(record.environment.model_dump_json(), []).append(record.environment)
    return tuple(Machine(found[0], len(found)) for _, found in sorted(groups.items()))


def _facts(rows: Iterable[tuple[str, str, str]]) -> tuple[Fact, ...]:
    return tuple(Fact(*map(line, row)) for row in sorted(set(rows)))


def _methods(records: Iterable[Record]) -> tuple[Fact, ...]:
    found = {(record.spec.method.name, record.spec.method.version, _settings_line(record)) for record in records}
    ordered = sorted(found, key=lambda item: (method_order(item[0]), item[1:]))
    return tuple(Fact(line(name), text or "no settings", f"version {version}") for name, version, text in ordered)


def _settings_line(record: Record) -> str:
    return ", ".join(f"{line(key)} = {_text(value)}" for key, value in sorted(record.spec.method.settings.items()))


def _times(record: Record) -> str:
    start, end = (line(text)[:19].replace("T", " ") for text in (record.started, record.finished))
    return f"{start} – {end}"
