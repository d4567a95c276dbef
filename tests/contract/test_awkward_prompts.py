"""Rows that are hard to ask, as token ids of real models: nothing of them is lost, nothing in them acts as a token."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from contract.awkward import FOLDER, awkward_rows, item_of
from peftbench import registry
from peftbench.errors import DataProblem
from peftbench.models._chat import Chat, Message
from peftbench.tasks._task import Example

SHARED = Path(__file__).parents[3] / "shared" / "models"
pytestmark = pytest.mark.shared

TASKS = sorted(file.stem for file in FOLDER.glob("*.jsonl"))
# With the embedding of a chat template, and without.
MODELS = {"stories260k-llama2": "plain", "smollm2-135m-instruct-gguf": "template"}
CONTEXT = 512
# The long text of these stands beside what is asked, where nothing may be cut.
NOT_CUT = {"codealpacapy", "conala", "copa", "math_qa", "openbookqa", "piqa"}


@pytest.fixture(scope="module", params=MODELS)
def speaks(request: pytest.FixtureRequest) -> tuple[Chat, Any]:
    """A model's way to be spoken to, and its tokenizer."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(SHARED / request.param)
    mode = MODELS[request.param]
    return Chat(tokenizer, "template" if mode == "template" else "plain"), tokenizer


def examples(name: str, folder: Path) -> dict[str, Example]:
    """The awkward rows of a task that are asked."""
    found = {}
    for row in awkward_rows(name):
        try:
            item = item_of(registry.load("tasks", name).value, row.row, folder)
        except DataProblem:
            continue
        if item is not None:
            found[row.what] = item.example
    return found


def message(example: Example) -> Message:
    return Message(example.instruction, example.body, example.question, example.cut_from)


def control_tokens(ids: tuple[int, ...], tokenizer: Any) -> list[int]:
    return [token for token in ids if token in tokenizer.added_tokens_decoder]


@pytest.mark.parametrize("name", TASKS)
def test_every_character_reaches_the_model_and_none_commands_it(
    name: str, speaks: tuple[Chat, Any], tmp_path: Path
) -> None:
    chat, tokenizer = speaks
    written_by_the_template = control_tokens(chat.prompt_ids(Message("Say red.", "", "")), tokenizer)
    asked = examples(name, tmp_path)
    assert len(asked) >= 6
    for what, example in asked.items():
        encoded = chat.encode(message(example), example.target, room=20_000)
        assert encoded is not None
        assert not encoded.cut
        assert message(example).text in tokenizer.decode(list(encoded.prompt)), what
        assert control_tokens(encoded.prompt, tokenizer) == written_by_the_template, what
        assert encoded.answer[-1] == chat.end_id
        assert control_tokens(encoded.answer[:-1], tokenizer) == [], what
        assert tokenizer.decode(list(encoded.answer[:-1])).strip() == example.target, what


@pytest.mark.parametrize("name", TASKS)
def test_a_long_body_is_cut_from_one_end_alone(name: str, speaks: tuple[Chat, Any], tmp_path: Path) -> None:
    chat, tokenizer = speaks
    example = examples(name, tmp_path)["2,000 words"]
    encoded = chat.encode(message(example), example.target, room=CONTEXT, answer_room=8)
    if name in NOT_CUT:
        assert encoded is None
        return
    assert encoded is not None
    assert encoded.cut
    assert CONTEXT - 8 - 8 <= len(encoded.prompt) <= CONTEXT - 8, "no more is cut than has to be"
    whole = tokenizer.decode(list(chat.prompt_ids(message(example))))
    before, body, after = whole.partition(example.body)
    text = tokenizer.decode(list(encoded.prompt))
    kept = text.removeprefix(before).removesuffix(after)
    assert text == before + kept + after
    assert len(kept) > 100
    assert body.startswith(kept) if example.cut_from == "end" else body.endswith(kept)
    assert body != kept
