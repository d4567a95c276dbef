"""What is asked for: a suite, the settings of training and evaluation, and one run.

All values are frozen and JSON-native. A `RunSpec` is *resolved*: every default is filled in, so its hash names the
result. Change a default and the id changes; an old result is never mistaken for a new one.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, field_validator, model_validator

from peftbench.errors import InvalidSpec, UnknownName

SCHEMA = 1
# Raised when loop, loss, decoding, or a reader or metric that task files name changes results, so that old and new
# results never share an id. A task in Python has a version of its own.
NUMERICS = 4

Settings = dict[str, JsonValue]
# How answers are read and counted: by the task, or as the published benchmark did.
Reading = Literal["own", "published"]


class Value(BaseModel):
    """A frozen value that reads and writes JSON and refuses keys it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, protected_namespaces=())

    aliases: ClassVar[Mapping[str, str]] = {}

    @classmethod
    def parse(cls, data: Mapping[str, Any], where: str) -> Self:
        """Build the value from plain data; `where` names the source in errors.

        Raises:
            UnknownName: a key is not known.
            InvalidSpec: a value is missing or of the wrong kind.
        """
        try:
            text = json.dumps(_labels(cls, data, where), allow_nan=False)
        except (TypeError, ValueError) as error:
            raise InvalidSpec(
                f"{where} holds a value that JSON cannot express: {error}.", "Use text, numbers, lists and mappings."
            ) from error
        try:
            return cls.model_validate_json(text, strict=True)
        except ValidationError as error:
            raise _explain(error, cls, where) from None

    def updated(self, changes: Mapping[str, Any], where: str) -> Self:
        """A copy with some keys replaced; aliases are accepted, and everything is checked as in `parse`."""
        if not changes:
            return self
        named = _labels(type(self), changes, where)
        return self.parse({**self.model_dump(mode="json"), **named}, where)


def _labels(cls: type[Value], data: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The same settings without aliases, those of inner values too."""
    result: dict[str, Any] = {}
    for key, value in data.items():
        name = cls.aliases.get(key, key)
        if name in result:
            raise InvalidSpec(f"{where} sets {name!r} twice, once as {key!r}.", "Keep one of them.")
        inner = _owner(cls, [name])
        nested = inner is not cls and isinstance(value, Mapping)
        result[name] = _labels(inner, value, f"{where}, {name}") if nested else value
    return result


def _explain(error: ValidationError, cls: type[Value], where: str) -> Exception:
    """The first problem pydantic found, as a sentence; a key that is not known may be what another one lacks."""
    found = error.errors()
    first = next((one for one in found if one["type"] == "extra_forbidden"), found[0])
    path = ".".join(str(part) for part in first["loc"] if not _is_union_branch(part))
    if first["type"] == "extra_forbidden":
        owner = _owner(cls, first["loc"][:-1])
        return UnknownName("key", str(first["loc"][-1]), {*owner.model_fields, *owner.aliases}, where)
    if first["type"] == "missing":
        return InvalidSpec(f"{where}: {path} is missing.", "Add it.")
    message = first["msg"].removeprefix("Value error, ")
    return InvalidSpec(f"{where}: {path or 'value'}: {message} (got {first['input']!r}).", "Correct or remove it.")


def _owner(cls: type[Value], path: Iterable[str | int]) -> type[Value]:
    """The value at a place inside another one: the part of its declared type that is a value."""
    for part in path:
        field = cls.model_fields.get(str(part))
        parts = () if field is None else (field.annotation, *get_args(field.annotation))
        cls = next((kind for kind in parts if isinstance(kind, type) and issubclass(kind, Value)), cls)
    return cls


def _is_union_branch(part: str | int) -> bool:
    return isinstance(part, str) and part in {"str", "Entry", "int", "float"}


class RowsSpec(Value):
    """Which training rows a run may learn from."""

    limit: int | None = Field(default=None, ge=1, description="examples of the training split, before validation")
    validation_share: float = Field(default=0.1, ge=0, lt=1, description="share of the training examples")


class TrainSpec(RowsSpec):
    """How one adapter is trained. Names are those of `transformers.TrainingArguments` where the meaning is the same.

    The effective batch is `per_device_train_batch_size * gradient_accumulation_steps` examples. How it is split into
    micro-batches is a matter of `Resources` and does not change the loss.
    """

    aliases: ClassVar[Mapping[str, str]] = {
        "epochs": "num_train_epochs",
        "batch_size": "per_device_train_batch_size",
        "lr": "learning_rate",
        "scheduler": "lr_scheduler_type",
    }

    num_train_epochs: float = Field(default=3.0, gt=0)
    max_steps: int | None = Field(default=None, ge=1, description="stops earlier than the epochs would")
    per_device_train_batch_size: int = Field(default=8, ge=1, description="examples")
    gradient_accumulation_steps: int = Field(default=1, ge=1)
    learning_rate: float | None = Field(default=None, gt=0, description="the method's own default when absent")
    lr_scheduler_type: Literal["cosine", "linear", "constant"] = "cosine"
    warmup_ratio: float = Field(default=0.1, ge=0, lt=1, description="share of the steps")
    weight_decay: float = Field(default=0.0, ge=0)
    max_grad_norm: float = Field(default=1.0, gt=0)
    precision: Literal["fp32", "bf16"] = Field(default="fp32", description="of the arithmetic; bf16 uses autocast")
    max_length: int = Field(default=2048, ge=16, description="tokens of prompt and answer")
    eval_steps: float = Field(default=0.25, gt=0, description="below 1 a share of the steps, else a number of steps")
    checkpoint: Literal["best", "last"] = Field(default="best", description="best validation loss, or the last step")
    allow_not_causal: Literal[True] | None = Field(
        default=None, description="trains a method whose answers know tokens to come; without effect on others"
    )

    @property
    def effective_batch(self) -> int:
        """Examples of one optimiser step."""
        return self.per_device_train_batch_size * self.gradient_accumulation_steps


class EvalSpec(Value):
    """How a trained model is asked."""

    split: Literal["test", "validation"] = "test"
    limit: int | None = Field(default=None, ge=1, description="examples")
    max_new_tokens: int | None = Field(default=None, ge=1, description="the task's own number when absent")
    max_length: int = Field(default=2048, ge=16, description="tokens of prompt and answer")
    decoding: Literal["greedy", "labels"] = Field(
        default="greedy", description="greedy reads what is written; labels takes the likeliest of the task's labels"
    )
    precision: Literal["fp32", "bf16"] | None = Field(default=None, description="that of training when absent")
    merged: bool | None = Field(
        default=None, description="asks once more with the adapter folded into the base; yes where the method merges"
    )


class Entry(Value):
    """A member of a family as a suite names it: `lora`, or `{use: lora, r: 32, train.learning_rate: 1e-3}`."""

    use: str = Field(min_length=1)
    options: Settings = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _accept_short_forms(cls, value: Any) -> Any:
        if isinstance(value, str):
            return {"use": value}
        if not isinstance(value, Mapping) or "options" in value:
            return value
        if "use" not in value:
            raise ValueError("the name of the member is missing; write it as: {use: NAME, ...}")
        options: dict[str, Any] = {}
        for key, item in value.items():
            inside = key in {"train", "evaluate"} and isinstance(item, Mapping)
            options.update({f"{key}.{name}": one for name, one in item.items()} if inside else {key: item})
        return {"use": options.pop("use"), "options": options}

    def own(self) -> Settings:
        """The options that belong to the member itself."""
        return {key: value for key, value in self.options.items() if "." not in key}

    def overrides(self, section: str) -> Settings:
        """The options written `section.key`, without the section."""
        start = section + "."
        return {key.removeprefix(start): value for key, value in self.options.items() if key.startswith(start)}


class PscpSpec(Value):
    """The constants of PSCP and the weight of each cost; the defaults are the published ones (arXiv 2511.21285)."""

    parameters: float = Field(default=5e8, gt=0, description="trained parameters that halve a score at beta 1")
    forward_flops: float = Field(default=1e13, gt=0, description="FLOPs beyond the base's that halve it")
    memory_bytes: float = Field(default=94e9, gt=0, description="peak memory in training that halves it")
    beta_parameters: float = Field(default=1.0, ge=0)
    beta_forward_flops: float = Field(default=1.0, ge=0)
    beta_memory: float = Field(default=1.0, ge=0)


PUBLISHED = PscpSpec()


class Suite(Value):
    """Tasks, models, methods and seeds to be multiplied, and the settings they share."""

    name: str = Field(default="adhoc", pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    description: str = ""
    tasks: tuple[Entry, ...] = Field(min_length=1)
    models: tuple[Entry, ...] = Field(min_length=1)
    methods: tuple[Entry, ...] = Field(min_length=1)
    seeds: tuple[int, ...] = Field(default=(1,), min_length=1)
    bundle: str | None = Field(default=None, description="settings that were published together, under their name")
    train: TrainSpec = TrainSpec()
    evaluate: EvalSpec = EvalSpec()
    metrics: Reading = Field(
        default="own",
        description="which of two readings reports show, all runs keep both; published also takes the published split",
    )
    pscp: PscpSpec = Field(default=PUBLISHED, description="of the report alone; no part of a run")

    @field_validator("tasks", "models", "methods")
    @classmethod
    def _known_sections(cls, entries: tuple[Entry, ...]) -> tuple[Entry, ...]:
        for entry in entries:
            for key in entry.options:
                if "." in key and key.split(".", 1)[0] not in {"train", "evaluate"}:
                    raise ValueError(f"{entry.use}: {key!r} belongs to no section; there are train.* and evaluate.*")
        return entries

    @field_validator("seeds")
    @classmethod
    def _distinct(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(seeds)) != len(seeds):
            raise ValueError("a seed stands twice")
        return seeds


# The mark of a task whose training rows are official test rows.
TRAIN_IS_TEST = "†"
TRAIN_IS_TEST_NOTE = f"{TRAIN_IS_TEST} trained on rows of the official test split: what was learned there is no result."


class TaskRef(Value):
    """Which task, which version of its prompt, and exactly which rows."""

    name: str
    version: int
    data: str = Field(description="hub id and commit, or a hash of the files, or the generator's own name")
    plugin: str | None = Field(default=None, description="content hash of a user's own file")
    test: str | None = Field(default=None, description="the split that is evaluated, where it is not the usual one")
    train_is_test: bool | None = Field(
        default=None, description="true where the rows to train on are official test rows"
    )

    @property
    def label(self) -> str:
        """The name as tables show it: with the split when it is not the usual one, and a mark when `train_is_test`."""
        return self.name + (f" [{self.test}]" if self.test else "") + (TRAIN_IS_TEST if self.train_is_test else "")


_DTYPES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
# How the linear layers of a base are packed.
Quantization = Literal["nf4", "fp4", "int8"]


class ModelRef(Value):
    """Which model, by content or commit, and how it is read."""

    name: str
    revision: str = Field(description="hub commit, or a hash of the folder's files")
    dtype: Literal["float32", "bfloat16", "float16"] = Field(
        default="float32", description="of the weights, and of the arithmetic with those that are packed"
    )
    chat: Literal["template", "plain"] = "template"
    trust_remote_code: bool = False
    quantization: Quantization | None = Field(default=None, description="of the linear layers of its blocks")

    @property
    def label(self) -> str:
        """The name as tables show it: with the quantisation when there is one."""
        return self.name + (f" ({self.quantization})" if self.quantization else "")

    @field_validator("dtype", mode="before")
    @classmethod
    def _short_names(cls, value: Any) -> Any:
        return _DTYPES.get(value, value) if isinstance(value, str) else value


# The mark of a method whose answers know tokens to come.
NOT_CAUSAL = "‡"
NOT_CAUSAL_NOTE = (
    f"{NOT_CAUSAL} not causal: in training its answers know tokens to come, so its scores compare with none."
)


class MethodRef(Value):
    """Which method, its version, and every hyperparameter."""

    name: str
    version: int
    settings: Settings
    plugin: str | None = Field(default=None, description="content hash of a user's own file")
    not_causal: bool | None = Field(default=None, description="true where answers know tokens to come")
    quantization: Quantization | None = Field(default=None, description="of any base that the method is used on")
    wraps: str | None = Field(default=None, description="the method that it is put around")

    @property
    def label(self) -> str:
        """The name, with what it wraps: `ts_peft over lora`."""
        return f"{self.name} over {self.wraps}" if self.wraps else self.name


class RunSpec(Value):
    """One run, resolved: train one adapter (or draw examples) on one task with one seed, and evaluate."""

    task: TaskRef
    model: ModelRef
    method: MethodRef
    train: TrainSpec | None = Field(description="absent for a method that does not train")
    evaluate: EvalSpec
    seed: int | None = Field(description="absent for a method that neither trains nor draws examples")
    drawn_from: RowsSpec | None = Field(
        default=None, description="rows that examples in the prompt are drawn from, where `train` does not say it"
    )
    trial: int | None = Field(default=None, description="number of a tuning trial")
    compress: None = None
    numerics: int = NUMERICS
    schema_version: int = SCHEMA

    @property
    def rows(self) -> RowsSpec | None:
        """Which training rows the run learns from; None where it looks at none."""
        return self.train or self.drawn_from

    @property
    def base(self) -> ModelRef:
        """The model as the method gets it: in the quantisation that either of them asks for."""
        return self.model.model_copy(update={"quantization": self.method.quantization or self.model.quantization})

    @property
    def run_id(self) -> str:
        """A readable part and eight hex digits over the canonical JSON of the whole spec."""
        digest = hashlib.sha256(canonical_json(self).encode()).hexdigest()[:8]
        seed = "once" if self.seed is None else f"s{self.seed}"
        parts = (self.task.name, self.model.label, self.method.name, seed)
        return "--".join([*(_safe(part) for part in parts), digest])


class Resources(Value):
    """How and where a run is done; never part of its id.

    Bit-identical results are promised for equal ids *and* equal resources.
    """

    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    threads: int | None = Field(default=None, ge=1, description="CPU threads; the library's default when absent")
    micro_batch: int | None = Field(default=None, ge=1, description="examples per forward pass in training")
    eval_batch: int = Field(default=16, ge=1, description="examples decoded together; more where they are short")
    mode: Literal["fast", "lean"] = Field(
        default="fast", description="lean computes again in training what fast keeps in memory"
    )
    matmul: Literal["auto", "torch", "onednn"] = Field(
        default="auto",
        description="what multiplies matrices on a CPU; auto takes oneDNN where it is as exact and faster",
    )
    checkpoint_seconds: float = Field(
        default=60, ge=0, description="of training between two states from which it could go on if it were killed"
    )
    save_adapter: bool = True
    probe_updates: bool = Field(default=False, description="writes how large the updates of an adapter are, by layer")
    data_root: str | None = Field(default=None, description="folder with a local mirror of the data sets")
    model_folder: str | None = None
    task_file: str | None = None
    method_file: str | None = None


def canonical_json(value: Value) -> str:
    """One spelling for one value: sorted keys, no spaces, no NaN, nothing for what is absent.

    So a setting added later, absent unless asked for, leaves the ids of earlier runs as they are.
    """
    return json.dumps(_present(value.model_dump(mode="json")), sort_keys=True, separators=(",", ":"), allow_nan=False)


def _present(data: Mapping[str, Any]) -> dict[str, Any]:
    """A mapping without what is None, those inside it too."""
    found = {key: item for key, item in data.items() if item is not None}
    return {key: _present(item) if isinstance(item, Mapping) else item for key, item in found.items()}


def _safe(part: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.]+", "-", part).strip("-.")[:40] or "x"
