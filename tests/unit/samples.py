"""Small values that unit tests start from."""

from __future__ import annotations

from typing import Any

from peftbench.record import Cost, Environment, Failure, Record, SplitResult
from peftbench.spec import EvalSpec, MethodRef, ModelRef, Resources, RunSpec, TaskRef, TrainSpec

ENVIRONMENT = Environment(
    peftbench="0", python="3", platform="p", processor="c", device="cpu", threads=1, packages={"torch": "2"}
)


def run_spec(task: str = "sst2", method: str = "lora", seed: int | None = 1, **settings: Any) -> RunSpec:
    """A run of a method with some settings; one without a seed does not train."""
    return RunSpec(
        task=TaskRef(name=task, version=1, data="files:0"),
        model=ModelRef(name="tiny", revision="0"),
        method=MethodRef(name=method, version=1, settings=settings),
        train=None if seed is None else TrainSpec(learning_rate=0.1),
        evaluate=EvalSpec(max_new_tokens=4),
        seed=seed,
    )


def record(spec: RunSpec, score: float | None = 0.5, cost: Cost | None = None) -> Record:
    """A finished run with that score, or a failed one without."""
    result = None
    if score is not None:
        result = SplitResult(metrics={"accuracy": score}, examples=4, unreadable=0, cut=0, unfit=0)
    return Record(
        run_id=spec.run_id,
        spec=spec,
        resources=Resources(),
        headline="accuracy",
        chance=0.51,
        test=result,
        cost=cost,
        environment=ENVIRONMENT,
        failure=None if result else Failure(phase="fit", kind="Diverged", message="no"),
        started="then",
        finished="now",
    )
