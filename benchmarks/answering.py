"""How long answers take, beside `generate` of transformers as it is used elsewhere.

    python benchmarks/answering.py --model DIR --data-root DIR [--tasks sst2,rte,boolq] [--rows 64] [--rounds 5]

An adapter (LoRA, r 16, on keys, values and the down projection) is trained first on each task, so that it answers as
adapters do, in 32 bits and with one thread. Then the same questions are answered by:

- `published`: `generate` without a cache, four at a time, as the published benchmark has it;
- `cached`: the same with a cache, which is the default;
- `well set`: with a cache, eight at a time, questions of similar length together;
- `ours`.

Each with the library that torch multiplies matrices with by itself, ours with oneDNN too where that is as exact here.
In every round each variant answers all questions, in turn; CPU seconds, medians, and the lowest and highest ratio of a
round. Every answer of every variant is compared with those of `cached`; one that differs is printed with the distance
between the two most likely tokens where they part.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import transformers
from _ground import Ground, add_arguments

from peftbench import heap, matmul, registry
from peftbench.evaluation.predict import Decoding, greedy
from peftbench.methods._attach import attached
from peftbench.methods._method import build
from peftbench.models._attention import know_segments
from peftbench.models._batch import pad
from peftbench.models._choosing import choose, choose_for_answers
from peftbench.models._load import LoadedModel
from peftbench.spec import TrainSpec
from peftbench.training.batches import schedule
from peftbench.training.loop import How, TrainingData, fit
from peftbench.training.questions import Room

SETTINGS = {"r": 16, "targets": ["key", "value", "down"]}
SEED = 1


@dataclass(frozen=True)
class Variant:
    """A way to answer."""

    name: str
    batch: int = 0
    cache: bool = True
    grouped: bool = False
    matmul: matmul.Matmul = "torch"


VARIANTS = (
    Variant("published", batch=4, cache=False),
    Variant("cached", batch=4),
    Variant("well set", batch=8, grouped=True),
    Variant("ours"),
    Variant("cached, onednn", batch=4, matmul="onednn"),
    Variant("well set, onednn", batch=8, grouped=True, matmul="onednn"),
    Variant("ours, onednn", matmul="onednn"),
)
REFERENCE = "cached"


def arguments() -> argparse.Namespace:
    """What to measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    parser.add_argument("--tasks", default="sst2,rte,boolq")
    parser.add_argument("--rows", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=24, help="of eight examples; 0 asks an untrained adapter")
    parser.add_argument("--new-tokens", type=int, help="in the place of the task's own number")
    parser.add_argument("--variants", default="", help="some of them, separated by semicolons")
    return parser.parse_args()


def generated(base: LoadedModel, prompts: Sequence[Sequence[int]], variant: Variant, most: int) -> list[list[int]]:
    """Answers of `generate`, in the order of the prompts."""
    model: Any = base.model
    model.set_attn_implementation("sdpa")
    order = sorted(range(len(prompts)), key=lambda place: len(prompts[place]) if variant.grouped else place)
    answers: dict[int, list[int]] = {}
    end = base.chat.end_id
    options = {"max_new_tokens": most, "do_sample": False, "eos_token_id": end, "pad_token_id": end}
    for start in range(0, len(order), variant.batch):
        places = order[start : start + variant.batch]
        batch = pad([prompts[place] for place in places], base.device)
        with torch.inference_mode():
            rows = model.generate(
                input_ids=batch.input_ids, attention_mask=batch.attention_mask, use_cache=variant.cache, **options
            )
        for place, row in zip(places, rows[:, batch.input_ids.shape[1] :].tolist(), strict=True):
            answers[place] = row[: row.index(end)] if end in row else row
    know_segments(model)
    return [answers[place] for place in range(len(prompts))]


def answered(base: LoadedModel, prompts: Sequence[Sequence[int]], how: Decoding) -> list[list[int]]:
    """Answers of this package."""
    layout = choose_for_answers(base.model, base.device)
    return greedy(base.model, prompts, replace(how, layout=layout))


def gap(base: LoadedModel, prompt: Sequence[int], one: Sequence[int], other: Sequence[int]) -> float:
    """How far apart the two most likely tokens are where two answers part."""
    same = next((place for place, pair in enumerate(zip(one, other, strict=False)) if pair[0] != pair[1]), None)
    ids = torch.tensor([[*prompt, *one[: min(len(one), len(other)) if same is None else same]]])
    with torch.inference_mode():
        top = base.model(input_ids=ids).logits[0, -1].float().topk(2).values
    return float(top[0] - top[1])


def train(base: LoadedModel, adapter: Any, examples: Sequence[Any], steps: int) -> None:
    """Train the adapter for some steps of eight examples."""
    if not steps:
        return
    spec = TrainSpec(learning_rate=1e-3, max_steps=steps, checkpoint="last", validation_share=0, num_train_epochs=9)
    layout = choose(adapter.module, adapter.trainable.values(), base.device)
    how = How(base.device, 8, Path(tempfile.mkdtemp()) / "train.jsonl", lambda *_: None, layout)
    fit(adapter, TrainingData(examples, [], schedule(len(examples), spec, SEED)), spec, SEED, how)


def measure(base: LoadedModel, prompts: Sequence[Sequence[int]], how: Decoding, asked: argparse.Namespace) -> None:
    """Print the table of a task."""
    most = how.max_new_tokens
    variants = [each for each in VARIANTS if not asked.variants or each.name in asked.variants.split(";")]
    seconds: dict[Variant, list[float]] = {variant: [] for variant in variants}
    found: dict[Variant, list[list[int]]] = {}
    for number in range(asked.rounds):
        for variant in variants[:: -1 if number % 2 else 1]:
            matmul.settle(variant.matmul)
            started = time.process_time()
            found[variant] = generated(base, prompts, variant, most) if variant.batch else answered(base, prompts, how)
            seconds[variant].append(time.process_time() - started)
    reference = next(each for each in variants if each.name == REFERENCE)
    for variant, answers in found.items():
        pairs = zip(prompts, found[reference], answers, strict=True)
        gaps = [gap(base, prompt, one, other) for prompt, one, other in pairs if one != other]
        ratios = [usual / own for usual, own in zip(seconds[reference], seconds[variant], strict=True)]
        print(
            f"  {variant.name:18} {statistics.median(seconds[variant]):8.2f} s   "
            f"{statistics.median(ratios):5.2f} ({min(ratios):.2f}, {max(ratios):.2f}) times as fast as {REFERENCE}   "
            f"{len(gaps)} answers differ {[f'{each:.1e}' for each in gaps] if gaps else ''}",
            flush=True,
        )


def main() -> None:
    """Measure."""
    asked = arguments()
    torch.set_num_threads(1)
    # As in runs, and here for all variants.
    heap.keep()
    transformers.logging.set_verbosity_error()
    ground = Ground(asked.model, asked.data_root)
    base = ground.base
    method = build("lora", registry.load("methods", "lora").value, SETTINGS)
    for name in asked.tasks.split(","):
        most = asked.new_tokens or registry.load("tasks", name).value.max_new_tokens
        learned = ground.examples(name, "train", 192, Room(512))
        test = ground.examples(name, "test", asked.rows, Room(1024, answer=most))
        with attached(method, base) as adapter:
            matmul.settle("auto")
            train(base, adapter, learned, asked.steps)
            prompts = [one.prompt for one in test]
            mean = statistics.mean(map(len, prompts))
            print(f"{name}: {len(prompts)} questions of {mean:.0f} tokens on average, at most {most} new ones")
            expected = [one.answer[:-1] for one in learned] if asked.steps else []
            measure(base, prompts, Decoding(most, base.chat.end_id, 16, base.device, expected=expected), asked)


if __name__ == "__main__":
    main()
