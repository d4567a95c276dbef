"""Planning: pure, complete, each run once, the same runs in whatever order a suite names them."""

from __future__ import annotations

import hashlib
import json
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from peftbench import hub
from peftbench.errors import DataProblem, InvalidSpec, MethodProblem, ModelProblem, UnknownName, UsageError
from peftbench.methods.lora import METHOD as Lora  # noqa: N811 - the constant is a class
from peftbench.methods.prompt_tuning import METHOD as PromptTuning  # noqa: N811
from peftbench.plan import Plan, make_plan
from peftbench.spec import Resources
from peftbench.suites._read import build_suite
from property.strategies import seeds

ROWS = {
    "sst2": {"sentence": "fine ", "label": 1, "idx": 0},
    "rte": {"sentence1": "a", "sentence2": "b", "label": "entailment", "idx": 0},
}
METHODS: tuple[Any, ...] = (
    "zero_shot",
    "few_shot",
    "full",
    "lora",
    {"use": "lora", "r": 4},
    {"use": "prompt_tuning"},
)


def config(**changes: Any) -> str:
    facts = {
        "model_type": "llama",
        "max_position_embeddings": 256,
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "vocab_size": 99,
    }
    return json.dumps({**facts, **changes})


def model_in(folder: Path, text: str, weights: str = "model.safetensors") -> str:
    folder.mkdir()
    (folder / "config.json").write_text(text)
    (folder / weights).write_bytes(b"never read when planning")
    return str(folder)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A mirror of two data sets, and two models without a weight in them."""
    root = tmp_path_factory.mktemp("world")
    for name, row in ROWS.items():
        (root / "data" / name).mkdir(parents=True)
        for split in ("train", "validation"):
            (root / "data" / name / f"{split}.jsonl").write_text(json.dumps(row) + "\n")
    model_in(root / "tiny", config())
    model_in(root / "short", config(max_position_embeddings=32))
    return root


def plan_of(world: Path, resources: dict[str, Any] | None = None, **suite: Any) -> Plan:
    data = {"tasks": ["sst2"], "models": [str(world / "tiny")], "methods": ["lora"], **suite}
    return make_plan(build_suite(data), Resources(data_root=str(world / "data"), **(resources or {})))


def ids(plan: Plan) -> list[str]:
    return [run.run_id for run in plan.runs]


def tree(root: Path) -> dict[str, str]:
    return {
        f"{path.relative_to(root)} {path.stat().st_mtime_ns}": hashlib.sha256(
            path.read_bytes() if path.is_file() else b""
        ).hexdigest()
        for path in sorted(root.rglob("*"))
    }


def test_planning_writes_nothing(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    before = tree(world), tree(tmp_path)
    assert plan_of(world, tasks=["sst2", "rte"], methods=list(METHODS), seeds=[1, 2]).runs
    assert (tree(world), tree(tmp_path)) == before
    (tmp_path / "something").touch()
    assert tree(tmp_path) != before[1]


drawn_suites = st.fixed_dictionaries(
    {
        "tasks": st.lists(st.sampled_from(["sst2", "rte"]), min_size=1, max_size=3),
        "models": st.lists(st.sampled_from(["tiny", "short"]), min_size=1, max_size=3),
        "methods": st.lists(st.sampled_from(METHODS), min_size=1, max_size=6),
        "seeds": st.lists(seeds, min_size=1, max_size=3, unique=True),
    }
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
@given(drawn_suites, st.randoms(use_true_random=False))
def test_every_run_once_whatever_the_order(world: Path, drawn: dict[str, Any], random: Any) -> None:
    suite = {**drawn, "models": [str(world / name) for name in drawn["models"]]}
    plan = plan_of(world, **suite)
    assert len(set(ids(plan))) == len(plan.runs)
    shuffled = {key: random.sample(value, len(value)) for key, value in suite.items()}
    again = plan_of(world, **shuffled)
    assert set(ids(again)) == set(ids(plan))
    assert set(again.set_aside) == set(plan.set_aside)
    # Counted by hand: a method without training has one run, others one for each seed; the short context has no
    # room for a prompt of 20.
    distinct = [json.dumps(method) for method in drawn["methods"]]
    expected = 0
    for _, model, method in product(set(drawn["tasks"]), set(drawn["models"]), set(distinct)):
        fits = not ("prompt_tuning" in method and model == "short")
        expected += fits * (1 if "zero_shot" in method else len(drawn["seeds"]))
    assert len(plan.runs) == expected


def test_no_id_depends_on_how_a_run_is_done(world: Path) -> None:
    hows: list[dict[str, Any]] = [
        {},
        {"device": "cuda"},
        {"threads": 3, "micro_batch": 1, "eval_batch": 2, "save_adapter": False},
    ]
    plans = [plan_of(world, how, methods=["lora", "zero_shot"], seeds=[1, 2]) for how in hows]
    assert ids(plans[0]) == ids(plans[1]) == ids(plans[2])
    assert plans[1].runs[0].resources.device == "cuda"


def test_the_same_files_elsewhere_are_the_same_runs(world: Path, tmp_path: Path) -> None:
    for path in sorted(world.rglob("*")):
        target = tmp_path / "copy" / path.relative_to(world)
        if path.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    moved = plan_of(tmp_path / "copy")
    assert ids(moved) == ids(plan_of(world))
    assert moved.runs[0].resources.model_folder == str(tmp_path / "copy" / "tiny")
    (tmp_path / "copy" / "tiny" / "model.safetensors").write_bytes(b"other weights")
    assert ids(plan_of(tmp_path / "copy")) != ids(moved)
    (tmp_path / "copy" / "data" / "sst2" / "validation.jsonl").write_text(json.dumps({**ROWS["sst2"], "label": 0}))
    assert plan_of(tmp_path / "copy").runs[0].spec.task.data != moved.runs[0].spec.task.data


def test_every_default_is_filled_in(world: Path) -> None:
    plan = plan_of(world, tasks=["sst2"], methods=["lora", "prompt_tuning", "zero_shot"])
    lora, prompt, zero = (run.spec for run in plan.runs)
    assert lora.train is not None
    assert prompt.train is not None
    assert (lora.train.learning_rate, prompt.train.learning_rate) == (Lora.learning_rate, PromptTuning.learning_rate)
    assert lora.method.settings == {
        "r": 16,
        "lora_alpha": 32,
        "lora_dropout": 0.0,
        "use_rslora": False,
        "init_lora_weights": None,
        "lora_optimizer": None,
        "targets": ["query", "key", "value", "output"],
        "target_modules": None,
    }
    assert (zero.train, zero.seed) == (None, None)
    assert {spec.evaluate.max_new_tokens for spec in (lora, prompt, zero)} == {8}


def test_rows_of_the_hub_are_not_fetched_to_plan(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "resolve", lambda kind, name, revision: "c0ffee")
    suite = build_suite({"tasks": ["rte"], "models": [str(world / "tiny")], "methods": ["lora"]})
    (run,) = make_plan(suite, Resources()).runs
    assert run.spec.task.data == "hub:nyu-mll/glue/rte@c0ffee"


def test_options_of_an_entry_beat_the_section(world: Path) -> None:
    method = {"use": "lora", "train.lr": 0.5, "evaluate.limit": 3}
    task = {"use": "sst2", "train.limit": 7, "train.lr": 0.1}
    spec = plan_of(world, tasks=[task], methods=[method], train={"lr": 1, "epochs": 2}).runs[0].spec
    assert spec.train is not None
    assert (spec.train.learning_rate, spec.train.limit, spec.train.num_train_epochs) == (0.5, 7, 2)
    assert spec.evaluate.limit == 3


def test_what_does_not_fit_is_set_aside_with_its_reason(world: Path, tmp_path: Path) -> None:
    gpt2 = model_in(tmp_path / "gpt2", config(model_type="gpt2"))
    models = [str(world / "short"), gpt2]
    methods = [{"use": "prompt_tuning", "num_virtual_tokens": 16}, {"use": "lora", "targets": ["gate"]}]
    plan = plan_of(world, models=models, methods=methods)
    reasons = {(item.model, item.method): item.reason for item in plan.set_aside}
    assert reasons == {
        ("short", "prompt_tuning"): "16 virtual tokens take over half of the context of 32",
        ("gpt2", "lora"): "gpt2 has no layers in the role 'gate'",
    }
    assert {(run.spec.model.name, run.spec.method.name) for run in plan.runs} == {
        ("short", "lora"),
        ("gpt2", "prompt_tuning"),
    }


def test_a_context_without_room_is_set_aside(world: Path) -> None:
    plan = plan_of(world, evaluate={"max_new_tokens": 256})
    assert plan.runs == ()
    assert plan.set_aside[0].reason == ("256 new and 0 virtual tokens leave no room for a prompt in a context of 256")
    assert len(plan_of(world, evaluate={"max_new_tokens": 255}).runs) == 1
    room = plan_of(world, methods=["prompt_tuning"], evaluate={"max_new_tokens": 236})
    assert "20 virtual tokens" in room.set_aside[0].reason
    methods = ["prompt_tuning", "zero_shot"]
    short = plan_of(world, methods=methods, train={"max_length": 20}, evaluate={"max_length": 64})
    assert [(item.method, item.reason.rpartition(" in ")[2]) for item in short.set_aside] == [
        ("prompt_tuning", "train.max_length=20")
    ]
    tight = plan_of(world, evaluate={"max_length": 16, "max_new_tokens": 16})
    assert tight.set_aside[0].reason.endswith("in evaluate.max_length=16")


def test_a_method_that_does_not_train_has_no_validation_share(world: Path) -> None:
    plan = plan_of(world, methods=["zero_shot", "lora"], evaluate={"split": "validation"})
    assert [item.method for item in plan.set_aside] == ["zero_shot"]
    assert "no validation share" in plan.set_aside[0].reason
    assert [run.spec.method.name for run in plan.runs] == ["lora"]


def test_a_short_context_keeps_half_for_the_question(world: Path) -> None:
    (spec,) = (run.spec for run in plan_of(world, models=[str(world / "short")]).runs)
    assert spec.evaluate.max_new_tokens == 8
    task = {"use": "sst2", "evaluate.max_new_tokens": 20}
    assert plan_of(world, tasks=[task]).runs[0].spec.evaluate.max_new_tokens == 20


def test_an_unknown_context_counts_as_the_length_asked_for(world: Path, tmp_path: Path) -> None:
    text = json.dumps({"model_type": "llama"})
    assert plan_of(world, models=[model_in(tmp_path / "unknown", text)]).runs


OWN_TASK = """'''Mine.'''
from peftbench.metrics.classification import ACCURACY
from peftbench.tasks._answer import Labels
from peftbench.tasks._source import Generated
from peftbench.tasks._task import Example, Task

LABELS = Labels(("a", "b"), ("x", "y"))
TASK = Task(
    source=Generated(lambda split: [{"text": split, "label": 0}]),
    ask=lambda row: Example("say x", LABELS.word(row["LABEL"])),
    read=LABELS.read, metrics=(ACCURACY,), chance=0.5, category="own", licence="", citation="",
    specimen=({}, {}), version=3,
)
"""


def test_a_file_of_ones_own_is_part_of_the_id_by_its_content(world: Path, tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(OWN_TASK.replace('LABEL"]', 'label"]'))
    first = plan_of(world, tasks=[str(path)])
    ref, how = first.runs[0].spec.task, first.runs[0].resources
    assert (ref.name, ref.version, how.task_file) == ("mine", 3, str(path))
    assert ref.data.startswith("generated:")
    path.write_text(path.read_text() + "# changed\n")
    assert set(ids(plan_of(world, tasks=[str(path)]))).isdisjoint(ids(first))


def test_a_missing_column_is_found_before_anything_starts(world: Path, tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(OWN_TASK)
    with pytest.raises(DataProblem, match="Row train/0 has no column 'LABEL'; it has: label, text"):
        plan_of(world, tasks=[str(path)])


@pytest.mark.parametrize(
    ("suite", "error", "words"),
    [
        ({"tasks": ["sst3"]}, UnknownName, "Did you mean 'sst2'"),
        ({"methods": ["loar"]}, UnknownName, "Did you mean 'lora'"),
        ({"models": ["nowhere"]}, ModelProblem, "no model 'nowhere'"),
        ({"models": ["./a/b/c"]}, ModelProblem, "Give a folder"),
        ({"tasks": [{"use": "sst2", "r": 1}]}, UnknownName, "Unknown option 'r' in task sst2"),
        ({"methods": [{"use": "lora", "rank": 1}]}, UnknownName, "Unknown hyperparameter 'rank'"),
        ({"methods": [{"use": "lora", "r": 0}]}, MethodProblem, "r must be at least 1"),
        ({"methods": [{"use": "lora", "r": "8"}]}, MethodProblem, "r: Input should be a valid integer"),
        ({"methods": [{"use": "lora", "r": True}]}, MethodProblem, "r: Input should be a valid integer"),
        ({"methods": [{"use": "lora", "train.lrr": 1}]}, UnknownName, "Did you mean 'lr'"),
        ({"methods": [{"use": "lora", "train.limit": 0}]}, InvalidSpec, "greater than or equal to 1"),
        ({"methods": [{"use": "lora", "evaluate.limit": "x"}]}, InvalidSpec, "lora, evaluate: limit"),
        ({"tasks": ["./nothing.py"]}, UsageError, "no file nothing.py"),
        ({"tasks": ["gsm8k"]}, DataProblem, "Check --data-root"),
    ],
)
def test_what_cannot_be_planned(world: Path, suite: dict[str, Any], error: type[UsageError], words: str) -> None:
    with pytest.raises(error) as caught:
        plan_of(world, **suite)
    assert words in str(caught.value)
    assert caught.value.fix


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"colour": 1}, UnknownName, "Unknown option 'colour'"),
        ({"dtyp": "float32"}, UnknownName, "Did you mean 'dtype'"),
        ({"dtype": "int8"}, InvalidSpec, "dtype"),
        ({"trust_remote_code": "yes"}, InvalidSpec, "trust_remote_code"),
    ],
)
def test_options_of_a_model(world: Path, options: dict[str, Any], error: type[UsageError], words: str) -> None:
    with pytest.raises(error, match=words):
        plan_of(world, models=[{"use": str(world / "tiny"), **options}])
    ref = plan_of(world, models=[{"use": str(world / "tiny"), "dtype": "bfloat16", "chat": "plain"}]).runs[0].spec.model
    assert (ref.dtype, ref.chat, ref.name) == ("bfloat16", "plain", "tiny")
