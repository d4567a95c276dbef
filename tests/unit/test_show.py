"""What a person sees in the terminal: every run by what sets it apart, and nothing cut off."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from peftbench.report import terminal_tables
from peftbench.scoring.variants import natural, variants
from peftbench.show import Display, run_names, status_table
from peftbench.spec import Resources
from peftbench.store import Store
from unit.samples import record, run_spec

EIGHT, SIXTEEN = (run_spec(r=rank) for rank in (8, 16))
UNTOUCHED = run_spec(method="zero_shot", seed=None)


def printed(renderable: object, width: int = 100) -> str:
    console = Console(width=width, file=io.StringIO())
    console.print(renderable)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_runs_are_called_by_what_sets_them_apart() -> None:
    specs = {spec.run_id: spec for spec in (EIGHT, SIXTEEN, UNTOUCHED)}
    assert list(run_names(specs).values()) == [
        "sst2 × lora r=8, seed 1",
        "sst2 × lora r=16, seed 1",
        "sst2 × zero_shot",
    ]
    assert list(run_names({"x": EIGHT}).values()) == ["sst2 × lora, seed 1"]
    elsewhere = EIGHT.model_copy(update={"model": EIGHT.model.model_copy(update={"name": "big"})})
    assert list(run_names({"x": EIGHT, "y": elsewhere}).values()) == [
        "sst2 × tiny × lora, seed 1",
        "sst2 × big × lora, seed 1",
    ]


def test_equal_names_have_equal_hyperparameters() -> None:
    """Also across tasks: a mean over tasks must not mix two ranks."""
    assert variants([run_spec("sst2", r=8), run_spec("rte", r=64)]) == ["lora r=8", "lora r=64"]
    one, other = ("a long value that ends in one", "a long value that ends in other")
    crossed = [run_spec("sst2", k=one), run_spec("sst2", k=other), run_spec("rte", k=other), run_spec("rte", k=one)]
    assert variants(crossed) == [f"lora k=a long value that ends i ({number})" for number in (1, 2, 2, 1)]


def test_settings_of_a_task_are_not_the_methods() -> None:
    short = run_spec("rte")
    assert short.train is not None
    short = short.model_copy(update={"train": short.train.model_copy(update={"max_length": 64})})
    assert variants([run_spec("sst2"), short]) == ["lora", "lora"]
    assert variants([run_spec("rte"), short, run_spec("sst2")]) == [
        "lora max_length=2048",
        "lora max_length=64",
        "lora max_length=2048",
    ]


def test_settings_with_one_last_name_keep_their_section() -> None:
    limited = run_spec()
    assert limited.train is not None
    limited = limited.model_copy(
        update={
            "train": limited.train.model_copy(update={"limit": 100}),
            "evaluate": limited.evaluate.model_copy(update={"limit": 50}),
        }
    )
    assert variants([limited, run_spec()]) == [
        "lora evaluate.limit=50 train.limit=100",
        "lora",
    ]


def test_lists_are_short() -> None:
    found = variants([run_spec(targets=["query", "value"]), run_spec(targets=["down"]), run_spec(targets=None)])
    assert found == ["lora targets=query+value", "lora targets=down", "lora"]


def test_a_long_name_cuts_no_number() -> None:
    specs = [run_spec(targets=["query", "key", last], modules=["layers.0.self_attn.q_proj"]) for last in ("down", "up")]
    specs.append(run_spec(targets=None, modules=None, rate=0.125))
    (table,) = terminal_tables([record(spec, 0.75) for spec in specs])
    for width in (60, 80):
        text = printed(table, width)
        assert text.count("75.0") == 3
        assert "…" not in text
        assert "targets=query+key+down" in "".join(text.replace("75.0", "").split())


def test_seeds_are_no_variants() -> None:
    assert variants([run_spec(seed=1), run_spec(seed=2)]) == ["lora", "lora"]
    assert variants([]) == []


@given(st.lists(st.integers(0, 10**6), min_size=2, max_size=5))
def test_numbers_are_sorted_as_numbers(numbers: list[int]) -> None:
    labels = [f"lora r={number} x=1e-{number % 9}" for number in numbers]
    assert sorted(labels, key=natural) == [
        f"lora r={number} x=1e-{number % 9}" for number in sorted(numbers, key=lambda n: (n, float(f"1e-{n % 9}")))
    ]


def test_seeds_of_one_setting_stand_below_each_other(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for rank, seed in ((16, 2), (8, 2), (16, 1), (8, 1)):
        store.describe(run_spec(r=rank, seed=seed), Resources())
    text = printed(status_table(store, {run_id: store.state(run_id) for run_id in store.run_ids()}, {}))
    rows = [line.split()[3:6] for line in text.splitlines() if "lora" in line]
    assert rows == [["lora", "r=8", "1"], ["lora", "r=8", "2"], ["lora", "r=16", "1"], ["lora", "r=16", "2"]]


@pytest.mark.parametrize("width", [48, 80, 140])
def test_the_digits_of_an_id_are_never_cut(width: int, tmp_path: Path) -> None:
    store = Store(tmp_path)
    for spec in (EIGHT, SIXTEEN, UNTOUCHED):
        store.describe(spec, Resources())
    store.put(record(EIGHT, 0.75))
    store.put(record(SIXTEEN, None))
    states = {run_id: store.state(run_id) for run_id in store.run_ids()}
    text = printed(status_table(store, states, {}), width)
    for spec in (EIGHT, SIXTEEN, UNTOUCHED):
        assert spec.run_id[-8:] in text
    assert "75.0" in text
    assert "1 done, 1 failed, 1 to do" in text
    assert f"{SIXTEEN.run_id[-8:]} failed in fit: Diverged: no" in text


def test_every_run_that_ends_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    names = run_names({spec.run_id: spec for spec in (EIGHT, SIXTEEN)})
    with Display(names) as display:
        watcher = display.watcher()
        for outcome in (record(EIGHT, 0.75), record(SIXTEEN, None)):
            watcher.begin(outcome.run_id)
            watcher.progress(outcome.run_id, "fit", 1, 2)
            watcher.done(outcome)
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "(1/2) sst2 × lora r=8, seed 1  accuracy 75.0",
        "(2/2) sst2 × lora r=16, seed 1  failed",
        "    fit: Diverged: no",
    ]


def test_chance_and_unreadable_answers_are_told() -> None:
    done = record(EIGHT, 0.5)
    assert done.test is not None
    mute = done.model_copy(update={"test": done.test.model_copy(update={"examples": 100, "unreadable": 40})})
    quiet = done.model_copy(update={"test": done.test.model_copy(update={"examples": 100, "unreadable": 4})})
    (table,) = terminal_tables([mute])
    assert "chance 51.0" in " ".join(printed(table).split())
    assert "could not be read count as wrong: lora on sst2 40 of 100." in " ".join(printed(table).split())
    (table,) = terminal_tables([quiet])
    assert "could not be read" not in printed(table)
