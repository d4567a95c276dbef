"""A small benchmark as this package does it, beside the same with a process, a `Trainer` and `generate` for each cell.

    python benchmarks/cells.py --model DIR --data-root DIR [--tasks sst2,boolq] [--methods lora,ia3] [--seeds 1,2]

A cell is one method trained on one task with one seed, and evaluated: 128 rows of each, one epoch, four examples a
step, no dropout, one thread. Both sides start from the same weights and take the same examples in the same order; cell
by cell, first the one and then the other.

- `theirs`: a fresh process, padded rows, gradient checkpointing (but for prefix tuning, as published), `Trainer`, then
  `generate` with a cache, four questions at a time; where something learned stands in front of the prompt, which
  `generate` does not pad right, the same token by token. Everything around that is ours: rows, prompts, the record.
  Matrices are multiplied by what torch takes by itself. FLOPs are not counted.
- `ours`: one process that stays warm, as `peftbench run` has it; also with everything that a record holds.

Seconds, in sum also those of the CPU, from the start of a process to its end; ours from the start of the worker. For
each cell the seconds from taking it to the first step, the most memory that was resident (ours since the worker began),
and how many answers are the same. Where some are not, theirs is
trained once more on rows with sixteen more columns of padding, which changes nothing but how numbers are rounded: how
many of its answers are still the same.
"""

from __future__ import annotations

import argparse
import atexit
import contextlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any
from unittest import mock

from _ground import collate

from peftbench import Resources, Store, build_suite, make_plan
from peftbench.executors._executor import Watcher

METHODS = "lora,ia3,bitfit,ln_tuning,prompt_tuning,p_tuning,prefix_tuning"
# No dropout, for the two sides would draw other numbers.
SETTINGS = {"p_tuning": {"encoder_dropout": 0.0}, "lora": {"lora_dropout": 0.0}}
EXAMPLES = 4
# Columns of padding that nothing hangs on but rounding.
WIDER = 16


def arguments() -> argparse.Namespace:
    """What to measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--data-root", type=Path)
    parser.add_argument("--tasks", default="toy_mood")
    parser.add_argument("--methods", default=METHODS)
    parser.add_argument("--seeds", default="1,2")
    parser.add_argument("--rows", type=int, default=128)
    parser.add_argument("--matmul", choices=["auto", "torch", "onednn"], default="auto", help="ours")
    parser.add_argument("--cell", nargs=2, metavar=("STORE", "RUN"), help=argparse.SUPPRESS)
    parser.add_argument("--wider", type=int, default=0, help=argparse.SUPPRESS)
    return parser.parse_args()


@dataclass(frozen=True)
class Took:
    """What a cell took: seconds of the CPU, of the clock, and from taking it to its first step.

    And the bytes that were resident at most, since the process began.
    """

    cpu: float
    wall: float
    first: float
    peak: int


def suite(asked: argparse.Namespace, library: str) -> list[Any]:
    """The runs of all cells."""
    names = asked.methods.split(",")
    methods = [{"use": name, **SETTINGS.get(name, {})} for name in names]
    what = {"tasks": asked.tasks.split(","), "models": [asked.model], "methods": methods}
    seeds = [int(seed) for seed in asked.seeds.split(",")]
    train = {
        "limit": asked.rows,
        "validation_share": 0,
        "checkpoint": "last",
        "num_train_epochs": 1,
        "per_device_train_batch_size": EXAMPLES,
        "lr_scheduler_type": "constant",
        "warmup_ratio": 0,
        "weight_decay": 0,
        "max_length": 1024,
    }
    root = None if asked.data_root is None else str(asked.data_root.resolve())
    resources = Resources(threads=1, data_root=root, matmul=library, device="cpu")  # type: ignore[arg-type]  # one of three words
    data = {**what, "seeds": seeds, "train": train, "evaluate": {"limit": asked.rows}}
    return list(make_plan(build_suite(data), resources).runs)


def do(folder: str, run_id: str) -> Took:
    """Do a cell with the bench of this process, which stays warm."""
    from peftbench.executors._worker import Worker, warmed_up

    warnings.simplefilter("ignore")
    if not _kept:
        _kept.append(contextlib.ExitStack())
        atexit.register(_kept[0].close)
        _kept.append(_kept[0].enter_context(warmed_up()))
    store, moments = Store(folder), []

    def progress(_: str, phase: str, done: int, total: int) -> None:
        del total
        if phase == "fit" and done == 1:
            moments.append(time.perf_counter())

    cpu, wall = time.process_time(), time.perf_counter()
    with NO_RESET:
        Worker(store, Watcher(lambda _: None, progress), _kept[1]).do(run_id, None)
    cpu, passed = time.process_time() - cpu, time.perf_counter() - wall
    record = store.get(run_id)
    assert record is not None
    if record.failure is not None:
        raise SystemExit(f"{run_id} failed: {record.failure}")
    log = store.folder(run_id).train_log
    first = json.loads(log.read_text(encoding="utf-8").splitlines()[0])["seconds"] if log.exists() else 0.0
    return Took(cpu, passed, moments[0] - wall - first if moments else 0.0, resident())


_kept: list[Any] = []
# In the place of what starts the system's mark of the most memory anew, which runs do before each phase.
NO_RESET = mock.patch("peftbench.cost.meter._RESET", Path(os.devnull))


def trained(adapter: Any, data: Any, spec: Any, seed: int, how: Any, *, wider: int) -> Any:
    """In the place of the loop: `Trainer` over the same examples in the same order, in rows that are so much wider."""
    del seed, how
    import torch
    import transformers
    from torch import nn

    from peftbench.methods._virtual import CachedPrefix
    from peftbench.training.loop import Fitted

    class Loss(nn.Module):
        """The mean loss over the answers of padded rows, by the logits of all places."""

        def __init__(self) -> None:
            super().__init__()
            self.module = adapter.module

        def forward(self, input_ids: Any, attention_mask: Any, labels: Any) -> dict[str, Any]:
            positions = (attention_mask.cumsum(dim=1) - 1).clamp(min=0)
            options = {"attention_mask": attention_mask, "position_ids": positions, "use_cache": False}
            logits = self.module(input_ids=input_ids, **options).logits.float()
            return {"loss": nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())}

    examples = [data.train[place] for places in data.steps for place in places]
    base = next(each for each in adapter.module.modules() if isinstance(each, transformers.PreTrainedModel))
    checkpointing = not isinstance(adapter.module, CachedPrefix)
    if checkpointing:
        base.gradient_checkpointing_enable({"use_reentrant": False})
    with tempfile.TemporaryDirectory() as folder:
        options = transformers.TrainingArguments(
            output_dir=folder,
            per_device_train_batch_size=EXAMPLES,
            max_steps=len(data.steps),
            train_sampling_strategy="sequential",
            learning_rate=spec.learning_rate,
            lr_scheduler_type="constant",
            use_cpu=True,
            logging_strategy="no",
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
            dataloader_pin_memory=False,
        )
        trainer = transformers.Trainer(Loss(), options, partial(collate, wider=wider), examples)
        trainer.remove_callback(transformers.PrinterCallback)
        loss = trainer.train().training_loss
    if checkpointing:
        base.gradient_checkpointing_disable()
    torch.set_grad_enabled(True)
    return Fitted(loss, loss, sum(one.tokens for one in examples), 1.0, None, None)


def generated(
    module: Any, prompts: Sequence[Sequence[int]], how: Any, progress: Callable[[int, int], None]
) -> list[list[int]]:
    """In the place of decoding: `generate` with a cache, four at a time."""
    import torch

    from peftbench.evaluation.predict import greedy
    from peftbench.models._batch import pad
    from peftbench.models._layout import PADDED

    del progress
    module.eval()
    answers: list[list[int]] = []
    options = {"max_new_tokens": how.max_new_tokens, "do_sample": False}
    options |= {"eos_token_id": how.end_id, "pad_token_id": how.end_id}
    for start in range(0, len(prompts), EXAMPLES):
        some = prompts[start : start + EXAMPLES]
        if not hasattr(module, "generate"):
            answers += greedy(module, some, replace(how, batch=EXAMPLES, layout=PADDED))
            continue
        batch = pad(some, how.device)
        with torch.inference_mode():
            rows = module.generate(input_ids=batch.input_ids, attention_mask=batch.attention_mask, **options)
        new = rows[:, batch.input_ids.shape[1] :].tolist()
        answers += [row[: row.index(how.end_id)] if how.end_id in row else row for row in new]
    return answers


@contextlib.contextmanager
def their_engine(wider: int) -> Iterator[None]:
    """Have runs train, in rows that are so much wider, and answer as theirs do."""
    from peftbench.models._layout import PADDED

    with contextlib.ExitStack() as stack:
        for name, other in {
            "peftbench.stages.fit": partial(trained, wider=wider),
            "peftbench.answering.greedy": generated,
            "peftbench.workbench.choose": lambda *_, **__: PADDED,
            "peftbench.answering.choose_for_answers": lambda *_: PADDED,
            "peftbench.stages.Stages.count_flops": lambda *_: None,
            "peftbench.heap.keep": lambda: None,
        }.items():
            stack.enter_context(mock.patch(name, other))
        yield


def in_a_process(folder: str, run_id: str, wider: int = 0) -> Took:
    """What a cell takes with a process of its own, its start and end included."""
    before, wall = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    command = [sys.executable, __file__, "--cell", folder, run_id, "--wider", str(wider)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)  # noqa: S603 - this very script
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    first, peak = map(float, done.stdout.split()[-2:])
    return Took(cpu, time.perf_counter() - wall, first, int(peak))


def resident() -> int:
    """Bytes that were resident at most in this process."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def answers(folder: str, run_id: str) -> dict[str, Any]:
    """What was answered to each question."""
    lines = Store(folder).folder(run_id).predictions.read_text(encoding="utf-8").splitlines()
    return {row["id"]: row["text"] for row in map(json.loads, lines)}


def same_answers(one: dict[str, Any], other: dict[str, Any]) -> int:
    """How many answers to the same questions are the same."""
    return sum(one[key] == other[key] for key in one)


def measure(asked: argparse.Namespace, theirs: str, again: str, ours: str) -> None:
    """Do all cells, and print what they took."""
    runs = {"theirs": suite(asked, "torch"), "ours": suite(asked, asked.matmul)}
    for name, folder in (("theirs", theirs), ("theirs", again), ("ours", ours)):
        for run in runs[name]:
            Store(folder).describe(run.spec, run.resources)
    pool = ProcessPoolExecutor(1, get_context("spawn"))
    all_theirs, all_ours, same, total = [], [], 0, 0
    print(f"{'':24} seconds: theirs   ours  times  to the first step  MiB: theirs  ours, so far  the same answers")
    for their_run, run in zip(runs["theirs"], runs["ours"], strict=True):
        alone = in_a_process(theirs, their_run.run_id)
        started = time.perf_counter()
        warm = pool.submit(do, ours, run.run_id).result()
        # With the start of the worker, where it is the first.
        warm = replace(warm, wall=time.perf_counter() - started)
        one, other = answers(theirs, their_run.run_id), answers(ours, run.run_id)
        equal = same_answers(one, other)
        same, total = same + equal, total + len(one)
        control = ""
        if equal < len(one):
            in_a_process(again, their_run.run_id, WIDER)
            control = f"; of theirs with wider rows {same_answers(one, answers(again, their_run.run_id))}"
        cell = f"{run.spec.method.name} {run.spec.task.name} {run.spec.seed}"
        print(
            f"{cell:24} {alone.wall:15.1f} {warm.wall:6.1f} {alone.wall / warm.wall:6.2f} {warm.first:18.2f} "
            f"{alone.peak / 2**20:12.0f} {warm.peak / 2**20:13.0f}  {equal} of {len(one)}{control}",
            flush=True,
        )
        all_theirs.append(alone)
        all_ours.append(warm)
    busy = sum(each.cpu for each in all_theirs), pool.submit(time.process_time).result()
    passed = [sum(each.wall for each in cells) for cells in (all_theirs, all_ours)]
    print(f"of the CPU: theirs {busy[0]:.0f} s, ours {busy[1]:.0f} s, {busy[0] / busy[1]:.2f} times as fast")
    print(f"of the clock: theirs {passed[0]:.0f} s, ours {passed[1]:.0f} s, {passed[0] / passed[1]:.2f} times as fast")
    most = [max(each.peak for each in cells) / 2**20 for cells in (all_theirs, all_ours)]
    print(f"{same} of {total} answers are the same; most memory: theirs {most[0]:.0f} MiB, ours {most[1]:.0f} MiB")


def main() -> None:
    """Measure, or do one cell."""
    asked = arguments()
    os.environ["OMP_NUM_THREADS"] = "1"
    if asked.cell:
        with their_engine(asked.wider):
            took = do(*asked.cell)
        print(took.first, took.peak)
        return
    with tempfile.TemporaryDirectory() as folder:
        measure(asked, *(f"{folder}/{side}" for side in ("theirs", "again", "ours")))


if __name__ == "__main__":
    main()
