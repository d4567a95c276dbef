"""PSCP: every printed value of the paper, to the last digit, and what holds for any costs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peftbench.scoring.pscp import Costs, Pscp, pscp
from peftbench.spec import PscpSpec

# Table 3 of arXiv 2511.21285v1: mean score in %, memory in GB, PSCP. Trained parameters and TFLOPs are those of the
# script that made the table (`cal_psqp.py`), which takes the difference to the base of numbers rounded to 0.01.
PUBLISHED = {
    "ia3": (74.7, 196_608, 8.69, 28.41, 55.62),
    "prompt_tuning": (50.0, 409_600, 10.05, 42.47, 29.49),
    "prefix_tuning": (45.9, 34_177_536, 8.39, 27.61, 33.18),
    "p_tuning": (51.7, 53_130_752, 10.06, 34.53, 29.26),
    "lora": (80.1, 14_680_064, 8.38, 27.75, 60.08),
    "ln_tuning": (77.8, 266_240, 8.38, 27.43, 60.19),
}
BASE = 8.38
# The same table: what the costs leave of a score.
FACTORS = {
    "ia3": (1.0, 0.97, 0.77),
    "prompt_tuning": (1.0, 0.86, 0.69),
    "prefix_tuning": (0.94, 1.0, 0.77),
    "p_tuning": (0.9, 0.86, 0.73),
    "lora": (0.97, 1.0, 0.77),
    "ln_tuning": (1.0, 1.0, 0.77),
}
# Tables 9 and 10: PSCP under other betas of parameters, FLOPs and memory, in the order of the methods above.
SENSITIVITY = {
    (1.0, 1.0, 1.0): (55.62, 29.49, 33.18, 29.26, 60.08, 60.19),
    (0.5, 1.0, 1.0): (55.63, 29.5, 34.29, 30.78, 60.95, 60.21),
    (1.0, 0.5, 1.0): (56.47, 31.85, 33.19, 31.63, 60.08, 60.19),
    (1.0, 1.0, 0.5): (63.47, 35.53, 37.73, 34.22, 68.37, 68.41),
    (2.0, 1.0, 1.0): (55.59, 29.46, 31.05, 26.45, 58.37, 60.16),
    (1.0, 2.0, 1.0): (53.94, 25.27, 33.14, 25.05, 60.08, 60.19),
    (1.0, 1.0, 2.0): (42.71, 20.31, 25.64, 21.4, 46.39, 46.6),
    (2.0, 2.0, 2.0): (41.41, 17.39, 23.98, 16.56, 45.06, 46.57),
    (3.0, 3.0, 3.0): (30.83, 10.26, 17.33, 9.37, 33.8, 36.03),
    (4.0, 4.0, 4.0): (22.95, 6.05, 12.53, 5.31, 25.35, 27.88),
}
# BitFit has no printed PSCP: its inputs are in the script, and what follows from them is calculated, not published.
BITFIT = (75.3, 163_840, 8.38, 27.2, 58.38)
BITFIT_BY_BETA = (58.38, 58.39, 58.38, 66.29, 58.36, 58.38, 45.28, 45.26, 35.09, 27.21)


def published(method: str, betas: tuple[float, float, float] = (1.0, 1.0, 1.0)) -> Pscp:
    performance, parameters, tera, giga, _ = {**PUBLISHED, "bitfit": BITFIT}[method]
    constants = PscpSpec(beta_parameters=betas[0], beta_forward_flops=betas[1], beta_memory=betas[2])
    return pscp(performance, Costs(parameters, (tera - BASE) * 1e12, giga * 1e9), constants)


@pytest.mark.parametrize("method", PUBLISHED)
def test_the_published_table(method: str) -> None:
    found = published(method)
    assert round(found.value, 2) == PUBLISHED[method][-1]
    assert tuple(round(factor, 2) for factor in found.factors) == FACTORS[method]


@pytest.mark.parametrize("betas", SENSITIVITY)
def test_the_published_sensitivity(betas: tuple[float, float, float]) -> None:
    assert tuple(round(published(method, betas).value, 2) for method in PUBLISHED) == SENSITIVITY[betas]


def test_bitfit_as_calculated() -> None:
    assert tuple(round(published("bitfit", betas).value, 2) for betas in SENSITIVITY) == BITFIT_BY_BETA
    assert round(published("bitfit").value, 2) == BITFIT[-1]


@pytest.mark.shared
def test_the_figures_here_are_the_published_ones(shared: Path) -> None:
    known = json.loads((shared / "protocol" / "published.json").read_text(encoding="utf-8"))
    keys = ("performance", "trainable_parameters", "forward_tflops", "peak_memory_gb", "pscp")
    table = {method: tuple(row[key] for key in keys) for method, row in known["pscp"].items()}
    assert table == {**PUBLISHED, "bitfit": (*BITFIT[:-1], None)}
    betas = ("beta_parameters", "beta_flops", "beta_memory")
    rows = {tuple(row[key] for key in betas): row["pscp"] for row in known["pscp_sensitivity"]}
    assert rows == {key: dict(zip(PUBLISHED, row, strict=True)) for key, row in SENSITIVITY.items()}


COST = st.floats(0, 1e15)
COSTS = st.builds(Costs, COST, COST, COST)
BETA = st.floats(0, 4)
CONSTANT = st.floats(1e3, 1e15)
CONSTANTS = st.builds(
    PscpSpec,
    parameters=CONSTANT,
    forward_flops=CONSTANT,
    memory_bytes=CONSTANT,
    beta_parameters=BETA,
    beta_forward_flops=BETA,
    beta_memory=BETA,
)
PERFORMANCE = st.floats(0, 100)


@given(PERFORMANCE, COSTS, COSTS, CONSTANTS)
def test_what_costs_more_is_not_worth_more(performance: float, costs: Costs, more: Costs, constants: PscpSpec) -> None:
    dearer = Costs(
        costs.parameters + more.parameters,
        costs.forward_flops + more.forward_flops,
        costs.memory_bytes + more.memory_bytes,
    )
    one, two = (pscp(performance, each, constants) for each in (costs, dearer))
    assert all(after <= before for before, after in zip(one.factors, two.factors, strict=True))
    assert two.value <= one.value <= performance


@given(st.sampled_from(["parameters", "forward_flops", "memory_bytes"]), st.floats(1e6, 1e12), st.floats(1.01, 100))
def test_each_cost_is_felt(name: str, cost: float, times: float) -> None:
    nothing = {"parameters": 0.0, "forward_flops": 0.0, "memory_bytes": 0.0}
    constants = PscpSpec(parameters=1e9, forward_flops=1e9, memory_bytes=1e9)
    cheap, dear = (pscp(50, Costs(**{**nothing, name: each}), constants) for each in (cost, cost * times))
    assert dear.value < cheap.value < 50


@given(PERFORMANCE, COSTS, CONSTANTS)
def test_without_costs_or_without_weight_nothing_is_taken_off(
    performance: float, costs: Costs, constants: PscpSpec
) -> None:
    free = constants.model_copy(update={"beta_parameters": 0.0, "beta_forward_flops": 0.0, "beta_memory": 0.0})
    assert pscp(performance, Costs(0, 0, 0), constants).value == performance
    assert pscp(performance, costs, free).value == performance


@given(PERFORMANCE, st.floats(0.01, 100), COSTS, CONSTANTS)
def test_it_is_linear_in_the_performance(performance: float, scale: float, costs: Costs, constants: PscpSpec) -> None:
    expected = pytest.approx(scale * pscp(performance, costs, constants).value, rel=1e-12, abs=1e-300)
    assert pscp(scale * performance, costs, constants).value == expected


@given(COST)
def test_a_cost_as_large_as_its_constant_halves(cost: float) -> None:
    constant = cost + 1
    constants = PscpSpec(parameters=constant, forward_flops=constant, memory_bytes=constant)
    assert pscp(80, Costs(constant, constant, constant), constants).value == 10


def test_flops_saved_are_not_rewarded() -> None:
    assert pscp(50, Costs(0, -1e12, 0), PscpSpec()).value == 50
