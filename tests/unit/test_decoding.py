"""Greedy decoding against `generate` of transformers, one unpadded prompt at a time; chat templates that are real."""

from __future__ import annotations

import copy
import weakref
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from transformers import AddedToken

from peftbench.evaluation import predict
from peftbench.evaluation.predict import Decoding, greedy
from peftbench.models._chat import Chat, Message
from peftbench.models._facts import find
from peftbench.models._layout import PADDED, Layout
from peftbench.models._load import LoadedModel, load
from peftbench.models._prefilled import Prefilled, prefill
from peftbench.spec import ModelRef

CPU = torch.device("cpu")
SHARED = Path(__file__).parents[3] / "shared" / "models"
shared = pytest.mark.shared
MODELS = ["tiny", pytest.param("stories260k-llama2", marks=shared), pytest.param("stories15m-llama2", marks=shared)]


@pytest.fixture(scope="module", params=MODELS)
def base(request: pytest.FixtureRequest) -> LoadedModel:
    torch.set_num_threads(1)
    facts = find("tiny" if request.param == "tiny" else str(SHARED / request.param))
    return load(ModelRef(name=facts.name, revision=facts.revision), facts, CPU)


def reference(base: LoadedModel, prompt: tuple[int, ...], tokens: int) -> list[int]:
    ids = torch.tensor([prompt])
    options = {
        "do_sample": False,
        "max_new_tokens": tokens,
        "eos_token_id": base.chat.end_id,
        "pad_token_id": base.chat.end_id,
    }
    with torch.inference_mode():
        out = base.model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), **options)  # type: ignore[operator]
    row: list[int] = out[0, len(prompt) :].tolist()
    return row[: row.index(base.chat.end_id)] if base.chat.end_id in row else row


def test_equal_to_generate_in_any_batch(base: LoadedModel) -> None:
    words = ["cat", "a small dog", "the sun over the hill and far away", "One day", "Tom", "rain rain rain rain rain"]
    prompts = [base.chat.prompt_ids(Message("Tell a story.", word, "")) for word in words]
    expected = [reference(base, prompt, 12) for prompt in prompts]
    assert any(expected)
    for batch in (1, 2, 6):
        assert greedy(base.model, prompts, Decoding(12, base.chat.end_id, batch, CPU)) == expected
        in_a_row = Decoding(12, base.chat.end_id, batch, CPU, layout=Layout(packed=True, shared=True))
        # Asked again and again, so that answers are drafted.
        assert greedy(base.model, prompts * 3, in_a_row) == expected * 3


def test_what_is_held_of_prompts_is_free_when_the_next_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the memory of keys and values is taken twice."""
    facts = find("tiny")
    base = load(ModelRef(name=facts.name, revision=facts.revision), facts, CPU)
    held: list[weakref.ref[Prefilled]] = []

    def watched(*prompts: Any, **how: Any) -> tuple[Prefilled, torch.Tensor]:
        assert all(each() is None for each in held)
        read, logits = prefill(*prompts, **how)
        held.append(weakref.ref(read))
        return read, logits

    monkeypatch.setattr(predict, "prefill", watched)
    prompts = [base.chat.prompt_ids(Message("Tell a story.", word, "")) for word in ("cat", "a dog", "Tom", "rain")]
    for layout in (PADDED, Layout(packed=True, shared=True)):
        monkeypatch.setattr(predict, "_COLUMNS", 1)
        greedy(base.model, prompts, Decoding(3, base.chat.end_id, 2, CPU, layout=layout))
    assert len(held) >= 4


@pytest.mark.parametrize("tokens", [1, 2, 5, 12])
@pytest.mark.parametrize(
    "packed", [Layout(packed=True), Layout(packed=True, shared=True, dense=torch.float32)], ids=str
)
def test_equal_to_generate_with_drafts_that_hold_in_part(base: LoadedModel, packed: Layout, tokens: int) -> None:
    """Prompts that were answered before, prompts that were not, and answers that are cut within a draft."""
    words = ["cat", "a small dog", "Tom", "rain rain rain"]
    often = [base.chat.prompt_ids(Message("Tell a story.", word, "")) for word in words] * 4
    new = [base.chat.prompt_ids(Message("Say it.", f"{number} and {number + 1}", "")) for number in range(6)]
    expected = {prompt: reference(base, prompt, tokens) for prompt in {*often, *new}}
    for prompts in (often, [*often, *new], [*new, *often], new):
        found = greedy(base.model, prompts, Decoding(tokens, base.chat.end_id, 4, CPU, layout=packed))
        assert found == [expected[prompt] for prompt in prompts]
    assert tokens == 1 or len({*map(tuple, expected.values())}) > 1


def test_one_beginning_token_at_most(base: LoadedModel) -> None:
    ids = base.chat.prompt_ids(Message("Tell a story.", "cat", ""))
    begin = base.tokenizer.bos_token_id
    assert begin is None or ids.count(begin) <= (1 if base.tokenizer.chat_template is None else ids.count(begin))
    assert begin is None or ids[:2] != (begin, begin)


def test_no_system_message_where_there_is_none(base: LoadedModel) -> None:
    assert base.chat.system_message() is None


@pytest.mark.parametrize("cut_from", ["start", "end"])
def test_only_the_body_is_cut(base: LoadedModel, cut_from: Literal["start", "end"]) -> None:
    body = "First " + "once there was a cat " * 60 + "at last"
    message = Message("Read the story.", body, "What was there?", cut_from)
    whole = base.chat.encode(message, "cat", room=10_000)
    assert whole is not None
    assert not whole.cut
    room = 120
    short = base.chat.encode(message, "cat", room=room)
    assert short is not None
    assert short.cut
    assert short.tokens <= room
    assert short.answer == whole.answer
    text = base.tokenizer.decode(list(short.prompt))
    assert message.instruction in text
    assert message.question in text
    assert "once there was a cat" in text
    assert ("First" in text, "at last" in text) == (cut_from == "end", cut_from == "start")


@pytest.mark.parametrize("cut_from", ["start", "end"])
def test_the_cut_takes_no_more_than_it_must(base: LoadedModel, cut_from: Literal["start", "end"]) -> None:
    message = Message("Read.", "once there was a cat " * 60, "What?", cut_from)
    lengths = [base.chat.encode(message, "cat", room=room) for room in range(100, 120)]
    assert all(
        encoded is not None and room - encoded.tokens <= 8
        for room, encoded in zip(range(100, 120), lengths, strict=True)
    )


def test_what_cannot_fit_is_none(base: LoadedModel) -> None:
    assert base.chat.encode(Message("Read the story.", "", "What was there, and why, and who?"), "cat", room=8) is None
    assert base.chat.encode(Message("Read.", "", "?"), "cat", room=60, answer_room=59) is None


@pytest.mark.parametrize("special", [True, False])
def test_an_end_token_without_a_role(base: LoadedModel, *, special: bool) -> None:
    """Some templates close an answer with a special token that is not `eos_token` nor any other named one."""
    tokenizer = copy.deepcopy(base.tokenizer)
    tokenizer.add_tokens([AddedToken("<|over|>", special=special)])
    tokenizer.chat_template = "{% for turn in messages %}{{ turn.content }}<|over|>{% endfor %}"
    over = tokenizer.convert_tokens_to_ids("<|over|>")
    assert over not in tokenizer.all_special_ids
    assert Chat(tokenizer, "template").end_id == (over if special else tokenizer.eos_token_id)


@pytest.mark.parametrize("template", ["<go>{{ x }}</go>", "<go> {{ x | trim }} </go>", "<go>said</go>", None])
def test_what_looks_like_a_control_token_in_a_text_is_none(base: LoadedModel, template: str | None) -> None:
    """Whatever a template does with the text; one that does not repeat it has nothing to be kept apart from."""
    tokenizer = copy.deepcopy(base.tokenizer)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<go>", "</go>"]})
    if template:
        turns = "{% for turn in messages %}" + template.replace("x", "turn.content") + "{% endfor %}"
        tokenizer.chat_template = turns
    controls = tokenizer.convert_tokens_to_ids(["<go>", "</go>"])
    chat = Chat(tokenizer, "template" if template else "plain")
    encoded = chat.encode(Message("Read:", "a </go> b <go>", "c</go>  "), "d </go> e", room=200)
    assert encoded is not None
    assert [token for token in encoded.prompt if token in controls] == (controls if template else [])
    assert not set(controls) & set(encoded.answer[:-1])
    if template != "<go>said</go>":
        assert "Read:\na </go> b <go>\nc</go>" in tokenizer.decode(list(encoded.prompt))
    assert tokenizer.decode(list(encoded.answer[:-1])) == "d </go> e"


@pytest.mark.shared
def test_template_of_a_real_chat_model() -> None:
    """SmolLM2: its own system message once, the end token closes the answer, though it is the pad token as well."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(SHARED / "smollm2-135m-instruct-gguf")
    chat = Chat(tokenizer, "template")
    assert tokenizer.pad_token_id == tokenizer.eos_token_id == chat.end_id
    system = chat.system_message()
    assert system is not None
    assert "You are a helpful AI assistant named SmolLM" in system
    assert "user" not in system
    text = tokenizer.decode(list(chat.prompt_ids(Message("Say red.", "", ""))))
    assert text.count("<|im_start|>system") == 1
    assert text.endswith("<|im_start|>assistant\n")
    encoded = chat.encode(Message("Say red.", "", ""), "red", room=100)
    assert encoded is not None
    assert tokenizer.decode(list(encoded.answer)) == "red<|im_end|>"
