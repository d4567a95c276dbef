"""The stages of a run and what each leaves for the record."""

from __future__ import annotations

import contextlib
import itertools
import shutil
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any, Literal

import torch
from torch import nn

from peftbench import heap
from peftbench.answering import Answered, Asking, Split
from peftbench.cost.flops import forward_flops, forward_length
from peftbench.cost.meter import Reading, meter
from peftbench.environment import describe
from peftbench.errors import DataProblem, Diverged, PeftbenchError
from peftbench.evaluation.judge import judge, summarise
from peftbench.evaluation.updates import updates_on
from peftbench.matmul import Matmul, put_back, setting, settle
from peftbench.methods._attach import Adapter
from peftbench.methods._method import Kept, Method
from peftbench.methods._places import begins
from peftbench.models._chat import Encoded, Message
from peftbench.models._load import LoadedModel
from peftbench.progress import noted
from peftbench.record import Cost, Failure, FitResult, Merged, Phase, Prediction, Record, SplitResult
from peftbench.registry import line_of, load
from peftbench.spec import Resources, RunSpec
from peftbench.store import RunFolder, write_lines
from peftbench.tasks._task import Item, Task
from peftbench.training.batches import fingerprint, schedule, split_validation
from peftbench.training.checkpoint import Checkpoints, conditions_in
from peftbench.training.loop import Fitted, How, TrainingData, fit
from peftbench.training.questions import Question, Room, as_turns
from peftbench.training.shots import draw
from peftbench.workbench import Workbench

# What a run without a number of threads gets, whatever the run before it had.
_THREADS = torch.get_num_threads()
_NOTHING = Message("", "", "")

# Which function of a method has to answer for a fault in a phase.
_ASKED: Mapping[Phase, str] = {"attach": "attach", "fit": "attach", "save": "save"}

# Data, a learning rate and a machine that is too small are no fault of a line.
_NOBODYS_FAULT = (DataProblem, Diverged, torch.OutOfMemoryError, MemoryError, OSError)

Progress = Callable[[str, int, int], None]


def quiet(phase: str, done: int, total: int) -> None:
    """Shows nothing."""


def split(spec: RunSpec, items: Sequence[Item]) -> tuple[list[Item], list[Item]]:
    """The rows that a run learns from, and the validation share that is held out; none where it looks at none.

    Raises:
        DataProblem: it is to be evaluated on that share, and there is none.
    """
    if spec.rows is None or spec.seed is None:
        return [], []
    train, held_out = split_validation(items, spec.rows.validation_share, spec.seed)
    if spec.evaluate.split == "validation" and not held_out:
        raise DataProblem(
            "No validation example is held out: all training rows belong to one group.",
            "Raise train.limit, or evaluate on test.",
        )
    return train, held_out


def require_fitting(questions: Sequence[Question], max_length: int) -> None:
    """Refuse to train on nothing.

    Raises:
        DataProblem: no question fits.
    """
    if not any(question.fits for question in questions):
        raise DataProblem(
            "No training example fits, not even with its body cut away.",
            f"Take a model with a longer context, or raise train.max_length={max_length}.",
        )


def first_epoch(spec: RunSpec, questions: Sequence[Question]) -> list[Encoded]:
    """The training examples in the order in which they are learned from first; none where nothing is trained."""
    if spec.train is None or spec.seed is None:
        return []
    order = itertools.chain.from_iterable(schedule(len(questions), spec.train, spec.seed))
    return _encoded([questions[place] for place in itertools.islice(order, len(questions))])


def _training_data(
    train: Sequence[Question], held_out: Sequence[Question], drawn: Sequence[Sequence[int]]
) -> TrainingData:
    """What is learned from, in the steps that were drawn over all questions, whether they fit or not.

    One that does not fit beside a method's virtual tokens does not move the others.
    """
    place = {old: new for new, old in enumerate(old for old, question in enumerate(train) if question.fits)}
    steps = [step for step in ([place[old] for old in step if old in place] for step in drawn) if step]
    return TrainingData(_encoded(train), _encoded(held_out), steps)


def _fit_result(fitted: Fitted, data: TrainingData, rows: int, layout: str, batches: str) -> FitResult:
    """What a training did, for the record; `rows` are those that were to be learned from, whether they fit or not."""
    return FitResult(
        steps=len(data.steps),
        examples=len(data.train),
        tokens=fitted.tokens,
        cut=sum(encoded.cut for encoded in data.train),
        unfit=rows - len(data.train),
        first_loss=fitted.first_loss,
        last_loss=fitted.last_loss,
        best_step=fitted.best_step,
        best_validation_loss=fitted.best_validation_loss,
        resumed_at=fitted.resumed_at,
        layout=layout,
        batches=batches,
    )


class Unmeasured:
    """What could not be measured beside the answers, and why: they are there and judged, and not given up for it."""

    def __init__(self, resources: Resources, log: Callable[[str], None]) -> None:
        self.said: list[str] = []
        self._resources, self._log = resources, log

    @contextlib.contextmanager
    def unless(self, what: str) -> Iterator[None]:
        """Around a measurement: a method of somebody else may raise anything in it."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 - see above
            self.said.append(f"{what}: {type(error).__name__}: {_message(error, self._resources)}")
            self._log(f"not measured, {self.said[-1]}")


class Stages:
    """What is known of a run so far; whatever happens, `record` says how far it came."""

    def __init__(self, spec: RunSpec, resources: Resources, folder: RunFolder, progress: Progress) -> None:
        self._told: dict[str, Any] = {"headline": ""}
        self._labels: Sequence[str] = ()
        self._spec, self._resources, self._folder = spec, resources, folder
        self._progress = noted(folder.progress, progress)
        self._started = _now()
        self._phase: Phase = "data"
        self._device = torch.device("cpu")
        self._system_message: str | None = None
        self._size, self._total = Kept(0), 0
        self._forward_length, self._shot_tokens, self._step_seconds = 0, 0, 0.0
        self._longest: int | None = None
        self._learned: Sequence[Sequence[int]] = ()
        self._forward: dict[str, int] = {}
        self._fit: FitResult | None = None
        self._fit_reading: Reading | None = None
        self._results: dict[Split, SplitResult] = {}
        self._answered: Answered | None = None
        self._merged: Merged | None = None
        self._failure: Failure | None = None
        self._unmeasured = Unmeasured(resources, self._log)
        self._matmul = _set_up(resources, folder)

    def told(self, task: Task) -> None:
        """Note what stands for the task in tables."""
        self._told, self._labels = task.in_records, task.labels

    def enter(self, phase: Phase) -> None:
        """Note which phase begins."""
        self._phase = phase
        self._log(phase)
        self._progress(phase, 0, 0)

    def rooms(self, base: LoadedModel, virtual_tokens: int) -> tuple[Room, Room]:
        """Tokens that training and answering may take; the method's virtual tokens are taken off both."""
        self._device = base.device
        # Before anything is attached: injected weights would count as the base's.
        self._total = base.parameters
        self._system_message = base.chat.system_message()
        if self._system_message:
            self._log(f"the chat template adds {self._system_message!r}")
        longest = {"fit": self._spec.train.max_length if self._spec.train else 0, "ask": self._spec.evaluate.max_length}
        self._forward_length = forward_length(base.facts.context, virtual_tokens)
        self._longest = base.facts.longest_in_row(virtual_tokens)
        room = {key: min(value, base.facts.context or value) - virtual_tokens for key, value in longest.items()}
        # Labels are not written, and take what they are long.
        new = self._spec.evaluate.max_new_tokens or max(len(base.chat.answer_ids(label)) for label in self._labels)
        return Room(room["fit"]), Room(room["ask"], answer=new)

    def shots(self, method: Method, items: Sequence[Item], base: LoadedModel, room: Room) -> list[Item]:
        """The examples that a method puts into every prompt."""
        if not method.shots:
            return []
        assert self._spec.seed is not None
        drawn = draw(items, method.shots, self._spec.seed, base.chat, room)
        self._shot_tokens = len(base.chat.after(as_turns(drawn)).prompt_ids(_NOTHING)) - len(
            base.chat.prompt_ids(_NOTHING)
        )
        self._forward_length = forward_length(base.facts.context, method.virtual_tokens + self._shot_tokens)
        self._log(f"examples in every prompt: {', '.join(item.id for item in drawn)}")
        return drawn

    def count(self, adapter: Adapter) -> None:
        """Note how much is trained, or was before."""
        self._size = adapter.size

    def fit(self, adapter: Adapter, bench: Workbench, train: Sequence[Question], held_out: Sequence[Question]) -> None:
        """Train the adapter."""
        spec, seed, asked = self._spec.train, self._spec.seed, self._resources
        assert spec is not None
        assert seed is not None
        drawn = schedule(len(train), spec, seed)
        data = _training_data(train, held_out, drawn)
        layout = bench.layout(self._spec, adapter, [*data.train, *data.validation])
        self._learned = [encoded.answer[:-1] for encoded in data.train]
        batches = fingerprint(drawn, [question.item for question in train])
        micro_batch, lean = asked.micro_batch or spec.effective_batch, asked.mode == "lean"
        data_and_way = {"batches": batches, "layout": repr(layout), "micro_batch": micro_batch, "mode": asked.mode}
        where = _environment(self._device, self._matmul[1])
        conditions = {"run": self._spec.run_id, **data_and_way, **where}
        states = Checkpoints(self._folder.training, conditions, asked.checkpoint_seconds, self._log)
        how = How(self._device, micro_batch, self._folder.train_log, self._progress, layout, lean, states)
        with meter("fit", self._device) as reading:
            fitted = fit(adapter, data, spec, seed, how)
        reading.seconds += states.elsewhere_seconds
        self._fit_reading, self._step_seconds = reading, fitted.step_seconds
        self._fit = _fit_result(fitted, data, len(train), str(layout), batches)

    def predict(self, adapter: Adapter, base: LoadedModel, questions: Sequence[Question], split: Split) -> Answered:
        """Answer the questions of a split; the evaluated split is the one whose cost is kept."""
        evaluated = split == self._spec.evaluate.split
        if not questions or (split == "test" and not evaluated):
            return Answered(split, ())
        answered = self._asking(base, f"predict {split}").ask(adapter.module, questions, split)
        if evaluated:
            self._answered = answered
        return answered

    def ask_merged(self, adapter: Adapter, base: LoadedModel, task: Task) -> None:
        """Ask once more, where it is wanted, with the adapter folded into the base; it cannot be used any more."""
        if self._spec.evaluate.merged and self._answered is not None:
            self.enter("merge")
            with self._unmeasured.unless("merged answers"):
                merged = adapter.method.merge(adapter.module, base)
                self._merged = self._asking(base, "merge").ask_merged(merged, self._answered, task)

    def _asking(self, base: LoadedModel, phase: str) -> Asking:
        progress = partial(self._progress, phase)
        rules, batch = self._spec.evaluate, self._resources.eval_batch
        return Asking(base, rules, batch, progress, self._longest, self._learned, self._labels)

    def count_flops(
        self, what: Literal["attached", "base"], module: nn.Module, base: LoadedModel, known: dict[str, int]
    ) -> None:
        """Count a forward pass, or look it up in what is `known`; `base` says where the module is."""
        method = self._spec.method.model_dump_json() if what == "attached" else what
        # A method that looks at data first may give its weights other shapes for another task.
        shapes = [list(value.shape) for value in module.parameters() if value.requires_grad]
        length = self._forward_length + (self._shot_tokens if what == "attached" else 0)
        key = f"{self._spec.base.model_dump_json()} {method} {length} {shapes}"
        with self._unmeasured.unless(f"forward FLOPs, {what}"):
            if key not in known:
                self._progress("forward FLOPs", 0, 0)
                known[key] = forward_flops(module, length, base.device)
            self._forward[what] = known[key]

    def probe_updates(self, adapter: Adapter, base: LoadedModel, answered: Answered) -> None:
        """Write how large the updates of each adapted layer are on prompts of the evaluated split."""
        prompts = [encoded.prompt for encoded in _encoded(answered.questions)]
        if why := adapter.method.without_sites() or (None if prompts else "no prompt fits"):
            self._log(f"sizes of updates not known: {why}")
            return
        with self._unmeasured.unless("sizes of updates"):
            write_lines(self._folder.updates, updates_on(adapter, prompts, self._asking(base, "updates").decoding))

    def judge(self, task: Task, answered: Answered) -> list[Prediction]:
        """Read and judge the answers of a split."""
        if not answered.questions:
            return []
        rows = judge(task, [question.item for question in answered.questions], answered.texts, answered.split)
        cut = sum(question.cut for question in answered.questions)
        unfit = sum(not question.fits for question in answered.questions)
        self._results[answered.split] = summarise(task, rows, cut=cut, unfit=unfit)
        return rows

    def fail(self, error: BaseException) -> None:
        """Note a fault: a sentence for the record, the trace for the log. A broken adapter folder is not kept."""
        # First of all: a disk that is full has to take the log and the record.
        shutil.rmtree(self._folder.adapter, ignore_errors=True)
        self._log("".join(traceback.format_exception(error)))
        self._failure = _failure(self._phase, error, self._resources)

    def record(self) -> Record:
        """The outcome, at the end of all. A failed run has no scores, whatever was computed before the fault."""
        failed = self._failure is not None
        put_back(self._matmul[0])
        return Record(
            run_id=self._spec.run_id,
            spec=self._spec,
            resources=self._resources,
            **self._told,
            test=None if failed else self._results.get("test"),
            validation=None if failed else self._results.get("validation"),
            merged=None if failed else self._merged,
            fit=self._fit,
            cost=None if failed else self._cost(),
            system_message=self._system_message,
            environment=describe(_device_name(self._device), torch.get_num_threads(), self._matmul[1]),
            failure=self._failure,
            unmeasured=() if failed else tuple(self._unmeasured.said),
            started=self._started,
            finished=_now(),
        )

    def _cost(self) -> Cost:
        answered = self._answered or Answered("test", ())
        files = sorted(self._folder.adapter.glob("*.safetensors"))
        return Cost(
            trainable_parameters=self._size.parameters or 0,
            total_parameters=self._total,
            adapter_bytes=sum(file.stat().st_size for file in files) if files else self._size.bytes,
            fit_seconds=None if self._fit_reading is None else self._fit_reading.seconds,
            fit_tokens_per_second=None if self._fit is None else self._fit.tokens / max(self._step_seconds, 1e-9),
            predict_seconds=answered.reading.seconds,
            predict_tokens_per_second=answered.rate,
            peaks=(*(self._fit_reading.peaks if self._fit_reading else ()), *answered.reading.peaks),
            forward_flops=self._forward.get("attached"),
            base_forward_flops=self._forward.get("base"),
            forward_length=self._forward_length if self._forward else None,
        )

    def _log(self, text: str) -> None:
        # A line that cannot be written must not end a run, and least of all hide why it failed.
        with contextlib.suppress(OSError), self._folder.log.open("a", encoding="utf-8", errors="replace") as log:
            log.write(f"{_now()} {text}\n")


def _environment(device: torch.device, matmul: Matmul) -> dict[str, Any]:
    """Where a run is done, as far as its bits may depend on it."""
    return describe(_device_name(device), torch.get_num_threads(), matmul).model_dump(exclude={"platform"})


def _set_up(resources: Resources, folder: RunFolder) -> tuple[str | None, Matmul]:
    """Have this process compute as it should; what multiplied matrices before, and what does now."""
    torch.set_num_threads(resources.threads or _THREADS)
    heap.keep()
    return setting(), settle(_matmul_of(resources, folder))


def _matmul_of(resources: Resources, folder: RunFolder) -> Literal["auto"] | Matmul:
    """What is to multiply matrices: where a training goes on, what it began with, for another try may end otherwise."""
    begun = conditions_in(folder.training) or {}
    here = _environment(torch.device("cpu"), "torch")
    same = all(begun.get(name) == here[name] for name in here.keys() - {"device", "matmul"})
    return begun.get("matmul", "auto") if resources.matmul == "auto" and same else resources.matmul


def _encoded(questions: Sequence[Question]) -> list[Encoded]:
    return [encoded for question in questions if (encoded := question.encoded) is not None]


def _failure(phase: Phase, error: BaseException, resources: Resources) -> Failure:
    fix = error.fix if isinstance(error, PeftbenchError) else ""
    message = _message(error, resources, None if isinstance(error, _NOBODYS_FAULT) else _ASKED.get(phase))
    return Failure(phase=phase, kind=type(error).__name__, message=message, fix=fix)


def _message(error: BaseException, resources: Resources, asked: str | None = None) -> str:
    """What an error says, with the line in a file of somebody's own: there it can be mended.

    Where it went through none, but a function of the method was `asked`, with the line where that begins.
    """
    message = error.message if isinstance(error, PeftbenchError) else str(error)
    files = (resources.method_file, resources.task_file)
    where = next(filter(None, (line_of(error, file) for file in files)), "")
    if not where and asked and resources.method_file:
        # It was loaded before, and is what was asked.
        where = begins(load("methods", resources.method_file).value, asked, resources.method_file)
    return _plain(where + message)


def _plain(message: str) -> str:
    """A message that can be stored: of a bounded length, without what UTF-8 cannot express."""
    return message[:2000].encode("utf-8", "replace").decode()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
