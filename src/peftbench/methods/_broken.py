"""A method in a file that cannot be imported, planned all the same: its runs fail, and those of the others are done."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from peftbench.errors import BrokenCode
from peftbench.methods._method import Base, Facts, Method
from peftbench.spec import Settings

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Broken(Method):
    """What is `given` to it nobody can check; `fault` is what importing it says."""

    given: Settings
    fault: BrokenCode

    def settings(self) -> Settings:
        """As they were given."""
        return self.given

    def caution(self, facts: Facts) -> str | None:
        """That it cannot be used."""
        del facts
        return f"its runs will fail: {self.fault.message.removesuffix('.')}"

    def attach(self, base: Base) -> nn.Module:
        """There is nothing to attach.

        Raises:
            BrokenCode: always.
        """
        del base
        raise self.fault
