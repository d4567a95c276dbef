"""A method may be a folder: a tuner in PEFT-Factory's layout, or settings of the peft library."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import peft
import pytest
from peft.utils import PeftType

from peftbench import registry
from peftbench.errors import MethodProblem, MissingExtra, UsageError
from peftbench.methods._attach import attached
from peftbench.methods._method import Method, build
from peftbench.methods._variants import named
from peftbench.models._load import LoadedModel
from peftbench.plan import make_plan
from peftbench.spec import Resources, RunSpec
from peftbench.suites._read import build_suite, read_suite
from peftbench.testing.models import tiny

FOLDERS = Path(__file__).parents[1] / "folders"
MAPPINGS = [getattr(peft.mapping, f"PEFT_TYPE_TO_{kind}_MAPPING") for kind in ("CONFIG", "TUNER", "PREFIX")]


def loaded(folder: Path, **settings: Any) -> Method:
    member = registry.load("methods", str(folder))
    return build(member.name, member.value, settings)


@pytest.fixture
def base(tmp_path: Path) -> LoadedModel:
    return tiny("llama", tmp_path / "llama")


@pytest.fixture
def copied(tmp_path: Path) -> Callable[[str], Path]:
    """A tuner's folder that may be changed."""

    def copy(name: str) -> Path:
        shutil.copytree(FOLDERS / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
        return tmp_path / name

    return copy


def known() -> Any:
    """What a tuner could leave behind in this process."""
    modules = {name: id(module) for name, module in sys.modules.items() if not name.startswith("peftbench_folder_")}
    return (
        list(PeftType),
        dict(PeftType._value2member_map_),
        [dict(mapping) for mapping in MAPPINGS],
        list(sys.path),
        [repr(finder) for finder in sys.meta_path],
        {name: modules.get(name) for name in ("config", "model", "layer")},
    )


def test_the_library_knows_a_tuner_only_while_it_is_attached(base: LoadedModel) -> None:
    before = known()
    method = loaded(FOLDERS / "low_shift", r=2)
    assert known() == before
    with attached(method, base) as adapter:
        assert PeftType("LOW_SHIFT") in list(PeftType)
        with attached_again(method):
            pass
        assert PeftType("LOW_SHIFT") in PeftType.__members__.values()
        assert adapter.parameters == base.facts.shapes.layers * (2 * base.facts.hidden_size + 2)
    assert known() == before


def attached_again(method: Method) -> Any:
    return method.in_use()


def test_uses_may_overlap_without_being_nested() -> None:
    """A check keeps one adapter attached while it attaches and gives back others."""
    before = known()
    method = loaded(FOLDERS / "low_shift")
    first, second = method.in_use(), method.in_use()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert "LOW_SHIFT" in PeftType.__members__
    second.__exit__(None, None, None)
    assert known() == before


def test_a_module_of_the_same_name_stays_what_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    other = type(sys)("config")
    monkeypatch.setitem(sys.modules, "config", other)
    for name in [name for name in sys.modules if name.startswith("peftbench_folder_")]:
        monkeypatch.delitem(sys.modules, name)
    first, second = loaded(FOLDERS / "low_shift"), loaded(FOLDERS / "additive_scale")
    assert sys.modules["config"] is other
    assert (sorted(first.settings()), sorted(second.settings())) == (
        ["r", "target_modules"],
        ["groups", "start", "strength", "target_modules"],
    )


def test_one_module_whatever_name_it_is_imported_by() -> None:
    cls = registry.load("methods", str(FOLDERS / "low_shift")).value
    layer = sys.modules[cls.registration.model.__module__.removesuffix(".model") + ".layer"]
    assert layer.LowShiftConfig is cls.config_type
    assert layer.LowShiftLayer is cls.registration.model.tuner_layer_cls


def test_half_a_registration_is_taken_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """A type and two entries are made, and the third cannot be."""
    method = loaded(FOLDERS / "low_shift")
    before = known()
    with monkeypatch.context() as lacking:
        lacking.delattr(peft.mapping, "PEFT_TYPE_TO_PREFIX_MAPPING")
        with pytest.raises(AttributeError), method.in_use():
            pass
    assert known() == before
    with method.in_use():
        assert "LOW_SHIFT" in PeftType.__members__
    assert known() == before


def test_the_hash_of_its_files_is_its_identity(copied: Callable[[str], Path]) -> None:
    folder = copied("low_shift")
    first = registry.load("methods", str(folder))
    for name in (".hidden/note.txt", "__pycache__/layer.pyc", "results/runs/one/record.json", "inner/__pycache__/x"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("words")
    assert registry.load("methods", str(folder)).plugin == first.plugin
    layer = (folder / "layer.py").read_text()
    (folder / "layer.py").write_text(layer + "\n\nMORE = 1\n")
    second = registry.load("methods", str(folder))
    assert second.plugin != first.plugin
    assert second.value is not first.value
    assert (second.name, second.file) == ("low_shift", str(folder))
    for name in ("table.json", "data/scales.safetensors", "inner/more.py"):
        before = registry.load("methods", str(folder)).plugin
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("1")
        with_one = registry.load("methods", str(folder)).plugin
        (folder / name).write_text("2")
        assert len({before, with_one, registry.load("methods", str(folder)).plugin}) == 3, name


def test_a_bare_name_is_no_folder(copied: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    folder = copied("low_shift")
    monkeypatch.chdir(folder.parent)
    with pytest.raises(UsageError, match=r"low_shift is a folder, and no method is called so\. .*: \./low_shift"):
        named("low_shift")
    folder.rename("lora")
    assert named("lora").member.plugin is None
    assert named("./lora").member.plugin is not None


def test_a_published_name_of_a_type_need_not_be_that_of_its_folder(copied: Callable[[str], Path]) -> None:
    folder = copied("low_shift")
    assert loaded(folder.rename(folder.parent / "low shift, second")).settings()["r"] == 4


# A file, what is replaced in it, and what is said.
FAULTS: Mapping[str, tuple[str, str, str, str]] = {
    "no config": ("config.py", "(PeftConfig)", "", r"config\.py holds no subclass of peft's PeftConfig\."),
    "two configs": (
        "config.py",
        "@dataclass\n",
        "class Other(PeftConfig):\n    pass\n\n\n@dataclass\n",
        r"config\.py, line 12: LowShiftConfig is a second subclass of peft's PeftConfig, beside Other\.",
    ),
    "no tuner": ("model.py", "(BaseTuner)", "", r"model\.py holds no subclass of peft's BaseTuner\."),
    "no import": ("layer.py", "import torch\n", "import nothing_there\n", r"layer\.py, line 1: ModuleNotFoundError"),
    "bad syntax": ("layer.py", "import torch\n", "import (\n", r"layer\.py, line 1: SyntaxError"),
    "no default": ("config.py", "r: int = 4", "r: int", r"config\.py, line \d+: .*TypeError: non-default argument"),
    "raises": (
        "config.py",
        "self.peft_type = ",
        "self.peft_type = 1 / 0; ",
        r"config\.py, line 15: .*ZeroDivisionError",
    ),
    "no type": (
        "config.py",
        "self.peft_type = PeftType.LOW_SHIFT",
        "pass",
        r"config\.py, line 8: .* sets no peft_type",
    ),
    "no data": ("config.py", "r: int = 4", "r: object = print", r"a default of LowShiftConfig is no plain data"),
    "taken": ("config.py", "r: int = 4", "size: int = 4", r"has a field 'size', a name that methods use themselves"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_wrong_with_a_tuner_is_one_sentence(fault: str, copied: Callable[[str], Path]) -> None:
    file, before, after, said = FAULTS[fault]
    folder = copied("low_shift")
    text = (folder / file).read_text()
    assert before in text
    (folder / file).write_text(text.replace(before, after, 1))
    left = known()
    with pytest.raises(UsageError, match=said) as caught:
        registry.load("methods", str(folder))
    assert caught.value.fix
    assert "\n" not in caught.value.message
    assert known() == left
    # Once mended, the folder loads.
    (folder / file).write_text(text)
    assert registry.load("methods", str(folder)).name == "low_shift"


def test_folders_that_hold_no_method(tmp_path: Path) -> None:
    with pytest.raises(MethodProblem, match="is a folder, and none with a method"):
        registry.load("methods", str(tmp_path))
    (tmp_path / "model.py").write_text("")
    with pytest.raises(MethodProblem, match=r"holds no config\.py"):
        registry.load("methods", str(tmp_path))
    for gone in (str(tmp_path / "gone"), "../lora", "x" * 300 + "/"):
        with pytest.raises(UsageError, match="There is no folder"):
            registry.load("methods", gone)


def test_what_needs_the_library_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("peftbench.methods._folder.find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"This needs the package peft\. Install it with: .*\[train\]"):
        registry.load("methods", str(FOLDERS / "low_shift"))


def test_near_folders_are_offered(copied: Callable[[str], Path]) -> None:
    folder = copied("low_shift")
    with pytest.raises(MethodProblem) as caught:
        registry.load("methods", str(folder.parent))
    assert caught.value.fix == f"Did you mean {folder}?"


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"strenght": 1.0}, "Unknown hyperparameter 'strenght' in method additive_scale. Did you mean 'strength'?"),
        ({"strength": "much"}, "strength: Input should be a valid number (got 'much')."),
        ({"start": "large"}, "start: Input should be 'zero' or 'small' (got 'large')."),
        ({"target_modules": 3}, "target_modules: Input should be a valid array (got 3)."),
        ({"groups": 0}, "settings: config.py, line 23: groups must be at least 1"),
    ],
    ids=str,
)
def test_wrong_hyperparameters_are_told(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError) as caught:
        loaded(FOLDERS / "additive_scale", **settings)
    assert said in str(caught.value)


def test_a_suite_names_a_folder_beside_it(copied: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    folder = copied("additive_scale")
    (folder.parent / "mine.yaml").write_text(
        "tasks: [{use: toy_mood, methods: [./additive_scale]}]\nmodels: [tiny]\n"
        "methods: [lora, {use: ./additive_scale, strength: 3, train.lr: 0.5}]\n"
    )
    for place in (folder.parent, folder.parent.parent):
        monkeypatch.chdir(place)
        suite = read_suite(os.path.relpath(folder.parent / "mine.yaml"))
        (planned,) = make_plan(suite, Resources()).runs
        assert planned.spec.method.settings == {"groups": 1, "start": "zero", "strength": 3, "target_modules": None}
        assert planned.resources.method_file == str(folder)


# What save_pretrained wrote of a method, and what else its folder says.
LORA = {
    **peft.LoraConfig(r=8, target_modules=["v_proj", "q_proj"], task_type="CAUSAL_LM").to_dict(),
    "peft_type": "LORA",
}
PARAMS = {
    "max_steps": 40,
    "batch_size": 4,
    "eval_steps": 10,
    "max_seq_length": 700,
    "grad_norm_clip": 0.5,
    "optimizer_type": "AdamW",
    "optimizer_kwargs": {"lr": 2e-3},
    "lr_scheduler": "cosine",
    "use_amp": False,
}


def settings_folder(folder: Path, config: Mapping[str, Any], params: Mapping[str, Any] | None = None) -> Path:
    folder.mkdir()
    plain = {key: sorted(value) if isinstance(value, set) else value for key, value in config.items()}
    (folder / "adapter_config.json").write_text(json.dumps(plain))
    if params is not None:
        (folder / "training_params.json").write_text(json.dumps(params))
    return folder


def planned(folder: Path, *overrides: str, **entry: Any) -> tuple[RunSpec, tuple[str, ...]]:
    data = {"tasks": ["toy_mood"], "models": ["tiny"], "methods": [{"use": str(folder), **entry}]}
    plan = make_plan(build_suite(data, overrides), Resources())
    return plan.runs[0].spec, plan.cautions


def test_settings_of_peft_are_a_method_with_its_training(tmp_path: Path) -> None:
    folder = settings_folder(tmp_path / "lora-rank8", LORA, PARAMS)
    spec, cautions = planned(folder)
    assert cautions == ()
    assert spec.method.name == "lora-rank8"
    assert spec.method.settings["r"] == 8
    assert spec.method.settings["target_modules"] == ["q_proj", "v_proj"]
    assert not {"peft_version", "inference_mode", "base_model_name_or_path"} & set(spec.method.settings)
    assert spec.train is not None
    assert spec.train.model_dump(include={*SAID}) == SAID
    assert (planned(folder / "adapter_config.json")[0]) == spec


# `PARAMS` in the terms of a suite. AdamW of torch decays weights by 0.01 unless it is told otherwise.
SAID = {
    "max_steps": 40,
    "num_train_epochs": 40.0,
    "per_device_train_batch_size": 4,
    "eval_steps": 10.0,
    "max_length": 700,
    "max_grad_norm": 0.5,
    "learning_rate": 2e-3,
    "weight_decay": 0.01,
    "lr_scheduler_type": "cosine",
    "warmup_ratio": 0.1,
    "checkpoint": "last",
}


def test_what_a_suite_says_wins_over_the_folder(tmp_path: Path) -> None:
    folder = settings_folder(tmp_path / "mine", LORA, PARAMS)
    spec, _ = planned(folder, "train.max_steps=7", **{"train.learning_rate": 0.25, "r": 3})
    assert spec.train is not None
    assert (spec.train.max_steps, spec.train.learning_rate, spec.train.weight_decay) == (7, 0.25, 0.01)
    assert spec.method.settings["r"] == 3


def test_what_runs_have_in_common_does_not_change_how_it_was_trained_there(tmp_path: Path) -> None:
    folder = settings_folder(tmp_path / "mine", LORA, PARAMS)
    common = {"warmup_ratio": 0.03, "checkpoint": "best", "lr_scheduler_type": "linear", "num_train_epochs": 1}
    suite = {"tasks": ["toy_mood"], "models": ["tiny"], "methods": [str(folder)], "train": common}
    (run,) = make_plan(build_suite(suite), Resources()).runs
    assert run.spec.train is not None
    assert run.spec.train.model_dump(include={*SAID}) == SAID


@pytest.mark.parametrize(
    "config",
    [
        {"peft_type": "OFT", "r": 8, "oft_block_size": 0, "target_modules": ["q_proj", "v_proj"]},
        {"peft_type": "BOFT", "boft_block_size": 0, "boft_block_num": 4, "target_modules": ["q_proj", "v_proj"]},
    ],
    ids=lambda config: str(config["peft_type"]),
)
def test_blocks_may_be_said_by_their_number(config: dict[str, Any], tmp_path: Path) -> None:
    folder = settings_folder(tmp_path / "mine", config)
    spec, _ = planned(folder)
    assert spec.method.settings.items() >= {key: value for key, value in config.items() if key != "peft_type"}.items()
    with attached(loaded(folder), tiny("llama", tmp_path / "llama")) as adapter:
        assert adapter.parameters > 0


def test_no_schedule_is_a_constant_rate(tmp_path: Path) -> None:
    spec, _ = planned(settings_folder(tmp_path / "mine", LORA, {"lr_scheduler": None}))
    assert spec.train is not None
    assert (spec.train.lr_scheduler_type, spec.train.warmup_ratio) == ("constant", 0.0)
    assert spec.train.learning_rate == 3e-4, "that of lora"


def test_what_cannot_be_taken_over_is_named(tmp_path: Path) -> None:
    params = {
        **PARAMS,
        "seed": 0,
        "dtype": "bfloat16",
        "optimizer_type": "lora-fa",
        "optimizer_kwargs": {"lr": 1e-3, "eps": 1e-6},
        "compile": True,
    }
    _, cautions = planned(settings_folder(tmp_path / "mine", LORA, params))
    aside = "compile, dtype, optimizer_kwargs.eps, optimizer_type, seed"
    assert cautions == (f"mine: its training_params.json also says {aside}, which is left aside.",)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"peft_type": "LORRA"}, "Unknown peft_type 'LORRA'"),
        ({"peft_type": None}, "has no peft_type"),
        ({"task_type": "SEQ_CLS"}, "is for the task type SEQ_CLS"),
        ({"tokenizer_kwargs": {"trust_remote_code": True}}, "asks for code of a hub, which would run here"),
        ({"future_setting": 3}, "Unknown setting 'future_setting'"),
        ({"layers_pattern": ["x"]}, "`layers_to_transform` must also be specified"),
    ],
    ids=str,
)
def test_wrong_settings_of_peft_are_told(change: dict[str, Any], said: str, tmp_path: Path) -> None:
    folder = settings_folder(tmp_path / "mine", {**LORA, **change})
    with pytest.raises(UsageError) as caught:
        loaded(folder)
    assert said in str(caught.value)
    assert caught.value.fix


def test_a_setting_of_another_version_that_asks_for_nothing_is_no_hindrance(tmp_path: Path) -> None:
    assert loaded(settings_folder(tmp_path / "mine", {**LORA, "future_setting": None})).settings()["r"] == 8


def test_ranks_of_adalora_move_over_the_steps_of_the_run(tmp_path: Path) -> None:
    config = peft.AdaLoraConfig(total_step=1000, tinit=200, tfinal=300, target_modules=["q_proj"]).to_dict()
    method: Any = loaded(settings_folder(tmp_path / "mine", {**config, "peft_type": "ADALORA"}))
    base = tiny("llama", tmp_path / "llama")
    with attached(method, base) as adapter:
        method.begin(adapter.module, 100)
        active: Any = adapter.module.active_peft_config
        assert (active.total_step, active.tinit, active.tfinal) == (100, 20, 30)


# What is the same method with the same settings under a name of its own here.
SAME: Mapping[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "lora": ({"r": 16, "lora_alpha": 32}, {}),
    "ia3": ({"feedforward_modules": ["down_proj"]}, {"feedforward_modules": ["down_proj"]}),
    "prefix_tuning": (
        {"num_virtual_tokens": 5, "prefix_projection": False},
        {"num_virtual_tokens": 5, "prefix_projection": False},
    ),
    "boft": ({"boft_block_size": 4}, {"boft_block_size": 4}),
}
CLASSES = {"lora": "LoraConfig", "ia3": "IA3Config", "prefix_tuning": "PrefixTuningConfig", "boft": "BOFTConfig"}


@pytest.mark.parametrize("name", SAME)
def test_settings_attach_what_the_member_attaches(name: str, tmp_path: Path) -> None:
    """The same parameters, with the same values; and the same class answers the calls."""
    import torch

    theirs, ours = SAME[name]
    targets = {} if name == "prefix_tuning" else {"target_modules": ["q_proj", "down_proj"]}
    config = getattr(peft, CLASSES[name])(**theirs, **targets)
    folder = settings_folder(tmp_path / "mine", {**config.to_dict(), "peft_type": config.peft_type.value})
    base, states = tiny("llama", tmp_path / "llama"), []
    member = registry.load("methods", name).value
    for method in (build(name, member, {**ours, **targets}), loaded(folder)):
        torch.manual_seed(3)
        with attached(method, base) as adapter:
            states.append((type(adapter.module), method.virtual_tokens, adapter.state()))
    (kind, tokens, first), (other, others, second) = states
    assert (kind, tokens) == (other, others)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.shared
def test_every_configuration_of_the_published_comparison_is_a_method(shared: Path, tmp_path: Path) -> None:
    """With the settings that are there, and its training in the terms of a suite."""
    read = 0
    for file in sorted((shared / "upstream" / "peft_method_comparison" / "results").glob("*.json")):
        info = json.loads(file.read_text())["run_info"]
        if not info["peft_config"]:
            continue
        folder = settings_folder(tmp_path / file.stem, info["peft_config"], info["train_config"])
        settings = loaded(folder).settings()
        theirs = {key: info["peft_config"][key] for key in settings if key in info["peft_config"]}
        assert all(said(theirs[key], settings[key]) for key in theirs), file.stem
        assert len(theirs) > 1
        rate = info["train_config"]["optimizer_kwargs"]["lr"]
        assert registry.folder_options("methods", str(folder))["train.learning_rate"] == rate
        read += 1
    assert read > 60


def said(theirs: Any, ours: Any) -> bool:
    """Names of layers are a set there; what a mapping leaves away has its default here."""
    if isinstance(theirs, list):
        return sorted(theirs) == sorted(ours)
    return theirs.items() <= ours.items() if isinstance(theirs, dict) else bool(theirs == ours)
