"""What can be read off a record."""

from __future__ import annotations

from itertools import permutations

import pytest

from peftbench.record import Cost, Peak
from unit.samples import record, run_spec

HOST = Peak(phase="fit", definition="host_resident", bytes=10)
ALLOCATED = Peak(phase="fit", definition="cuda_allocated", bytes=5)
RESERVED = Peak(phase="fit", definition="cuda_reserved", bytes=99)
LATER = Peak(phase="predict", definition="host_resident", bytes=20)


def cost(*peaks: Peak) -> Cost:
    return Cost(
        trainable_parameters=10,
        total_parameters=100,
        adapter_bytes=None,
        fit_seconds=None,
        fit_tokens_per_second=None,
        predict_seconds=1,
        predict_tokens_per_second=1,
        peaks=peaks,
    )


@pytest.mark.parametrize(
    ("peaks", "found"),
    [
        ((HOST, ALLOCATED, RESERVED, LATER), ALLOCATED),
        ((HOST, RESERVED, LATER), HOST),
        ((RESERVED, LATER), None),
        ((), None),
    ],
)
def test_the_peak_of_a_phase(peaks: tuple[Peak, ...], found: Peak | None) -> None:
    assert {cost(*order).peak("fit") for order in permutations(peaks)} == {found}


def test_the_score_is_the_headline_on_the_test_split() -> None:
    assert record(run_spec(), 0.25).score == 0.25
    assert record(run_spec(), None).score is None
