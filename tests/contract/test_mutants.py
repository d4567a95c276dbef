"""Every check fails on a method that breaks its promise, and on no other."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from contract.mutants import HARMLESS, MUTANTS, Mutant
from peftbench.methods._method import Method
from peftbench.testing import check_method
from peftbench.testing.fresh import FreshProcess
from peftbench.testing.methods import PROBES

# The library warns of what the stock prompt tuning does wrong, which is what is being shown.
pytestmark = pytest.mark.filterwarnings("ignore:Position ids are not supported:UserWarning")


@pytest.fixture(autouse=True)
def process() -> Iterator[None]:
    """One of the mutants leaves this process changed."""
    yield
    torch.use_deterministic_algorithms(mode=False)


@pytest.mark.parametrize(
    "mutant",
    [pytest.param(one, marks=pytest.mark.packed if "quantised base" in one.breaks else ()) for one in MUTANTS],
    ids=lambda mutant: mutant.method.__name__,
)
def test_mutant_breaks_only_its_promise(mutant: Mutant, fresh: FreshProcess) -> None:
    failed = [check for check in check_method(mutant.method, model=mutant.model, fresh=fresh) if not check.passed]
    assert {check.name for check in failed} == mutant.breaks, failed
    assert all(check.detail and check.fix for check in failed)


@pytest.mark.parametrize("method", HARMLESS, ids=lambda method: method.__name__)
def test_what_is_cleaned_up_is_no_fault(method: type[Method], fresh: FreshProcess) -> None:
    failed = [check for check in check_method(method, fresh=fresh) if not check.passed]
    assert not failed, failed


def test_every_check_is_shown_to_fail() -> None:
    shown = {name for mutant in MUTANTS for name in mutant.breaks}
    assert {probe.name for probe in PROBES} == shown
