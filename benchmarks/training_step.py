"""How long a training step takes, and how much memory, beside the `Trainer` of transformers as it is used elsewhere.

    python benchmarks/training_step.py --model DIR --data-root DIR [--tasks sst2,boolq,multirc] [--rounds 5] [--memory]
        [--shape 128k] [--device cuda --bf16 --shape 8b]

All train the same adapter (LoRA, r 16, on keys, values and the down projection, no dropout) in 32 bits with one thread,
four examples a step:

- `published`: `Trainer`, padded rows, gradient checkpointing on, which is what the published benchmark does;
- `kept`: the same with checkpointing off, the first thing anybody would change;
- `well set`: checkpointing off and batches of similar length, and so of other examples;
- `ours`, and `ours, lean`: this package's loop.

Each is measured with the library that torch multiplies matrices with by itself, ours with oneDNN too, where that is as
exact here. In every round each variant does two steps on the same examples, in turn, of which the second counts: so it
is in the middle of a training. CPU seconds and those of the clock, medians, and the ratio of the CPU seconds of all
rounds with the lowest and highest of a round. Theirs and ours each have a process, of which one works at a time.
Nothing is measured unless the losses of the first step agree. `--memory` measures instead the peak of each variant over
what its process held before its steps, in a process of its own. `--shape` takes
a random model of that shape, with the tokenizer of the model named. On CUDA seconds are those of the clock, and bytes
those given to tensors.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import shutil
import statistics
import tempfile
import time
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Literal

import torch
import transformers
from _ground import Ground, add_arguments, collate
from transformers import Trainer, TrainerCallback, TrainingArguments

from peftbench import heap, matmul, registry
from peftbench.cost.meter import Reading, meter
from peftbench.methods._attach import attached
from peftbench.methods._method import build
from peftbench.models._chat import Encoded
from peftbench.models._choosing import choose
from peftbench.models._facts import find
from peftbench.spec import TrainSpec
from peftbench.training.loop import How, TrainingData, fit
from peftbench.training.questions import Room

SETTINGS = {"r": 16, "targets": ["key", "value", "down"]}
EXAMPLES, LONGEST, SEED = 4, 2048, 1
# Width, width between, layers, heads, key heads, and whether the head is the embedding; the vocabulary is 128,256. The
# first is nearly all embedding and head (28 million numbers), the others are those of Llama 3.2 1B and of Llama 3 8B.
SHAPES = {
    "128k": (192, 512, 8, 6, 2, True),
    "1b": (2048, 8192, 16, 32, 8, True),
    "8b": (4096, 14_336, 32, 32, 8, False),
}
# Of the losses of a first step, with one library, across the two, and in 16 bits.
SAME, ACROSS, ROUGH = 5e-6, 2e-5, 2e-2


@dataclass(frozen=True)
class Variant:
    """A way to train: by which loop, and how."""

    name: str
    trainer: bool
    checkpointing: bool = False
    grouped: bool = False
    matmul: matmul.Matmul = "torch"


VARIANTS = (
    Variant("published", trainer=True, checkpointing=True),
    Variant("kept", trainer=True),
    Variant("well set", trainer=True, grouped=True),
    Variant("ours", trainer=False),
    Variant("ours, lean", trainer=False, checkpointing=True),
    Variant("published, onednn", trainer=True, checkpointing=True, matmul="onednn"),
    Variant("well set, onednn", trainer=True, grouped=True, matmul="onednn"),
    Variant("ours, onednn", trainer=False, matmul="onednn"),
    Variant("ours, lean, onednn", trainer=False, checkpointing=True, matmul="onednn"),
)


def arguments() -> argparse.Namespace:
    """What to measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    parser.add_argument("--shape", choices=list(SHAPES), help="a random model of this shape in its place")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--bf16", action="store_true", help="weights and arithmetic of the base")
    parser.add_argument("--tasks", default="sst2,boolq,multirc")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--variants", default="", help="some of them, separated by semicolons")
    parser.add_argument("--memory", action="store_true")
    return parser.parse_args()


def shaped(shape: str, model: str, folder: Path, dtype: torch.dtype) -> Path:
    """A random Llama of a shape, with the tokenizer of a model."""
    hidden, between, layers, heads, groups, tied = SHAPES[shape]
    config = transformers.LlamaConfig(
        vocab_size=128_256,
        hidden_size=hidden,
        intermediate_size=between,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=groups,
        tie_word_embeddings=tied,
        max_position_embeddings=LONGEST,
        bos_token_id=None,
        eos_token_id=None,
    )
    torch.manual_seed(SEED)
    transformers.LlamaForCausalLM(config).to(dtype).save_pretrained(folder)
    transformers.AutoTokenizer.from_pretrained(find(model).folder or model).save_pretrained(folder)
    return folder


@dataclass
class Batches(Ground):
    """The examples that are trained on: a batch for every round, and one before the first."""

    task: str = "toy_dial"
    rounds: int = 5

    @cached_property
    def batches(self) -> list[list[Encoded]]:
        """In a random order."""
        count = EXAMPLES * (self.rounds + 1)
        found = self.examples(self.task, "train", 4 * count, Room(LONGEST))
        random.Random(SEED).shuffle(found)  # noqa: S311 - an order, no secret
        return [found[start : start + EXAMPLES] for start in range(0, count, EXAMPLES)]

    def batch(self, number: int, *, grouped: bool) -> list[Encoded]:
        """The examples of a round; grouped, those of all rounds are shared out by length."""
        if not grouped or number == 0:
            return self.batches[number]
        ordered = sorted((one for batch in self.batches[1:] for one in batch), key=lambda one: one.tokens)
        groups = [ordered[start : start + EXAMPLES] for start in range(0, len(ordered), EXAMPLES)]
        random.Random(SEED).shuffle(groups)  # noqa: S311 - as above
        return groups[number - 1]


@dataclass(frozen=True)
class Step:
    """Seconds of a step, of the CPU and of the clock, the loss of that before it, and bytes above what was held."""

    seconds: float
    wall: float
    loss: float
    bytes: int


@contextlib.contextmanager
def above_rest(device: torch.device) -> Iterator[list[int]]:
    """Measure the peak of a `with` block above what is held when it begins: put into the list that is given."""
    kind = "cuda_allocated" if device.type == "cuda" else "host_resident"

    def bytes_of(reading: Reading) -> int:
        return next(peak.bytes for peak in reading.peaks if peak.definition == kind)

    with meter("fit", device) as rest:
        pass
    found: list[int] = []
    with meter("fit", device) as reading:
        yield found
    found.append(bytes_of(reading) - bytes_of(rest))


def clocks(device: torch.device) -> tuple[float, float]:
    """Seconds: of this process's CPU, or on a GPU those that passed until it had done all; and those that passed."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        return time.perf_counter(), time.perf_counter()
    return time.process_time(), time.perf_counter()


class Timed(Trainer):  # type: ignore[misc]  # transformers leaves it untyped
    """A `Trainer` that notes the loss of its first step."""

    loss: float | None = None

    def training_step(self, *given: Any, **options: Any) -> torch.Tensor:
        """As it is."""
        loss: torch.Tensor = super().training_step(*given, **options)
        self.loss = float(loss) if self.loss is None else self.loss
        return loss


class Watch(TrainerCallback):  # type: ignore[misc]  # transformers leaves it untyped
    """The seconds of the last step on a device."""

    def __init__(self, device: torch.device) -> None:
        """Nothing was measured yet."""
        self._device = device
        self._begun = self.seconds = (0.0, 0.0)

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        """Start."""
        self._begun = clocks(self._device)

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """Stop."""
        cpu, wall = clocks(self._device)
        self.seconds = cpu - self._begun[0], wall - self._begun[1]


class Theirs:
    """`Trainer` with the LoRA of peft, as they are."""

    def __init__(self, ground: Batches) -> None:
        import peft

        model = transformers.AutoModelForCausalLM.from_pretrained(ground.folder, dtype=getattr(torch, ground.dtype))
        rates = {"task_type": "CAUSAL_LM", "lora_alpha": 16, "lora_dropout": 0.0}
        config = peft.LoraConfig(r=16, target_modules=["k_proj", "v_proj", "down_proj"], **rates)
        self._device, self._folder = torch.device(ground.device), tempfile.mkdtemp()
        self._model = peft.get_peft_model(model.to(self._device), config)
        self._start = {name: value.detach().clone() for name, value in self._trained().items()}

    def _trained(self) -> dict[str, torch.Tensor]:
        return {name: value for name, value in self._model.named_parameters() if value.requires_grad}

    def step(self, variant: Variant, batch: Sequence[Encoded]) -> Step:
        """Do two steps."""
        self._model.activation_checkpointing_disable()
        with torch.no_grad():
            for name, value in self._trained().items():
                value.copy_(self._start[name])
        arguments = TrainingArguments(
            output_dir=self._folder,
            per_device_train_batch_size=EXAMPLES,
            max_steps=2,
            train_sampling_strategy="sequential",
            learning_rate=1e-4,
            activation_checkpointing=variant.checkpointing,
            use_cpu=self._device.type == "cpu",
            logging_strategy="no",
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
            dataloader_pin_memory=False,
        )
        watch = Watch(self._device)
        trainer = Timed(self._model, arguments, collate, [*batch, *batch], callbacks=[watch])
        trainer.remove_callback(transformers.PrinterCallback)
        with above_rest(self._device) as peak:
            trainer.train()
        assert trainer.loss is not None
        return Step(*watch.seconds, trainer.loss, *peak)


class Ours:
    """The loop of this package."""

    def __init__(self, ground: Batches) -> None:
        self._base, self._log = ground.base, Path(tempfile.mkdtemp()) / "train.jsonl"
        self._method = build("lora", registry.load("methods", "lora").value, SETTINGS)

    def step(self, variant: Variant, batch: Sequence[Encoded]) -> Step:
        """Do two steps."""
        heap.keep()
        spec = TrainSpec(
            per_device_train_batch_size=EXAMPLES, learning_rate=1e-4, checkpoint="last", validation_share=0
        )
        device, moments = self._base.device, []
        with attached(self._method, self._base) as adapter:
            layout = choose(adapter.module, adapter.trainable.values(), device)
            done = lambda *_: moments.append(clocks(device))  # noqa: E731 - the loop tells it of every step
            how = How(device, EXAMPLES, self._log, done, layout, variant.checkpointing)
            with above_rest(device) as peak:
                fitted = fit(adapter, TrainingData(batch, [], [range(len(batch))] * 2), spec, SEED, how)
        first, second = moments
        return Step(second[0] - first[0], second[1] - first[1], fitted.first_loss, *peak)


class Place:
    """A process in which the steps of one side are done, and nothing else."""

    def __init__(self, ground: Batches, *, trainer: bool) -> None:
        """Load the model there."""
        # Without what is loaded here.
        fresh = replace(ground)
        self._pool = ProcessPoolExecutor(1, get_context("spawn"), initializer=_settle, initargs=(fresh, trainer))

    def step(self, variant: Variant, number: int) -> Step:
        """Do the steps of a round."""
        return self._pool.submit(_step, variant, number).result()


_there: list[tuple[Batches, Theirs | Ours]] = []


def _settle(ground: Batches, trainer: bool) -> None:  # noqa: FBT001 - as given to a process
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    warnings.simplefilter("ignore")
    assert ground.batches
    side = Theirs(ground) if trainer else Ours(ground)
    if trainer:
        ground.bench.drop_base()
        del ground.base
    else:
        heap.keep()
    _there.append((ground, side))


def _step(variant: Variant, number: int) -> Step:
    ((ground, side),) = _there
    matmul.settle(variant.matmul)
    return side.step(variant, ground.batch(number, grouped=variant.grouped))


def gate(ground: Batches, places: dict[bool, Place], variants: Sequence[Variant]) -> None:
    """Refuse to measure what does not compute the same: the losses of one batch, before any step.

    Raises:
        SystemExit: they do not agree.
    """
    losses = {variant: places[variant.trainer].step(variant, 0).loss for variant in variants}
    for variant, loss in losses.items():
        reference = losses[variants[0]]
        far, bound = abs(loss / reference - 1), SAME if variant.matmul == variants[0].matmul else ACROSS
        bound = ROUGH if ground.dtype == "bfloat16" else bound
        print(f"  {variant.name:22} first loss {loss:.7f}, relative difference {far:.1e}")
        if variant.trainer is not variants[0].trainer and far > bound:
            raise SystemExit(f"{variant.name} computes another loss than {variants[0].name}.")


def measure(ground: Batches, variants: Sequence[Variant]) -> None:
    """Print the table of a task."""
    places = {trainer: Place(ground, trainer=trainer) for trainer in {variant.trainer for variant in variants}}
    gate(ground, places, variants)
    steps: dict[Variant, list[Step]] = {variant: [] for variant in variants}
    for number in range(1, ground.rounds + 1):
        # Turned around every second time: what comes first has the caches cold.
        for variant in variants[:: 1 if number % 2 else -1]:
            steps[variant].append(places[variant.trainer].step(variant, number))
    for reference in ("published", "well set"):
        base = next((each for each in variants if each.name == reference), None)
        if base is not None:
            table(reference, steps[base], steps)


def table(name: str, base: Sequence[Step], steps: dict[Variant, list[Step]]) -> None:
    """Print how many times faster each is: of all rounds together, and the least and the most of a round."""
    print(f"  {'':22} median CPU s  wall s   times faster than {name}: all rounds (least, most)")
    for variant, took in steps.items():
        rounds = [usual.seconds / own.seconds for usual, own in zip(base, took, strict=True)]
        together = sum(one.seconds for one in base) / sum(one.seconds for one in took)
        spread = f"({min(rounds):.2f}, {max(rounds):.2f})"
        cpu, wall = (statistics.median(times) for times in zip(*((one.seconds, one.wall) for one in took), strict=True))
        print(f"  {variant.name:22} {cpu:12.3f} {wall:7.3f}   {together:5.2f} {spread}")


def memory(ground: Batches, variants: Sequence[Variant]) -> None:
    """Print the peak of each variant, each in a process of its own, of several batches the most."""
    found = {}
    for variant in variants:
        place = Place(ground, trainer=variant.trainer)
        found[variant] = max(place.step(variant, number).bytes for number in range(ground.rounds + 1))
        share = found[variant] / found[variants[0]]
        print(f"  {variant.name:22} {found[variant] / 2**20:8.0f} MiB   {share:.2f} of {variants[0].name}", flush=True)


def main() -> None:
    """Measure."""
    asked = arguments()
    torch.set_num_threads(1)
    if matmul.settle("auto") == "torch":
        print("oneDNN is not as exact here, or not faster.")
    named = [variant for variant in VARIANTS if not asked.variants or variant.name in asked.variants.split(";")]
    if asked.device == "cuda":
        # What multiplies there is no library of the CPU.
        named = [variant for variant in named if variant.matmul == "torch"]
    scratch = Path(tempfile.mkdtemp())
    dtype: Literal["float32", "bfloat16"] = "bfloat16" if asked.bf16 else "float32"
    made = asked.shape and shaped(asked.shape, asked.model, scratch / asked.shape, getattr(torch, dtype))
    model = str(made or asked.model)
    for task in asked.tasks.split(","):
        ground = Batches(model, asked.data_root, asked.device, dtype, task, asked.rounds)
        tokens = [one.tokens for batch in ground.batches for one in batch]
        mean = statistics.mean(tokens)
        print(f"{task}: {len(tokens)} examples of {min(tokens)} to {max(tokens)} tokens, {mean:.0f} on average")
        if asked.memory:
            memory(ground, named)
        else:
            measure(ground, named)
    shutil.rmtree(scratch)


if __name__ == "__main__":
    main()
