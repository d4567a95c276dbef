"""What the benchmarks of training and answering stand on: a model, and rows of tasks as token ids."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch

from peftbench import registry
from peftbench.models._chat import Encoded
from peftbench.models._facts import find
from peftbench.models._load import LoadedModel
from peftbench.spec import ModelRef, Resources, TaskRef
from peftbench.tasks._task import Split
from peftbench.training.questions import Room
from peftbench.workbench import Workbench


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which model, and where the rows are."""
    parser.add_argument("--model", default="tiny", help="a folder, a hub id, or the name of an embedded model")
    parser.add_argument("--data-root", type=Path)


@dataclass
class Ground:
    """A model by its name, and the folder of the rows."""

    model: str
    data_root: Path | None
    device: Literal["cpu", "cuda"] = "cpu"
    dtype: Literal["float32", "bfloat16"] = "float32"

    @cached_property
    def bench(self) -> Workbench:
        """Holds the base."""
        return Workbench()

    @cached_property
    def base(self) -> LoadedModel:
        """The model as runs load it."""
        facts = find(self.model)
        return self.bench.base(ModelRef(name=facts.name, revision=facts.revision, dtype=self.dtype), self.resources)

    @property
    def folder(self) -> str:
        """The folder of the weights as transformers reads them: what was packed, this package unpacks in its cache."""
        config: Any = self.base.model.config
        return str(config._name_or_path)  # noqa: SLF001 - where it was read from has no other name

    @property
    def resources(self) -> Resources:
        """Where everything is, for one thread."""
        folder = find(self.model).folder
        root = None if self.data_root is None else str(self.data_root)
        place = None if folder is None else str(folder)
        return Resources(device=self.device, threads=1, data_root=root, model_folder=place)

    def examples(self, task: str, split: Split, count: int, room: Room) -> list[Encoded]:
        """Rows of a task as ids, without those that do not fit; no room is larger than the context of the model."""
        base, resources = self.base, self.resources
        value = registry.load("tasks", task).value
        ref = TaskRef(name=task, version=value.version, data=value.source.identity(resources.data_root))
        fitting = Room(min(room.total, base.facts.context or room.total), answer=room.answer)
        asked = self.bench.ask(ref, self.bench.items(ref, split, count, resources), fitting)
        return [one.encoded for one in asked if one.encoded is not None]


def collate(batch: Sequence[Encoded], wider: int = 0) -> dict[str, torch.Tensor]:
    """Rows padded to the longest, or `wider`, on the right; only answers count."""
    width = max(one.tokens for one in batch) + wider
    rows = [[*one.prompt, *one.answer] for one in batch]
    return {
        "input_ids": torch.tensor([[*row, *[0] * (width - len(row))] for row in rows]),
        "attention_mask": torch.tensor([[*[1] * len(row), *[0] * (width - len(row))] for row in rows]),
        "labels": torch.tensor(
            [[*[-100] * len(one.prompt), *one.answer, *[-100] * (width - one.tokens)] for one in batch]
        ),
    }
