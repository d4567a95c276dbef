"""Names of methods: members, variants, and what is said to a name that is neither."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path

import pytest

from peftbench.catalogue import catalogue
from peftbench.errors import InvalidSpec, MethodProblem, UnknownName
from peftbench.methods._variants import called, named, names, variants
from peftbench.plan import make_plan
from peftbench.report.tables import markdown
from peftbench.scoring.aggregate import scores
from peftbench.scoring.variants import variants as variants_of
from peftbench.spec import NOT_CAUSAL_NOTE, Resources
from peftbench.suites._read import build_suite
from peftbench.testing import check_method
from peftbench.testing.fresh import FreshProcess
from unit.samples import record, run_spec

ONE = {"tasks": ["toy_mood"], "models": ["tiny"]}


def planned(*methods: object, **task: object) -> list[tuple[str, object]]:
    """Name and start of the planned methods."""
    suite = build_suite({**ONE, "methods": list(methods), **({"tasks": [{"use": "toy_mood", **task}]} if task else {})})
    specs = [run.spec.method for run in make_plan(suite, Resources()).runs]
    return [(spec.name, spec.settings.get("init_lora_weights")) for spec in specs]


def test_a_variant_is_its_method_with_settings() -> None:
    found = named("OLoRA")
    assert (found.member.name, found.settings) == ("lora", {"init_lora_weights": "olora"})
    assert (named("lora").member.name, named("lora").settings) == ("lora", {})


def test_a_variant_is_planned_as_if_it_were_written_out() -> None:
    assert planned("olora") == planned({"use": "lora", "init_lora_weights": "olora"}) == [("lora", "olora")]
    assert planned("lora", "olora") == [("lora", None), ("lora", "olora")]
    assert planned({"use": "olora", "r": 4}) == [("lora", "olora")]
    assert planned({"use": "olora", "init_lora_weights": "gaussian"}) == [("lora", "gaussian")], (
        "what is said last wins"
    )
    with pytest.raises(UnknownName, match="Did you mean 'r'"):
        planned({"use": "olora", "rr": 4})


def test_a_task_may_be_asked_of_a_variant_alone() -> None:
    assert planned("olora", "ia3", "rslora", methods=["olora"]) == [("lora", "olora")]
    with pytest.raises(UnknownName, match="Did you mean 'olora'"):
        planned("olora", methods=["olara"])


def test_an_unknown_name_is_answered_with_the_nearest_of_both() -> None:
    for wrong, right in {"olra": "olora", "lora_f": "lora_fa", "looora": "lora"}.items():
        with pytest.raises(UnknownName, match=f"Did you mean '{right}'"):
            named(wrong)
    assert {"lora", "olora"} <= set(names())
    assert len(names()) == len(set(names())), "no variant has the name of a method or another variant"


def test_variants_are_listed_apart() -> None:
    listed = {row["name"]: row["of"] for row in catalogue("variants")}
    assert listed["rslora"] == "lora"
    assert not listed.keys() & {row["name"] for row in catalogue("methods")}


@pytest.mark.parametrize(("variant", "settings"), [(name, one.settings) for _, name, one in variants()])
def test_settings_of_a_variant_are_other_than_the_defaults(variant: str, settings: dict[str, object]) -> None:
    defaults = named(variant).member.value().settings()
    assert all(defaults[key] != value for key, value in settings.items())


@pytest.mark.parametrize(
    ("methods", "labels"),
    [
        (["olora"], ["olora"]),
        (["lora", "olora", "rslora"], ["lora", "olora", "rslora"]),
        (["lora", {"use": "lora", "init_lora_weights": "olora"}], ["lora", "olora"]),
        (["lora", {"use": "olora", "r": 4}], ["lora r=16", "olora r=4"]),
        (["olora", {"use": "olora", "r": 4}, "ia3"], ["olora r=16", "olora r=4", "ia3"]),
        (["lora", {"use": "lora", "init_lora_weights": "gaussian"}], ["lora", "lora init_lora_weights=gaussian"]),
        # Of two names one is said, and the other's settings stand beside it.
        (["olora", {"use": "olora", "use_rslora": True}], ["olora use_rslora=false", "olora use_rslora=true"]),
    ],
    ids=str,
)
def test_a_table_calls_a_variant_by_its_name(methods: list[object], labels: list[str]) -> None:
    plan = make_plan(build_suite({**ONE, "methods": methods}), Resources())
    assert variants_of([run.spec for run in plan.runs]) == labels


def test_equal_names_are_equal_settings() -> None:
    drawn = product((8, 16), (False, True), (None, "gaussian", "olora", "mica"), (None, "lora_fa"))
    keys = ("r", "use_rslora", "init_lora_weights", "lora_optimizer")
    specs = [run_spec("sst2", "lora", 1, **dict(zip(keys, values, strict=True))) for values in drawn]
    labels = variants_of(specs)
    assert len(set(labels)) == len(specs) == 32
    assert all(variants_of([spec])[0] in {*names()} for spec in specs), "alone, each has a name that can be typed"


def test_a_file_of_ones_own_is_called_by_its_own_name(tmp_path: Path) -> None:
    file = tmp_path / "lora.py"
    file.write_text('"""Mine."""\nfrom peftbench.methods.lora import Lora\nMETHOD = Lora\n', encoding="utf-8")
    methods = [{"use": str(file), "init_lora_weights": "olora"}, "olora"]
    plan = make_plan(build_suite({**ONE, "methods": methods}), Resources())
    assert [name.partition(" ")[0] for name in variants_of([run.spec for run in plan.runs])] == ["lora", "olora"]


def test_what_would_train_nothing_is_refused() -> None:
    with pytest.raises(MethodProblem, match="nothing is left to train"):
        planned({"use": "mica", "lora_optimizer": "lora_fa"})


def test_a_method_that_is_not_causal_is_trained_only_when_forced_and_marked() -> None:
    asked = {**ONE, "methods": ["lily", "lora"]}
    plan = make_plan(build_suite(asked), Resources())
    assert variants_of([run.spec for run in plan.runs]) == ["lora"]
    assert [(one.method, one.reason[:10]) for one in plan.set_aside] == [("lily", "not causal")]
    forced = make_plan(build_suite({**asked, "train": {"allow_not_causal": True}}), Resources())
    assert forced.runs[1].run_id == plan.runs[0].run_id, "what is forced for one is nothing to the others"
    assert variants_of([run.spec for run in forced.runs]) == ["lily‡", "lora"]
    records = [record(run.spec) for run in forced.runs]
    table = markdown(scores(records), {})
    assert NOT_CAUSAL_NOTE in table
    assert NOT_CAUSAL_NOTE not in markdown(scores(records[1:]), {})


def test_what_is_set_aside_is_called_by_its_name() -> None:
    suite = build_suite({**ONE, "models": [{"use": "tiny", "quantization": "nf4"}], "methods": ["lora", "olora"]})
    plan = make_plan(suite, Resources())
    assert [item.method for item in plan.set_aside] == ["lora", "olora"]
    wrapped = [{"use": "ts_peft", "over": "lora"}, {"use": "ts_peft", "over": "ia3"}]
    plan = make_plan(build_suite({**ONE, "methods": wrapped}), Resources())
    assert [called(run.spec.method) for run in plan.runs] == ["ts_peft over lora", "ts_peft over ia3"]


def test_what_a_folder_asks_for_and_is_not_known_is_told(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "rr": 4}))
    with pytest.raises(UnknownName, match="Unknown setting 'rr'"):
        named(str(tmp_path))
    (tmp_path / "adapter_config.json").write_text(json.dumps({"peft_type": "HUH"}))
    with pytest.raises(UnknownName, match="Unknown peft_type 'HUH'"):
        named(str(tmp_path))


def test_settings_in_a_list_with_commas_are_told(tmp_path: Path) -> None:
    with pytest.raises(InvalidSpec, match="has settings, and is no list") as caught:
        build_suite({**ONE, "methods": ["lora"]}, ["methods=ia3,{use: lora, r: 4}"])
    assert caught.value.fix == "Write it as one: '[ia3,{use: lora, r: 4}]'"


METHOD = """
from dataclasses import dataclass
from peftbench.methods._method import Method

@dataclass(frozen=True)
class Mine(Method):
    {}

    def attach(self, base):
        {}

METHOD = Mine
"""


@pytest.mark.parametrize(
    ("line", "attach", "message"),
    [
        ("start: float", "return base.model", "the hyperparameter start has no default"),
        ("start: float = 1.0", "return None", "`attach` of Mine returned NoneType, which is no module"),
        ("family = 'nonsense'", "return base.model", "The family 'nonsense' is none of additive, prompt"),
        ("size = 'rank'", "return base.model", "Its size is 'rank', and it has no hyperparameter of that name"),
        (
            "trainable_parameters = lambda self, facts: 32.0",
            "base.model.lm_head.requires_grad_(True)\n        return base.model\n    changes = lambda *_: ['lm_head.weight']",  # noqa: E501
            "Its formula says 32.0, which is no whole number",
        ),
    ],
)
def test_what_a_file_says_wrongly_is_found(
    line: str, attach: str, message: str, tmp_path: Path, fresh: FreshProcess
) -> None:
    (tmp_path / "mine.py").write_text(METHOD.replace("{}", line, 1).replace("{}", attach, 1))
    checks = check_method(str(tmp_path / "mine.py"), fresh=fresh)
    told = [f"{check.detail} {check.fix}" for check in checks if not check.passed]
    assert any(message in one for one in told), told
