"""A record is in the store whole or not at all, and nothing outside a run's folder is ever touched."""

from __future__ import annotations

import contextlib
import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from peftbench.errors import StoreProblem
from peftbench.record import Failure, Prediction, Record
from peftbench.spec import Resources, RunSpec
from peftbench.store import Store, write_lines
from property.strategies import failures, full_records, predictions, resources, run_specs

SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large]


def _of(record: Record, run: RunSpec, failure: Failure | None = None) -> Record:
    return record.model_copy(update={"run_id": run.run_id, "spec": run, "failure": failure})


@settings(max_examples=12, suppress_health_check=SLOW)
@given(full_records, run_specs, resources, st.none() | failures)
def test_what_is_put_is_got(record: Record, run: RunSpec, how: Resources, failure: Failure | None) -> None:
    record = _of(record, run, failure)
    with tempfile.TemporaryDirectory() as root:
        store = Store(root)
        assert store.state(run.run_id) == "missing"
        store.describe(run, how)
        assert store.state(run.run_id) == "missing"
        folder = store.begin(run, how)
        assert store.asked(run.run_id) == (run, how)
        folder.log.write_text("begun")
        assert store.state(run.run_id) == "started"
        assert store.get(run.run_id) is None
        store.put(record)
        assert store.get(run.run_id) == record
        assert store.records() == [record]
        assert store.run_ids() == [run.run_id]
        assert store.state(run.run_id) == ("failed" if failure else "done")


@settings(max_examples=12, suppress_health_check=SLOW)
@given(full_records, run_specs, resources, st.data())
def test_a_partly_written_record_is_never_read(
    record: Record, run: RunSpec, how: Resources, data: st.DataObject
) -> None:
    record = _of(record, run)
    text = record.model_dump_json(indent=1)
    cut = data.draw(st.integers(0, len(text)))
    with tempfile.TemporaryDirectory() as root:
        store = Store(root)
        folder = store.begin(run, how)
        folder.log.touch()
        # What a kill leaves behind: the neighbour that was to be renamed, in any length, by any process.
        for name in (".record.json.4711", ".record.json.1", ".spec.json.4711", "record.json.tmp"):
            (folder.path / name).write_text(text[:cut], encoding="utf-8")
        assert store.get(run.run_id) is None
        assert store.state(run.run_id) == "started"
        assert store.records() == []
        # The run is done again; nothing of the attempt is left in its folder.
        folder = store.begin(run, how)
        assert sorted(path.name for path in folder.path.iterdir()) == ["resources.json", "spec.json"]
        store.put(record)
        assert store.records() == [record]


@settings(max_examples=12, suppress_health_check=SLOW)
@given(full_records, run_specs, st.data())
def test_a_damaged_record_is_a_sentence_not_a_guess(record: Record, run: RunSpec, data: st.DataObject) -> None:
    record = _of(record, run)
    text = record.model_dump_json(indent=1)
    cut = data.draw(st.integers(0, len(text) - 1))
    with tempfile.TemporaryDirectory() as root:
        store = Store(root)
        store.describe(run, Resources())
        store.folder(run.run_id).record.write_text(text[:cut], encoding="utf-8")
        with pytest.raises(StoreProblem, match="is damaged") as caught:
            store.get(run.run_id)
        assert caught.value.fix


@given(st.text(max_size=30))
def test_an_id_never_leads_out_of_the_store(run_id: str) -> None:
    with contextlib.suppress(StoreProblem):
        folder = Store("somewhere").folder(run_id).path
        assert folder.parent == Path("somewhere/runs")
        assert folder.name == run_id


@pytest.mark.parametrize("run_id", ["", ".", "..", "../x", "a/b", "/etc", "a/", "./a", "a/..", "a\0b"])
def test_paths_are_no_ids(run_id: str) -> None:
    with pytest.raises(StoreProblem, match="is not a run id"):
        Store("somewhere").folder(run_id)


@settings(max_examples=12, suppress_health_check=SLOW)
@given(st.lists(predictions, max_size=4))
def test_predictions_are_read_as_they_were_written(rows: list[Prediction]) -> None:
    with tempfile.TemporaryDirectory() as root:
        store = Store(root)
        store.folder("one").path.mkdir(parents=True)
        write_lines(store.folder("one").predictions, rows)
        assert list(store.predictions("one")) == rows


@settings(max_examples=10, suppress_health_check=SLOW)
@given(predictions, st.data())
def test_half_a_prediction_is_a_sentence(row: Prediction, data: st.DataObject) -> None:
    text = row.model_dump_json()
    with tempfile.TemporaryDirectory() as root:
        store = Store(root)
        store.folder("one").path.mkdir(parents=True)
        store.folder("one").predictions.write_text(text + "\n" + text[: data.draw(st.integers(1, len(text) - 1))])
        with pytest.raises(StoreProblem, match="is damaged"):
            list(store.predictions("one"))


def test_strategies_draw_failed_and_finished_runs_alike() -> None:
    seen: set[bool] = set()

    @settings(max_examples=20, suppress_health_check=SLOW)
    @given(full_records)
    def look(record: Record) -> None:
        seen.add(record.failure is None)
        assert json.loads(record.model_dump_json())["run_id"] == record.run_id

    look()
    assert seen == {True, False}
