"""Whether rows of several examples give the losses, gradients and answers of padded ones, and how nearly.

    python benchmarks/equality.py --model DIR --data-root DIR [--task sst2] [--methods lora,ia3] [--batches 20]

For each method, in 32 bits, with one thread and without dropout, at its start and after twenty steps of training:

- losses and gradients of batches of four, against rows padded on the right with the logits of all places, as anybody
  would compute them: with the same library multiplying matrices, and ours with oneDNN where that is as exact; and
  beside it the same rows with sixteen more columns of padding, which is what rounding alone does;
- twenty steps of training, packed against padded: how far the trained weights are apart (relative to how far they
  moved), beside padded rows against rows that are wider by three numbers of columns, and against the same rows with
  attention written out in place of the fused one;
- answers, against `generate` of the model with the adapter in it, one question at a time: those of methods that put
  something in front of the prompt, which `generate` does not know, against decoding token by token without drafts. An
  answer that differs is printed with the distance of the two most likely tokens where they part.

Exit code 1 where a bound is not kept.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import torch
import transformers
from _ground import Ground, add_arguments
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import cross_entropy

from peftbench import matmul, registry
from peftbench.evaluation.predict import Decoding, greedy
from peftbench.methods._attach import Adapter, attached
from peftbench.methods._method import build
from peftbench.models._batch import Batch, pad
from peftbench.models._chat import Encoded
from peftbench.models._choosing import choose, choose_for_answers
from peftbench.models._layout import PADDED, Layout, answer_logits
from peftbench.models._load import LoadedModel
from peftbench.spec import TrainSpec
from peftbench.training.loop import How, TrainingData, fit
from peftbench.training.questions import Room

# The seven of PEFT-Bench, and settings without dropout.
METHODS = ("lora", "ia3", "bitfit", "ln_tuning", "prompt_tuning", "p_tuning", "prefix_tuning")
BATCH, STEPS, SEED = 4, 20, 1
# Of losses and gradients, relative, by the library that multiplied; that of the padded rows is torch's.
BOUNDS = {"torch": (2e-6, 2e-5), "onednn": (1e-5, 5e-5)}
# Columns more than are needed: enough for other products inside the library, and so for other rounding; and over a
# training.
_WIDER, _WIDTHS = 16, (16, 40, 100)
# Times the distance of padded rows from wider ones; distance of two tokens that are as likely; answers that may part.
TRAJECTORY, TIED, MOST_TIED = 3.0, 1e-4, 1 / 500
State = dict[str, torch.Tensor]


def arguments() -> argparse.Namespace:
    """What to compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    parser.add_argument("--task", default="toy_dial")
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--batches", type=int, default=20)
    parser.add_argument("--rows", type=int, default=200, help="questions that are answered")
    parser.add_argument("--new-tokens", type=int, help="in the place of the task's own number")
    return parser.parse_args()


def reference(adapter: Adapter, batch: Sequence[Encoded], device: torch.device, more: int = 0) -> torch.Tensor:
    """The loss over rows padded on the right, as much as they need and some columns more, with all logits."""
    rows = [(*one.prompt, *one.answer) for one in batch]
    padded = pad([*rows, [0] * (max(map(len, rows)) + more)], device, side="right")
    padded = Batch(padded.input_ids[:-1], padded.attention_mask[:-1], padded.position_ids[:-1])
    logits = adapter.module(**padded.inputs(), use_cache=False).logits.float()
    labels = torch.full_like(padded.input_ids, -100)
    for place, one in enumerate(batch):
        labels[place, len(one.prompt) : one.tokens] = torch.tensor(one.answer)
    return cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), ignore_index=-100, reduction="sum")


def packed(adapter: Adapter, batch: Sequence[Encoded], device: torch.device, layout: Layout) -> torch.Tensor:
    """The loss as the loop computes it."""
    logits, labels = answer_logits(adapter.module, batch, device, layout)
    return cross_entropy(logits.float(), labels, reduction="sum")


def with_gradients(adapter: Adapter, loss: torch.Tensor) -> tuple[float, torch.Tensor]:
    """A loss, and all gradients as one vector."""
    found = torch.autograd.grad(loss, list(adapter.trainable.values()), allow_unused=True)
    flat = [value.flatten() for value in found if value is not None]
    return float(loss.detach()), torch.cat(flat)


def steps(adapter: Adapter, batches: Sequence[Sequence[Encoded]], layout: Layout, device: torch.device) -> float:
    """The largest differences of losses and gradients, printed; how many times over their bounds the worst is.

    Where wider rows are further apart from padded ones, that is the bound.
    """
    ways: dict[str, Callable[[Sequence[Encoded]], torch.Tensor]] = {
        "wider": lambda batch: reference(adapter, batch, device, _WIDER),
        "torch": lambda batch: packed(adapter, batch, device, layout),
        "onednn": lambda batch: packed(adapter, batch, device, layout),
    }
    far: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for batch in batches:
        matmul.settle("torch")
        usual, slope = with_gradients(adapter, reference(adapter, batch, device))
        for name, way in ways.items():
            matmul.settle("onednn" if name == "onednn" else "torch")
            loss, own = with_gradients(adapter, way(batch))
            far[name].append((abs(loss / usual - 1), float((own - slope).norm() / slope.norm())))
    matmul.settle("torch")
    worst = {name: [max(each) for each in zip(*found, strict=True)] for name, found in far.items()}
    for name, (losses, gradients) in worst.items():
        middle = statistics.median(loss for loss, _ in far[name])
        print(f"    {name:7} losses within {losses:.1e} (median {middle:.1e}), gradients within {gradients:.1e}")
    bounds = {name: [*map(max, BOUNDS[name], worst["wider"])] for name in BOUNDS}
    return float(max(own / bound for name in BOUNDS for own, bound in zip(worst[name], bounds[name], strict=True)))


def trained(adapter: Adapter, batches: Sequence[Sequence[Encoded]], layout: Layout, base: LoadedModel) -> State:
    """The weights after the steps of training, from those that the adapter has now, which it gets back."""
    start = adapter.state()
    examples = [one for batch in batches for one in batch]
    rate = adapter.method.learning_rate
    spec = TrainSpec(per_device_train_batch_size=BATCH, learning_rate=rate, checkpoint="last", validation_share=0)
    places = [range(number * BATCH, (number + 1) * BATCH) for number in range(len(batches))]
    how = How(base.device, BATCH, Path(tempfile.mkdtemp()) / "train.jsonl", lambda *_: None, layout)
    fit(adapter, TrainingData(examples, [], places), spec, SEED, how)
    end = adapter.state()
    adapter.put(start)
    return end


def apart(one: State, other: State, start: State) -> float:
    """How far weights are apart, relative to how far they moved."""
    distance = sum(float((one[name] - other[name]).norm()) ** 2 for name in one)
    moved = sum(float((one[name] - start[name]).norm()) ** 2 for name in one)
    return float((distance / moved) ** 0.5)


def wider(more: int) -> Callable[..., Batch]:
    """Rows with so many more columns of padding than they need."""

    def padded(rows: Sequence[Sequence[int]], device: torch.device) -> Batch:
        batch = pad([*rows, [0] * (max(map(len, rows)) + more)], device)
        return Batch(batch.input_ids[:-1], batch.attention_mask[:-1], batch.position_ids[:-1])

    return padded


def trajectory(
    adapter: Adapter, batches: Sequence[Sequence[Encoded]], layout: Layout, base: LoadedModel
) -> tuple[State, float]:
    """The weights after training, and how many times over its bound the distance of packed from padded is."""
    start = adapter.state()
    usual, ours = (trained(adapter, batches, each, base) for each in (PADDED, layout))
    own, others = apart(usual, ours, start), []
    for more in _WIDTHS:
        with mock.patch("peftbench.models._layout.pad", wider(more)):
            others.append(apart(usual, trained(adapter, batches, PADDED, base), start))
    with sdpa_kernel(SDPBackend.MATH):
        plain = apart(usual, trained(adapter, batches, PADDED, base), start)
    noise = ", ".join(f"{far:.1e}" for far in others)
    print(
        f"    {len(batches)} steps: packed {own:.1e} apart from padded; padding wider by {_WIDTHS} {noise}; "
        f"padded, torch's plain attention {plain:.1e}"
    )
    return ours, own / (TRAJECTORY * max(*others, plain))


def generated(module: Any, prompt: Sequence[int], most: int, end: int) -> list[int]:
    """The answer of `generate`, alone and without padding."""
    ids = torch.tensor([prompt])
    options = {"max_new_tokens": most, "do_sample": False, "eos_token_id": end, "pad_token_id": end}
    with torch.inference_mode():
        row = module.generate(input_ids=ids, attention_mask=torch.ones_like(ids), **options)[0, len(prompt) :].tolist()
    return list(row[: row.index(end)] if end in row else row)


def gap(adapter: Adapter, prompt: Sequence[int], one: Sequence[int], other: Sequence[int]) -> float:
    """How far apart the two most likely tokens are where two answers part."""
    pairs = enumerate(zip(one, other, strict=False))
    same = next((place for place, pair in pairs if pair[0] != pair[1]), min(len(one), len(other)))
    batch = pad([(*prompt, *one[:same])], torch.device("cpu"))
    with torch.inference_mode():
        top = adapter.module(**batch.inputs(), use_cache=False).logits[0, -1].float().topk(2).values
    return float(top[0] - top[1])


def answers(adapter: Adapter, prompts: Sequence[Sequence[int]], learned: Sequence[Encoded], how: Decoding) -> float:
    """Compare answers; how many times over its bound the share of those that part is."""
    adapter.module.eval()
    layout = choose_for_answers(adapter.module, how.device)
    drafted = replace(how, layout=layout, expected=[one.answer[:-1] for one in learned])
    ours = greedy(adapter.module, prompts, drafted)
    if adapter.method.virtual_tokens:
        name, usual = "token by token", [greedy(adapter.module, [one], how)[0] for one in prompts]
    else:
        name = "generate"
        usual = [generated(adapter.module, one, how.max_new_tokens, how.end_id) for one in prompts]
    pairs = zip(prompts, usual, ours, strict=True)
    gaps = [gap(adapter, prompt, one, other) for prompt, one, other in pairs if one != other]
    kinds = len({*map(tuple, usual)})
    print(
        f"    {len(prompts)} answers ({kinds} different) against {name}: {len(gaps)} part", *map("{:.1e}".format, gaps)
    )
    return float("inf") if any(each >= TIED for each in gaps) else len(gaps) / len(prompts) / MOST_TIED


def compare(
    name: str, base: LoadedModel, data: tuple[list[Encoded], list[Encoded]], asked: argparse.Namespace
) -> float:
    """Compare a method; how many times over its bounds the worst is."""
    learned, test = data
    batches = [learned[start : start + BATCH] for start in range(0, BATCH * asked.batches, BATCH)]
    settings = {"encoder_dropout": 0.0} if name == "p_tuning" else {}
    method = build(name, registry.load("methods", name).value, settings)
    how = Decoding(asked.new_tokens, base.chat.end_id, 16, base.device)
    prompts = [one.prompt for one in test]
    torch.manual_seed(SEED)
    with attached(method, base) as adapter:
        tokens = method.virtual_tokens
        layout = choose(adapter.module, adapter.trainable.values(), base.device, learned_beginning=tokens > 0)
        print(f"{name}: {layout}\n  at the start")
        worst = [steps(adapter, batches, layout, base.device), answers(adapter, prompts, learned, how)]
        after, far = trajectory(adapter, batches[:STEPS], layout, base)
        adapter.put(after)
        print(f"  after {STEPS} steps")
        worst += [far, steps(adapter, batches, layout, base.device), answers(adapter, prompts, learned, how)]
    return max(worst)


def main() -> None:
    """Compare."""
    asked = arguments()
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    ground = Ground(asked.model, asked.data_root)
    base = ground.base
    asked.new_tokens = asked.new_tokens or registry.load("tasks", asked.task).value.max_new_tokens
    count = BATCH * max(asked.batches, STEPS)
    learned = ground.examples(asked.task, "train", 2 * count, Room(512))
    test = ground.examples(asked.task, "test", asked.rows, Room(1024, answer=asked.new_tokens))
    worst = max(compare(name, base, (learned[:count], test), asked) for name in asked.methods.split(","))
    print(f"{asked.task}: the worst is {worst:.2f} of what it may be")
    sys.exit(worst > 1)


if __name__ == "__main__":
    main()
