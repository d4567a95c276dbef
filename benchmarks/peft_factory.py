"""How long a training step takes, beside PEFT-Factory itself in an environment of its own.

    python3.11 -m venv /tmp/factory
    /tmp/factory/bin/pip install torch==2.13.0 peftfactory==0.9.4.8 "pyarrow<22"
    python benchmarks/peft_factory.py --factory /tmp/factory/bin/peftfactory-cli --model DIR --data-root DIR
        [--task sst2] [--rounds 5]

Both train the same LoRA (r 16, on keys, values and the down projection, no dropout) in 32 bits with one thread on the
same token ids, four examples a step, in the same order; PEFT-Factory as it comes, with gradient checkpointing, and with
that switched off. Its seconds a step are those of the CPU of a run of ten steps less those of a run of two; ours those
of the same eight steps. In every round each is run once, in turn. Nothing is printed of times unless the losses of the
first two steps agree.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch
import transformers
from _ground import Ground, add_arguments

from peftbench import heap, matmul, registry
from peftbench.methods._attach import attached
from peftbench.methods._method import build
from peftbench.models._chat import Encoded
from peftbench.models._choosing import choose
from peftbench.spec import TrainSpec
from peftbench.training.loop import How, TrainingData, fit
from peftbench.training.questions import Room

EXAMPLES, FEW, MANY, LONGEST, SEED = 4, 2, 10, 2048, 1
RATE = 1e-4
# Of the mean loss of the first two steps: their library is another version, and prints few digits.
SAME = 1e-3


def arguments() -> argparse.Namespace:
    """What to measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    parser.add_argument("--factory", type=Path, required=True, help="its command, in its environment")
    parser.add_argument("--task", default="toy_dial")
    parser.add_argument("--rounds", type=int, default=5)
    return parser.parse_args()


def written(learned: Sequence[Encoded], model: str, folder: Path) -> None:
    """Write the examples as PEFT-Factory reads them: texts that its tokenizer makes the same ids of."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(model)
    rows = []
    for one in learned:
        prompt, answer = (tokenizer.decode(ids) for ids in (one.prompt, one.answer))
        assert tokenizer(prompt, add_special_tokens=False).input_ids == [*one.prompt]
        rows.append({"instruction": prompt, "input": "", "output": answer})
    (folder / "rows.json").write_text(json.dumps(rows), encoding="utf-8")
    (folder / "dataset_info.json").write_text(json.dumps({"rows": {"file_name": "rows.json"}}), encoding="utf-8")


def readable(model: str, folder: Path) -> str:
    """The model in a folder that an older transformers reads: other names in what is said of the tokenizer."""
    for file in Path(model).iterdir():
        (folder / file.name).symlink_to(file.resolve())
    config = folder / "tokenizer_config.json"
    settings = {**json.loads(config.read_text(encoding="utf-8")), "tokenizer_class": "PreTrainedTokenizerFast"}
    settings["additional_special_tokens"] = settings.pop("extra_special_tokens", [])
    config.unlink()
    config.write_text(json.dumps(settings), encoding="utf-8")
    return str(folder)


def theirs(command: Path, model: str, folder: Path, steps: int, *, checkpointing: bool) -> tuple[float, float]:
    """Seconds of the CPU of a run of PEFT-Factory, and its mean loss."""
    with tempfile.TemporaryDirectory() as out:
        settings = {
            "model_name_or_path": model,
            "stage": "sft",
            "do_train": True,
            "finetuning_type": "lora",
            "lora_rank": 16,
            "lora_alpha": 16,
            "lora_dropout": 0.0,
            "lora_target": "k_proj,v_proj,down_proj",
            "dataset": "rows",
            "dataset_dir": str(folder),
            "template": "empty",
            "cutoff_len": LONGEST,
            "disable_shuffling": True,
            "disable_gradient_checkpointing": not checkpointing,
            "output_dir": out,
            "per_device_train_batch_size": EXAMPLES,
            "gradient_accumulation_steps": 1,
            "learning_rate": RATE,
            "lr_scheduler_type": "constant",
            "max_steps": steps,
            "save_strategy": "no",
            "report_to": "none",
            "overwrite_output_dir": True,
        }
        config = Path(out) / "config.json"
        config.write_text(json.dumps(settings), encoding="utf-8")
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "DISABLE_VERSION_CHECK": "1"}
        done = subprocess.run(  # noqa: S603 - the command that was named
            [command, "train", config], check=False, env=environment, capture_output=True, text=True
        )
        if done.returncode:
            raise SystemExit(f"PEFT-Factory ended with {done.returncode}:\n{done.stderr[-2000:]}")
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        loss = json.loads((Path(out) / "train_results.json").read_text(encoding="utf-8"))["train_loss"]
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, float(loss)


def ours(ground: Ground, learned: Sequence[Encoded], library: matmul.Matmul) -> tuple[float, float]:
    """Seconds of the CPU a step, of all but the first two, and the mean loss of these."""
    matmul.settle(library)
    base, moments = ground.base, [0.0]
    spec = TrainSpec(
        per_device_train_batch_size=EXAMPLES,
        learning_rate=RATE,
        checkpoint="last",
        validation_share=0,
        lr_scheduler_type="constant",
        warmup_ratio=0,
        weight_decay=0,
    )
    settings = {"r": 16, "lora_alpha": 16, "lora_dropout": 0.0, "targets": ["key", "value", "down"]}
    with attached(build("lora", registry.load("methods", "lora").value, settings), base) as adapter:
        layout = choose(adapter.module, adapter.trainable.values(), base.device)
        log = Path(tempfile.mkdtemp()) / "train.jsonl"
        how = How(base.device, EXAMPLES, log, lambda *_: moments.append(time.process_time()), layout)
        steps = [range(start, start + EXAMPLES) for start in range(0, len(learned), EXAMPLES)]
        fit(adapter, TrainingData(learned, [], steps), spec, SEED, how)
    losses = [json.loads(line)["loss"] for line in log.read_text(encoding="utf-8").splitlines()]
    return (moments[MANY] - moments[FEW]) / (MANY - FEW), statistics.mean(losses[:FEW])


def main() -> None:
    """Measure."""
    asked = arguments()
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    heap.keep()
    ground = Ground(asked.model, asked.data_root)
    learned = ground.examples(asked.task, "train", 4 * MANY * EXAMPLES, Room(LONGEST))[: MANY * EXAMPLES]
    libraries: set[matmul.Matmul] = {"torch", matmul.settle("auto")}
    seconds: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        written(learned, ground.folder, folder)
        (folder / "model").mkdir()
        model = readable(ground.folder, folder / "model")
        for _ in range(asked.rounds):
            for checkpointing in (True, False):
                few, loss = theirs(asked.factory, model, folder, FEW, checkpointing=checkpointing)
                many, _ = theirs(asked.factory, model, folder, MANY, checkpointing=checkpointing)
                key = "PEFT-Factory" if checkpointing else "PEFT-Factory, checkpointing off"
                seconds.setdefault(key, []).append((many - few) / (MANY - FEW))
            for library in sorted(libraries, reverse=True):
                took, own = ours(ground, learned, library)
                if abs(own / loss - 1) > SAME:
                    raise SystemExit(f"The first losses are {loss:.5f} in PEFT-Factory and {own:.5f} here.")
                seconds.setdefault(f"ours, {library}", []).append(took)
    usual = seconds["PEFT-Factory"]
    print(f"{asked.task}: median CPU seconds a step, and times faster than PEFT-Factory (least, most)")
    for key, times in seconds.items():
        ratios = [one / other for one, other in zip(usual, times, strict=True)]
        print(
            f"  {key:32} {statistics.median(times):7.3f}   {sum(usual) / sum(times):5.2f} "
            f"({min(ratios):.2f}, {max(ratios):.2f})"
        )


if __name__ == "__main__":
    main()
