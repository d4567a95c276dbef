"""Tables of either reading, and the mark of tasks that were trained on official test rows."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from rich.console import Console

from peftbench import registry
from peftbench.errors import DataProblem
from peftbench.plan import make_plan
from peftbench.record import Record, read_as
from peftbench.report._page import html
from peftbench.report.csv_rows import csv_text
from peftbench.report.grid import tasks_in_common
from peftbench.report.provenance import chances
from peftbench.report.tables import markdown, terminal
from peftbench.scoring.aggregate import scores
from peftbench.show import plan_summary, plan_table
from peftbench.spec import TRAIN_IS_TEST_NOTE, Resources, Suite
from peftbench.store import Store
from peftbench.tasks._task import Task
from unit.samples import record, run_spec

SUITE = {"models": ["tiny"], "methods": ["lora"]}


def judged(own: float, published: float | None, **task: object) -> Record:
    spec = run_spec("mnli")
    spec = spec.model_copy(update={"task": spec.task.model_copy(update=task)})
    found = record(spec, own)
    assert found.test is not None
    metrics = found.test.metrics | ({} if published is None else {"published.macro_f1": published})
    test = found.test.model_copy(update={"metrics": metrics})
    return found.model_copy(update={"test": test, "published_headline": "published.macro_f1"})


def similarity(published: dict[int, float | None], method: str = "lora") -> list[Record]:
    """Runs of STS-B read as published, by seed."""
    runs = []
    for seed, value in published.items():
        one = record(run_spec("stsb", method, seed), 0.0 if value is None else value)
        assert one.test is not None
        metrics = one.test.metrics | ({} if value is None else {"published.pearsonr": value})
        test = one.test.model_copy(update={"metrics": metrics})
        runs.append(one.model_copy(update={"test": test, "published_headline": "published.pearsonr"}))
    return read_as(runs, "published")


def texts(records: list[Record], tmp_path: Path) -> dict[str, str]:
    """Every table that shows scores."""
    rows, stream = scores(records), io.StringIO()
    console = Console(file=stream, width=200)
    for table in terminal(rows, chances(records)):
        console.print(table)
    return {
        "terminal": stream.getvalue(),
        "markdown": markdown(rows, chances(records)),
        "page": html(Store(tmp_path), records),
    }


def test_a_record_shows_the_headline_of_its_reading() -> None:
    one = judged(0.5, 0.25)
    assert (one.score, one.chance) == (0.5, 0.51)
    (published,) = read_as([one], "published")
    assert (published.score, published.headline, published.chance) == (0.25, "published.macro_f1", None)
    assert read_as([one], "own") == [one]
    known = one.model_copy(update={"published_chance": 0.67})
    assert known.read_as("published").chance == 0.67
    assert judged(0.5, None).read_as("published").score is None


def test_tables_of_the_published_reading_say_so(tmp_path: Path) -> None:
    for text in texts(read_as([judged(0.5, 0.25)], "published"), tmp_path).values():
        assert "as in the published benchmark" in text
        assert "could not be read count as wrong" not in text
        assert "25.0" in text
        assert "50.0" not in text
    for text in texts([judged(0.5, 0.25)], tmp_path).values():
        assert "as in the published benchmark" not in text
        assert "50.0" in text


def test_a_score_that_is_undefined_for_a_seed_is_no_mean_of_the_others(tmp_path: Path) -> None:
    collapsed = similarity({1: 0.8, 2: None, 3: None})
    (score,) = scores(collapsed)
    assert (score.value, score.spread, score.low, score.high) == (None, None, None, None)
    assert (score.parts, score.undefined, score.failed) == ((0.8,), 2, 0)
    for name, text in texts(collapsed, tmp_path).items():
        assert "2 of 3 undefined" in text, name
        assert "is undefined for a run" in text, name
        # The page alone has every seed.
        assert ("80.0" in text) == (name == "page"), name
    assert "1: 80.0, 2: undefined, 3: undefined" in texts(collapsed, tmp_path)["page"]
    (row,) = csv.DictReader(io.StringIO(csv_text(scores(collapsed))))
    assert (row["mean"], row["finished"], row["undefined"], row["seeds"], row["values"]) == ("", "3", "2", "1", "0.8")


def test_what_is_undefined_for_one_method_is_no_task_in_common(tmp_path: Path) -> None:
    whole = similarity({1: 0.8, 2: 0.6}, "ia3")
    rows = [*whole, *similarity({1: 0.9, 2: None}), *read_as([judged(0.5, 0.25)], "published")]
    assert {(row.method, row.value) for row in scores(rows)} == {("ia3", 0.7), ("lora", None), ("lora", 0.25)}
    assert tasks_in_common(scores(rows)) == ()
    for text in texts(whole, tmp_path).values():
        assert "is undefined for a run" not in text


def test_a_failed_run_and_one_without_a_published_metric_are_not_undefined() -> None:
    (failed,) = scores(read_as([record(run_spec("stsb"), None)], "published"))
    (unpublished,) = scores(read_as([record(run_spec("toy_mood"))], "published"))
    assert (failed.undefined, failed.failed) == (0, 1)
    assert (unpublished.undefined, unpublished.value) == (0, None)


def test_a_task_without_a_published_metric_is_named(tmp_path: Path) -> None:
    for text in texts(read_as([record(run_spec("toy_mood"))], "published"), tmp_path).values():
        assert "The published benchmark has no metric for toy_mood." in text
    for text in texts(read_as([record(run_spec("toy_mood"))], "own"), tmp_path).values():
        assert "The published benchmark has no metric" not in text


def test_a_run_on_another_split_has_no_published_score_and_is_told_why(tmp_path: Path) -> None:
    here = judged(0.5, 0.25).model_copy(update={"published_test": "validation_mismatched"})
    there = judged(0.5, 0.4, test="validation_mismatched")
    published = read_as([here, there], "published")
    assert [(row.task, row.value, row.undefined) for row in scores(published)] == [
        ("mnli", None, 0),
        ("mnli [validation_mismatched]", 0.4, 0),
    ]
    for name, text in texts(published, tmp_path).items():
        assert "25.0" not in text, name
        assert "40.0" in text, name
        flat = " ".join(text.replace("\\", "").split())
        assert "No published score of mnli: it is of the split validation_mismatched" in flat, name
        assert "{use: mnli, test: validation_mismatched}" in flat, name
    for name, text in texts([here, there], tmp_path).items():
        assert "50.0" in text, name
        assert "No published score" not in text, name
    failed = record(run_spec("mnli"), None).model_copy(update={"published_test": "validation_mismatched"})
    assert all("No published" not in text for text in texts(read_as([failed], "published"), tmp_path).values())


def test_records_say_whether_they_are_of_the_published_split() -> None:
    mnli: Task = registry.load("tasks", "mnli").value
    assert mnli.in_records["published_test"] == "validation_mismatched"
    assert mnli.evaluated_on("validation_mismatched").in_records["published_test"] is None
    others = [registry.load("tasks", name).value for name in registry.names("tasks") if name != "mnli"]
    assert {task.in_records["published_test"] for task in others} == {None}


def test_every_table_marks_what_was_trained_on_official_test_rows(tmp_path: Path) -> None:
    marked, plain = [judged(0.5, 0.2, train_is_test=True)], [judged(0.5, 0.2)]
    for name, text in texts(marked, tmp_path).items():
        assert "mnli†" in text, name
        assert TRAIN_IS_TEST_NOTE[2:20] in text, name
        assert "†" not in texts(plain, tmp_path)[name]
    header, row = csv_text(scores(marked)).splitlines()
    assert dict(zip(header.split(","), row.split(","), strict=True))["train_is_test"] == "True"


def test_splits_of_one_task_are_kept_apart(tmp_path: Path) -> None:
    rows = scores([judged(0.5, 0.2), judged(0.75, 0.2, test="validation_mismatched")])
    assert [(row.task, row.value) for row in rows] == [("mnli", 0.5), ("mnli [validation_mismatched]", 0.75)]
    header, _, row = csv_text(rows).splitlines()
    found = dict(zip(header.split(","), row.split(","), strict=True))
    assert (found["task"], found["split"]) == ("mnli", "validation_mismatched")


@pytest.mark.shared
def test_the_published_reading_takes_the_published_split(shared: Path) -> None:
    there = Resources(data_root=str(shared / "data"))
    own = make_plan(Suite.parse({**SUITE, "tasks": ["mnli"]}, "a test"), there)
    assert [run.spec.task.test for run in own.runs] == [None]
    published = make_plan(Suite.parse({**SUITE, "tasks": ["mnli", "sst2"], "metrics": "published"}, "a test"), there)
    assert [run.spec.task.label for run in published.runs] == ["sst2"]
    (aside,) = published.set_aside
    assert (aside.task, aside.reason) == ("mnli", "the mirror has no mnli/validation_mismatched.jsonl.gz")
    # Whoever names the split wants it, and is told that it is not there before anything starts.
    named = Suite.parse({**SUITE, "tasks": [{"use": "mnli", "test": "validation_mismatched"}]}, "a test")
    with pytest.raises(DataProblem, match="validation_mismatched"):
        make_plan(named, there)


@pytest.mark.shared
@pytest.mark.parametrize("name", ["mmlu", "math_qa"])
def test_plans_mark_them_too(shared: Path, name: str) -> None:
    plan = make_plan(Suite.parse({**SUITE, "tasks": [name]}, "a test"), Resources(data_root=str(shared / "data")))
    stream = io.StringIO()
    Console(file=stream, width=100).print(plan_table(plan, {run.run_id: "missing" for run in plan.runs}))
    assert f"{name}†" in stream.getvalue()
    assert TRAIN_IS_TEST_NOTE in plan_summary(plan, 1)
