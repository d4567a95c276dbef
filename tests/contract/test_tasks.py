"""Every task keeps every promise, and every check fails on a task that breaks it."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from contract.prompts import complaint, may_be_written, rendered
from peftbench import registry
from peftbench.metrics._metric import Metric, mean_metric
from peftbench.tasks._source import Files, Generated
from peftbench.tasks._task import Example, Row, Task
from peftbench.tasks.gsm8k import TASK as GSM8K
from peftbench.tasks.sst2 import LABELS
from peftbench.tasks.sst2 import TASK as SST2
from peftbench.testing import check_task
from peftbench.testing.tasks import PROBES

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "prompts"
TASKS = registry.names("tasks")


@pytest.mark.parametrize("task", TASKS)
def test_task_keeps_its_promises(task: str) -> None:
    assert not [check for check in check_task(task) if not check.passed]


@pytest.mark.parametrize("name", TASKS)
def test_prompt_is_the_one_of_its_version(name: str, request: pytest.FixtureRequest) -> None:
    task: Task = registry.load("tasks", name).value
    file = GOLDEN / f"{name}.txt"
    golden = file.read_text(encoding="utf-8") if file.exists() else None
    if request.config.getoption("--update-golden") and may_be_written(task, golden):
        file.write_text(rendered(task), encoding="utf-8")
        golden = rendered(task)
    assert complaint(task, golden) is None


def test_no_golden_prompt_without_a_task() -> None:
    assert {file.stem for file in GOLDEN.glob("*.txt")} <= set(TASKS)


def reworded(**changes: Any) -> Callable[[Row], Example]:
    return lambda row: replace(SST2.ask(row), **changes)


def numbered() -> Callable[[Row], Example]:
    count = itertools.count()
    return lambda row: replace(SST2.ask(row), question=f"Question {next(count)}")


def only_numbers(row: Row) -> Example:
    return replace(SST2.ask({**row, "label": 0}), target=LABELS.words[int(row["label"])])


def forgetful(row: Row) -> Example:
    example = SST2.ask(row)
    assert isinstance(row, dict)
    row.pop("label", None)
    return example


def careless(text: str) -> str | None:
    return LABELS.read(text.splitlines()[0])


def generous(text: str) -> str | None:
    return "positive" if text.strip() != "negative" else "negative"


def renamed(row: Row) -> dict[str, Any]:
    return {"text": row["sentence"], "label": row["label"]}


def reviews(word: str, labels: tuple[int, ...]) -> list[dict[str, Any]]:
    return [{"sentence": f"{word} {number}", "label": labels[number % len(labels)]} for number in range(40)]


UNEVEN = Metric("uneven", lambda answer, references: (1.0,) if answer else (0.0, 0.0), lambda sums, n: sums[0] / n)
INVERTED = mean_metric("error", lambda answer, references: float(answer not in references))
PERCENT = mean_metric("percent", lambda answer, references: 100.0 * (answer in references))

BROKEN: tuple[tuple[str, Task], ...] = (
    ("declared", replace(SST2, licence=" ")),
    ("declared", replace(SST2, version=0)),
    ("declared", replace(SST2, metrics=())),
    ("specimen", replace(SST2, specimen=(SST2.specimen[0], SST2.specimen[0]))),
    ("asks", replace(SST2, specimen=(renamed(SST2.specimen[0]), SST2.specimen[1]))),
    ("asks", replace(SST2, ask=reworded(instruction=" ", body="", question="\n"))),
    ("asks", replace(SST2, ask=reworded(target=" "))),
    ("asks", replace(SST2, ask=forgetful, specimen=tuple(map(dict, SST2.specimen)))),
    ("distinguishes", replace(SST2, ask=reworded(body="", question=""))),
    ("asks", replace(SST2, ask=lambda row: SST2.ask({"sentence": row["sentence"], "label": row["label"] + 7}))),
    ("repeats itself", replace(SST2, ask=numbered())),
    ("distinguishes", replace(SST2, ask=reworded(body="a review"))),
    ("reads its target", replace(SST2, read=lambda text: None)),
    ("reads its target", replace(GSM8K, ask=lambda row: replace(GSM8K.ask(row), target="no number"))),
    ("reads noise", replace(SST2, read=careless)),
    ("reads noise", replace(SST2, read=generous)),
    ("statistics", replace(SST2, metrics=(*SST2.metrics, UNEVEN))),
    ("metrics", replace(SST2, metrics=(*SST2.metrics, INVERTED))),
    ("metrics", replace(SST2, metrics=(*SST2.metrics, *SST2.metrics))),
    ("chance", replace(SST2, chance=1.2)),
    ("chance", replace(SST2, metrics=(PERCENT,))),
    ("labels", replace(SST2, ask=only_numbers)),
    ("room", replace(SST2, max_new_tokens=1)),
    ("rows", replace(SST2, source=Files(Path("gone.jsonl"), Path("gone.jsonl")))),
    ("rows", replace(SST2, source=Generated(lambda split: [dict(SST2.specimen[0]), {"sentence": "odd", "label": 7}]))),
    ("apart", replace(SST2, source=Generated(lambda split: reviews("both", labels=(0, 1))))),
    ("constant", replace(SST2, source=Generated(lambda split: reviews(split, labels=(1,))))),
    ("constant", replace(SST2, source=Generated(lambda split: reviews(split, labels=(0, 1, 1, 1, 1, 1, 1, 1))))),
)


@pytest.mark.parametrize(("breaks", "task"), BROKEN, ids=[f"{place}-{name}" for place, (name, _) in enumerate(BROKEN)])
def test_broken_task_fails_one_check(breaks: str, task: Task) -> None:
    failed = [check for check in check_task(task) if not check.passed]
    assert [check.name for check in failed] == [breaks], failed
    assert failed[0].detail
    assert failed[0].fix


def test_every_check_is_shown_to_fail() -> None:
    assert {probe.name for probe in PROBES} == {name for name, _ in BROKEN}


def test_missing_column_is_named() -> None:
    broken = replace(SST2, specimen=(renamed(SST2.specimen[0]), SST2.specimen[1]))
    assert "'sentence'" in check_task(broken)[-1].detail


def test_fault_of_a_file_names_its_line(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    template = (Path(registry.__file__).parent / "tasks" / "_template.py").read_text(encoding="utf-8")
    file.write_text(template.replace('row["text"]', 'row["txet"]'), encoding="utf-8")
    failed = [check for check in check_task(str(file)) if not check.passed]
    assert [check.name for check in failed] == ["asks"]
    assert failed[0].detail.startswith("mine.py, line ")


def test_template_keeps_its_promises(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    template = Path(registry.__file__).parent / "tasks" / "_template.py"
    file.write_text(template.read_text(encoding="utf-8"), encoding="utf-8")
    assert [check.name for check in check_task(str(file)) if not check.passed] == ["rows"], "its data is not there yet"
    task: Task = registry.load("tasks", str(file)).value
    for name in ("train", "test"):
        rows = [{**row, "text": f"{name}: {row['text']}"} for row in task.specimen]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert not [check for check in check_task(str(file)) if not check.passed]


@pytest.mark.parametrize("task", ["sst3", 3])
def test_what_is_no_task_is_one_failed_check(task: Any) -> None:
    (check,) = check_task(task)
    assert not check.passed
    assert check.fix


class TestGoldenPrompt:
    """A changed prompt without a raised version is found, and cannot be written over."""

    golden = rendered(SST2)
    changed = replace(SST2, ask=reworded(instruction="Good or bad?"))

    def test_same_prompt(self) -> None:
        assert complaint(SST2, self.golden) is None

    def test_changed_prompt(self) -> None:
        assert "did not rise" in str(complaint(self.changed, self.golden))
        assert not may_be_written(self.changed, self.golden)

    def test_changed_prompt_of_a_new_version(self) -> None:
        raised = replace(self.changed, version=SST2.version + 1)
        assert "--update-golden" in str(complaint(raised, self.golden))
        assert may_be_written(raised, self.golden)
        assert complaint(raised, rendered(raised)) is None

    def test_another_reader_or_room_is_a_change_too(self) -> None:
        for changed in (
            replace(SST2, read=generous),
            replace(SST2, max_new_tokens=9),
            replace(SST2, metrics=(PERCENT,)),
        ):
            assert "did not rise" in str(complaint(changed, self.golden))

    def test_missing_file(self) -> None:
        assert "--update-golden" in str(complaint(SST2, None))
