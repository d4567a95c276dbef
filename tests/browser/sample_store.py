"""Stores of made-up records, with plausible numbers, to look at reports with."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from peftbench.record import Cost, Environment, Failure, FitResult, Peak, Record, SplitResult
from peftbench.spec import EvalSpec, MethodRef, ModelRef, Resources, RunSpec, TaskRef, TrainSpec
from peftbench.store import Store

MIB = 1024**2
CPU = Environment(
    peftbench="0.1.0",
    python="3.11.7",
    platform="Linux-6.1-x86_64-with-glibc2.36",
    processor="AMD EPYC 7763",
    device="cpu",
    threads=8,
    packages={"torch": "2.13.0+cpu", "transformers": "5.23.0", "peft": "0.21.2", "numpy": "2.4.6"},
)
GPU = CPU.model_copy(update={"device": "NVIDIA H100 80GB HBM3", "processor": "Intel Xeon 8480C", "threads": 16})

TASKS = {"boolq": 0.62, "copa": 0.55, "gsm8k": 0.0, "rte": 0.53, "sst2": 0.51}
MODELS = {"SmolLM2-360M-Instruct": (361_821_120, 0.00), "Qwen2.5-1.5B-Instruct": (1_543_714_304, 0.11)}
# Gain over the untouched model, trained share, memory over the weights, settings.
METHODS: dict[str, tuple[float, float, float, dict[str, Any]]] = {
    "zero_shot": (0.0, 0.0, 1.0, {}),
    "ia3": (0.12, 0.0004, 1.55, {"targets": ["key", "value", "down"]}),
    "lora": (0.21, 0.0112, 1.70, {"r": 16, "lora_alpha": 32, "lora_dropout": 0.0, "targets": ["query", "value"]}),
    "prompt_tuning": (0.08, 0.0002, 1.62, {"num_virtual_tokens": 100}),
    "full": (0.23, 1.0, 4.6, {}),
}


def spec(task: str = "sst2", model: str = "SmolLM2-360M-Instruct", method: str = "lora", seed: int = 1) -> RunSpec:
    trains = method != "zero_shot"
    settings = METHODS.get(method, (0, 0, 0, {}))[3]
    return RunSpec(
        task=TaskRef(name=task, version=1, data=f"files:{random.Random(task).getrandbits(64):016x}"),
        model=ModelRef(name=model, revision=f"{random.Random(model).getrandbits(64):016x}"),
        method=MethodRef(name=method, version=1, settings=settings),
        train=TrainSpec(learning_rate=5e-5 if method == "full" else 1e-3) if trains else None,
        evaluate=EvalSpec(max_new_tokens=256 if task == "gsm8k" else 8),
        seed=seed if trains else None,
    )


def done(
    asked: RunSpec, score: float = 0.75, cost: Cost | None = None, environment: Environment = CPU, **changes: Any
) -> Record:
    draw = random.Random(asked.run_id)
    unreadable = draw.choice((0, 0, 0, 1, 4, 23))
    counts = {"examples": 872, "unreadable": unreadable, "cut": 7 if asked.task.name == "boolq" else 0, "unfit": 0}
    fit = FitResult(
        steps=309, examples=2250, tokens=412_000, cut=12 if asked.task.name == "boolq" else 0, unfit=0, first_loss=2.1,
        last_loss=0.4, best_step=232, best_validation_loss=0.38, batches="e92b7eae9f80826f",
    )  # fmt: skip
    values: dict[str, Any] = {
        "run_id": asked.run_id,
        "spec": asked,
        "resources": Resources(),
        "headline": "accuracy",
        "chance": TASKS.get(asked.task.name),
        "test": SplitResult(metrics={"accuracy": score}, **counts),
        "fit": fit if asked.train else None,
        "cost": cost or costs(asked, environment=environment),
        "environment": environment,
        "started": "2026-11-20T09:07:16.134+00:00",
        "finished": "2026-11-22T17:21:21.969+00:00",
    }
    return Record(**{**values, **changes})


def failed(asked: RunSpec, message: str = "CUDA out of memory. Tried to allocate 2.00 GiB.", **changes: Any) -> Record:
    fix = changes.pop("fix", "Set --micro-batch to a smaller number.")
    failure = Failure(phase="fit", kind=changes.pop("kind", "OutOfMemoryError"), message=message, fix=fix)
    return done(asked, failure=failure, test=None, **changes).model_copy(update={"cost": None})


def costs(asked: RunSpec, environment: Environment = CPU) -> Cost:
    total, _ = MODELS.get(asked.model.name, (260_032, 0.0))
    _, share, memory, _ = METHODS.get(asked.method.name, (0, 0.01, 1.5, {}))
    draw = random.Random(asked.run_id)
    weights = 4 * total + 600 * MIB
    definition: Any = "cuda_allocated" if environment.device != "cpu" else "host_resident"
    seconds = total / 4e6 * (1.6 if share == 1.0 else 1.0) * draw.uniform(0.95, 1.05) if asked.train else None
    peaks = [Peak(phase="predict", definition=definition, bytes=int(weights * 1.1))]
    if asked.train:
        most = int(weights * memory * draw.uniform(0.97, 1.03))
        peaks.append(Peak(phase="fit", definition=definition, bytes=most))
        if definition == "cuda_allocated":
            peaks.append(Peak(phase="fit", definition="cuda_reserved", bytes=int(most * 1.08)))
    virtual = 100 if asked.method.name == "prompt_tuning" else 0
    added = int(total * share) if asked.method.name == "lora" else 0
    return Cost(
        trainable_parameters=int(total * share),
        total_parameters=total,
        adapter_bytes=int(total * share * 4) + 1200 if asked.train else None,
        fit_seconds=seconds,
        fit_tokens_per_second=None if seconds is None else 412_000 / seconds,
        predict_seconds=total / 9e6 * draw.uniform(0.95, 1.05),
        predict_tokens_per_second=9.1e10 / total,
        peaks=tuple(peaks),
        forward_flops=2 * total * (512 + virtual) + 2 * added * 512,
        base_forward_flops=2 * total * 512,
        forward_length=512,
    )


def rich_records(
    seeds: Iterable[int] = (1, 2, 3), environments: Mapping[str, Environment] | None = None
) -> list[Record]:
    """Two models, five tasks, three methods and two references, three seeds; some runs failed."""
    found = []
    for model, (_, strength) in MODELS.items():
        where = (environments or {}).get(model, CPU)
        for task, chance in TASKS.items():
            for method, (gain, *_) in METHODS.items():
                for seed in seeds if method != "zero_shot" else (1,):
                    asked = spec(task, model, method, seed)
                    draw = random.Random(asked.run_id)
                    if method == "full" and model.startswith("Qwen") and task in {"boolq", "gsm8k"}:
                        found.append(failed(asked, environment=where))
                    elif method == "ia3" and task == "rte" and seed == 3:
                        message = "The loss became nan at step 41."
                        found.append(
                            failed(asked, message, kind="Diverged", fix="Lower train.learning_rate.", environment=where)
                        )
                    else:
                        room = 1 - max(chance, 0.2)
                        score = min(0.99, max(chance, 0.05) + strength + gain * room * 1.4 + draw.gauss(0, 0.012))
                        found.append(done(asked, score, environment=where))
    return found


def store_of(path: Path, records: Iterable[Record], waiting: Iterable[RunSpec] = ()) -> Store:
    """A store with these records, and with runs that have been asked for only."""
    store = Store(path)
    for record in records:
        store.begin(record.spec, record.resources)
        store.put(record)
    for asked in waiting:
        store.describe(asked, Resources())
    return store
