"""What came back from a run: metrics, counts, costs, the environment, or the failure.

A record is written once, last, and never changed. Units stand in the names: `_seconds`, `_bytes`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from pydantic import Field

from peftbench.spec import SCHEMA, Reading, Resources, RunSpec, Value

# Before the names of metrics as the published benchmark computes them.
PUBLISHED = "published."

Phase = Literal["data", "model", "attach", "fit", "predict", "judge", "save", "merge"]


class SplitResult(Value):
    """What one split of the data says. Validation is the share cut from train; test is the evaluated split."""

    metrics: dict[str, float]
    examples: int = Field(ge=0)
    unreadable: int = Field(ge=0, description="answers the task's reader could not read: wrong, and counted here")
    cut: int = Field(ge=0, description="examples whose body was shortened to fit the context")
    unfit: int = Field(ge=0, description="examples that do not fit even without their body: wrong, and counted here")


class FitResult(Value):
    """What training did."""

    steps: int
    examples: int = Field(description="training examples, without the validation share")
    tokens: int = Field(description="tokens of prompt and answer over all steps, padding not counted")
    cut: int = Field(ge=0, description="examples whose body was shortened to fit the context")
    unfit: int = Field(ge=0, description="examples left out because they do not fit even without their body")
    first_loss: float
    last_loss: float
    best_step: int | None = Field(description="step whose weights were kept; absent when the last one was asked for")
    best_validation_loss: float | None
    resumed_at: int | None = Field(
        default=None,
        description="step after which a killed training was taken up; times are of all attempts, peaks of the last",
    )
    layout: str = Field(default="", description="how the examples of a step were put before the model, and why so")
    batches: str = Field(description="hash of the examples of every step, in order: equal for every method of a seed")


class Merged(Value):
    """The evaluated questions asked once more, with what was trained folded into the base."""

    metrics: dict[str, float]
    changed: int = Field(ge=0, description="answers that are not, to the letter, those of the attached adapter")
    predict_seconds: float
    predict_tokens_per_second: float = Field(description="new tokens")


class Peak(Value):
    """A peak of memory in one phase, with what exactly was read."""

    phase: Literal["fit", "predict"]
    definition: Literal["host_resident", "cuda_allocated", "cuda_reserved"]
    bytes: int


class Cost(Value):
    """What the run cost, measured in the run itself."""

    trainable_parameters: int = Field(
        description="of an adapter that was trained before, those that its files and its run tell of"
    )
    total_parameters: int = Field(description="of the base model, without the adapter")
    adapter_bytes: int | None = Field(description="size of the saved adapter; absent when none was saved")
    fit_seconds: float | None = Field(description="of training as a whole, validation passes included")
    fit_tokens_per_second: float | None = Field(description="of the training steps alone, without validation")
    predict_seconds: float
    predict_tokens_per_second: float = Field(description="new tokens")
    peaks: tuple[Peak, ...]
    forward_flops: int | None = Field(default=None, description="of one sequence through base and adapter")
    base_forward_flops: int | None = Field(default=None, description="of the same sequence through the base alone")
    forward_length: int | None = Field(default=None, description="tokens of that sequence, virtual ones not counted")

    def peak(self, phase: str) -> Peak | None:
        """The peak of a phase: on CUDA the allocated bytes, else the resident set."""
        order = ("cuda_allocated", "host_resident")
        found = [peak for peak in self.peaks if peak.phase == phase and peak.definition in order]
        return min(found, key=lambda peak: order.index(peak.definition), default=None)


class Environment(Value):
    """Where it ran."""

    peftbench: str
    python: str
    platform: str
    processor: str
    device: str
    threads: int
    matmul: str = Field(default="torch", description="what multiplies matrices on a CPU: what torch takes, or onednn")
    packages: dict[str, str]


class Failure(Value):
    """A run that did not end well: an outcome like any other."""

    phase: Phase
    kind: str
    message: str
    fix: str = ""


class Record(Value):
    """The whole outcome of one run."""

    run_id: str
    spec: RunSpec
    resources: Resources
    headline: str = Field(description="the metric that stands for the task")
    published_headline: str = Field(default="", description="the one that stands for it in published tables")
    published_test: str | None = Field(
        default=None, description="the split that published tables are of, where this run was evaluated on another"
    )
    chance: float | None = Field(default=None, description="the headline of the best answer that ignores the input")
    published_chance: float | None = Field(default=None, description="the same for the headline of published tables")
    test: SplitResult | None = None
    validation: SplitResult | None = None
    merged: Merged | None = Field(default=None, description="the evaluated split, merged; absent where nothing merges")
    fit: FitResult | None = None
    cost: Cost | None = None
    system_message: str | None = Field(default=None, description="the system message the chat template wrote")
    environment: Environment
    failure: Failure | None = None
    unmeasured: tuple[str, ...] = Field(
        default=(), description="what could not be measured beside the answers of a run that went well, and why"
    )
    started: str
    finished: str
    schema_version: int = SCHEMA

    @property
    def score(self) -> float | None:
        """The headline metric on the evaluated split, None for a failed run."""
        evaluated = self.test if self.spec.evaluate.split == "test" else self.validation
        return None if evaluated is None else evaluated.metrics.get(self.headline)

    def read_as(self, reading: Reading) -> Record:
        """The record whose headline is that of a reading, and the level of chance where it is known for that headline.

        A run that was evaluated on another split than the published one has no headline in the published reading.
        """
        if reading == "own":
            return self
        headline = "" if self.published_test else self.published_headline
        return self.model_copy(update={"headline": headline, "chance": self.published_chance})


def read_as(records: Iterable[Record], reading: Reading) -> list[Record]:
    """Records for tables of one reading."""
    return [record.read_as(reading) for record in records]


class SiteUpdates(Value):
    """The relative sizes `||adapted - base|| / ||base||` of an adapter's updates at one layer, over tokens."""

    site: str = Field(description="name of the layer in the base")
    tokens: int = Field(description="padding not counted")
    mean: float
    quantiles: dict[str, float] = Field(description="by the share of tokens whose updates are smaller")
    threshold: float | None = Field(default=None, description="of a gated layer: smaller updates are left away")
    density: float | None = Field(default=None, description="share of tokens whose updates are not")


class Prediction(Value):
    """One answered example. `statistics` hold, per metric, the numbers whose sums give the metric."""

    id: str
    group: str
    split: Literal["test", "validation"]
    target: str
    text: str | None = Field(description="what the model wrote; absent where the question did not fit the context")
    answer: str | None
    statistics: dict[str, tuple[float, ...]]
