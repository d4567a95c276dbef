"""Label scoring against probabilities of whole answers, of each question alone; and as a suite asks for it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from peftbench import Prediction, Record, Resources, Store, build_suite, make_plan, registry, run
from peftbench.evaluation import score
from peftbench.evaluation.predict import Decoding, greedy
from peftbench.evaluation.score import scores
from peftbench.methods._attach import attached
from peftbench.methods._method import build
from peftbench.models._layout import PADDED, Layout
from peftbench.models._load import LoadedModel
from peftbench.models._prefilled import Prefilled
from peftbench.scoring.variants import variants
from peftbench.testing.models import tiny
from peftbench.testing.toy import perturb
from peftbench.training.questions import Room
from peftbench.workbench import Workbench

CPU, END = torch.device("cpu"), 2
LAYOUTS = [PADDED, Layout(packed=True), Layout(packed=True, shared=True), Layout(packed=True, shared=True, longest=8)]
# One that begins another, several that begin alike, and one that is nothing but the end.
LABELS = [(7, END), (7, 9, END), (8, 9, 10, END), (8, 9, 11, END), (END,)]
# Tasks whose answers are numbers, names in a text, or programs.
FREE = {"apps", "codealpacapy", "conala", "gsm8k", "record", "stsb", "svamp", "toy_dial"}
PROMPTS = [(3, 4, *rest) for rest in ((5, 6), (11, 12, 13), (20,), (*range(30, 60), 5), (*range(30, 60), 6))]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    torch.set_num_threads(1)
    return tiny("llama", tmp_path_factory.mktemp("llama"))


def likely(module: nn.Module, prompt: Sequence[int], label: Sequence[int]) -> float:
    """The logarithm of the probability of a label behind a prompt, token by token."""
    total = 0.0
    for place, token in enumerate(label):
        ids = torch.tensor([[*prompt, *label[:place]]])
        positions = torch.arange(ids.shape[1])[None]
        logits = module(input_ids=ids, attention_mask=torch.ones_like(ids), position_ids=positions).logits[0, -1]
        total += float(torch.log(torch.softmax(logits.double(), dim=0)[token]))
    return total


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
@pytest.mark.parametrize("name", ["lora", "prompt_tuning", "prefix_tuning"])
def test_scores_are_probabilities_of_whole_answers(name: str, layout: Layout, base: LoadedModel) -> None:
    with attached(build(name, registry.load("methods", name).value, {}), base) as adapter, torch.no_grad():
        perturb(adapter)
        adapter.module.eval()
        told: list[tuple[int, int]] = []
        how = Decoding(8, END, 2, CPU, layout=layout)
        found = scores(adapter.module, PROMPTS, LABELS, how, lambda *numbers: told.append(numbers))
        wanted = [[likely(adapter.module, prompt, label) for label in LABELS] for prompt in PROMPTS]
    torch.testing.assert_close(found, torch.tensor(wanted, dtype=torch.float64), rtol=1e-5, atol=1e-5)
    assert float(found.std(dim=0).min()) > 0.01, "a label is as likely everywhere: another prompt's would not show"
    assert told[-1] == (len(PROMPTS), len(PROMPTS))


def test_of_all_tokens_there_are_the_likeliest_is_what_is_written(base: LoadedModel) -> None:
    """And the probabilities of all tokens add up to one, as those of all that may stand behind one do."""
    model: Any = base.model
    every = range(model.config.vocab_size)
    found = scores(base.model, PROMPTS, [[7, token] for token in every], Decoding(2, END, 16, CPU, layout=LAYOUTS[2]))
    alone = scores(base.model, PROMPTS, [[7]], Decoding(1, END, 16, CPU, layout=LAYOUTS[2]))
    torch.testing.assert_close(found.logsumexp(dim=1), alone[:, 0], rtol=1e-6, atol=1e-6)
    written = greedy(base.model, PROMPTS, Decoding(1, END, 16, CPU, layout=LAYOUTS[2]))
    firsts = [[token] for token in every]
    best = scores(base.model, PROMPTS, firsts, Decoding(1, END, 16, CPU, layout=LAYOUTS[2])).argmax(dim=1).tolist()
    assert [[token] if token != END else [] for token in best] == written


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Record, list[Prediction]]]:
    """An untrained base asked in both ways, and an adapter trained for a few steps that chooses among labels."""
    store = Store(tmp_path_factory.mktemp("store"))
    by_labels = {"evaluate.decoding": "labels"}
    suite = build_suite(
        {
            "name": "labels",
            "tasks": ["toy_mood"],
            "models": ["tiny"],
            "methods": ["zero_shot", {"use": "zero_shot", **by_labels}, {"use": "lora", **by_labels}],
            "seeds": [1],
            "train": {"limit": 32, "max_steps": 4},
            "evaluate": {"limit": 40},
        }
    )
    outcome = run(suite, store)
    assert outcome.failed == ()
    names = ("written", "likeliest", "trained")
    found = zip(names, outcome.records, strict=True)
    return {name: (record, [*store.predictions(record.run_id)]) for name, record in found}


def test_a_suite_asks_for_labels(done: dict[str, tuple[Record, list[Prediction]]]) -> None:
    """Every answer is a label, and so can be read; merged answers are chosen in the same way."""
    assert {row.text for row in done["likeliest"][1]} <= {"bright", "dim"}
    assert {row.text for row in done["trained"][1] if row.split == "test"} <= {"bright", "dim"}
    assert all(row.answer == row.text for row in done["likeliest"][1])
    records = {name: record for name, (record, _) in done.items()}
    assert records["likeliest"].test is not None
    assert records["likeliest"].test.unreadable == 0
    assert records["trained"].merged is not None
    assert records["trained"].merged.changed == 0
    assert records["likeliest"].cost is not None
    # Two labels of a token, each with the one that ends it, behind each of forty questions.
    tokens = records["likeliest"].cost.predict_tokens_per_second * records["likeliest"].cost.predict_seconds
    assert tokens == pytest.approx(40 * 4)


def test_ways_to_answer_are_told_apart_where_runs_are_named(
    done: dict[str, tuple[Record, list[Prediction]]],
) -> None:
    specs = [record.spec for record, _ in done.values()]
    assert len({spec.run_id for spec in specs}) == 3
    assert variants(specs[:2]) == ["zero_shot decoding=greedy max_new_tokens=8", "zero_shot decoding=labels"]


def test_the_room_is_that_of_the_longest_label(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """However few tokens may be written, which is no part of such a run."""
    suite = {"tasks": ["toy_mood"], "models": "tiny", "methods": "zero_shot"}
    plans = [
        make_plan(build_suite({**suite, "evaluate": {"decoding": "labels", "limit": 4, **more}}), Resources())
        for more in ({}, {"max_new_tokens": 1})
    ]
    assert plans[0].runs[0].spec == plans[1].runs[0].spec
    rooms: list[Room] = []
    whole = Workbench.ask

    def asked(self: Workbench, ref: Any, items: Any, room: Room, *more: Any) -> Any:
        rooms.append(room)
        return whole(self, ref, items, room, *more)

    monkeypatch.setattr(Workbench, "ask", asked)
    task = registry.load("tasks", "toy_mood").value
    monkeypatch.setattr(Workbench, "task", lambda *_: dataclasses.replace(task, labels=("bright", "dim " * 9)))
    assert run(build_suite({**suite, "evaluate": {"decoding": "labels", "limit": 4}}), Store(tmp_path)).failed == ()
    assert rooms[-1].answer is not None
    assert rooms[-1].answer > 9


def test_a_task_without_labels_is_set_aside() -> None:
    suite = build_suite(
        {"tasks": ["toy_dial", "toy_mood"], "models": "tiny", "methods": "lora", "evaluate": {"decoding": "labels"}}
    )
    plan = make_plan(suite, Resources())
    assert {run.spec.task.name for run in plan.runs} == {"toy_mood"}
    assert [(each.task, each.reason) for each in plan.set_aside] == [
        ("toy_dial", "it has no labels, of which the likeliest would be taken (evaluate.decoding=labels)")
    ]


@pytest.mark.parametrize("name", registry.names("tasks"))
def test_labels_are_all_answers_that_a_task_has(name: str) -> None:
    """The targets of both specimens are among them, and each is read as itself."""
    task = registry.load("tasks", name).value
    targets = {task.ask(row).target for row in task.specimen}
    assert not task.labels or targets <= {*task.labels}
    assert [task.read(label) for label in task.labels] == [*task.labels]
    assert bool(task.labels) == (name not in FREE)


def test_long_labels_are_fed_in_parts(base: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each token that is fed has the logits of a vocabulary."""
    how = Decoding(8, END, 16, CPU, layout=LAYOUTS[2])
    labels = [(*range(10, 10 + length), END) for length in (1, 4, 7)]
    wanted = scores(base.model, PROMPTS, labels, how)
    fed: list[int] = []
    whole = Prefilled.feed

    def noted(self: Prefilled, ids: torch.Tensor) -> torch.Tensor:
        fed.append(ids.numel())
        return whole(self, ids)

    monkeypatch.setattr(Prefilled, "feed", noted)
    monkeypatch.setattr(score, "FED", 3 * len(PROMPTS) + 1)
    torch.testing.assert_close(scores(base.model, PROMPTS, labels, how), wanted, rtol=1e-6, atol=1e-6)
    assert fed == [number * len(PROMPTS) for number in (1, 3, 1, 3, 3, 1)]
