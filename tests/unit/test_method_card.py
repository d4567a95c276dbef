"""The card of a method: what is read from its file, what is counted, and how it looks in a terminal."""

from __future__ import annotations

import importlib.util
import io
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest
from rich.console import Console
from typer.testing import CliRunner

from peftbench import registry
from peftbench.cli import app
from peftbench.errors import MissingExtra, UnknownName, UsageError
from peftbench.method_card import MethodCard, meaning, method_card
from peftbench.methods._attach import attached
from peftbench.methods._method import FAMILIES, Family, build
from peftbench.methods._paper import paper
from peftbench.methods._probed import CAPABILITIES, probed_methods
from peftbench.methods._variants import named, names
from peftbench.methods.lora import Lora
from peftbench.models._facts import find
from peftbench.plan import make_plan
from peftbench.show_method import method_view
from peftbench.spec import Resources
from peftbench.suites._read import build_suite
from peftbench.testing.models import load_here, save_tiny
from peftbench.testing.quantised import PACKAGE

# These follow no paper.
WITHOUT_PAPER = {"full", "zero_shot", "head_only", "last_layers", "trainable_tokens"}
TEMPLATE = Path(registry.__file__).parent / "methods" / "_template.py"


def shown(card: MethodCard, width: int) -> list[str]:
    said = io.StringIO()
    Console(file=said, width=width, legacy_windows=False).print(method_view(card))
    return said.getvalue().splitlines()


def ran(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["show", "method", *arguments], env={"COLUMNS": "80"})


@pytest.mark.parametrize("name", registry.shipped("methods"))
def test_every_method_is_of_one_family(name: str) -> None:
    cls = registry.load("methods", name).value
    assert cls.family in FAMILIES
    assert (cls.family == "reference") == (cls.reference is not None)
    declared = [one.__name__ for one in cls.__mro__ if vars(one).get("family") is not None]
    assert declared, "the class says it, or one that it extends"


def test_every_family_has_its_meaning() -> None:
    assert get_args(Family) == tuple(FAMILIES)


@pytest.mark.parametrize("name", registry.shipped("methods"))
def test_every_method_names_its_paper(name: str) -> None:
    found = paper(sys.modules[registry.load("methods", name).value.__module__].__doc__ or "")
    assert (found is None) == (name in WITHOUT_PAPER)
    assert found is None or found.place or (found.authors and found.year)


@pytest.mark.parametrize(
    ("text", "short", "link"),
    [
        ("LoRA: so (Hu et al., 2022, arXiv 2106.09685).", "Hu et al., 2022, arXiv 2106.09685", "abs/2106.09685"),
        ("X: so (FedPara: Hyeon-Woo et al., 2022, arXiv 2108.06098).", "Hyeon-Woo et al., 2022, arXiv", "abs/2108"),
        ("X: so (Kang and Yin, 2024, arXiv 2409.15371).", "Kang and Yin, 2024, arXiv 2409.15371", "abs/2409"),
        ("X: so (Zheng et al., 2025, NeurIPS).\n\nopenreview 8ZdWm.", "Zheng et al., 2025, NeurIPS, Open", "id=8ZdWm"),
        ("X: so (arXiv 2509.15974).", "2025, arXiv 2509.15974", "abs/2509.15974"),
        ("X: so (by some).\n\nTitle, AAAI, doi 10.1609/aaai.v40i31.39813.", "doi 10.1609", "10.1609/aaai.v40i31.39813"),
        ("X: so (section 3.2).", None, None),
        ("X: in 2022, nobody.", None, None),
    ],
)
def test_papers_are_read(text: str, short: str | None, link: str | None) -> None:
    found = paper(text)
    if short is None or link is None:
        assert found is None
    else:
        assert found is not None
        assert found.short.startswith(short)
        assert (found.link or "").endswith(link) or link in (found.link or "")


def test_a_meaning_is_the_clause_that_says_most() -> None:
    lora, parallel = (registry.load("methods", name).value for name in ("lora", "parallel"))
    assert meaning(lora, "r").startswith("`r` is the rank of the update")
    assert meaning(lora, "use_rslora") == "With `use_rslora` the scale is `lora_alpha / sqrt(r)`"
    assert meaning(lora, "lora_alpha") == "The layer's output gains `lora_alpha / r * B A x`"
    assert meaning(parallel, "width") == "`width` is the bottleneck", "of a class that it extends"
    assert meaning(lora, "nothing") == ""


def test_what_is_trained_is_counted_on_a_model() -> None:
    on = method_card("lora", "tiny").on_model
    assert on is not None
    assert (on.parameters, on.trained, on.attached) == (870_016, 57_344, None)
    assert on.sizes is not None
    assert (on.sizes.values, on.sizes.count) == ((1, 2, 128), 128)
    assert (on.sizes.least, on.sizes.most) == (57_344 // 16, 57_344 // 16 * 128)
    road = method_card("road", "tiny").on_model
    assert road is not None
    assert road.sizes is not None
    assert road.sizes.values == ("road_1", "road_2", "road_4")


def test_attached_the_count_is_the_same() -> None:
    done = ran("lora", "--model", "tiny", "--attach", "--json")
    assert done.exit_code == 0, done.output
    on = json.loads(done.stdout)["on_model"]
    assert on["attached"] == on["trained"] == 57_344


def test_what_only_training_examples_decide_is_not_counted() -> None:
    """Attached without examples `eva` is plain LoRA, and its count would be that."""
    done = ran("eva", "--model", "tiny", "--attach", "--json")
    assert done.exit_code == 0, done.output
    on = json.loads(done.stdout)["on_model"]
    assert (on["trained"], on["attached"], on["by_data"]) == (None, None, True)
    assert "what the training examples decide" in " ".join("\n".join(shown(method_card("eva", "tiny"), 80)).split())
    known = method_card("corda", "tiny").on_model
    assert known is not None
    assert (known.trained, known.by_data) == (57_344, False)


def test_a_model_that_does_not_fit_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        registry.load("methods", "lora").value, "unfit", lambda self, facts: f"{facts.name} is of another kind"
    )
    card = method_card("lora", "tiny")
    assert card.on_model is not None
    assert card.on_model.trained is None
    assert "tiny is of another kind" in "\n".join(shown(card, 80))


@pytest.mark.parametrize("model", ["tiny", "llama", "gpt2"])
def test_card_and_plan_agree_on_what_fits(model: str, tmp_path: Path) -> None:
    """On the embedded model; on one whose layers are all too narrow for blocks of 64; and on transposed ones."""
    where = model if model == "tiny" else str(save_tiny(model, tmp_path / model))
    methods = registry.shipped("methods")
    suite = {"tasks": ["toy_mood"], "models": [where], "methods": methods, "seeds": [1]}
    plan = make_plan(build_suite(suite, ["train.allow_not_causal=true"]), Resources())
    reasons = {aside.method: aside.reason for aside in plan.set_aside if "leave no room" not in aside.reason}
    cards = {name: method_card(name, where).on_model for name in methods}
    assert {name: on.unfit or on.lacking for name, on in cards.items() if on and (on.unfit or on.lacking)} == reasons
    assert (model == "llama") == ("blocks of 64" in reasons.get("qlora", ""))


def test_what_packs_the_base_may_lack(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is trained is known all the same; attached is what a run attaches, or nothing."""
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *of: None if name == PACKAGE else find_spec(name, *of)
    )
    card = method_card("qlora", "tiny")
    on = card.on_model
    assert on is not None
    assert (on.unfit, on.quantization, on.trained) == (None, "nf4", 598_016)
    lines = shown(card, 80)
    assert any(line.split() == ["its", "base", "packed", "into", "nf4"] for line in lines)
    assert "nf4 needs a package that is not installed" in "\n".join(lines)
    refused = ran("qlora", "--model", "tiny", "--attach").exception
    assert isinstance(refused, MissingExtra)
    assert str(refused) == "This needs the package bitsandbytes. Install it with: pip install 'peftbench[bitsandbytes]'"


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    """LoRA as it was trained somewhere on the embedded model."""
    folder, base = tmp_path / "ad", load_here(find("tiny"))
    folder.mkdir()
    with attached(Lora(r=4), base) as lent:
        Lora(r=4).save(lent.module, base, folder)
    return folder


def test_what_was_trained_before_is_shown_and_not_tried(adapter: Path) -> None:
    stored = (adapter / "adapter_model.safetensors").stat().st_size
    done = ran(str(adapter), "--model", "tiny", "--attach", "--json")
    assert done.exit_code == 0, done.output
    assert "Trying" not in done.stderr
    card = json.loads(done.stdout)
    assert card["earlier"] == {
        "parameters": 14_336,
        "bytes": stored,
        "model": "tiny",
        "revision": find("tiny").revision,
    }
    assert (card["size"], card["variants"], card["capabilities"]) == (None, [], [])
    on = card["on_model"]
    assert (on["trained"], on["attached"], on["sizes"], on["caution"]) == (14_336, 14_336, None, None)
    text = " ".join(" ".join(shown(method_card(str(adapter)), 80)).split())
    assert "adapter 14,336 numbers, " in text
    assert f"trained on tiny, revision {find('tiny').revision}" in text
    assert "What it can do" not in text


def test_what_somebody_should_know_is_on_the_card(adapter: Path, tmp_path: Path) -> None:
    card = method_card(str(adapter), str(save_tiny("llama", tmp_path / "other")))
    assert card.on_model is not None
    assert card.on_model.caution == "it was trained on tiny, which other may not be"
    assert "it was trained on tiny, which other may not be" in "\n".join(shown(card, 80))


def test_a_variant_has_a_card_of_its_own() -> None:
    card = method_card("OLoRA")
    assert (card.name, card.variant_of) == ("olora", "lora")
    assert card.paper is not None
    assert card.paper.authors == "Büyükakyüz"
    (start,) = [one.default for one in card.hyperparameters if one.name == "init_lora_weights"]
    assert start == "olora"


def test_a_wrapped_method_stands_by_its_name() -> None:
    (row,) = [line.split() for line in shown(method_card("ts_peft"), 80) if line.split()[:1] == ["over"]]
    assert row[1] == "lora"


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("name", names())
def test_no_card_is_wider_than_the_terminal(name: str, width: int) -> None:
    card = method_card(name, "tiny")
    lines = shown(card, width)
    text = " ".join(" ".join(lines).split())
    assert max(map(len, lines)) <= width
    assert "…" not in text.replace(", …,", ""), "nothing is cut"
    for word in (card.family, f"{card.name}, version {card.version}", *(one.name for one in card.hyperparameters)):
        assert word is not None
        assert word in text
    assert all(f" {capability} " in text for capability in CAPABILITIES)


def test_a_file_of_ones_own_is_tried_when_its_card_is_asked_for(tmp_path: Path) -> None:
    file = tmp_path / "lora.py"
    file.write_text(TEMPLATE.read_text(encoding="utf-8"), encoding="utf-8")
    assert method_card(str(file)).capabilities == (), "it has the name of a member, and is none"
    done = ran(str(file), "--json")
    assert done.exit_code == 0, done.output
    assert "Trying what" in done.stderr
    found = {one["name"]: one["holds"] for one in json.loads(done.stdout)["capabilities"]}
    assert list(found) == list(CAPABILITIES)
    assert {name for name, holds in found.items() if not holds} == {"merging", "quantised base"}


def test_a_card_needs_no_word_of_its_author(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    lines = [
        "from dataclasses import dataclass",
        "from peftbench.methods.zero_shot import ZeroShot",
        "@dataclass(frozen=True)",
    ]
    lines += ["class Mine(ZeroShot):", "    family = 'sorcery'", "    spell: str = 'x'", "METHOD = Mine"]
    file.write_text("\n".join(lines), encoding="utf-8")
    card = method_card(str(file), "tiny")
    assert (card.about, card.what, card.paper, card.family, card.family_means) == ("", "", None, "sorcery", "")
    assert [(one.name, one.default, one.meaning) for one in card.hyperparameters] == [("spell", "x", "")]
    assert "Nobody has tried." in "\n".join(shown(card, 80))


FAULTY = """
from dataclasses import dataclass
from peftbench.methods._method import Method

@dataclass(frozen=True)
class Faulty(Method):
    def attach(self, base):
        return base.model

    def {question}:
        return facts.no_such_thing

METHOD = Faulty
"""


@pytest.mark.parametrize(
    ("command", "question"),
    [
        (["show", "method", "--model", "tiny"], "unfit(self, facts)"),
        (["show", "method", "--model", "tiny"], "trainable_parameters(self, facts)"),
        (["plan", "--tasks", "toy_mood", "--models", "tiny", "--methods"], "unfit(self, facts)"),
        (["plan", "--tasks", "toy_mood", "--models", "tiny", "--methods"], "caution(self, facts)"),
    ],
)
def test_a_question_that_a_file_has_no_answer_to_is_told_with_its_line(
    command: list[str], question: str, tmp_path: Path
) -> None:
    file = tmp_path / "faulty.py"
    file.write_text(FAULTY.replace("{question}", question))
    result = CliRunner().invoke(app, [*command, str(file)])
    assert isinstance(result.exception, UsageError), result.exception
    assert "faulty.py, line 11: AttributeError:" in str(result.exception)
    assert "no_such_thing" in str(result.exception)


def test_wrong_usage_is_told() -> None:
    with pytest.raises(UnknownName, match="Did you mean 'lora'"):
        method_card("lorra")
    assert isinstance(ran("lora", "--attach").exception, UsageError)
    assert isinstance(ran("lora", "--model", "nowhere").exception, UsageError)


# ---- what is kept in the package -----------------------------------------------------------------------------------

KNOWN = probed_methods().methods
SHIPPED = [name for name in names() if named(name).member.plugin is None]


def test_everything_was_tried() -> None:
    assert set(KNOWN) == set(SHIPPED), "run scripts/write_capabilities.py"
    for name, one in KNOWN.items():
        assert one.version == named(name).member.value.version, f"run scripts/write_capabilities.py {name}"
        assert [each.name for each in one.capabilities] == list(CAPABILITIES)
        assert all(each.detail for each in one.capabilities if not each.holds)


@pytest.mark.parametrize("name", SHIPPED)
def test_what_is_promised_was_found(name: str) -> None:
    cls = named(name).member.value
    found = {one.name: one.holds for one in KNOWN[name].capabilities}
    assert bool(found["merging"]) == cls.merges
    assert found["causal"] == cls.causal
    assert found["identity at start"] or not cls.identity_at_start
    method = build(name, cls, named(name).settings)
    packed = replace(find("tiny"), quantization=method.quantization or "nf4")
    assert found["quantised base"] == (method.quantised_base and method.unfit(packed) is None), "tried, not believed"


def test_it_is_known_what_packed_the_weights() -> None:
    assert "bitsandbytes" in probed_methods().libraries, "see scripts/write_capabilities.py"
