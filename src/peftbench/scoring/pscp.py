"""PSCP, the PEFT Soft Cost Penalties: a score lowered by what training and using a method costs.

Equation 3 of PEFT-Bench (Belanec et al., 2025, arXiv 2511.21285):
`P (1 + M_p / C_p)^-b_p (1 + M_f / C_f)^-b_f (1 + M_m / C_m)^-b_m`. A cost as large as its constant halves the score
at beta 1; one that is small beside it leaves the score as it is.
"""

from __future__ import annotations

from dataclasses import dataclass

from peftbench.spec import PscpSpec


@dataclass(frozen=True)
class Costs:
    """What a method costs with a model; `forward_flops` are those beyond the base model's own."""

    parameters: float
    forward_flops: float
    memory_bytes: float


@dataclass(frozen=True)
class Pscp:
    """A performance and the three factors it is multiplied by, each above 0 and at most 1."""

    performance: float
    parameters: float
    forward_flops: float
    memory: float

    @property
    def value(self) -> float:
        """PSCP, in the unit of the performance."""
        return self.performance * self.parameters * self.forward_flops * self.memory

    @property
    def factors(self) -> tuple[float, float, float]:
        """What is left for the trained parameters, for the forward FLOPs, for the memory."""
        return self.parameters, self.forward_flops, self.memory


def pscp(performance: float, costs: Costs, constants: PscpSpec) -> Pscp:
    """The performance (a mean headline, in any unit; the paper takes per cent) under the penalties of its costs.

    Costs are a number of trained parameters, FLOPs of one sequence, bytes; constants have the same units. A method that
    saves FLOPs (a shorter model) is not rewarded for it: its factor is 1.
    """
    return Pscp(
        performance=performance,
        parameters=_factor(costs.parameters, constants.parameters, constants.beta_parameters),
        forward_flops=_factor(costs.forward_flops, constants.forward_flops, constants.beta_forward_flops),
        memory=_factor(costs.memory_bytes, constants.memory_bytes, constants.beta_memory),
    )


def _factor(cost: float, constant: float, beta: float) -> float:
    return float((1 + max(cost, 0.0) / constant) ** -beta)
