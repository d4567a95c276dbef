"""Whole runs on the embedded model: what a record says, what `exec` does, and what a fault leaves."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from e2e.command import OF_EACH_KIND, environment, peftbench, snapshot
from peftbench import registry
from peftbench.record import Record
from peftbench.store import Store

SMALL = ("train.limit=48", "train.max_steps=3", "evaluate.limit=12")
ASK = ("--tasks", "toy_mood", "--models", "tiny", "--methods", "lora", "--seeds", "1", "--threads", "1", "--no-report")


def only(store: Path) -> Record:
    (record,) = Store(store).records()
    return record


def test_a_run_evaluated_on_validation_never_sees_test(tmp_path: Path) -> None:
    done = peftbench("run", *ASK, "--store", tmp_path, *SMALL, "evaluate.split=validation", "evaluate.limit=3")
    assert done.code == 0, done.err
    record = only(tmp_path)
    assert record.test is None
    assert record.validation is not None
    assert record.validation.examples == 3
    assert record.score == record.validation.metrics[record.headline]
    assert {row.split for row in Store(tmp_path).predictions(record.run_id)} == {"validation"}


def test_nothing_to_be_evaluated_on_is_set_aside(tmp_path: Path) -> None:
    done = peftbench("run", *ASK, "--store", tmp_path, "evaluate.split=validation", "train.validation_share=0")
    assert done.code == 2
    assert "there is no validation share to be evaluated on" in done.sentence


def test_exec_does_what_is_described_and_keeps_what_is_done(tmp_path: Path) -> None:
    assert peftbench("run", *ASK, "--store", tmp_path, *SMALL).code == 0
    run_id = only(tmp_path).run_id
    before = snapshot(tmp_path)
    assert peftbench("exec", tmp_path, run_id[-8:]).code == 0
    assert snapshot(tmp_path) == before
    assert json.loads(peftbench("show", "run", run_id[-8:], "--store", tmp_path).out)["run_id"] == run_id
    assert peftbench("exec", tmp_path, run_id, "--again").code == 0
    first, again = (json.loads(files[f"runs/{run_id}/record.json"]) for files in (before, snapshot(tmp_path)))
    assert first["started"] != again["started"]
    for key in ("spec", "test", "validation", "fit"):
        assert first[key] == again[key], "equal ids and resources, other results"


def test_again_gives_nothing_up_before_it_can_begin(tmp_path: Path) -> None:
    """A task file that was edited meanwhile: the run cannot be done again, and its record stays."""
    assert peftbench("new", "task", "mine.py", folder=tmp_path).code == 0
    for name in ("train", "test"):
        rows = [{"text": f"{word} {number}", "label": word} for word in ("spam", "ham") for number in range(20)]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    ask = ("--tasks", "mine.py", *ASK[2:], "--store", "store", "train.max_steps=2", "evaluate.limit=4")
    done = peftbench("run", *ask, folder=tmp_path)
    assert done.code == 0, done.err
    store, run_id = Store(tmp_path / "store"), only(tmp_path / "store").run_id
    before = snapshot(tmp_path / "store")
    text = (tmp_path / "mine.py").read_text()
    for file, content in (("mine.py", text + "# edited\n"), ("train.jsonl", '{"text": "x", "label": "ham"}\n')):
        old = (tmp_path / file).read_text()
        (tmp_path / file).write_text(content)
        refused = peftbench("exec", "store", run_id, "--again", folder=tmp_path)
        assert refused.code == 2
        assert "is not what the run was planned with. Plan again: peftbench run" in refused.sentence
        (tmp_path / file).write_text(old)
    assert snapshot(tmp_path / "store") == before
    twice = peftbench("exec", "store", run_id, run_id[-8:], "--again", folder=tmp_path)
    assert twice.code == 0, twice.err
    assert twice.err.count(" accuracy ") == 1
    assert store.state(run_id) == "done"


def test_exec_records_what_is_not_there(tmp_path: Path) -> None:
    """Executors of others call `exec`, and every run they are given has to end with a record."""
    assert peftbench("run", *ASK, "--store", tmp_path, *SMALL).code == 0
    store, run_id = Store(tmp_path), only(tmp_path).run_id
    spec, resources = store.asked(run_id)
    gone = resources.updated({"model_folder": str(tmp_path / "gone")}, "resources")
    store.describe(spec, gone)
    refused = peftbench("exec", tmp_path, run_id, "--again")
    assert refused.code == 2
    assert store.state(run_id) == "done"
    store.folder(run_id).record.unlink()
    assert peftbench("exec", tmp_path, run_id).code == 1
    failure = only(tmp_path).failure
    assert failure is not None
    assert failure.phase == "model"


def test_a_reader_that_raises_leaves_all_answers(tmp_path: Path) -> None:
    assert peftbench("new", "task", "mine.py", folder=tmp_path).code == 0
    for name in ("train", "test"):
        rows = [{"text": f"{word} {number}", "label": word} for word in ("spam", "ham") for number in range(4)]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    text = (tmp_path / "mine.py").read_text()
    (tmp_path / "mine.py").write_text(
        text.replace("    read=LABELS.read,", "    read=lambda text: {'spam': 'spam', 'fine': 'fine'}[text],")
    )
    done = peftbench(
        *(
            "run",
            "--tasks",
            "mine.py",
            "--models",
            "tiny",
            "--methods",
            "zero_shot",
            "--threads",
            "1",
            "--store",
            "store",
        ),
        folder=tmp_path,
    )
    assert done.code == 1, done.err
    record = only(tmp_path / "store")
    assert record.failure is not None
    assert record.failure.phase == "judge"
    assert "cannot judge the answer" in record.failure.message
    kept = list(Store(tmp_path / "store").predictions(record.run_id))
    assert len(kept) == 8
    assert all(row.text and row.answer is None and not row.statistics for row in kept)


def test_equal_runs_are_counted(tmp_path: Path) -> None:
    told = peftbench("plan", "--tasks", "toy_mood", "--models", "tiny", "--methods", "lora,lora", "--store", tmp_path)
    assert "1 run, 1 to do. 1 more would be equal to one of them." in " ".join(told.out.split())


def test_runs_that_nobody_did_are_missed(tmp_path: Path) -> None:
    (tmp_path / "lazy.py").write_text("def lazy(store, run_ids, watcher):\n    pass\n\n\nEXECUTOR = lazy\n")
    done = peftbench("run", *ASK, "--executor", "lazy.py", "--store", "store", folder=tmp_path)
    assert done.code == 1
    assert "1 of 1 runs have no record. The same command continues." in done.err


def test_a_folder_of_stores_is_no_store(tmp_path: Path) -> None:
    (tmp_path / "results" / "first" / "runs").mkdir(parents=True)
    for verb in ("status", "report"):
        done = peftbench(verb, "--store", "results", folder=tmp_path)
        assert done.code == 2
        assert "results holds no runs. Did you mean results/first?" in done.sentence
    assert not (tmp_path / "results" / "report").exists()


def test_a_plan_tells_what_failed(tmp_path: Path) -> None:
    ask = (*ASK[:8], "--store", tmp_path, "train.learning_rate=1e30", *SMALL)
    assert peftbench("run", *ask, "--no-report").code == 1
    (planned,) = json.loads(peftbench("plan", *ask, "--json").out)["runs"]
    assert planned["state"] == "failed"


def test_a_spec_of_another_version_is_not_done(tmp_path: Path) -> None:
    assert peftbench("run", *ASK, "--store", tmp_path, *SMALL).code == 0
    store, run_id = Store(tmp_path), only(tmp_path).run_id
    path = store.folder(run_id).path / "spec.json"
    whole = json.loads(path.read_text())
    for edited in ({**whole, "numerics": 0}, {**whole, "seed": 2}):
        path.write_text(json.dumps(edited))
        done = peftbench("exec", tmp_path, run_id, "--again")
        assert done.code == 2
        assert "was planned by another version, or changed since. Plan again: peftbench run" in done.sentence


@pytest.mark.parametrize("fault", ["raise ValueError('not today [/tmp/x]')", "raise SystemExit(3)"])
def test_a_method_that_fails_is_one_recorded_failure(fault: str, tmp_path: Path) -> None:
    assert peftbench("new", "method", "mine.py", folder=tmp_path).code == 0
    text = (tmp_path / "mine.py").read_text()
    (tmp_path / "mine.py").write_text(
        text.replace("        import torch\n\n        head", f"        {fault}\n        head")
    )
    ask = (*ASK[:4], "--methods", "mine.py,lora", "--threads", "1", "--store", "store")
    done = peftbench("run", *ask, *SMALL, folder=tmp_path)
    assert done.code == 1, done.err
    assert "Traceback" not in done.err
    records = {record.spec.method.name: record for record in Store(tmp_path / "store").records()}
    assert records["lora"].failure is None
    assert records["mine"].failure is not None
    assert records["mine"].failure.phase == "attach"
    assert peftbench("status", "--store", tmp_path / "store").code == 0
    assert peftbench("run", *ask, *SMALL, folder=tmp_path).code == 1, "a failure is not forgotten"
    (tmp_path / "mine.py").write_text(text)
    assert peftbench("run", *ask, *SMALL, folder=tmp_path).code == 0, "a mended file is another method"


def test_equal_batches_whatever_the_method(tmp_path: Path) -> None:
    """Same seed, same batches: also where virtual tokens leave no room for some examples; another seed, others."""
    ask = [*ASK, "train.max_length=46"]
    ask[ask.index("lora")] = ",".join(OF_EACH_KIND)
    ask[ask.index("--seeds") + 1] = "1,2"
    assert peftbench("run", *ask, "--store", tmp_path, *SMALL).code == 0
    trained = [record for record in Store(tmp_path).records() if record.fit]
    assert len(trained) == 2 * (len(OF_EACH_KIND) - 1)
    assert len({(record.fit.unfit, record.fit.cut) for record in trained if record.fit}) > 1
    batches = {
        seed: {record.fit.batches for record in trained if record.fit and record.spec.seed == seed} for seed in (1, 2)
    }
    assert [len(found) for found in batches.values()] == [1, 1]
    assert batches[1] != batches[2]


def test_bf16_trains_and_answers(tmp_path: Path) -> None:
    (tmp_path / "half.yaml").write_text(
        "tasks: [toy_dial]\nmodels: [{use: tiny, dtype: bfloat16}]\n"
        f"methods: [{', '.join(registry.shipped('methods'))}]\n"
        "train: {precision: bf16, limit: 32, max_steps: 2}\nevaluate: {limit: 8}\n"
    )
    done = peftbench("run", "half.yaml", "--store", "store", "--threads", "1", "--no-report", folder=tmp_path)
    assert done.code == 0, done.err
    records = Store(tmp_path / "store").records()
    assert {record.spec.evaluate.precision for record in records} == {"bf16"}
    assert {record.spec.model.dtype for record in records} == {"bfloat16"}


def test_what_is_typed_wins_over_the_entry(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(
        "tasks: [toy_mood]\nmodels: [tiny]\nmethods: [{use: lora, train.lr: 0.5, train.epochs: 2}]\n"
    )
    shown = peftbench("plan", "mine.yaml", "train.learning_rate=0.25", "--json", folder=tmp_path)
    (planned,) = json.loads(shown.out)["runs"]
    assert planned["spec"]["train"]["learning_rate"] == 0.25
    assert planned["spec"]["train"]["num_train_epochs"] == 2


def test_interrupt_says_how_to_go_on(tmp_path: Path) -> None:
    # A shell starts what runs in its background with Ctrl-C ignored, and that would be inherited.
    heeds = "import runpy, signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    start = [sys.executable, "-c", heeds + "runpy.run_module('peftbench', run_name='__main__')"]
    command = [*start, "run", *ASK, "--store", str(tmp_path), "train.num_train_epochs=200"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment())
    while not list(tmp_path.glob("runs/*/train.jsonl")) and process.poll() is None:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Stopped. The same command continues." in err
    assert "Traceback" not in err
