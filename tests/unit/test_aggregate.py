"""From records to scores: mean and spread over seeds, variants apart, failures counted."""

from __future__ import annotations

import pytest

from peftbench.record import Cost, Peak
from peftbench.scoring.aggregate import scores
from unit.samples import record, run_spec


def cost(seconds: float | None, *peaks: Peak) -> Cost:
    return Cost(
        trainable_parameters=10,
        total_parameters=100,
        adapter_bytes=None,
        fit_seconds=seconds,
        fit_tokens_per_second=None,
        predict_seconds=1,
        predict_tokens_per_second=1,
        peaks=peaks,
    )


def test_mean_and_spread_over_seeds() -> None:
    (score,) = scores([record(run_spec(seed=seed), value) for seed, value in [(3, 0.9), (1, 0.5), (2, 0.7)]])
    assert (score.task, score.model, score.method, score.name) == ("sst2", "tiny", "lora", "accuracy")
    assert score.parts == (0.5, 0.7, 0.9)
    assert score.value == pytest.approx(0.7)
    assert score.spread == pytest.approx(0.2)
    assert (score.low, score.high, score.failed) == (0.5, 0.9, 0)


def test_one_seed_has_no_spread() -> None:
    (score,) = scores([record(run_spec(), 0.25)])
    assert (score.value, score.spread, score.low, score.high) == (0.25, None, 0.25, 0.25)


def test_failures_are_counted_and_have_no_score() -> None:
    (score,) = scores([record(run_spec(seed=1), 0.5), record(run_spec(seed=2), None)])
    assert (score.parts, score.failed, len(score.records)) == ((0.5,), 1, 2)
    (lost,) = scores([record(run_spec(), None)])
    assert (lost.value, lost.spread, lost.low, lost.high, lost.failed, lost.name) == (
        None,
        None,
        None,
        None,
        1,
        "accuracy",
    )


def test_settings_that_differ_are_kept_apart_and_named() -> None:
    specs = [
        run_spec(r=4, kind="plain"),
        run_spec(r=8, kind="plain"),
        run_spec(method="full"),
        run_spec(method="zero_shot", seed=None),
    ]
    assert [score.method for score in scores(record(spec) for spec in specs)] == [
        "full",
        "lora r=4",
        "lora r=8",
        "zero_shot",
    ]
    named = [score.method for score in scores([record(run_spec(kind="one")), record(run_spec(kind="another" * 5))])]
    assert named == ["lora kind=anotheranotheranotherano", "lora kind=one"]


def test_the_order_of_records_does_not_matter() -> None:
    records = [record(run_spec(task, method, seed), 0.1 * seed) for task in "ba" for method in "dc" for seed in (2, 1)]
    assert [(s.task, s.method, s.parts) for s in scores(records)] == [
        (s.task, s.method, s.parts) for s in scores(records[::-1])
    ]
    assert [(s.task, s.method) for s in scores(records)] == [("a", "c"), ("a", "d"), ("b", "c"), ("b", "d")]
    assert scores([]) == []
