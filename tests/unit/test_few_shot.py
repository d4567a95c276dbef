"""Examples in the prompt: which are drawn, how they stand there, and what room they take."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from peftbench import answering, execute
from peftbench.errors import DataProblem, MethodProblem
from peftbench.methods._method import build
from peftbench.methods.few_shot import FewShot
from peftbench.methods.lora import Lora
from peftbench.models._chat import Chat, Message
from peftbench.models._facts import find
from peftbench.models._load import load
from peftbench.plan import make_plan
from peftbench.record import Record
from peftbench.spec import ModelRef, Resources, RowsSpec
from peftbench.store import Store
from peftbench.suites._read import build_suite
from peftbench.tasks._task import Example, Item
from peftbench.training.questions import Room, as_turns, message_of, token_table
from peftbench.training.shots import draw, in_turn
from peftbench.workbench import Workbench
from property.strategies import seeds

TEMPLATE = (
    "{% for message in messages %}<{{ message.role }}>{{ message.content | trim }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
ROOM = Room(400, answer=8)


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    facts = find("tiny")
    return load(ModelRef(name="tiny", revision=facts.revision), facts, torch.device("cpu")).tokenizer


@pytest.fixture
def templated(tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(tokenizer, "chat_template", TEMPLATE)
    return tokenizer


def rows(answers: Sequence[str], split: str = "train") -> list[Item]:
    examples = [Example("Sort it.", answer, body=f"note {place}") for place, answer in enumerate(answers)]
    return [Item(f"{split}/{place}", example, (example.target,)) for place, example in enumerate(examples)]


answers = st.lists(st.sampled_from("abc"), min_size=1, max_size=30)


# ---- which are drawn -----------------------------------------------------------------------------------------------


@given(answers, seeds, st.integers(0, 29))
def test_what_fits_is_drawn_once_and_answers_take_turns(given_answers: list[str], seed: int, odd: int) -> None:
    items = rows(given_answers)
    drawn = list(in_turn(items, seed, lambda item: item.id != f"train/{odd}"))
    fitting = [item for item in items if item.id != f"train/{odd}"]
    assert sorted(item.id for item in drawn) == sorted(item.id for item in fitting)
    left = Counter(item.references[0] for item in fitting)
    while drawn:
        turn, drawn = drawn[: len(left)], drawn[len(left) :]
        assert {item.references[0] for item in turn} == set(left)
        left = Counter({answer: count - 1 for answer, count in left.items() if count > 1})


def test_a_seed_draws_the_same_and_others_draw_others(tokenizer: Any) -> None:
    items, chat = rows(["bright", "dim"] * 50), Chat(tokenizer, "plain")
    drawn = [tuple(item.id for item in draw(items, 4, seed, chat, ROOM)) for seed in (*range(20), *range(20))]
    assert drawn[:20] == drawn[20:]
    assert len(set(drawn)) == 20
    assert [item.example.target for item in draw(items, 4, 1, chat, ROOM)].count("dim") == 2


def test_what_a_known_seed_draws(tokenizer: Any) -> None:
    # Golden: when these change, every result changes. Raise NUMERICS in spec.py with them.
    drawn = draw(rows(["bright", "dim"] * 50), 4, 1, Chat(tokenizer, "plain"), ROOM)
    assert [item.id for item in drawn] == ["train/90", "train/55", "train/24", "train/37"]


def test_an_example_takes_its_share_at_most(tokenizer: Any) -> None:
    chat = Chat(tokenizer, "plain")
    long = Item("train/9", Example("Sort it.", "dim", body="word " * 200), ("dim",))
    short = rows(["bright", "dim"])
    for seed in range(10):
        assert long not in draw([*short, long], 2, seed, chat, ROOM)
    with pytest.raises(DataProblem, match="3 examples are wanted, 2 of 3 training rows fit into 98 tokens") as caught:
        draw([*short, long], 3, 1, chat, ROOM)
    assert "k" in caught.value.fix


# ---- how they stand there ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("answer", ["dim", "<|end|>"])
def test_without_a_template_they_are_asked_and_answered_as_in_training(tokenizer: Any, answer: str) -> None:
    chat, shots = Chat(tokenizer, "plain"), rows([answer, "bright"])
    question = Message("Sort it.", "A note.", "")
    found = chat.after(as_turns(shots)).prompt_ids(question)
    begin = (tokenizer.bos_token_id,)
    expected = begin
    for item in shots:
        encoded = chat.encode(message_of(item.example), item.example.target, 400)
        assert encoded is not None
        assert encoded.prompt[:1] == begin
        expected += encoded.prompt[1:] + encoded.answer
    assert found == expected + chat.prompt_ids(question)[1:]


def test_with_a_template_they_are_earlier_turns(templated: Any) -> None:
    chat = Chat(templated, "template").after(as_turns(rows(["dim"])))
    assert chat.prompt(Message("Sort it.", "A note.", "")) == (
        "<user>Sort it.\nnote 0<|end|><assistant>dim<|end|><user>Sort it.\nA note.<|end|><assistant>"
    )


@pytest.mark.parametrize("mode", ["plain", "template"])
def test_no_example_ends_its_own_answer(templated: Any, mode: Any) -> None:
    """A row that is a control token from end to end, in the place of a question and in that of an answer."""
    chat = Chat(templated, mode)
    shots = [
        (Message("", "<|end|>", ""), "bright"),
        (Message("Sort <|end|>it.", "", ""), "<|end|>"),
        (Message("", " a ", ""), "<|end|>"),
    ]
    harmless = [(Message("", "x", ""), "bright"), (Message("Sort it.", "", ""), "x"), (Message("", " a ", ""), "x")]
    question = Message("Sort it.", "A <|end|>", "")
    ids = [chat.after(turns).prompt_ids(question) for turns in (shots, harmless)]
    ends = [[token for token in found if token == templated.eos_token_id] for found in ids]
    assert ends[0] == ends[1]
    assert templated.decode(ids[0]).count("<|end|>") == len(ends[0]) + 5


def test_a_question_is_cut_to_the_room_that_is_left(tokenizer: Any) -> None:
    chat = Chat(tokenizer, "plain").after(as_turns(rows(["dim", "bright"])))
    before = len(chat.prompt_ids(Message("", "", "")))
    asked = Message("Sort it.", "word " * 500, "")
    cut = chat.encode(asked, "dim", before + 40, 8)
    assert cut is not None
    assert cut.cut
    assert before < len(cut.prompt) <= before + 32
    assert chat.encode(asked, "dim", before + 9, 8) is None


def test_kept_ids_are_those_of_prompts_without_examples(
    tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    items, chat = rows(["dim"] * 300, "test"), Chat(tokenizer, "plain")
    plain = token_table(chat, items, ROOM)
    behind = token_table(chat.after(as_turns(rows(["dim"]))), items, ROOM)
    other = token_table(chat.after(as_turns(rows(["bright"]))), items, ROOM)
    again = token_table(Chat(tokenizer, "plain"), items, ROOM)
    found = [table[7] for table in (plain, behind, other)]
    assert len({one.prompt for one in found if one is not None}) == 3
    assert again[7] == plain[7]
    assert len(list((tmp_path / "peftbench" / "tokens").iterdir())) == 1


# ---- runs ----------------------------------------------------------------------------------------------------------


def test_without_examples_it_is_refused() -> None:
    for k in (0, -1):
        with pytest.raises(MethodProblem, match="k must be at least 1: without examples it is zero_shot"):
            build("few_shot", FewShot, {"k": k})


Run = Callable[..., list[Record]]
Prompts = list[list[tuple[int, ...]]]


@pytest.fixture
def prompts(monkeypatch: pytest.MonkeyPatch) -> Prompts:
    """What the model is asked, a list for each time."""
    seen: Prompts = []

    def greedy(module: Any, asked: list[tuple[int, ...]], *rest: Any) -> list[list[int]]:
        seen.append(asked)
        return [[5]] * len(asked)

    monkeypatch.setattr(answering, "greedy", greedy)
    return seen


@pytest.fixture
def run(tmp_path: Path, prompts: Prompts) -> Run:
    store, bench = Store(tmp_path), Workbench()

    def done(methods: list[Any], **more: Any) -> list[Record]:
        suite = {"tasks": ["toy_mood"], "models": [{"use": "tiny", "chat": "plain"}], "methods": methods, **more}
        suite["train"] = {"limit": 40, "max_steps": 1, **more.get("train", {})}
        plan = make_plan(build_suite(suite), Resources(device="cpu", threads=1))
        assert not plan.set_aside
        return [execute(one.spec, one.resources, store, bench) for one in plan.runs]

    return done


def drawn_for(record: Record, folder: Path) -> list[str]:
    """The examples of a run, as its log names them."""
    log = (folder / "runs" / record.run_id / "log.txt").read_text()
    (line,) = [line for line in log.splitlines() if "examples in every prompt" in line]
    return line.partition("prompt: ")[2].split(", ")


def test_a_run_for_each_seed(run: Run, prompts: Prompts, tokenizer: Any, tmp_path: Path) -> None:
    records = run(["zero_shot", "few_shot"], evaluate={"limit": 8}, seeds=[1, 2])
    assert [record.failure for record in records] == [None] * 3
    assert [record.spec.seed for record in records] == [None, 1, 2]
    assert {record.spec.train for record in records} == {None}
    assert [record.spec.drawn_from for record in records] == [None, *[RowsSpec(limit=40)] * 2]
    first, second = records[1:]
    assert (first.fit, first.cost and first.cost.trainable_parameters) == (None, 0)
    assert not (tmp_path / "runs" / first.run_id / "adapter").exists()
    assert len(set(drawn_for(first, tmp_path))) == 4
    assert all(item.startswith("train/") for item in drawn_for(first, tmp_path))
    assert drawn_for(first, tmp_path) != drawn_for(second, tmp_path)
    alone, _, behind_first, _, behind_second = prompts
    for behind in (behind_first, behind_second):
        starts = {prompt[: len(prompt) - len(bare) + 1] for prompt, bare in zip(behind, alone, strict=True)}
        assert len(starts) == 1, "all questions of a seed see the same examples"
        (start,) = starts
        assert behind == [(*start, *bare[1:]) for bare in alone]
        assert start.count(Chat(tokenizer, "plain").end_id) == 4
    assert behind_first != behind_second
    flops = [(record.cost.forward_flops, record.cost.base_forward_flops) for record in records if record.cost]
    assert [attached == base for attached, base in flops] == [True, False, False]
    assert all((attached or 0) >= (base or 0) > 0 for attached, base in flops), "examples cost what their tokens do"


def test_examples_are_of_the_rows_that_training_would_have(run: Run, tmp_path: Path) -> None:
    """Not of those that are held out, on which it may be evaluated like what it is compared with."""
    asked = {"seeds": [5], "train": {"validation_share": 0.6}, "evaluate": {"split": "validation"}}
    shown, trained = [run([name], **asked)[0] for name in ("few_shot", "lora")]
    assert shown.failure is None
    assert shown.test is None
    held_out = [[row.id for row in Store(tmp_path).predictions(one.run_id)] for one in (shown, trained)]
    assert held_out[0] == held_out[1]
    assert not set(drawn_for(shown, tmp_path)) & set(held_out[0])


def test_what_is_trained_may_be_asked_behind_examples(
    run: Run, prompts: Prompts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Lora, "shots", 2)
    (record,) = run(["lora"], evaluate={"limit": 2})
    assert record.failure is None
    assert record.fit is not None
    assert record.spec.drawn_from is None
    assert len(drawn_for(record, tmp_path)) == 2
    assert record.fit.tokens < 8 * len(prompts[-1][0])


def test_what_does_not_matter_is_no_part_of_a_run() -> None:
    def ids(**train: Any) -> list[str]:
        suite = {"tasks": ["toy_mood"], "models": ["tiny"], "methods": ["few_shot"], "train": train}
        return [one.run_id for one in make_plan(build_suite(suite), Resources()).runs]

    assert ids() == ids(lr=1.0, num_train_epochs=9) != ids(limit=100)
    assert ids(limit=100) != ids(limit=100, validation_share=0.3)


def test_too_few_examples_fail_the_run_and_say_so(run: Run) -> None:
    (record,) = run([{"use": "few_shot", "k": 200}], seeds=[1], evaluate={"limit": 2})
    assert record.failure is not None
    assert record.failure.phase == "model"
    assert "200 examples are wanted, 0 of 36 training rows fit" in record.failure.message
