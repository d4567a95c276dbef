"""Suite files mean what YAML 1.2 says, and an override is the same as writing its key in the file."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peftbench.errors import InvalidSpec, UnknownName, UsageError
from peftbench.plan import make_plan
from peftbench.spec import Entry, EvalSpec, PscpSpec, Resources, Suite, TrainSpec, Value
from peftbench.strict_yaml import parse_scalar
from peftbench.suites._read import build_suite, read_constants, read_suite, suite_names
from property.strategies import eval_specs, plain, pscp_specs, suites, train_specs

HEAD = "tasks: [sst2]\nmodels: [tiny]\nmethods: [lora]\n"
DATA: dict[str, Any] = {"tasks": ["sst2"], "models": ["tiny"], "methods": ["lora"]}


def written(folder: Path, text: str | bytes, name: str = "mine.yaml") -> str:
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return str(path)


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("no", "no"),
        ("yes", "yes"),
        ("on", "on"),
        ("off", "off"),
        ("10:30", "10:30"),
        ("1e-5", 1e-5),
        ("3e-2", 3e-2),
        ("1E5", 1e5),
        ("010", 10),
        ("0o10", 8),
        ("0x1f", 31),
        (".5", 0.5),
        ("true", True),
        ("null", None),
        ("~", None),
        ("'1'", "1"),
        ("[1, 2]", [1, 2]),
        ("{a: 1}", {"a": 1}),
        ("1.0", 1.0),
        ("y", "y"),
    ],
)
def test_scalars_mean_what_yaml_1_2_says(text: str, meaning: Any, tmp_path: Path) -> None:
    assert parse_scalar(text) == meaning
    assert type(parse_scalar(text)) is type(meaning)
    name = written(tmp_path, f"tasks: [sst2]\nmodels: [tiny]\nmethods: [{{use: lora, x: {text}}}]\n")
    assert read_suite(name).methods[0].options == {"x": meaning}


@given(suites)
def test_a_suite_written_as_json_is_read_back(suite: Suite) -> None:
    assert build_suite(plain(suite)) == suite
    assert build_suite(parse_scalar(json.dumps(plain(suite)))) == suite


def test_one_need_not_be_a_list(tmp_path: Path) -> None:
    text = "tasks: sst2\nmodels: {use: tiny, dtype: bfloat16}\nmethods: lora\nseeds: 3\n"
    whole = "tasks: [sst2]\nmodels: [{use: tiny, dtype: bfloat16}]\nmethods: [lora]\nseeds: [3]\n"
    assert read_suite(written(tmp_path, text)) == read_suite(written(tmp_path, whole))
    for typed in (["train.max_steps=3"], ["evaluate.limit=2", "seeds=4"], ["seeds=[4, 5]"]):
        assert read_suite(written(tmp_path, text), typed) == read_suite(written(tmp_path, whole), typed)


@pytest.mark.parametrize(
    ("override", "fix"),
    [
        ("max_steps=4", "Write: train.max_steps=4"),
        ("lr=1e-3", "Write: train.lr=1e-3"),
        ("max_new_tokens=3", "Write: evaluate.max_new_tokens=3"),
        ("r=8", "Write: 'methods=[{use: lora, r: 8}]'"),
        ("r=8,16", "Write: 'methods=[{use: lora, r: 8}, {use: lora, r: 16}]'"),
    ],
)
def test_a_misplaced_setting_is_told_its_place(override: str, fix: str) -> None:
    with pytest.raises(InvalidSpec, match="The suite has no setting") as caught:
        build_suite(DATA, [override])
    assert caught.value.fix == fix
    # What is advised is accepted.
    build_suite(DATA, [fix.removeprefix("Write: ").replace("'", "")])
    if override.startswith("max_steps"):
        with pytest.raises(InvalidSpec, match="no setting 'max_steps'") as caught:
            build_suite({**DATA, "max_steps": 4})
        assert caught.value.fix == "Write: train.max_steps: 4"


def test_a_named_member_keeps_the_settings_the_suite_has_for_it() -> None:
    tuned = {"use": "lora", "r": 4, "train.learning_rate": 0.1}
    suite = build_suite({**DATA, "methods": ["zero_shot", tuned, {"use": "lora", "r": 8}]}, ["methods=LoRA,full"])
    assert [(entry.use, entry.options) for entry in suite.methods] == [
        ("lora", {"r": 4, "train.learning_rate": 0.1}),
        ("lora", {"r": 8}),
        ("full", {}),
    ]


def test_sections_of_an_entry_may_be_mappings() -> None:
    entry = {"use": "lora", "r": 4, "train": {"lr": 0.1, "epochs": 2}}
    (method,) = build_suite({**DATA, "methods": [entry]}).methods
    assert method == Entry(use="lora", options={"r": 4, "train.learning_rate": 0.1, "train.num_train_epochs": 2})


def test_files_beside_the_suite_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "suites").mkdir()
    (tmp_path / "suites" / "mine.py").touch()
    (tmp_path / "suites" / "model").mkdir()
    text = "tasks: [mine.py, {use: other.py}]\nmodels: ./model\nmethods: [lora, {use: ./mine.py, r: 2}]\n"
    name = written(tmp_path / "suites", text)
    monkeypatch.chdir(tmp_path)
    suite = read_suite(name)
    assert [entry.use for entry in suite.tasks] == ["suites/mine.py", "other.py"]
    assert [entry.use for entry in suite.models] == ["suites/model"]
    assert [entry.use for entry in suite.methods] == ["lora", "suites/mine.py"]


def test_the_name_of_a_suite_is_that_of_its_file(tmp_path: Path) -> None:
    assert read_suite(written(tmp_path, HEAD)).name == "mine"
    assert read_suite(written(tmp_path, HEAD + "name: other\n")).name == "other"
    assert read_suite(written(tmp_path, HEAD, "plain")).name == "plain"


DUPLICATES = {
    "top": HEAD + "tasks: [rte]\n",
    "section": HEAD + "train:\n  limit: 1\n  limit: 2\n",
    "flow": HEAD + "train: {limit: 1, limit: 1}\n",
    "entry": "tasks: [sst2]\nmodels: [tiny]\nmethods:\n  - use: lora\n    r: 1\n    r: 2\n",
    "deep": "tasks: [sst2]\nmodels: [tiny]\nmethods: [{use: lora, a: [{b: {c: 1, c: 2}}]}]\n",
    "quoted": HEAD + "train: {limit: 1, 'limit': 2}\n",
}


@pytest.mark.parametrize("text", DUPLICATES.values(), ids=DUPLICATES)
def test_a_key_twice_is_refused_at_any_depth(text: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidSpec, match=r"holds a key twice \(line \d+\)") as caught:
        read_suite(written(tmp_path, text))
    assert caught.value.fix


def test_a_key_and_its_alias_in_one_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidSpec, match="'learning_rate' twice"):
        read_suite(written(tmp_path, HEAD + "train: {lr: 1, learning_rate: 1}\n"))


BROKEN: dict[str, str | bytes] = {
    "bracket": "tasks: [sst2\nmodels: x",
    "tab": "tasks:\n\t- sst2\n",
    "tag": "tasks: !!python/object:os.system [x]\n",
    "control": "tasks: [\x01]\n",
    "not utf-8": b"tasks: [\xff\xfe\xfa]\n",
    "list": "- a\n- b\n",
    "text": "just text\n",
    "empty": "",
    "two documents": "a: 1\n---\nb: 2\n",
    "date": HEAD + "train: {limit: 2020-01-01}\n",
    "infinite": HEAD + "train: {learning_rate: .inf}\n",
    "not a number": "tasks: [sst2]\nmodels: [tiny]\nmethods: [{use: lora, x: .nan}]\n",
    "itself": "tasks: &a [*a]\nmodels: [m]\nmethods: [n]\n",
    "list as key": HEAD + "? [a, b]\n: 1\n",
    "train is nothing": HEAD + "train:\n",
    "train is a number": HEAD + "train: 5\n",
}


@pytest.mark.parametrize("text", BROKEN.values(), ids=BROKEN)
def test_what_is_no_suite_is_one_sentence_and_a_fix(text: str | bytes, tmp_path: Path) -> None:
    with pytest.raises(InvalidSpec) as caught:
        read_suite(written(tmp_path, text))
    assert caught.value.fix
    assert "\n" not in caught.value.message
    assert "mine.yaml" in caught.value.message


def test_a_file_that_is_not_there_and_a_folder(tmp_path: Path) -> None:
    with pytest.raises(InvalidSpec, match=r"no suite file nowhere\.yaml"):
        read_suite("nowhere.yaml")
    (tmp_path / "folder.yaml").mkdir()
    with pytest.raises(InvalidSpec):
        read_suite(str(tmp_path / "folder.yaml"))


def test_an_unknown_suite_is_answered_with_those_that_ship() -> None:
    with pytest.raises(UnknownName, match="Unknown suite 'quickstrat'"):
        read_suite("quickstrat")


def test_every_suite_that_ships_is_read() -> None:
    assert [read_suite(name).name for name in suite_names()] == suite_names()
    assert all(read_suite(name, ["seeds=7"]).seeds == (7,) for name in suite_names())


@pytest.mark.parametrize(
    ("text", "near"),
    [
        (HEAD + "trian: {}\n", "'train'"),
        (HEAD + "train: {learning_rat: 1}\n", "'learning_rate'"),
        (HEAD + "train: {epoch: 1}\n", "'epochs'"),
        (HEAD + "evaluate: {limt: 1}\n", "'limit'"),
        (HEAD + "1: 2\n", "Known: bundle, description"),
    ],
)
def test_an_unknown_key_is_answered_with_the_nearest_of_its_section(text: str, near: str, tmp_path: Path) -> None:
    with pytest.raises(UnknownName) as caught:
        read_suite(written(tmp_path, text))
    assert near in caught.value.fix


# ---- overrides -----------------------------------------------------------------------------------------------------


def _sections(section: str, value: Value) -> list[tuple[str, str, Any]]:
    short = {canonical: alias for alias, canonical in type(value).aliases.items()}
    return [(section, name, item) for key, item in plain(value).items() for name in {key, short.get(key, key)}]


@given(train_specs, eval_specs, pscp_specs, train_specs, st.data())
def test_an_override_is_the_same_as_the_key_in_the_file(
    train: TrainSpec, evaluate: EvalSpec, pscp: PscpSpec, before: TrainSpec, data: st.DataObject
) -> None:
    asked = [*_sections("train", train), *_sections("evaluate", evaluate), *_sections("pscp", pscp)]
    section, key, value = data.draw(st.sampled_from(asked))
    overridden = build_suite(DATA, [f"{section}.{key}={json.dumps(value)}"])
    assert overridden == build_suite({**DATA, section: {key: value}})
    # The file may have said something else, under the key or under its alias; the override wins.
    aliases = {canonical: alias for alias, canonical in TrainSpec.aliases.items()}
    said = {aliases.get(old, old): item for old, item in plain(before).items()}
    expected = before if section != "train" else before.updated({key: value}, "x")
    assert build_suite({**DATA, "train": said}, [f"{section}.{key}={json.dumps(value)}"]).train == expected


@pytest.mark.parametrize(
    ("override", "key", "value"),
    [
        ("seeds=1,2,3", "seeds", [1, 2, 3]),
        ("seeds=[1, 2]", "seeds", [1, 2]),
        ("seeds=5", "seeds", [5]),
        ("tasks=sst2,rte", "tasks", ["sst2", "rte"]),
        ("tasks=sst2, rte,", "tasks", ["sst2", "rte"]),
        ("methods=[lora, {use: lora, r: 4}]", "methods", ["lora", {"use": "lora", "r": 4}]),
        ("models=../models/tiny", "models", ["../models/tiny"]),
        ("name=other", "name", "other"),
        ("train={epochs: 2, lr: 1e-3}", "train", {"num_train_epochs": 2, "learning_rate": 1e-3}),
    ],
)
def test_lists_and_whole_sections_can_be_overridden(override: str, key: str, value: Any) -> None:
    assert build_suite(DATA, [override]) == build_suite({**DATA, key: value})


def test_later_overrides_win() -> None:
    assert build_suite(DATA, ["train.lr=1", "train.learning_rate=2"]).train.learning_rate == 2
    assert build_suite({**DATA, "train": None}, ["train.limit=3"]).train.limit == 3


@pytest.mark.parametrize(
    "override", ["train.limit", "=3", "train.limit=[", "train.limit=x", "seeds=a", "seeds=", "tasks=,"]
)
def test_an_override_that_cannot_be_read(override: str) -> None:
    with pytest.raises(InvalidSpec) as caught:
        build_suite(DATA, [override])
    assert caught.value.fix


@pytest.mark.parametrize("override", ["trian.limit=3", "train.limt=3", "nmae=x", "train.a.b=1"])
def test_an_override_of_something_unknown(override: str) -> None:
    with pytest.raises(UnknownName):
        build_suite(DATA, [override])


def test_an_override_inside_a_section_that_is_no_mapping() -> None:
    with pytest.raises(InvalidSpec, match="train"):
        build_suite({**DATA, "train": 5}, ["train.limit=3"])


def test_building_leaves_the_data_alone() -> None:
    data = {**DATA, "train": {"epochs": 1}}
    before = json.dumps(data)
    suite = build_suite(data, ["train.limit=2", "seeds=4"])
    assert json.dumps(data) == before
    assert suite.train == TrainSpec(num_train_epochs=1, limit=2)
    assert suite.methods == (Entry(use="lora"),)


# ---- the constants of PSCP -----------------------------------------------------------------------------------------


@given(pscp_specs, st.data())
def test_a_report_takes_the_constants_that_a_suite_takes(pscp: PscpSpec, data: st.DataObject) -> None:
    items = data.draw(st.lists(st.sampled_from(_sections("pscp", pscp)), unique_by=lambda item: item[1]))
    overrides = [f"{section}.{key}={json.dumps(value)}" for section, key, value in items]
    assert read_constants(overrides) == build_suite(DATA, overrides).pscp
    assert read_constants(overrides) == PscpSpec().updated({key: value for _, key, value in items}, "x")


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("train.limit=3", "A report has no setting 'train.limit=3'"),
        ("pscp=3", "A report has no setting 'pscp=3'"),
        ("results", "A report has no setting 'results'"),
        ("pscp.beta_mem=2", "Unknown key 'beta_mem'"),
        ("pscp.memory_bytes=0", "greater than 0"),
        ("pscp.beta_memory=-1", "greater than or equal to 0"),
        ("pscp.beta_memory=.inf", "JSON cannot express"),
        ("pscp.beta_memory=much", "valid number"),
        ("pscp.beta_memory", "is not an override"),
    ],
)
def test_other_settings_of_a_report_are_refused(override: str, words: str) -> None:
    with pytest.raises(UsageError, match=re.escape(words)) as caught:
        read_constants([override])
    assert caught.value.fix


def test_constants_are_no_part_of_a_run() -> None:
    asked = {"tasks": "toy_mood", "models": "tiny", "methods": "lora"}
    plans = [make_plan(build_suite(asked, overrides), Resources()) for overrides in ([], ["pscp.beta_memory=2"])]
    assert plans[0].suite != plans[1].suite
    assert [run.run_id for run in plans[0].runs] == [run.run_id for run in plans[1].runs]
