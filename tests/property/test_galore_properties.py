"""GaLore's optimiser against AdamW of torch, on gradients that are projected by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from peftbench.methods._galore import ProjectedAdamW, Projection, matrices
from peftbench.methods._peft import modules_of
from peftbench.models._roles import ARCHITECTURES
from peftbench.testing.models import tiny
from property.strategies import seeds

STEPS = 12
sides = st.integers(1, 9)


def groups(*parameters: nn.Parameter, decay: float = 0.0) -> list[dict[str, Any]]:
    return [{"params": list(parameters), "lr": 0.01, "weight_decay": decay}]


def moved(optimizer: torch.optim.Optimizer, weight: nn.Parameter, gradients: list[torch.Tensor]) -> torch.Tensor:
    """The weight after a step for each gradient, with a learning rate that changes on the way."""
    for number, gradient in enumerate(gradients):
        optimizer.zero_grad()
        weight.grad = gradient.clone()
        optimizer.param_groups[0]["lr"] = 0.01 * (1 + number % 3)
        optimizer.step()
    return weight.detach()


def problem(rows: int, columns: int, seed: int) -> tuple[torch.Tensor, list[torch.Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    made = [torch.randn(rows, columns, generator=generator, dtype=torch.float64) for _ in range(STEPS + 1)]
    return made[0], made[1:]


@given(sides, sides, st.integers(1, 12), seeds)
def test_what_is_projected_moves_as_adamw_moves_it(rows: int, columns: int, r: int, seed: int) -> None:
    """At any rank; at full rank and a scale of 1 that is all of the matrix, in the basis of the singular vectors."""
    start, gradients = problem(rows, columns, seed)
    left, _, right = torch.linalg.svd(gradients[0].float(), full_matrices=False)
    tall = rows >= columns
    basis = (right.T if tall else left)[:, :r].double()
    low = [gradient @ basis if tall else basis.T @ gradient for gradient in gradients]
    expected = nn.Parameter(torch.zeros_like(low[0]))
    moved(torch.optim.AdamW(groups(expected), eps=1e-8), expected, low)
    weight = nn.Parameter(start.clone())
    found = moved(ProjectedAdamW(groups(weight), [weight], r=r, update_proj_gap=STEPS, scale=1.0), weight, gradients)
    step = expected @ basis.T if tall else basis @ expected
    assert torch.allclose(found, start + step, atol=1e-6)
    if r >= min(rows, columns):
        seen = (found - start) @ basis if tall else basis.T @ (found - start)
        assert torch.allclose(seen, expected, atol=1e-6)


@given(st.integers(1, 9), seeds, st.sampled_from([0.0, 0.3]))
def test_what_is_not_projected_is_adamws_own(size: int, seed: int, decay: float) -> None:
    start, gradients = problem(size, size, seed)
    one, other = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    adamw = torch.optim.AdamW(groups(one, decay=decay), betas=(0.9, 0.999), eps=1e-8)
    galore = ProjectedAdamW(groups(other, decay=decay), [], r=1, update_proj_gap=1, scale=4.0)
    assert torch.equal(moved(adamw, one, gradients), moved(galore, other, gradients))


@given(sides, sides, seeds)
def test_the_scale_is_of_the_step_and_decay_is_not(rows: int, columns: int, seed: int) -> None:
    start, gradients = problem(rows, columns, seed)

    def after(scale: float, decay: float) -> torch.Tensor:
        weight = nn.Parameter(start.clone())
        own = groups(weight, decay=decay)
        return moved(ProjectedAdamW(own, [weight], r=2, update_proj_gap=5, scale=scale), weight, gradients[:1])

    step = after(1.0, 0.0) - start
    assert torch.allclose(after(4.0, 0.0), start + 4 * step)
    assert torch.allclose(after(4.0, 0.5), start * (1 - 0.01 * 0.5) + 4 * step)


def test_the_basis_is_made_anew_after_the_gap() -> None:
    start, gradients = problem(6, 4, 1)
    weight = nn.Parameter(start.clone())
    optimizer = ProjectedAdamW(groups(weight), [weight], r=2, update_proj_gap=3, scale=1.0)
    (projection,) = optimizer._projections.values()
    bases = []
    for gradient in gradients:
        moved(optimizer, weight, [gradient])
        bases.append(projection.basis.clone())
    changed = [place for place in range(1, STEPS) if not torch.equal(bases[place], bases[place - 1])]
    assert changed == [3, 6, 9]
    assert torch.allclose(bases[3].T @ bases[3], torch.eye(2, dtype=torch.float64), atol=1e-6)


@given(sides, sides, st.integers(1, 12))
def test_moments_are_of_the_size_of_the_rank(rows: int, columns: int, r: int) -> None:
    """What the method is for: AdamW keeps two numbers for each of the matrix, this two for each of the projection."""
    weight = nn.Parameter(torch.ones(rows, columns))
    optimizer = ProjectedAdamW(groups(weight), [weight], r=r, update_proj_gap=5, scale=1.0)
    moved(optimizer, weight, [torch.ones(rows, columns)])
    kept = [value.numel() for state in optimizer.state.values() for value in state.values() if value.ndim]
    assert kept == [max(rows, columns) * min(r, rows, columns)] * 2
    assert weight.grad is not None
    optimizer.zero_grad()
    assert weight.grad is None


def test_a_matrix_without_a_gradient_stays() -> None:
    weight, other = nn.Parameter(torch.ones(3, 2)), nn.Parameter(torch.ones(2, 2))
    optimizer = ProjectedAdamW(groups(weight, other, decay=0.5), [weight, other], r=1, update_proj_gap=2, scale=1.0)
    moved(optimizer, weight, [torch.ones(3, 2)] * 3)
    assert torch.equal(other, torch.ones(2, 2))
    before, weight.grad = weight.detach().clone(), None
    optimizer.step()
    assert torch.equal(weight, before)
    moved(optimizer, other, [torch.ones(2, 2)])
    assert torch.allclose(other, torch.full((2, 2), 0.995 - 0.01 / 2**0.5)), (
        "its first gradient chooses the basis, however late"
    )


def test_a_closure_makes_the_gradients() -> None:
    weight = nn.Parameter(torch.ones(3, 2))
    optimizer = ProjectedAdamW(groups(weight), [weight], r=2, update_proj_gap=2, scale=1.0)

    def closure() -> torch.Tensor:
        loss = weight.square().sum()
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it unannotated
        return loss.detach()

    assert float(optimizer.step(closure)) == 6.0
    assert float(weight.detach().square().sum()) < 6.0


def test_16_bits_are_kept() -> None:
    weight = nn.Parameter(torch.ones(3, 5, dtype=torch.bfloat16))
    projection = Projection(weight, 2, gap=1)
    weight.grad = torch.randn(3, 5).bfloat16()
    projection.project()
    assert projection.stand_in.grad is not None
    assert {projection.basis.dtype, projection.stand_in.grad.dtype} == {torch.bfloat16}


@pytest.mark.parametrize("model_type", ARCHITECTURES)
def test_the_linear_layers_of_all_blocks_are_projected(model_type: str, tmp_path: Path) -> None:
    base = tiny(model_type, tmp_path / model_type)
    named = {name for role, found in base.facts.roles.items() if role != "norm" for name in found}
    weights = {layer.weight for layer in modules_of(base.model, named)}
    assert set(matrices(base.model)) == weights
    assert len(weights) == base.facts.shapes.layers * len(named)
