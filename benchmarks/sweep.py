"""How time and memory of a training step grow with the tokens of its row, and how near its products come to the peak.

    python benchmarks/sweep.py --model DIR --data-root DIR [--task boolq] [--examples 1,2,4,8,16] [--picture FILE]

LoRA (r 16, on keys, values and the down projection), in 32 bits with one thread, `fast` and `lean`. Each number of
examples in a row has a process of its own, in which the longest row of that many is trained on: seconds of the CPU
(the median of `--steps`, after one that does not count), the peak over what the process held before, and floating point
operations of matrix products a second (as torch counts them, forward and backward) as a share of what the largest
products reach here. `seconds a token` says what several adapters, or more examples, in one row could gain at most.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import torch
import transformers
from _ground import Ground, add_arguments
from torch.nn.functional import linear
from torch.utils.flop_counter import FlopCounterMode

from peftbench import heap, matmul, registry
from peftbench.cost.meter import meter
from peftbench.methods._attach import attached
from peftbench.methods._method import build
from peftbench.models._chat import Encoded
from peftbench.models._choosing import choose
from peftbench.models._layout import common_beginning
from peftbench.spec import TrainSpec
from peftbench.training.loop import How, TrainingData, fit
from peftbench.training.questions import Room

SETTINGS = {"r": 16, "targets": ["key", "value", "down"]}
LONGEST, SEED = 2048, 1
# Of the products that are taken for the peak: as large as any here, and square.
LARGE = 1536


@dataclass(frozen=True)
class Point:
    """A step: tokens of its row, seconds, bytes above what was held before, and operations of its matrix products."""

    tokens: int
    seconds: float
    bytes: int
    flops: int


def arguments() -> argparse.Namespace:
    """What to measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    parser.add_argument("--task", default="toy_dial")
    parser.add_argument("--examples", default="1,2,4,8,16,24", help="in a row, separated by commas")
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--picture", type=Path, help="an image file to draw into")
    return parser.parse_args()


def point(ground: Ground, batch: Sequence[Encoded], library: matmul.Matmul, lean: bool, steps: int) -> Point:  # noqa: FBT001 - as given to a process
    """Measure steps on a batch, in this process."""
    torch.set_num_threads(1)
    matmul.settle(library)
    heap.keep()
    base = ground.base
    spec = TrainSpec(per_device_train_batch_size=len(batch), learning_rate=1e-4, checkpoint="last", validation_share=0)
    moments: list[float] = []
    with attached(build("lora", registry.load("methods", "lora").value, SETTINGS), base) as adapter:
        layout = choose(adapter.module, adapter.trainable.values(), base.device)
        log = Path(tempfile.mkdtemp()) / "train.jsonl"
        done = lambda *_: moments.append(time.process_time())  # noqa: E731 - the loop tells it of every step
        how = How(base.device, len(batch), log, done, layout, lean)

        def train(count: int) -> None:
            fit(adapter, TrainingData(batch, [], [range(len(batch))] * count), spec, SEED, how)

        with meter("fit", base.device) as rest:
            pass
        with meter("fit", base.device) as reading:
            train(steps + 1)
        seconds = statistics.median(after - before for before, after in itertools.pairwise(moments))
        with FlopCounterMode(display=False) as counter:
            train(1)
    tokens = sum(one.tokens for one in batch)
    if layout.shared:
        tokens -= (len(batch) - 1) * common_beginning([one.prompt for one in batch])
    return Point(tokens, seconds, reading.peaks[0].bytes - rest.peaks[0].bytes, counter.get_total_flops())


def best(library: matmul.Matmul) -> float:
    """Operations a second of large products."""
    matmul.settle(library)
    left, right = torch.randn(LARGE, LARGE), torch.randn(LARGE, LARGE)
    took = []
    for _ in range(9):
        started = time.process_time()
        linear(left, right)
        took.append(time.process_time() - started)
    return 2 * LARGE**3 / min(took)


def straight(points: Sequence[Point], of: str) -> float:
    """How much of the variance a straight line through the points leaves over: 0 is a line."""
    return 1 - statistics.correlation([one.tokens for one in points], [getattr(one, of) for one in points]) ** 2


def draw(found: dict[str, list[Point]], task: str, file: Path) -> None:
    """Draw seconds and bytes over tokens."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    time_axes, memory_axes = figure.subplots(1, 2)
    for name, points in found.items():
        tokens = [one.tokens for one in points]
        time_axes.plot(tokens, [one.seconds for one in points], "o-", label=name)
        memory_axes.plot(tokens, [one.bytes / 2**20 for one in points], "o-", label=name)
    time_axes.set(title="A training step", xlabel="tokens of the row", ylabel="CPU seconds", ylim=0, xlim=0)
    memory_axes.set(title="Its peak of memory", xlabel="tokens of the row", ylabel="MiB above rest", ylim=0, xlim=0)
    for axes in (time_axes, memory_axes):
        axes.spines[["top", "right"]].set_visible(False)
    time_axes.legend(frameon=False, title=f"{task}, one thread")
    figure.savefig(file, dpi=150)


def main() -> None:
    """Measure."""
    asked = arguments()
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    counts = [int(count) for count in asked.examples.split(",")]
    learned = Ground(asked.model, asked.data_root).examples(asked.task, "train", 4 * max(counts), Room(LONGEST))
    ground = Ground(asked.model, asked.data_root)
    libraries: set[matmul.Matmul] = {"torch", matmul.settle("auto")}
    found: dict[str, list[Point]] = {}
    with ProcessPoolExecutor(1, get_context("spawn"), max_tasks_per_child=1) as pool:
        for library in sorted(libraries, reverse=True):
            peak = best(library)
            print(f"{library}: large products reach {peak / 1e9:.0f} GFLOP/s")
            for lean in (False, True):
                name = f"{'lean' if lean else 'fast'}, {library}"
                print(f"  {name}\n    examples  tokens  seconds  ms a token     MiB  KiB a token  GFLOP/s  of the peak")
                for count in counts:
                    one = pool.submit(point, ground, learned[:count], library, lean, asked.steps).result()
                    found.setdefault(name, []).append(one)
                    rate = one.flops / one.seconds
                    print(
                        f"    {count:8} {one.tokens:7} {one.seconds:8.3f} {1e3 * one.seconds / one.tokens:11.2f} "
                        f"{one.bytes / 2**20:7.0f} {one.bytes / 2**10 / one.tokens:12.0f} {rate / 1e9:8.0f} "
                        f"{rate / peak:11.0%}",
                        flush=True,
                    )
                left = {of: straight(found[name], of) for of in ("seconds", "bytes")}
                print("    what a straight line leaves over:", *(f"{of} {share:.4f}" for of, share in left.items()))
    if asked.picture:
        draw(found, asked.task, asked.picture)


if __name__ == "__main__":
    main()
