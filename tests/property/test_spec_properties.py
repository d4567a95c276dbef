"""Values survive JSON, refuse what they do not know, and a run's id names everything that decides its result."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from typing import Any, get_args

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from peftbench import record, spec
from peftbench.errors import InvalidSpec, UnknownName
from peftbench.spec import (
    Entry,
    EvalSpec,
    MethodRef,
    ModelRef,
    RunSpec,
    Suite,
    TaskRef,
    TrainSpec,
    Value,
    canonical_json,
)
from property.strategies import VALUES, eval_specs, method_refs, model_refs, plain, run_specs, task_refs, train_specs


def _values_of(*modules: Any) -> set[type[Value]]:
    found = (item for module in modules for item in vars(module).values())
    return {item for item in found if isinstance(item, type) and issubclass(item, Value) and item is not Value}


def test_every_value_has_a_strategy() -> None:
    assert set(VALUES) == _values_of(spec, record)


@pytest.mark.parametrize("cls", VALUES, ids=lambda cls: cls.__name__)
def test_round_trip_through_json(cls: type[Value]) -> None:
    @settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
    @given(VALUES[cls])
    def check(value: Value) -> None:
        assert cls.parse(plain(value), "a file") == value
        assert cls.model_validate_json(value.model_dump_json(indent=1), strict=True) == value

    check()


@pytest.mark.parametrize("cls", VALUES, ids=lambda cls: cls.__name__)
def test_values_are_frozen_and_refuse_unknown_keys(cls: type[Value]) -> None:
    @settings(max_examples=3, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
    @given(VALUES[cls])
    def check(value: Value) -> None:
        field = next(iter(cls.model_fields))
        with pytest.raises(ValueError, match="frozen"):
            setattr(value, field, None)
        with pytest.raises(UnknownName):
            cls.parse({**plain(value), "nowhere_to_be_found": 1}, "a file")

    check()


@pytest.mark.parametrize("name", [*TrainSpec.model_fields, *TrainSpec.aliases])
def test_a_misspelt_key_is_answered_with_the_nearest(name: str) -> None:
    misspelt = name[:-1] + "_"
    with pytest.raises(UnknownName) as caught:
        TrainSpec.parse({misspelt: 1}, "the file, train")
    assert caught.value.fix == f"Did you mean {name!r}?"
    assert f"{misspelt!r} in the file, train" in caught.value.message


def test_a_misspelt_key_inside_is_compared_with_its_own_neighbours() -> None:
    run = plain(_run())
    run["train"]["learning_rat"] = 1
    with pytest.raises(UnknownName, match="'learning_rate'"):
        RunSpec.parse(run, "spec.json")
    with pytest.raises(UnknownName, match="Known: options, use"):
        Suite.parse({"tasks": ["a"], "models": ["b"], "methods": [{"use": "c", "options": {}, "r": 1}]}, "suite")


@given(train_specs)
def test_aliases_mean_their_canonical_names(value: TrainSpec) -> None:
    short = {canonical: alias for alias, canonical in TrainSpec.aliases.items()}
    assert set(short) <= set(TrainSpec.model_fields)
    assert TrainSpec.parse({short.get(key, key): item for key, item in plain(value).items()}, "x") == value
    changes = {alias: getattr(value, canonical) for canonical, alias in short.items()}
    assert TrainSpec().updated(changes, "x") == TrainSpec().updated(
        {TrainSpec.aliases[alias]: item for alias, item in changes.items()}, "x"
    )


def test_a_key_and_its_alias_together_are_refused() -> None:
    with pytest.raises(InvalidSpec, match="'learning_rate' twice"):
        TrainSpec.parse({"learning_rate": 1.0, "lr": 2.0}, "x")
    with pytest.raises(InvalidSpec, match="'num_train_epochs' twice"):
        TrainSpec().updated({"epochs": 1, "num_train_epochs": 1}, "x")


WRONG: list[tuple[type[Value], dict[str, Any]]] = [
    *[(TrainSpec, {"limit": wrong}) for wrong in (True, "1", 1.0, 0, -1, [1])],
    *[(TrainSpec, {"num_train_epochs": wrong}) for wrong in (True, "1", None, 0, -1.0, math.nan, math.inf)],
    *[(TrainSpec, {"learning_rate": wrong}) for wrong in ("1e-3", False, math.nan, -math.inf, 0)],
    *[(TrainSpec, {"lr_scheduler_type": wrong}) for wrong in ("Cosine", 1, None, True)],
    *[(TrainSpec, {"precision": wrong}) for wrong in ("fp16", None)],
    *[(EvalSpec, {"max_new_tokens": wrong}) for wrong in (0, "8", 8.0, False)],
    *[(ModelRef, {"name": "m", "revision": "r", "trust_remote_code": wrong}) for wrong in (1, "yes", "true", None)],
    *[(ModelRef, {"name": wrong, "revision": "r"}) for wrong in (1, None, True)],
    *[(TaskRef, {"name": "t", "version": wrong, "data": ""}) for wrong in (True, "1", 1.0)],
    *[(MethodRef, {"name": "m", "version": 1, "settings": {"x": wrong}}) for wrong in (math.nan, {1, 2}, object())],
    *[(MethodRef, {"name": "m", "version": 1, "settings": {"x": [{"y": wrong}]}}) for wrong in (math.inf, b"")],
    (MethodRef, {"name": "m"}),
    *[(Entry, {"use": "m", "r": wrong}) for wrong in (math.nan, math.inf)],
    (Entry, {"use": ""}),
    (Entry, {"r": 1}),
]
SUITE: dict[str, Any] = {"tasks": ["a"], "models": ["b"], "methods": ["c"]}
WRONG += [
    *[(Suite, {**SUITE, "seeds": wrong}) for wrong in ([True], ["1"], [1.0], [], [1, 1], 1, None)],
    *[(Suite, {**SUITE, "tasks": wrong}) for wrong in ([], "a", None, [3], [None], [["a"]])],
    *[(Suite, {**SUITE, "name": wrong}) for wrong in ("", "-x", "a b", "a/b", "../x", 1, "x\n")],
    *[(Suite, {**SUITE, "train": wrong}) for wrong in (None, 3, "x", {"limit": "1"})],
    (Suite, {**SUITE, "methods": [{"use": "c", "optimiser.lr": 1}]}),
    (Suite, {key: value for key, value in SUITE.items() if key != "models"}),
]


@pytest.mark.parametrize(
    ("cls", "data"), WRONG, ids=lambda item: item.__name__ if isinstance(item, type) else str(item)[:50]
)
def test_strictness(cls: type[Value], data: dict[str, Any]) -> None:
    with pytest.raises(InvalidSpec) as caught:
        cls.parse(data, "the file")
    assert caught.value.message.startswith("the file")
    assert caught.value.fix


def test_whole_numbers_are_accepted_where_a_real_one_is_wanted() -> None:
    assert TrainSpec.parse({"num_train_epochs": 3}, "x") == TrainSpec(num_train_epochs=3.0)
    assert canonical_json(TrainSpec.parse({"num_train_epochs": 3}, "x")) == canonical_json(
        TrainSpec(num_train_epochs=3.0)
    )


def test_entries_in_all_spellings() -> None:
    suite = Suite.parse({**SUITE, "methods": ["lora", {"use": "lora"}, {"use": "lora", "r": 4, "train.lr": 0.1}]}, "x")
    assert suite.methods[0] == suite.methods[1] == Entry(use="lora")
    assert suite.methods[2].own() == {"r": 4}
    assert suite.methods[2].overrides("train") == {"lr": 0.1}
    assert suite.methods[2].overrides("evaluate") == {}


def test_nothing_changed_is_the_same_value() -> None:
    value = TrainSpec(limit=3)
    assert value.updated({}, "x") is value


# ---- run ids -------------------------------------------------------------------------------------------------------


def _run() -> RunSpec:
    return RunSpec(
        task=TaskRef(name="sst2", version=1, data="files:0123456789abcdef"),
        model=ModelRef(name="owner/tiny model", revision="abc"),
        method=MethodRef(name="lora", version=1, settings={"r": 16, "targets": ["query"]}),
        train=TrainSpec(learning_rate=5e-4),
        evaluate=EvalSpec(max_new_tokens=8),
        seed=1,
    )


def test_the_id_of_a_known_run() -> None:
    # Golden: when this changes, every stored result is done again. Raise NUMERICS or SCHEMA on purpose instead.
    assert _run().run_id == "sst2--owner-tiny-model--lora--s1--ed6ccc0e"
    assert _run().model_copy(update={"seed": None}).run_id.startswith("sst2--owner-tiny-model--lora--once--")


def test_what_is_absent_is_no_part_of_the_id() -> None:
    """A setting that a later version adds, absent by default, leaves the ids of stored runs alone."""

    class Later(RunSpec):
        added: int | None = None

    later = Later.model_validate(_run().model_dump())
    assert later.run_id == _run().run_id
    assert later.model_copy(update={"added": 1}).run_id != _run().run_id
    optional = _with(_run(), ("method", "settings"), {**_run().method.settings, "added": None})
    assert optional.run_id == _run().run_id


def test_the_id_is_the_same_in_another_process() -> None:
    script = (
        "import sys; from peftbench.spec import RunSpec; print(RunSpec.model_validate_json(sys.stdin.read()).run_id)"
    )
    for hash_seed in ("0", "77"):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        told = subprocess.run(
            [sys.executable, "-c", script],
            input=_run().model_dump_json(),
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        assert told.stdout.strip() == _run().run_id


def _shuffled(data: Any, random: Any) -> Any:
    if isinstance(data, dict):
        keys = list(data)
        random.shuffle(keys)
        return {key: _shuffled(data[key], random) for key in keys}
    return [_shuffled(item, random) for item in data] if isinstance(data, list) else data


@given(run_specs, st.randoms(use_true_random=False))
def test_the_id_does_not_depend_on_key_order(run: RunSpec, random: Any) -> None:
    assert RunSpec.parse(_shuffled(plain(run), random), "x").run_id == run.run_id


@given(run_specs)
def test_the_id_is_one_plain_name(run: RunSpec) -> None:
    assert "/" not in run.run_id
    assert not run.run_id.startswith((".", "-"))
    assert len(run.run_id.encode()) < 200
    assert run.run_id.isascii()


def _leaves(value: Value, before: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    found: list[tuple[str, ...]] = []
    for name in type(value).model_fields:
        inner = getattr(value, name)
        found += _leaves(inner, (*before, name)) if isinstance(inner, Value) else [(*before, name)]
    return found


def _at(value: Value, path: tuple[str, ...]) -> Any:
    inner = getattr(value, path[0])
    return inner if len(path) == 1 else _at(inner, path[1:])


def _with(value: Value, path: tuple[str, ...], new: Any) -> Any:
    inner = new if len(path) == 1 else _with(getattr(value, path[0]), path[1:], new)
    return value.model_copy(update={path[0]: inner})


def _other_than(old: Any) -> Any:
    """A value that differs; that not every field would accept it does not matter to the hash."""
    if isinstance(old, bool):
        return not old
    if isinstance(old, int | float):
        return old + 1
    return {"added": 1} if isinstance(old, dict) else f"{old}x"


@pytest.mark.parametrize("path", _leaves(_run()), ids=".".join)
@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings:UserWarning")
def test_the_id_changes_with_every_single_field(path: tuple[str, ...]) -> None:
    changed = _with(_run(), path, _other_than(_at(_run(), path)))
    assert changed.run_id.rpartition("--")[2] != _run().run_id.rpartition("--")[2]


@given(task_refs, task_refs, model_refs, model_refs, method_refs, method_refs)
def test_different_names_never_share_an_id(
    task: TaskRef, task2: TaskRef, model: ModelRef, model2: ModelRef, method: MethodRef, method2: MethodRef
) -> None:
    one = _run().model_copy(update={"task": task, "model": model, "method": method})
    other = _run().model_copy(update={"task": task2, "model": model2, "method": method2})
    assert (canonical_json(one) == canonical_json(other)) == (one.run_id == other.run_id)


@given(train_specs, train_specs, eval_specs)
def test_ids_are_equal_exactly_when_settings_are(one: TrainSpec, other: TrainSpec, evaluate: EvalSpec) -> None:
    first = _run().model_copy(update={"train": one, "evaluate": evaluate})
    second = _run().model_copy(update={"train": other, "evaluate": evaluate})
    assert (one == other) == (first.run_id == second.run_id)


def test_resources_are_no_part_of_a_run() -> None:
    assert not set(RunSpec.model_fields) & set(spec.Resources.model_fields)
    nested = {
        kind for field in RunSpec.model_fields.values() for kind in (field.annotation, *get_args(field.annotation))
    }
    assert spec.Resources not in nested
