"""What stays warm is what it replaces: values of the base that are proven, questions that are encoded once."""

from __future__ import annotations

import gc
import json
import weakref
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from peftbench import workbench
from peftbench.errors import DataProblem, MethodProblem
from peftbench.methods import _attach
from peftbench.methods._attach import Adapter, Checksum, Original, attached, checksum
from peftbench.methods._method import Base
from peftbench.methods._snapshot import Snapshot
from peftbench.methods.full import Full
from peftbench.methods.lora import Lora
from peftbench.models._chat import Chat, Encoded
from peftbench.models._facts import find
from peftbench.spec import ModelRef, Resources, TaskRef
from peftbench.tasks._task import Item
from peftbench.tasks.sst2 import TASK as SST2
from peftbench.tasks.toy_mood import TASK
from peftbench.tasks.toy_more import TASK as MORE
from peftbench.training.questions import Question, Room, TokenTable, token_table
from peftbench.workbench import Workbench

FACTS = find("tiny")
HOW = Resources(device="cpu", threads=1, model_folder=str(FACTS.folder))
TINY = ModelRef(name=FACTS.name, revision=FACTS.revision)
REF = TaskRef(name="toy_mood", version=TASK.version, data=TASK.source.identity(None))


@pytest.fixture
def bench() -> Workbench:
    torch.set_num_threads(1)
    bench = Workbench()
    bench.base(TINY, HOW)
    return bench


def spoil(adapter: Adapter) -> None:
    with torch.no_grad():
        for value in adapter.trainable.values():
            value.add_(1)


def test_values_are_noted_once(bench: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    """One checksum at first and one after every method; one copy for all that change the same."""
    sums: list[object] = []
    copies: list[object] = []
    take = Snapshot.take

    def counted_sum(model: torch.nn.Module) -> Checksum:
        sums.append(model)
        return checksum(model)

    def counted_copy(snapshot: Snapshot, values: Mapping[str, torch.Tensor]) -> None:
        copies.append(values)
        take(snapshot, values)

    monkeypatch.setattr(_attach, "checksum", counted_sum)
    monkeypatch.setattr(Snapshot, "take", counted_copy)
    for method, so_far in ((Lora(), (2, 0)), (Full(), (3, 1)), (Lora(), (4, 1)), (Full(), (5, 1))):
        with bench.attached(method) as adapter:
            spoil(adapter)
        assert (len(sums), len(copies)) == so_far


def test_values_are_copied_once_for_methods_that_take_turns(bench: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    copies: list[set[str]] = []
    take = Snapshot.take

    def counted_copy(snapshot: Snapshot, values: Mapping[str, torch.Tensor]) -> None:
        copies.append(set(values))
        take(snapshot, values)

    monkeypatch.setattr(Snapshot, "take", counted_copy)
    for method in (Part(), Other(), Part(), Lora(), Other()):
        with bench.attached(method) as adapter:
            spoil(adapter)
    one, other = (set(method.changes(bench._there().model)) for method in (Part(), Other()))
    assert copies == [one, one | other]


@given(seed=st.integers(0, 2**32), kind=st.sampled_from([torch.float32, torch.bfloat16, torch.int64, torch.uint8]))
@settings(max_examples=20, deadline=None)
def test_a_checksum_sums_the_bits_by_their_places(seed: int, kind: torch.dtype) -> None:
    """Of a tensor that is not summed at once, and is no multiple of the places."""
    value = torch.randn(600_001, generator=torch.Generator().manual_seed(seed)).mul(100).to(kind)
    module = torch.nn.Module()
    module.register_buffer("held", value)
    width = {torch.float32: "i4", torch.bfloat16: "i2", torch.int64: "i8", torch.uint8: "u1"}[kind]
    bits = np.frombuffer(value.view(torch.uint8).numpy().tobytes(), width).astype("i8")
    whole = len(bits) // 61 * 61
    sums = [int(bits[place:whole:61].sum()) for place in range(61)]
    assert checksum(module) == {"held": (*sums, int(bits[whole:].sum()))}


class Part(Full):
    """Trains two tensors, and says so."""

    def attach(self, base: Base) -> torch.nn.Module:
        for name in self.changes(base):
            base.model.get_parameter(name).requires_grad_(True)
        return base.model

    def changes(self, base: Base) -> Iterable[str]:
        return [name for name, _ in base.model.named_parameters()][:2]


class Other(Part):
    """Trains two others."""

    def changes(self, base: Base) -> Iterable[str]:
        return [name for name, _ in base.model.named_parameters()][1:3]


def test_every_set_of_changed_values_comes_back(bench: Workbench) -> None:
    base = bench._there()
    before = checksum(base.model.model)
    for method in (Part(), Other(), Full(), Part(), Other(), Lora(), Part()):
        with bench.attached(method) as adapter:
            spoil(adapter)
            assert isinstance(method, Lora) or checksum(base.model.model) != before
        assert checksum(base.model.model) == before


class Silent(Lora):
    """Changes the base and does not say so."""

    def attach(self, base: Base) -> torch.nn.Module:
        with torch.no_grad():
            next(base.model.parameters())[0] += 1
        return super().attach(base)


def test_a_change_shows_also_after_others(bench: Workbench) -> None:
    with bench.attached(Lora()):
        pass
    with pytest.raises(MethodProblem, match="changed"), bench.attached(Silent()):
        pass


def test_a_change_between_two_methods_shows(bench: Workbench) -> None:
    """The values are held against those of the beginning, not against those of a moment ago."""
    with bench.attached(Lora()):
        pass
    with torch.no_grad():
        next(bench._there().model.model.parameters())[0] += 1
    with pytest.raises(MethodProblem, match="changed"), bench.attached(Lora()):
        pass


def test_without_an_original_a_base_is_lent_once(bench: Workbench) -> None:
    base = bench._there().model
    with torch.no_grad():
        next(base.model.parameters())[0] += 1
    with attached(Lora(), base):
        pass
    original = Original(base.model)
    with attached(Full(), base, original) as adapter:
        spoil(adapter)
    original.close()
    assert original.differing() == []


def said(questions: list[Question]) -> list[tuple[Item, Encoded | None]]:
    return [(question.item, question.encoded) for question in questions]


def encoded(chat: Chat, items: Sequence[Item], room: Room) -> list[tuple[Item, Encoded | None]]:
    table = token_table(chat, items, room)
    return [(item, table[line]) for line, item in enumerate(items)]


def test_questions_are_encoded_once_for_a_room(bench: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    chat = bench._there().model.chat

    def counting(chat: Chat, items: Sequence[Item], room: Room) -> TokenTable:
        asked.extend(item.id for item in items)
        return token_table(chat, items, room)

    monkeypatch.setattr(workbench, "token_table", counting)
    items = bench.items(REF, "train", 20, HOW)
    small, large = Room(30), Room(200, answer=8)
    for room, wanted, new in (
        (large, items[:5], 5),
        (large, items[3:12], 7),
        (large, items[:12], 0),
        (small, items, 20),
        (large, items, 8),
        (small, items[::-1], 0),
    ):
        asked.clear()
        assert said(bench.ask(REF, wanted, room)) == encoded(chat, wanted, room)
        assert len(asked) == new
    bench.drop_base()
    bench.base(TINY.model_copy(update={"chat": "plain"}), HOW)
    plain = bench.ask(REF, items, large)
    assert said(plain) == encoded(bench._there().model.chat, items, large)
    assert said(plain) != encoded(chat, items, large)


def test_rows_of_another_task_are_given_up(bench: Workbench) -> None:
    other = TaskRef(name="toy_more", version=MORE.version, data=MORE.source.identity(None))
    first = bench.items(REF, "train", 20, HOW)
    room = Room(200)
    asked = bench.ask(REF, first, room)
    kept = [weakref.ref(question) for question in asked]
    assert bench.items(REF, "train", 20, HOW) is first
    assert all(old is new for old, new in zip(asked, bench.ask(REF, first, room), strict=True))
    del asked
    assert bench.items(other, "train", 20, HOW) != first
    gc.collect()
    assert not any(question() for question in kept)
    assert bench.items(REF, "train", 20, HOW) == first


def test_rows_whose_answers_are_all_hidden_are_no_evaluation(tmp_path: Path) -> None:
    """A score of no answers would be a run that ended well and says nothing."""
    mirror = tmp_path / "sst2"
    mirror.mkdir()
    for name, labels in (("train", (-1, 1)), ("validation", (-1, -1))):
        rows = [{"sentence": f"film {label}", "label": label, "idx": 0} for label in labels]
        (mirror / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    how = HOW.updated({"data_root": str(tmp_path)}, "test")
    ref = TaskRef(name="sst2", version=SST2.version, data=SST2.source.identity(str(tmp_path)))
    bench = Workbench()
    assert [item.id for item in bench.items(ref, "train", None, how)] == ["train/1"]
    with pytest.raises(DataProblem, match="None of the 2 rows taken from sst2, test, has an answer") as caught:
        bench.items(ref, "test", None, how)
    assert caught.value.fix
