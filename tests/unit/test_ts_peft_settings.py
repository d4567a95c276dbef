"""TS-PEFT as a suite names it: what it wraps is recorded whole, and refused where it has no branches."""

from __future__ import annotations

import inspect
import io
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest
import torch
from rich.console import Console
from safetensors.torch import save_file
from torch import nn

from peftbench.catalogue import catalogue
from peftbench.errors import MethodProblem, UnknownName, UsageError
from peftbench.method_card import method_card
from peftbench.methods._gate import Gated
from peftbench.methods._method import Method, build
from peftbench.methods._wrapping import Wrapping
from peftbench.methods.dora import Dora
from peftbench.methods.lora import Lora
from peftbench.methods.ts_peft import TsPeft
from peftbench.models._facts import find
from peftbench.plan import Plan, make_plan
from peftbench.scoring.variants import variants
from peftbench.show_method import method_view
from peftbench.spec import Resources, RunSpec, canonical_json
from peftbench.store import Store
from peftbench.suites._read import build_suite
from peftbench.verbs import states, status_rows
from peftbench.workbench import Workbench

RESOURCES = Resources()


def plan(*methods: object) -> Plan:
    suite = build_suite({"tasks": ["toy_mood"], "models": ["tiny"], "methods": list(methods), "seeds": [1]})
    return make_plan(suite, RESOURCES)


def planned(*methods: object) -> list[RunSpec]:
    return [run.spec for run in plan(*methods).runs]


def over(**settings: Any) -> dict[str, Any]:
    return {"use": "ts_peft", "over": {"use": "lora", **settings}}


def test_short_forms_and_the_full_one_are_one_run() -> None:
    whole = TsPeft().settings()["over"]
    assert isinstance(whole, dict)
    assert whole == {"use": "lora", "version": Lora.version, **Lora().settings()}
    forms = ["ts_peft", {"use": "ts_peft", "over": "LoRA"}, over(), over(r=16), over(**whole)]
    assert {spec.run_id for form in forms for spec in planned(form)} == {planned("ts_peft")[0].run_id}
    assert (
        len(planned("ts_peft", over(r=8), {"use": "ts_peft", "sparsity": 1.0}, {"use": "ts_peft", "over": "dora"})) == 4
    )


def test_a_variant_may_be_wrapped() -> None:
    (spec,) = planned({"use": "ts_peft", "over": {"use": "rslora", "r": 4}})
    assert spec.method.settings["over"] == {**Lora(r=4, use_rslora=True).settings(), "use": "lora", "version": 1}


def test_what_the_wrapped_method_is_decides_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    (before,) = planned("ts_peft")
    monkeypatch.setattr(Lora, "version", Lora.version + 1)
    (after,) = planned("ts_peft")
    assert before.run_id != after.run_id
    with pytest.raises(UsageError, match="not") as caught:
        Workbench().method(before.method, RESOURCES)
    assert caught.value.fix


def test_a_changed_default_of_the_wrapped_method_is_another_run(monkeypatch: pytest.MonkeyPatch) -> None:
    (before,) = planned("ts_peft")
    shown = Lora.settings
    monkeypatch.setattr(Lora, "settings", lambda self: {**shown(self), "lora_dropout": 0.5})
    assert planned("ts_peft")[0].run_id != before.run_id


def test_the_bench_builds_what_was_planned() -> None:
    (spec,) = planned(over(r=4, target_modules=["q_proj"]))
    method = Workbench().method(spec.method, RESOURCES)
    assert isinstance(method, TsPeft)
    assert method.wrapped == Lora(r=4, target_modules=("q_proj",))


@pytest.mark.parametrize(
    ("wrapped", "error", "said"),
    [
        ("prompt_tuning", MethodProblem, "ts_peft cannot wrap prompt_tuning: it has no branches beside layers"),
        ("prefix_tuning", MethodProblem, "no branches"),
        ("full", MethodProblem, "no branches"),
        ("zero_shot", MethodProblem, "no branches"),
        ("bitfit", MethodProblem, "no branches"),
        ("shadow", MethodProblem, "no branches"),
        ("ln_tuning", MethodProblem, "it trains the norms themselves"),
        ("pissa", MethodProblem, "away from the base's weights"),
        ("olora", MethodProblem, "away from the base's weights"),
        ("ts_peft", MethodProblem, "it is the gate itself"),
        ({"use": "ts_peft", "over": "lora"}, MethodProblem, "it is the gate itself"),
        ("lorra", UnknownName, "Did you mean 'lora'"),
        ({"use": "lora", "rr": 2}, UnknownName, "Did you mean 'r'"),
        ({"use": "lora", "r": 0}, MethodProblem, "r must be at least 1"),
        ({"r": 8}, MethodProblem, "has no name"),
        ({"use": ["lora"]}, MethodProblem, "has no name"),
        ({"use": "lora", "version": 7}, MethodProblem, "The version of lora is 1, not 7"),
        ({"use": "lora", "plugin": "other 1"}, MethodProblem, "The plugin of lora is None, not other 1"),
        (3, MethodProblem, "over"),
    ],
    ids=str,
)
def test_what_cannot_be_wrapped_is_a_sentence_when_it_is_planned(
    wrapped: Any, error: type[UsageError], said: str
) -> None:
    with pytest.raises(error, match=said) as caught:
        plan({"use": "ts_peft", "over": wrapped})
    assert caught.value.fix


def test_what_lies_at_a_path_is_refused_when_it_is_planned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A record says where the file of a method lies, not that of one inside its settings."""
    (tmp_path / "mine.py").write_text("from peftbench.methods.lora import Lora as METHOD\n")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "adapter_config.json").write_text('{"peft_type": "LORA", "task_type": "CAUSAL_LM"}')
    monkeypatch.chdir(tmp_path)
    for path in ("./mine.py", "./folder", "./folder/adapter_config.json", str(tmp_path / "folder")):
        assert planned(path), "it is a method"
        with pytest.raises(MethodProblem, match=f"by name, and {path} is a path") as caught:
            plan({"use": "ts_peft", "over": path})
        assert caught.value.fix


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"sparsity": -0.1}, "sparsity must be at least 0"),
        ({"warmup": 1.0}, "warmup must be at least 0 and below 1"),
        ({"kernel": 0.0}, "kernel must be above 0"),
        ({"threshold_lr_ratio": 0.0}, "threshold_lr_ratio must be above 0"),
    ],
    ids=str,
)
def test_settings_that_mean_nothing_are_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(MethodProblem, match=said):
        build("ts_peft", TsPeft, settings)


@pytest.mark.parametrize("name", ["lora", "dora", "bottleneck", "ia3", "svft", "lily", "adalora"])
def test_what_holds_of_the_wrapped_method_holds_here(name: str) -> None:
    facts = find("tiny")
    method = TsPeft(over=name)
    inner: Method = method.wrapped
    assert (method.learning_rate, method.causal, method.identity_at_start, method.size, method.unfit(facts)) == (
        *(inner.learning_rate, inner.causal, inner.identity_at_start, inner.size),
        inner.unfit(facts),
    )
    sites = inner.site_count(facts)
    assert sites
    assert method.trainable_parameters(facts) == (inner.trainable_parameters(facts) or 0) + sites


# What of a method is not asked of the wrapped one, and why.
NOT_FORWARDED = {
    "version": "the gate's own; the wrapped method's is in the settings",
    "trains": "what does not train has no sites, and is not wrapped",
    "kept": "what was trained before has no sites, and is not wrapped",
    "family": "a gate and what it wraps are a hybrid",
    "reference": "it is compared like any method",
    "merges": "what a gate does is in no weight; `merge` does it where none can close",
    "variants": "names of settings of its own",
    "settings": "its own, with the wrapped method's inside",
    "wraps": "it is what wraps",
    "unsound": "the wrapped method was asked when it was built",
    "without_sites": "whatever can be wrapped has sites",
    "resized": "made of `sizes`, `with_size` and `trainable_parameters`",
}


@pytest.mark.parametrize("name", [name for name in vars(Method) if not name.startswith("_")])
def test_what_is_asked_of_a_method_is_asked_of_the_wrapped_one(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or it is said why not."""
    kind = inspect.getattr_static(Method, name)
    if callable(kind):
        forwarded = name in vars(Wrapping).keys() | vars(TsPeft).keys() and calls(name, tmp_path)
    elif isinstance(kind, property):
        method, spy = spied()
        forwarded = getattr(method, name) is getattr(spy, name)
    else:
        monkeypatch.setattr(Lora, name, mark := object())
        forwarded = getattr(TsPeft(), name) is mark
    assert forwarded is (name not in NOT_FORWARDED), NOT_FORWARDED.get(name)


def spied() -> tuple[TsPeft, MagicMock]:
    """The gate, and what stands in the place of the method that it wraps."""
    method, spy = TsPeft(), MagicMock(spec=Lora)
    vars(method)["_wrapped"] = spy
    return method, spy


def calls(name: str, folder: Path) -> bool:
    """Whether the function of the gate calls that of the wrapped method."""
    layer = nn.Linear(2, 2)
    gated = Gated(nn.Sequential(layer), {"0": layer}, kernel=1.0)
    save_file({"0": torch.zeros(())}, folder / "thresholds.safetensors")
    method, spy = spied()
    spy.configure_mock(**{
        "attach.return_value": gated.module,
        "sites.return_value": {"0": layer},
        "optimizer.return_value": None,
        "with_size.return_value": Lora(r=2),
        "trainable_parameters.return_value": 1,
        "site_count.return_value": 1,
    })  # fmt: skip
    known = {"module": gated, "folder": folder, "name": "module.0.weight", "groups": [], "steps": 4, "step": 1}
    asked = getattr(method, name)
    asked(**{key: known.get(key, MagicMock()) for key in inspect.signature(asked).parameters})
    return bool(getattr(spy, name).called)


def test_it_is_resized_as_what_it_wraps() -> None:
    facts = find("tiny")
    method = TsPeft(over={"use": "dora", "r": 4, "lora_alpha": 8}, sparsity=0.5)
    resized = method.resized(facts, Dora(r=9).trainable_parameters(facts) or 0)
    assert resized == TsPeft(over={"use": "dora", "r": 9, "lora_alpha": 18}, sparsity=0.5)


def test_layers_that_roles_do_not_name_are_not_counted() -> None:
    method = TsPeft(over={"use": "lora", "target_modules": ["layers.1.mlp.down_proj"]})
    assert method.trainable_parameters(find("tiny")) is None


def test_a_model_that_does_not_fit_is_set_aside() -> None:
    (aside,) = plan({"use": "ts_peft", "over": {"use": "osf", "effective_rank": 10_000}}).set_aside
    assert "leaves nothing to train" in aside.reason


def test_it_is_listed_and_shown() -> None:
    assert "ts_peft" in {row["name"] for row in catalogue("methods")}
    card = method_card("ts_peft")
    assert [one.default for one in card.hyperparameters if one.name == "over"] == ["lora"]
    assert card.learning_rate == Lora.learning_rate


def test_tables_name_what_is_wrapped() -> None:
    dora = {"use": "ts_peft", "over": "dora"}
    assert variants(planned("lora", "ts_peft", dora)) == ["lora", "ts_peft over lora", "ts_peft over dora"]
    assert variants(planned(over(r=4), over(r=8), dora)) == [
        "ts_peft over lora r=4",
        "ts_peft over lora r=8",
        "ts_peft over dora",
    ]
    assert variants(planned("ts_peft", {"use": "ts_peft", "sparsity": 1.0})) == [
        "ts_peft over lora sparsity=0.1",
        "ts_peft over lora sparsity=1.0",
    ]


def test_a_setting_called_over_is_no_wrapped_method(tmp_path: Path) -> None:
    mine = tmp_path / "mine.py"
    mine.write_text(
        "from dataclasses import dataclass, field\n"
        "from peftbench.methods.lora import Lora\n"
        "@dataclass(frozen=True)\n"
        "class METHOD(Lora):\n"
        "    over: dict[str, str] = field(default_factory=lambda: {'use': 'gas', 'more': 'air'})\n"
    )
    (spec,) = planned(str(mine))
    assert spec.method.label == "mine"
    (over,) = [one for one in method_card(str(mine)).hyperparameters if one.name == "over"]
    assert over.default == {"use": "gas", "more": "air"}
    shown = io.StringIO()
    Console(width=120, file=shown).print(method_view(method_card(str(mine))))
    assert "air" in shown.getvalue()


def test_what_is_wrapped_is_in_the_row_of_a_run_and_in_no_other_id(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    specs = planned("lora", "ts_peft", {"use": "ts_peft", "over": "ia3"})
    for spec in specs:
        store.begin(spec, RESOURCES)
    rows = {row["run_id"]: row["method"] for row in status_rows(store, states(store), {})}
    assert [rows[spec.run_id] for spec in specs] == ["lora", "ts_peft over lora", "ts_peft over ia3"]
    assert "wraps" not in canonical_json(specs[0])
