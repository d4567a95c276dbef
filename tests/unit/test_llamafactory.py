"""A `dataset_info.json` of somebody else: what becomes a task, what is set aside and why, what is refused."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from peftbench import registry
from peftbench.errors import UnknownName, UsageError
from peftbench.importing import Imported, LeftOut, import_file
from peftbench.importing.llamafactory import import_llamafactory
from peftbench.plan import make_plan
from peftbench.spec import Resources
from peftbench.strict_yaml import read_yaml, yaml_text
from peftbench.suites._read import read_suite
from peftbench.tasks._task import Task, items

ROWS = [
    {"instruction": f"Name {word}.", "input": "Now.", "output": word}
    for word in ("one", "two", *map(str, range(3, 40)))
]
OWN = {"file_name": "rows.json"}
GLUE = {"hf_hub_url": "nyu-mll/glue", "columns": {"prompt": "sentence", "response": "label"}, "instruction": "Good?"}
SST2 = {**GLUE, "subset": "sst2", "split": "train"}
PAIR = {"prompt": "sentence1", "query": "sentence2", "response": "label"}
MRPC = {"hf_hub_url": "nyu-mll/glue", "subset": "mrpc", "split": "train", "instruction": "Same?", "columns": PAIR}
HUB = {"hf_hub_url": "owner/talk", "columns": {"prompt": "q", "response": "a"}}


def imported(folder: Path, entries: Mapping[str, Any]) -> Imported:
    (folder / "data").mkdir(exist_ok=True)
    for name in ("rows.json", "other.json"):
        (folder / "data" / name).write_text(json.dumps(ROWS), encoding="utf-8")
    file = folder / "data" / "dataset_info.json"
    file.write_text(json.dumps(entries), encoding="utf-8")
    return import_llamafactory(file, folder / "out")


def broken(folder: Path) -> None:
    """Files whose rows cannot be asked as an entry without columns says."""
    folder.mkdir()
    bare = [{"instruction": row["instruction"], "output": row["output"]} for row in ROWS]
    files = {"bare": bare, "silent": [*ROWS[:29], {**ROWS[0], "output": " "}, *ROWS], "few": ROWS[:1]}
    for name, rows in files.items():
        (folder / f"{name}.json").write_text(json.dumps(rows), encoding="utf-8")
    (folder / "rows.txt").write_text("x")


def written(folder: Path, name: str) -> dict[str, Any]:
    data = read_yaml(folder / "out" / f"{name}.yaml")
    assert data.pop("about")
    return data


def reasons(found: Imported) -> dict[str, str]:
    return {one.name: one.reason for one in found.left_out}


def questions(folder: Path, name: str) -> list[str]:
    task: Task = registry.load("tasks", str(folder / "out" / f"{name}.yaml")).value
    source = task.source
    rows = [row for split in ("train", "test") for row in source.rows(split, None, source.identity(None))]
    found = [item.example for item in items(task, enumerate(rows), "train")]
    return ["\n".join(part for part in (one.instruction, one.body, one.question) if part) for one in found]


def test_files_of_ones_own(tmp_path: Path) -> None:
    columns = {"prompt": "output", "response": "input"}
    found = imported(
        tmp_path,
        {
            "talk": OWN,
            "half": {**OWN, "instruction": "Say {it}:", "columns": {**columns, "query": "instruction"}},
            "half_eval": {
                **OWN,
                "file_name": "other.json",
                "instruction": "Say {it}:",
                "columns": {**columns, "query": "instruction"},
            },
            "bare": {**OWN, "columns": columns, "formatting": "alpaca", "ranking": False, "subset": None},
        },
    )
    assert (found.tasks, found.left_out, found.further) == (("lf_talk", "lf_half", "lf_bare"), (), ())
    assert written(tmp_path, "lf_talk") == {
        "train": "../data/rows.json",
        "test": 0.1,
        "instruction": "{instruction}",
        "body": "{input}",
        "target": "{output}",
    }
    assert written(tmp_path, "lf_half") == {
        "train": "../data/rows.json",
        "test": "../data/other.json",
        "instruction": "Say {{it}}:",
        "body": "{output}\n{instruction}",
        "target": "{input}",
    }
    assert written(tmp_path, "lf_bare")["body"] == "{output}"
    assert questions(tmp_path, "lf_half")[:2] == ["Say {it}:\none\nName one.", "Say {it}:\ntwo\nName two."]
    suite = read_suite(str(tmp_path / "out" / "suite.yaml"), ["models=tiny", "methods=zero_shot"])
    assert (suite.name, suite.metrics, len(suite.tasks)) == ("llamafactory", "own", 3)


def test_data_sets_of_the_hub(tmp_path: Path) -> None:
    found = imported(
        tmp_path,
        {
            "talk": {**HUB, "ms_hub_url": "x/y", "file_name": "no.json"},
            "talk_test": {**HUB, "split": "test"},
            "lone": HUB,
        },
    )
    assert written(tmp_path, "lf_talk") == {
        "hub": {"id": "owner/talk", "train": "train", "test": "test"},
        "body": "{q}",
        "target": "{a}",
    }
    assert list(reasons(found)) == ["lone"]
    assert found.of_hub == ("lf_talk",)
    assert reasons(found)["lone"].startswith("there is no lone_eval; a share can be held out of a file")


def test_published_data_sets_under_any_name(tmp_path: Path) -> None:
    found = imported(
        tmp_path,
        {
            "films": SST2,
            "films_eval": {**SST2, "split": "validation", "instruction": "Good or bad?"},
            "sst2": SST2,
            "mrpc": MRPC,
            "mrpc_eval": {**MRPC, "split": "validation"},
            "mrpc_test": {**MRPC, "split": "test"},
            "wsc": {
                "hf_hub_url": "kinit/peft-factory",
                "subset": "wsc",
                "columns": {"prompt": "inputs", "response": "targets"},
            },
        },
    )
    assert found.tasks == ("lf_films", "lf_sst2", "lf_mrpc", "lf_wsc")
    assert (found.further, found.left_out) == (("lf_mrpc [test]",), ())
    assert written(tmp_path, "lf_films") == {
        "rows_of": "sst2",
        "instruction": "Good or bad?",
        "train_instruction": "Good?",
        "prompt": "sentence",
        "response": "label",
    }
    assert written(tmp_path, "lf_sst2")["instruction"] == "Good?"
    assert "#   {use: lf_mrpc.yaml, test: test}" in (tmp_path / "out" / "suite.yaml").read_text()
    assert read_suite(str(tmp_path / "out" / "suite.yaml"), ["models=tiny", "methods=zero_shot"]).metrics == "published"


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        ({**OWN, "formatting": "sharegpt"}, "formatting sharegpt: only alpaca is read"),
        ({**OWN, "ranking": True}, "ranking: preferences between answers are not read"),
        ({"script_url": "x"}, "script_url: only files and the Hugging Face hub are read"),
        ({"ms_hub_url": "x/y"}, "ms_hub_url: only files and the Hugging Face hub are read"),
        ({**OWN, "script_url": "x"}, "script_url: only files and the Hugging Face hub are read"),
        ({**OWN, "folder": "x"}, "folder is not read"),
        ({**OWN, "num_samples": 5}, "num_samples is not read"),
        ({**OWN, "tags": {"a": "b"}}, "tags is not read"),
        ({**OWN, "colums": {"prompt": "a"}}, "colums is not read"),
        ({**OWN, "columns": {"prompt": "a", "response": "b", "images": "c"}}, "columns, images is not read"),
        ({**OWN, "columns": {"prompt": "a", "response": "b", "system": "c"}}, "columns, system is not read"),
        ({**OWN, "columns": {"prompt": "a"}}, "columns names no prompt or no response"),
        ({**OWN, "columns": {"prompt": 3, "response": "b"}}, "columns is no object of names"),
        ({**OWN, "columns": ["a"]}, "columns is no object of names"),
        ({**OWN, "columns": {"prompt": "{a}", "response": "b"}}, "the name of a column holds a brace"),
        ({**OWN, "instruction": 5}, "instruction is no text"),
        ({"file_name": ["a", "b"]}, "file_name is no text"),
        ({"file_name": "gone.json"}, "there is no file "),
        ({"file_name": "."}, "there is no file "),
        ({"file_name": "x" * 300}, "x cannot be read: File name too long"),
        ({"file_name": "rows.txt"}, "rows.txt is of no kind that can be read. Let its name end with one of"),
        ({**OWN, "columns": {"prompt": "instruktion", "response": "output"}}, "lf_odd.yaml, body: {instruktion} is no"),
        ({"file_name": "bare.json"}, "lf_odd.yaml, body: {input} is no column of "),
        ({"file_name": "silent.json"}, "silent.json, row 30: the target '' is no text that can be read."),
        ({"file_name": "few.json"}, "With a share of 0.1, none of the 1 rows of "),
        ({**OWN, "instruction": "half \ud83d"}, "a text holds half of a character"),
        ({**OWN, "columns": {"prompt": "\udc00", "response": "b"}}, "a text holds half of a character"),
        ({**SST2, "split": "validation"}, "the rows to train on are 'train', not 'validation'"),
        ({**SST2, "columns": {"prompt": "text", "response": "label"}}, "Unknown column 'text' in odd, prompt."),
        ({**SST2, "columns": {"prompt": "sentence", "response": "idx"}}, "odd, response: the answers of sst2 are in"),
    ],
)
def test_what_is_not_read_is_set_aside_with_its_reason(tmp_path: Path, entry: dict[str, Any], reason: str) -> None:
    broken(tmp_path / "data")
    alone = "file_name" in entry and isinstance(entry["file_name"], str)
    found = imported(tmp_path, {"odd": entry, **({} if alone else {"odd_eval": entry}), "good": OWN})
    assert found.tasks == ("lf_good",)
    assert list(reasons(found)) == ["odd"] if alone else ["odd", "odd_eval"]
    assert reason.replace("in odd,", "in odd_eval,").replace("odd, r", "odd_eval, r") in reasons(found)["odd"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["lf_good.yaml", "suite.yaml"]


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        (
            {"x": OWN, "x_eval": {**OWN, "file_name": "other.json", "instruction": "Else."}},
            {"x": "x and x_eval ask differently", "x_eval": "x and x_eval ask differently"},
        ),
        ({"x": OWN, "x_eval": {**OWN, "ranking": True}}, {"x": "x_eval: ranking", "x_eval": "ranking"}),
        ({"x": OWN, "x_eval": OWN}, {"x": "it is trained and evaluated on one file", "x_eval": "it is trained"}),
        (
            {"x": OWN, "x_eval": {**HUB, "columns": None}},
            {"x": "x is a file and x_eval is not", "x_eval": "x is a file"},
        ),
        ({"x": HUB, "x_eval": HUB}, {"x": "x and x_eval are not two splits", "x_eval": "x and x_eval are not"}),
        (
            {"x": OWN, "x_eval": {**OWN, "file_name": "other.json"}, "x_test": {**OWN, "file_name": "third.json"}},
            {"x_test": "x is evaluated on x_eval already"},
        ),
        (
            {"x": MRPC, "x_eval": {**MRPC, "split": "validation"}, "x_test": {**MRPC, "split": "tset"}},
            {"x_test": "Unknown split 'tset'"},
        ),
        (
            {"x": MRPC, "x_eval": {**MRPC, "split": "validation"}, "x_test": {**MRPC, "split": "validation"}},
            {"x_test": "it is x_eval"},
        ),
        (
            {
                "x": MRPC,
                "x_eval": {**MRPC, "split": "validation"},
                "x_test": {**MRPC, "split": "test", "instruction": ""},
            },
            {"x_test": "it asks differently from x_eval"},
        ),
        (
            {"x": MRPC, "x_eval": {**MRPC, "columns": GLUE["columns"]}},
            {"x": "x and x_eval have other columns", "x_eval": "x and x_eval"},
        ),
        ({"x": MRPC, "x_eval": {**MRPC, "split": "dev"}}, {"x": "Unknown split 'dev'", "x_eval": "Unknown split"}),
        ({"a" * 201: OWN}, {"a" * 201: "its name cannot be that of a file; use up to 200"}),
        ({"a/b": OWN}, {"a/b": "its name cannot be that of a file"}),
        ({"one-two": OWN, "One_Two": OWN}, {"One_Two": "another entry has this name, but for capitals and dashes"}),
    ],
)
def test_what_does_not_go_together(tmp_path: Path, entries: dict[str, Any], expected: dict[str, str]) -> None:
    found = reasons(imported(tmp_path, {**entries, "good": OWN}))
    assert found.keys() == expected.keys()
    assert all(found[name].startswith(start) for name, start in expected.items()), found


def test_what_is_written_can_be_planned(tmp_path: Path) -> None:
    files = ("rows.txt", "silent.json", "few.json", "bare.json", "gone.json")
    broken(tmp_path / "data")
    found = imported(
        tmp_path, {"good": OWN, **{f"odd{place}": {"file_name": name} for place, name in enumerate(files)}}
    )
    assert (found.tasks, len(found.left_out), found.of_hub) == (("lf_good",), 5, ())
    suite = read_suite(str(tmp_path / "out" / "suite.yaml"), ["models=tiny", "methods=zero_shot"])
    assert make_plan(suite, Resources()).runs


@pytest.mark.parametrize("links", ["out", "data", "file"])
def test_links_on_the_way_lead_to_the_files(tmp_path: Path, links: str) -> None:
    for folder in ("real/deep", "far/away/data"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "far/away/data/rows.json").write_text(json.dumps(ROWS))
    (tmp_path / "far/away/data/info.json").write_text(json.dumps({"talk": OWN}))
    info, out = tmp_path / "far/away/data/info.json", tmp_path / "real/deep/out"
    if links == "out":
        (tmp_path / "short").symlink_to(tmp_path / "real/deep")
        out = tmp_path / "short/out"
    elif links == "data":
        (tmp_path / "data").symlink_to(tmp_path / "far/away/data")
        info = tmp_path / "data/info.json"
    else:
        (tmp_path / "far/blob").write_text(json.dumps(ROWS))
        (tmp_path / "far/away/data/rows.json").unlink()
        (tmp_path / "far/away/data/rows.json").symlink_to(tmp_path / "far/blob")
    import_llamafactory(info, out)
    task: Task = registry.load("tasks", str(out / "lf_talk.yaml")).value
    assert task.source.rows("train", None, task.source.identity(None))


def test_an_entry_that_is_called_a_test_stands_alone_where_there_is_no_other(tmp_path: Path) -> None:
    assert imported(tmp_path, {"unit_test": OWN, "unit_test_eval": {**OWN, "file_name": "other.json"}}).tasks == (
        "lf_unit_test",
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "There is no file"),
        ("{", "is not JSON: Expecting property name"),
        ('{"a": {"file_name": "x"}, "a": {"file_name": "y"}}', "is not JSON: 'a' stands twice."),
        ("[1]", "is no object of entries."),
        ('{"a": [1]}', "a: the entry is no object."),
        ('{"a": {"columns": {}}}', "a: the entry has no source. Add file_name or hf_hub_url."),
        ('{"a": {"file_name": ""}}', "a: the entry has no source."),
        ("{}", "Nothing in "),
        ('{"a": {"script_url": "x"}}', "can be imported: a: script_url: only files"),
    ],
)
def test_a_file_that_cannot_be_read_is_a_sentence(tmp_path: Path, text: str | None, words: str) -> None:
    file = tmp_path / "info.json"
    if text is not None:
        file.write_text(text, encoding="utf-8")
    with pytest.raises(UsageError) as caught:
        import_llamafactory(file, tmp_path / "out")
    assert words in str(caught.value)
    assert caught.value.fix
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_nothing_is_written_over(tmp_path: Path, kind: str) -> None:
    if kind == "folder":
        (tmp_path / "out").mkdir()
    else:
        (tmp_path / "out").write_text("mine")
    with pytest.raises(UsageError, match=r"out exists\. Name another folder: --out DIR"):
        imported(tmp_path, {"good": OWN})


def test_a_folder_that_cannot_be_written_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    file = tmp_path / "info.json"
    (tmp_path / "rows.json").write_text(json.dumps(ROWS))
    file.write_text(json.dumps({"good": OWN}))
    with pytest.raises(UsageError, match="cannot be written"):
        import_llamafactory(file, tmp_path / "taken" / "out")


def test_an_unknown_format_is_told_the_nearest() -> None:
    with pytest.raises(UnknownName, match="Did you mean 'llamafactory'"):
        import_file("llama-factory", Path("x.json"))


def test_the_folder_is_named_after_the_format(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    imported(tmp_path, {"odd": {"script_url": "x"}, "good": OWN})
    found = import_file("llamafactory", Path("data/dataset_info.json"))
    assert (found.folder, found.left_out) == (
        Path("llamafactory"),
        (LeftOut("odd", "script_url: only files and the Hugging Face hub are read"),),
    )
    assert (tmp_path / "llamafactory" / "suite.yaml").is_file()


def test_wording_stays_in_one_line() -> None:
    assert yaml_text({"instruction": "word " * 200 + "end"}).count("\n") == 1
