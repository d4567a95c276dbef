"""A prompt of training examples: which tokens it is made of, what is learned in it, and how far it may move."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from peftbench import registry
from peftbench.cost.flops import forward_flops
from peftbench.errors import MethodProblem
from peftbench.methods._attach import attached
from peftbench.methods._method import build
from peftbench.methods._peft import peft_model
from peftbench.methods.cpt import Cpt, context
from peftbench.models._chat import Encoded
from peftbench.models._load import LoadedModel
from peftbench.testing.models import tiny

# Answers of one token, with which a mean over answers is a mean over tokens.
EXAMPLES = (Encoded((10, 11, 12), (7,)), Encoded((13, 14), (8,)), Encoded((15, 16, 17, 18), (9,)))


@pytest.fixture
def base(tmp_path: Path) -> LoadedModel:
    torch.manual_seed(0)
    return tiny("llama", tmp_path / "llama").showing(EXAMPLES)


ids = st.lists(st.integers(0, 99), min_size=1, max_size=9).map(tuple)


@given(st.lists(st.builds(Encoded, ids, ids), min_size=1, max_size=4), st.integers(1, 60))
def test_it_is_the_end_of_the_first_examples(examples: Sequence[Encoded], length: int) -> None:
    tokens, kinds = context(examples, length)
    assert len(tokens) == len(kinds) == length
    order = [(example, place) for place, example in enumerate([*examples] * length)]
    expected: list[tuple[int, bool, int]] = []
    for example, place in order:
        if len(expected) < length:
            expected += [(token, False, place) for token in example.prompt]
            expected += [(token, True, place) for token in example.answer]
    found = [(token, kind % 4 == 0, (kind - 1) // 4) for token, kind in zip(tokens, kinds, strict=True)]
    assert found == expected[-length:]
    assert all(kind % 4 in (0, 2) and kind > 0 for kind in kinds)


def test_without_examples_there_is_room_for_a_prompt() -> None:
    assert context([], 3) == ([0, 0, 0], [2, 2, 2])


@pytest.mark.parametrize("decay", [0.5, 1.0])
def test_the_loss_is_that_of_the_library(base: LoadedModel, decay: float) -> None:
    """Which has the mean over all that is asked, in the prompt and behind it: here four answers of one token."""
    method = Cpt(num_virtual_tokens=12, opt_loss_decay_factor=decay)
    with attached(method, base) as adapter:
        with torch.no_grad():
            adapter.trainable["peft.prompt_encoder.default.delta_embedding.weight"].normal_(std=0.01)
        question, answer = torch.tensor([[20, 21, 22, 6]]), torch.tensor([[-100, -100, -100, 6]])
        library = peft_model(adapter.module)(input_ids=question, labels=answer).loss
        mask = torch.ones_like(question)
        logits = adapter.module(question, mask, torch.arange(4)[None]).logits[:, -2]
        own = torch.nn.functional.cross_entropy(logits, answer[:, -1])
        penalty = method.penalty(adapter.module)
    assert penalty is not None
    torch.testing.assert_close(own + penalty, library * 4, atol=1e-5, rtol=1e-5)


def test_answers_stay_and_questions_stay_near(base: LoadedModel) -> None:
    method = Cpt(num_virtual_tokens=10, opt_projection_epsilon=0.2)
    with attached(method, base) as adapter:
        encoder = peft_model(adapter.module).prompt_encoder["default"]
        start = adapter.module.prompt(1)[0].clone()  # type: ignore[operator]
        tokens = torch.tensor([12, 7, 13, 14, 8, 15, 16, 17, 18, 9])
        torch.testing.assert_close(start, base.model.get_input_embeddings()(tokens))  # type: ignore[operator]
        stepper = torch.optim.AdamW(adapter.trainable.values(), lr=0.1, weight_decay=0.1)
        for _ in range(3):
            loss = method.penalty(adapter.module)
            assert loss is not None
            loss.backward()  # type: ignore[no-untyped-call]
            stepper.step()
            stepper.zero_grad()
            method.after_step(adapter.module, 1)
        moved = (adapter.module.prompt(1)[0] - start).detach().norm(dim=1)  # type: ignore[operator]
        kinds = encoder.config.cpt_tokens_type_mask
    answers = torch.tensor([kind % 4 == 0 for kind in kinds])
    assert answers.sum() == 3
    assert float(moved[answers].max()) == 0
    radius = 0.2 * (base.facts.hidden_size / 2048) ** 0.5
    assert 0 < float(moved[~answers].max()) <= radius * (1 + 1e-5)


def test_counting_a_pass_leaves_the_prompt_as_it_is(base: LoadedModel) -> None:
    with attached(Cpt(num_virtual_tokens=10), base) as adapter:
        before = adapter.state()
        assert forward_flops(adapter.module, 8, base.device) > 0
        assert all(torch.equal(value, before[name]) for name, value in adapter.state().items())


def test_a_configuration_of_the_library_keeps_its_prompt(base: LoadedModel, tmp_path: Path) -> None:
    """Its tokens are not those of the examples, and it may weigh all answers alike."""
    tokens, kinds = [5, 6, 7, 8, 9, 10], [1, 2, 3, 4, 0, 8]
    said = {"peft_type": "CPT", "cpt_token_ids": tokens, "cpt_mask": [1, 1, 1, 1, 0, 1], "cpt_tokens_type_mask": kinds}
    (tmp_path / "adapter_config.json").write_text(json.dumps(said | {"opt_loss_decay_factor": 0.1}))
    found = registry.load("methods", str(tmp_path))
    method = build(found.name, found.value, {})
    with attached(method, base) as adapter:
        start = adapter.module.prompt(1)[0]  # type: ignore[operator]
        torch.testing.assert_close(start, base.model.get_input_embeddings()(torch.tensor(tokens)))  # type: ignore[operator]
        logits = base.model(input_ids=torch.tensor([tokens])).logits[0]
        losses = [torch.nn.functional.cross_entropy(logits[place - 1], torch.tensor(tokens[place])) for place in (3, 5)]
        penalty = method.penalty(adapter.module)
    assert penalty is not None
    torch.testing.assert_close(penalty, sum(losses), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"opt_projection_epsilon": 0.0}, "opt_projection_epsilon must be above 0"),
        ({"opt_loss_decay_factor": 1.5}, "opt_loss_decay_factor must be at least 0 and at most 1"),
        ({"num_virtual_tokens": 0}, "num_virtual_tokens must be at least 1"),
    ],
)
def test_settings_that_mean_nothing_are_refused(settings: dict[str, float], message: str) -> None:
    with pytest.raises(MethodProblem, match=message):
        build("cpt", Cpt, settings)
