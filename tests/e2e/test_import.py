"""`peftbench import`: an invented configuration is imported and run; the published one is, over real rows."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from e2e.command import peftbench, snapshot
from peftbench import registry
from peftbench.store import Store
from peftbench.strict_yaml import read_yaml
from peftbench.tasks._task import Item, Split, Task, items

SHORT = ("--models", "tiny", "--seeds", "1", "--no-report", "train.max_steps=2", "evaluate.limit=4")
TALK = [{"instruction": f"Name number {number}.", "input": "", "output": f"number {number}"} for number in range(40)]
STORY = {
    "passage": "Ida froze.\n@highlight\nBo came by air",
    "query": "@placeholder came",
    "entities": ["Ida", "Bo", "Old Bo"],
    "answers": ["Bo", "Old Bo"],
}
GAP = {"sentence": "The _ is wet.", "option1": "cat", "option2": "dog", "answer": "2"}
PAIR = {"premise": "It rains.", "hypothesis": "It is wet.", "label": 0, "idx": 0}


def entry(repository: str, subset: str, split: str, instruction: str, *columns: str) -> dict[str, Any]:
    named = dict(zip(("prompt", "response", "query"), columns, strict=False))
    return {"hf_hub_url": repository, "subset": subset, "split": split, "instruction": instruction, "columns": named}


PUT_TOGETHER = ("inputs", "targets")
INFO = {
    "talk": {"file_name": "talk.json"},
    "chat": {"file_name": "talk.json", "formatting": "sharegpt"},
    "record": entry("kinit/peft-factory", "record", "train", "Learn who.", *PUT_TOGETHER),
    "record_eval": entry("kinit/peft-factory", "record", "validation", "Who?", *PUT_TOGETHER),
    "winogrande": entry("kinit/peft-factory", "winogrande", "train", "", *PUT_TOGETHER),
    "winogrande_eval": entry("kinit/peft-factory", "winogrande", "validation", "Which?", *PUT_TOGETHER),
    "mnli": entry("nyu-mll/glue", "mnli", "train", "So?", "premise", "label", "hypothesis"),
    "mnli_eval": entry("nyu-mll/glue", "mnli", "validation_mismatched", "So?", "premise", "label", "hypothesis"),
    "mnli_test": entry("nyu-mll/glue", "mnli", "validation_matched", "So?", "premise", "label", "hypothesis"),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A configuration, a file of rows beside it, and a mirror without the mismatched rows of MNLI."""
    (tmp_path / "talk.json").write_text(json.dumps(TALK), encoding="utf-8")
    (tmp_path / "info.json").write_text(json.dumps(INFO), encoding="utf-8")
    for name, row in (("record", STORY), ("winogrande", GAP), ("mnli", PAIR)):
        (tmp_path / "mirror" / name).mkdir(parents=True)
        for split in ("train", "validation"):
            with gzip.open(tmp_path / "mirror" / name / f"{split}.jsonl.gz", "wt", encoding="utf-8") as file:
                file.writelines(json.dumps(row) + "\n" for _ in range(12))
    return tmp_path


def test_files_alone_need_no_folder_of_a_mirror(folder: Path) -> None:
    (folder / "files.json").write_text(json.dumps({"talk": INFO["talk"]}), encoding="utf-8")
    done = peftbench("import", "llamafactory", "files.json", folder=folder)
    assert done.out.endswith("Now: peftbench run llamafactory/suite.yaml --models ... --methods ...\n")


def test_an_invented_configuration_is_imported_and_run(folder: Path) -> None:
    done = peftbench("import", "llamafactory", "info.json", folder=folder)
    assert done.code == 0, done.err
    assert "set aside: chat: formatting sharegpt: only alpaca is read" in done.out
    written = (
        "Tasks written to llamafactory: 4 (with another split: lf_mnli [validation_matched]). Entries set aside: 1."
    )
    assert written in done.out
    assert done.out.endswith("--methods ... --data-root DIR\n")
    before = snapshot(folder)
    again = peftbench("import", "llamafactory", "info.json", folder=folder)
    assert (again.code, "llamafactory exists." in again.sentence) == (2, True)
    assert snapshot(folder) == before
    asked = ("llamafactory/suite.yaml", "--methods", "lora", "--data-root", "mirror", "metrics=published", *SHORT)
    run = peftbench("run", *asked, "--store", "store", "evaluate.max_new_tokens=8", folder=folder)
    assert run.code == 0, run.err
    assert "lf_mnli × tiny × lora: the mirror has no mnli/validation_mismatched.jsonl.gz" in run.out + run.err
    records = {record.spec.task.name: record for record in Store(folder / "store").records()}
    assert sorted(records) == ["lf_record", "lf_talk", "lf_winogrande"]
    found = records["lf_record"]
    assert found.fit is not None
    assert found.fit.examples == 24, "twelve rows, each trained on for both answers"
    assert found.test is not None
    assert {"f1", "published.f1"} <= found.test.metrics.keys()
    assert found.published_headline == "published.f1"


def test_the_other_split_can_be_asked_for(folder: Path) -> None:
    assert peftbench("import", "llamafactory", "info.json", folder=folder).code == 0
    (folder / "llamafactory" / "matched.yaml").write_text(
        "tasks: [{use: lf_mnli.yaml, test: validation_matched}]\nmodels: [tiny]\nmethods: [zero_shot]\n"
    )
    plan = peftbench("plan", "llamafactory/matched.yaml", "--data-root", "mirror", "--json", folder=folder)
    assert plan.code == 0, plan.err
    assert len(json.loads(plan.out)["runs"]) == 1
    alone = peftbench("plan", "--tasks", "llamafactory/lf_mnli.yaml", *SHORT[:2], "--methods", "lora",
                      "--data-root", "mirror", folder=folder)  # fmt: skip
    assert (alone.code, "validation_mismatched.jsonl.gz" in alone.sentence) == (2, True)
    as_suite = peftbench("run", "llamafactory/lf_mnli.yaml", folder=folder)
    assert "lf_mnli.yaml is a task, not a suite" in as_suite.sentence
    shown = peftbench("show", "task", "llamafactory/lf_winogrande.yaml", folder=folder)
    assert shown.code == 0, shown.err
    assert peftbench("check", "llamafactory/lf_winogrande.yaml", folder=folder).code == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("lamafactory", "info.json"), "Unknown format 'lamafactory'. Did you mean 'llamafactory'?"),
        (("llamafactory", "gone.json"), "There is no file gone.json."),
        (("llamafactory", "broken.json"), "broken.json is not JSON: Expecting value"),
        (("llamafactory", "talk.json"), "talk.json is no object of entries."),
        (("llamafactory", "info.json", "--out", "mirror"), "mirror exists."),
    ],
)
def test_what_cannot_be_imported_is_one_sentence(folder: Path, arguments: tuple[str, ...], words: str) -> None:
    (folder / "broken.json").write_text("nothing")
    before = snapshot(folder)
    done = peftbench("import", *arguments, folder=folder)
    assert (done.code, done.out) == (2, "")
    assert words in done.sentence
    assert snapshot(folder) == before


def test_a_program_is_told_as_well(folder: Path) -> None:
    done = peftbench("import", "llamafactory", "info.json", "--out", "here/tasks", "--json", folder=folder)
    found = json.loads(done.out)
    assert found["folder"] == "here/tasks"
    assert found["tasks"] == ["lf_talk", "lf_record", "lf_winogrande", "lf_mnli"]
    assert read_yaml(folder / "here" / "tasks" / "lf_talk.yaml")["train"] == "../../talk.json"


# ---- the published configuration and real rows -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def published(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the published configuration becomes."""
    folder = tmp_path_factory.mktemp("published")
    info = shared / "upstream" / "peft_bench_dataset_info.json"
    done = peftbench("import", "llamafactory", info, "--out", folder / "tasks", "--json")
    assert done.code == 0, done.err
    found = json.loads(done.out)
    assert (len(found["tasks"]), found["further"], found["left_out"]) == (
        27,
        ["lf_mnli [validation_matched]", "lf_mrpc [test]"],
        [],
    )
    return folder / "tasks"


def asked(published: Path, name: str, split: Split, root: Path) -> list[Item]:
    task: Task = registry.load("tasks", str(published / f"lf_{name}.yaml")).value
    if name == "mnli":
        task = task.evaluated_on("validation_matched")
    source = task.source
    return items(task, enumerate(source.rows(split, str(root), source.identity(str(root)))), split)


@pytest.mark.shared
def test_the_published_configuration_is_planned_over_real_rows(shared: Path, published: Path) -> None:
    """Planning asks every row: all of them can be put together."""
    arguments = ("--models", "tiny", "--methods", "zero_shot", "--data-root", shared / "data", "--json")
    done = peftbench("plan", published / "suite.yaml", *arguments)
    assert done.code == 0, done.err
    plan = json.loads(done.out)
    assert len(plan["runs"]) == 26
    (aside,) = plan["set_aside"]
    assert (aside["task"], aside["reason"]) == ("lf_mnli", "the mirror has no mnli/validation_mismatched.jsonl.gz")


@pytest.mark.shared
def test_every_wording_is_that_of_the_file(shared: Path, published: Path) -> None:
    info = json.loads((shared / "upstream" / "peft_bench_dataset_info.json").read_text(encoding="utf-8"))
    differing = set()
    for file in published.glob("lf_*.yaml"):
        task, key = read_yaml(file), file.stem.removeprefix("lf_")
        train, test = info[key], info[f"{key}_eval"]
        assert task["rows_of"] == key
        assert task["instruction"] == test["instruction"]
        assert task.get("train_instruction", task["instruction"]) == train["instruction"]
        assert {name: task[name] for name in test["columns"]} == test["columns"] == train["columns"]
        if "train_instruction" in task:
            differing.add(key)
    assert differing == {"winogrande", "copa", "siqa"}


@pytest.mark.shared
def test_messages_of_real_rows(shared: Path, published: Path) -> None:
    """What the protocol tells of answers and texts is found in real rows."""
    root = shared / "data"
    similarity = {item.example.target for item in asked(published, "stsb", "test", root)}
    assert {"3.799999952316284", "5.0"} <= similarity
    assert "( 8.0 - 3.0 ) = 5" in {item.example.target for item in asked(published, "svamp", "train", root)}
    train, test = (asked(published, "winogrande", split, root)[0].example for split in ("train", "test"))
    assert (train.instruction, test.instruction != "") == ("", True)
    assert train.body.count("\nOption1: ") == 2
    assert all(",\n\nEnding1: " in item.example.body for item in asked(published, "hellaswag", "test", root))
    assert all("@highlight" not in item.example.body for item in asked(published, "record", "train", root))
    assert len(asked(published, "record", "train", root)) == 90
    assert len(asked(published, "apps", "train", root)) == 171
    assert len(asked(published, "record", "test", root)) == 123
    programs = asked(published, "apps", "test", root)
    assert len(programs) == 30
    conala = asked(published, "conala", "test", root)
    assert sum(not item.example.body for item in conala) == 23, "null is left out, and the instruction stands alone"


@pytest.mark.shared
def test_spans_of_real_rows(shared: Path, published: Path) -> None:
    """Most spans are found; those that are not verbatim in this mirror stay without marks, as published."""
    found = [
        item.example.body for split in ("train", "test") for item in asked(published, "wsc", split, shared / "data")
    ]
    assert len(found) == 658
    assert sum(text.count("*") >= 2 and text.count("#") >= 2 for text in found) > 500
